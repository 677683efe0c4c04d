"""The anchor of a `World`: machine, data path, and the records that outlive both."""

from typing import TYPE_CHECKING

from sojourn.control.config import REALM
from sojourn.datapath.memory import MemoryDataPath
from sojourn.model import Endpoint, TunnelId
from sojourn.packet import ip
from sojourn.sip.digest import Algorithm
from sojourn.sip.digest_server import DigestServer, make_verifier
from sojourn.sip.registrar import Limits, Registrar
from sojourn.sip.server import Send
from sojourn.upmt import events
from sojourn.upmt.anchor import (
    Anchor,
    AnchorCommand,
    AnchorEvent,
    Associated,
    Keep,
    SubscriberChanged,
    Trust,
)
from sojourn.upmt.candidates import stored
from sojourn.upmt.commands import Role, SendInner, SendOutside, Setup
from sojourn.upmt.leases import Leases, Terms
from sojourn.upmt.records import Subscriber
from sojourn.upmt.vipa import VipaPool
from tests.harness.sip_pipe import Pipe
from tests.harness.timer import Timer

if TYPE_CHECKING:
    from tests.harness.pair import World

ANCHOR_SIP = Endpoint("203.0.113.1", 5061)
ANCHOR_TUNNELS = Endpoint("203.0.113.1", 1800)
INNER = ("10.201.0.1",)
SOCKET_DELAY = 0.0002
"""Seconds that an event takes from a data path to its control."""
UNIX_OFFSET = 1_700_000_000.0


class AnchorSide:
    """The anchor: machine, data path, and the records that outlive both."""

    def __init__(self, world: "World", pool: str, limits: Limits) -> None:
        self.world = world
        self.records: dict[str, Subscriber] = {}
        self.pipes: dict[int, Pipe] = {}
        self.trusted: set[int] = set()
        self.arrived: list[tuple[float, bytes]] = []
        """Inner packets that left the TUN for a correspondent, or for another host."""
        self._pool = pool
        self._limits = limits
        self.data_path = MemoryDataPath(world.net.clock, emit=self._told, random=world.random)
        self.data_path.on_inner = lambda packet: self.arrived.append((world.net.now, packet))
        self.data_path.on_outer = self._send
        world.net.nodes.append(self.data_path)
        setup = Setup(
            Role.ANCHOR, "sojourn0", 1420, inner_addresses=INNER, refused=(pool,), listen=(ANCHOR_TUNNELS,),
            plain=world.plain,
        )  # fmt: skip
        self.data_path.submit([setup])
        self.machine = self._machine()
        self._timer = Timer(world.net, lambda: self.machine.deadline(), self._tick)

    def _machine(self) -> Anchor:
        random = self.world.random
        registrar = Registrar(DigestServer(REALM, random(32)), self._limits)
        terms = Terms((ANCHOR_TUNNELS,), INNER)
        leases = Leases(VipaPool(self._pool), terms, random, self.records.values())
        return Anchor(registrar, leases, self.records, random, UNIX_OFFSET, plain=self.world.plain)

    def restart_control(self) -> None:
        """Kill control; its successor has the records, and adopts the data path. All connections break."""
        for pipe in list(self.pipes.values()):
            pipe.break_off("the anchor closed the connection")
        self.world.transcript.say("anchor: control restarted")
        self.machine = self._machine()
        self._execute(self.machine.start(fresh_secrets=False))

    def token(self, user: str) -> str:
        """Make a user, and return the one-time secret."""
        secret = self.world.random(16).hex()
        once = stored(make_verifier(user, REALM, secret, (Algorithm.SHA256,)))
        self.records[user] = Subscriber(user, user, ha1_once=once)
        self.tell(SubscriberChanged(self.records[user]))
        return secret

    def tell(self, event: AnchorEvent) -> None:
        """Hand the machine an event and carry out what it says."""
        self._execute(self.machine.handle(event, self.world.net.now))

    def call(self, source: Endpoint, vipa: Endpoint, payload: bytes) -> None:
        """Let a correspondent send a datagram to a host."""
        self.data_path.forwarder.from_inner(ip.udp_packet(source, vipa, payload), self.world.net.now)

    def _told(self, event: events.AnyEvent) -> None:
        self.world.net.at(self.world.net.now + SOCKET_DELAY, lambda: self.tell(event))

    def _tick(self) -> None:
        self._execute(self.machine.tick(self.world.net.now))

    def _execute(self, commands: list[AnchorCommand]) -> None:
        for command in commands:
            match command:
                case Send(origin, _, data):
                    assert isinstance(origin, int)
                    if origin in self.pipes:
                        self.pipes[origin].down(data)
                case Keep(subscriber):
                    self.records[subscriber.user] = subscriber
                case Trust(origin):
                    self.trusted.add(origin)
                case Associated(user, _, vipa, what):
                    self.world.transcript.say(f"anchor: {user} {what} as {vipa}")
                case SendInner() if not self.world.signal("anchor", command):
                    pass
                case _:
                    if isinstance(command, SendOutside):
                        self.world.outside(command)
                    self.data_path.submit([command])
        self._timer.arm()

    def _send(self, _tunnel: TunnelId, datagram: bytes, destination: Endpoint, fragment: bool) -> None:
        for laptop in self.world.laptops.values():
            for wire in laptop.wires.values():
                if wire.public == destination.address:
                    laptop.receive(wire, destination.port, datagram, fragment)
