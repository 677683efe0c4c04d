"""A mobile host of a `World`: control, data path, and the networks that it may have."""

from typing import TYPE_CHECKING

from sojourn.control.decide import Decide, Preferences, ranked
from sojourn.control.host_control import ControlCommand, ControlEvent, Entry, HostControl
from sojourn.control.portals import ProbePortal
from sojourn.datapath.memory import MemoryDataPath
from sojourn.model import Endpoint, Network, TunnelId
from sojourn.packet import ip
from sojourn.upmt import events
from sojourn.upmt.association import (
    AssociationClient,
    AssociationSettings,
    CredentialIssued,
    Leave,
    Left,
    SendSip,
)
from sojourn.upmt.commands import Resumed, Role, SendInner, Setup
from sojourn.upmt.events_network import NetworkChanged, NetworkDown, NetworkUp
from sojourn.upmt.host_events import CloseChannel, HandoverWanted, HostState, LeaseGranted, OpenChannel, Remember
from sojourn.upmt.lease import Offer
from sojourn.upmt.mobile_host import HostSettings, MobileHost
from sojourn.upmt.policy_push import PushReceived
from tests.harness.anchor_side import ANCHOR_SIP, ANCHOR_TUNNELS, SOCKET_DELAY
from tests.harness.fakenet import Wire
from tests.harness.sip_pipe import Pipe
from tests.harness.timer import Timer

if TYPE_CHECKING:
    from tests.harness.pair import World


class Laptop:
    """A mobile host: control, data path, and the networks it may have."""

    def __init__(self, world: "World", name: str, wires: tuple[Wire, ...], secret: str, order: tuple[str, ...]) -> None:
        self.world = world
        self.name = name
        self.tid = f"{name}-tid"
        self.wires = {wire.name: wire for wire in wires}
        """By the network's name, which is its interface's and its kind, too."""
        self.here: set[str] = set()
        """Networks whose link is up."""
        self.log: list[tuple[float, Entry]] = []
        self.state = HostState()
        self.credential: str | None = None
        self.left = False
        self.pipes: dict[int, Pipe] = {}
        self.arrived: list[tuple[float, bytes]] = []
        """Inner packets that came out of the TUN."""
        self.data_path = MemoryDataPath(world.net.clock, emit=self._told, random=world.random)
        self.data_path.on_inner = lambda packet: self.arrived.append((world.net.now, packet))
        self.data_path.on_outer = self._send
        world.net.nodes.append(self.data_path)
        self._asleep: list[ControlEvent] | None = None
        self._secret = secret
        self._order = order
        self._machines()
        self._timer = Timer(world.net, self._deadline, self._tick)

    def _machines(self) -> None:
        settings = AssociationSettings(
            self.name, ANCHOR_SIP.address, self.tid, self.credential or self._secret, self.state.vipa,
            offer=Offer(plain=self.world.plain),
        )  # fmt: skip
        preferences = Preferences(self._order)
        self.decide = Decide(preferences)
        self.host = MobileHost(
            HostSettings(ANCHOR_SIP, sealed=not self.world.plain),
            AssociationClient(settings, self.world.random),
            self.state,
            self.world.random,
            lambda networks: ranked(preferences, networks),
        )
        self.control = HostControl(self.host, self.decide)

    # What happens to it.

    def plug(self, name: str) -> None:
        """Give it a network."""
        self.here.add(name)
        self.tell(NetworkUp(self._network(name)))

    def unplug(self, name: str, why: str = "no carrier") -> None:
        """Pull a link: no packet leaves any more, and netlink says so a millisecond later."""
        self.here.discard(name)
        self.world.net.at(self.world.net.now + 0.001, lambda: self.tell(NetworkDown(name, why)))

    def readdress(self, name: str, address: str, public: str) -> None:
        """Put a network behind another router: both addresses change."""
        wire = self.wires[name]
        wire.address, wire.public = address, public
        wire.mappings.clear()
        for pipe in [pipe for pipe in self.pipes.values() if pipe.wire is wire]:
            pipe.stalled = True
        self.tell(NetworkChanged(self._network(name), "address changed"))

    def order(self, network: str, **which: object) -> None:
        """Do what `sojourn handover` does."""
        self.tell(HandoverWanted(network, **which))  # type: ignore[arg-type]

    def sleep(self, seconds: float) -> None:
        """Suspend the machine; the world goes on."""
        self._asleep = []
        self.world.net.stop(self.data_path)
        self.world.run(seconds)
        waiting, self._asleep = self._asleep, None
        self.world.net.resume(self.data_path)
        for event in waiting:
            self.tell(event)
        self.tell(Resumed(seconds))

    def restart_control(self) -> None:
        """Kill control; its successor has the stored state, and adopts the data path."""
        for pipe in list(self.pipes.values()):
            pipe.abort()
        self.world.transcript.say(f"{self.name}: control restarted")
        self._machines()
        for name in sorted(self.here):
            self.plug(name)

    def leave(self) -> None:
        """Stop cleanly."""
        self.tell(Leave())

    def tell(self, event: ControlEvent) -> None:
        """Hand control an event and carry out what it says."""
        if self._asleep is not None:
            self._asleep.append(event)
            return
        self._execute(self.control.handle(event, self.world.net.now))

    def call(self, source: Endpoint, destination: Endpoint, payload: bytes) -> None:
        """Let an application send a datagram."""
        self.data_path.forwarder.from_inner(ip.udp_packet(source, destination, payload), self.world.net.now)

    # What it has.

    @property
    def vipa(self) -> str:
        """Its virtual address."""
        assert self.host.lease is not None
        return self.host.lease.vipa

    def tunnel(self, name: str) -> TunnelId:
        """Return the tunnel ID of a network."""
        assert self.host.lease is not None
        return self.host.lease.tunnels[self.host.networks[name].slot]

    def entries(self, event: str) -> list[tuple[float, Entry]]:
        """Return one kind of entries of the roaming log."""
        return [(at, entry) for at, entry in self.log if entry.event == event]

    # Inside.

    def _network(self, name: str) -> Network:
        return Network(name, name, self.wires[name].address, None, name)

    def _told(self, event: events.AnyEvent) -> None:
        self.world.net.at(self.world.net.now + SOCKET_DELAY, lambda: self.tell(event))

    def _deadline(self) -> float | None:
        return self.control.deadline() if self._asleep is None else None

    def _tick(self) -> None:
        if self._asleep is None:
            self._execute(self.control.tick(self.world.net.now))

    def _execute(self, commands: list[ControlCommand]) -> None:
        for command in commands:
            match command:
                case Entry(event, network, reason):
                    self.log.append((self.world.net.now, command))
                    if event != "moved":  # an effect, told when it is measured: `entries` has it
                        self.world.transcript.say(f"{self.name}: {event} {network or '-'}: {reason}")
                case OpenChannel():
                    self.pipes[command.channel] = Pipe(self.world, self, command)
                case CloseChannel(channel):
                    if channel in self.pipes:
                        self.pipes[channel].close()
                case SendSip(channel, data):
                    if channel in self.pipes:
                        self.pipes[channel].up(data)
                case CredentialIssued(secret):
                    self.credential = secret
                case Remember(state):
                    self.state = state
                case LeaseGranted(lease, changed):
                    if changed:
                        setup = Setup(Role.HOST, "sojourn0", lease.mtu, inner_addresses=lease.inner_addresses)
                        self.data_path.submit([setup])
                case Left():
                    self.left = True
                case ProbePortal() | PushReceived():
                    pass  # no portals, and nobody who takes policies, in this world
                case SendInner() if not self.world.signal(self.name, command):
                    pass
                case _:
                    self.data_path.submit([command])
        self._timer.arm()

    def _send(self, tunnel: TunnelId, datagram: bytes, destination: Endpoint, fragment: bool) -> None:
        net, opened = self.world.net, self.data_path.sockets[tunnel]
        wire = self.wires[opened.interface]
        if wire.name not in self.here:
            failed = self.data_path.forwarder.send_failed
            net.deliver(lambda: self.data_path, net.now, lambda: failed(tunnel, "Network is unreachable", net.now))
            return
        source = wire.outside_of(opened.local, net.now)
        if destination == ANCHOR_TUNNELS and self.world.passes(wire, datagram, fragment, wire.dead_up):
            wire.passed_up += 1
            forwarder = self.world.anchor.data_path.forwarder
            arrive = self.world.arrival(wire, up=True)
            net.deliver(
                lambda: self.world.anchor.data_path, arrive, lambda: forwarder.from_outer(datagram, source, net.now)
            )

    def receive(self, wire: Wire, port: int, datagram: bytes, fragment: bool) -> None:
        """Take a datagram for a port of the wire's NAT."""
        net = self.world.net
        if not self.world.passes(wire, datagram, fragment, wire.dead_down):
            return

        def arrive() -> None:
            inside = wire.inside_of(port, net.now)
            for tunnel, opened in self.data_path.sockets.items():
                if opened.local == inside and opened.interface == wire.name and wire.name in self.here:
                    wire.passed_down += 1
                    self.data_path.forwarder.from_outer(datagram, ANCHOR_TUNNELS, net.now, tunnel)
                    return
            wire.refused_down += 1

        net.deliver(lambda: self.data_path, self.world.arrival(wire, up=False), arrive)
