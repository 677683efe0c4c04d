"""Mobile hosts and their anchor, control and data path each, on a fake net: all of Sojourn but the kernel.

    Laptop: HostControl <-> MemoryDataPath ~~ wires with NATs, delay, loss, death ~~ MemoryDataPath <-> Anchor
                   \\~~~~~~~~~~~~~~ SIP, a byte stream over the same wires ~~~~~~~~~~~~~~~~~~~~~~~~/

What a data path tells its control arrives a moment later, as over their socket. Everything is
driven by the net's clock; `World.run` lets time pass. `transcript` has what was said.
"""

from collections.abc import Callable

from sojourn.control.config import REALM
from sojourn.control.decide import Decide, Preferences, ranked
from sojourn.control.host_control import ControlCommand, ControlEvent, Entry, HostControl
from sojourn.datapath.memory import MemoryDataPath
from sojourn.model import Endpoint, Network, TunnelId
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
    SipArrived,
    SubscriberChanged,
    Trust,
)
from sojourn.upmt.association import (
    AssociationClient,
    AssociationSettings,
    CredentialIssued,
    Leave,
    Left,
    SendSip,
)
from sojourn.upmt.candidates import stored
from sojourn.upmt.commands import Resumed, Role, SendInner, Setup
from sojourn.upmt.events_network import NetworkChanged, NetworkDown, NetworkUp
from sojourn.upmt.host_events import CloseChannel, HandoverWanted, HostState, LeaseGranted, OpenChannel, Remember
from sojourn.upmt.leases import Leases, Terms
from sojourn.upmt.mobile_host import HostSettings, MobileHost
from sojourn.upmt.records import Subscriber
from sojourn.upmt.vipa import VipaPool
from tests.harness.fakenet import FakeNet, Wire
from tests.harness.sip_pipe import Pipe
from tests.harness.transcript import Transcript, inner_line, sip_line

ANCHOR_SIP = Endpoint("203.0.113.1", 5061)
ANCHOR_TUNNELS = Endpoint("203.0.113.1", 1800)
INNER = ("10.201.0.1",)
SOCKET_DELAY = 0.0002
"""Seconds that an event takes from a data path to its control."""
UNIX_OFFSET = 1_700_000_000.0


class Timer:
    """A machine's deadline as something that the net waits for."""

    def __init__(self, net: FakeNet, deadline: Callable[[], float | None], tick: Callable[[], None]) -> None:
        self._net = net
        self._deadline = deadline
        self._tick = tick
        self._armed: float | None = None

    def arm(self) -> None:
        """Look at the deadline again. A tick that turns out to be early is harmless."""
        due = self._deadline()
        if due is None or (self._armed is not None and self._armed <= due):
            return
        self._armed = at = max(due, self._net.now + 0.001)
        self._net.at(at, lambda: self._ring(at))

    def _ring(self, at: float) -> None:
        if at == self._armed:
            self._armed = None
            self._tick()
            self.arm()


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
        setup = Setup(Role.ANCHOR, "sojourn0", 1420, inner_addresses=INNER, refused=(pool,), listen=(ANCHOR_TUNNELS,))
        self.data_path.submit([setup])
        self.machine = self._machine()
        self._timer = Timer(world.net, lambda: self.machine.deadline(), self._tick)

    def _machine(self) -> Anchor:
        random = self.world.random
        registrar = Registrar(DigestServer(REALM, random(32)), self._limits)
        terms = Terms((ANCHOR_TUNNELS,), INNER)
        leases = Leases(VipaPool(self._pool), terms, random, self.records.values())
        return Anchor(registrar, leases, self.records, random, UNIX_OFFSET)

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
                case _:
                    if isinstance(command, SendInner):
                        self.world.signal("anchor", command)
                    self.data_path.submit([command])
        self._timer.arm()

    def _send(self, _tunnel: TunnelId, datagram: bytes, destination: Endpoint, fragment: bool) -> None:
        for laptop in self.world.laptops.values():
            for wire in laptop.wires.values():
                if wire.public == destination.address:
                    laptop.receive(wire, destination.port, datagram, fragment)


class Laptop:
    """A mobile host: control, data path, and the networks it may have."""

    def __init__(self, world: "World", name: str, wires: tuple[Wire, ...], secret: str, order: tuple[str, ...]) -> None:
        self.world = world
        self.name = name
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
        settings = AssociationSettings(name, ANCHOR_SIP.address, f"{name}-tid", secret)
        preferences = Preferences(order)
        self.decide = Decide(preferences)
        self.host = MobileHost(
            HostSettings(ANCHOR_SIP),
            AssociationClient(settings, world.random),
            self.state,
            world.random,
            lambda networks: ranked(preferences, networks),
        )
        self.control = HostControl(self.host, self.decide)
        self._timer = Timer(world.net, self.control.deadline, self._tick)

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

    def leave(self) -> None:
        """Stop cleanly."""
        self.tell(Leave())

    def tell(self, event: ControlEvent) -> None:
        """Hand control an event and carry out what it says."""
        if self._asleep is not None:
            self._asleep.append(event)
            return
        self._execute(self.control.handle(event, self.world.net.now))

    def call(self, port: int, destination: Endpoint, payload: bytes) -> None:
        """Let an application send a datagram."""
        lease = self.host.lease
        assert lease is not None
        packet = ip.udp_packet(Endpoint(lease.vipa, port), destination, payload)
        self.data_path.forwarder.from_inner(packet, self.world.net.now)

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

    def _tick(self) -> None:
        if self._asleep is None:
            self._execute(self.control.tick(self.world.net.now))

    def _execute(self, commands: list[ControlCommand]) -> None:
        for command in commands:
            match command:
                case Entry(event, network, reason):
                    self.log.append((self.world.net.now, command))
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
                case _:
                    if isinstance(command, SendInner):
                        self.world.signal(self.name, command)
                    self.data_path.submit([command])
        self._timer.arm()

    def _send(self, tunnel: TunnelId, datagram: bytes, destination: Endpoint, fragment: bool) -> None:
        net, opened = self.world.net, self.data_path.sockets[tunnel]
        wire = self.wires[opened.interface]
        if wire.name not in self.here:
            failed = self.data_path.forwarder.send_failed
            net.deliver(self.data_path, net.now, lambda: failed(tunnel, "Network is unreachable", net.now))
            return
        source = wire.outside_of(opened.local, net.now)
        if destination == ANCHOR_TUNNELS and self.world.passes(wire, datagram, fragment, wire.dead_up):
            wire.passed_up += 1
            forwarder = self.world.anchor.data_path.forwarder
            arrive = self.world.arrival(wire, up=True)
            net.deliver(self.world.anchor.data_path, arrive, lambda: forwarder.from_outer(datagram, source, net.now))

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

        net.deliver(self.data_path, self.world.arrival(wire, up=False), arrive)


class World:
    """One anchor, its hosts, and the net between them."""

    def __init__(self, seed: int = 1, pool: str = "10.201.0.0/16", limits: Limits | None = None) -> None:
        self.net = FakeNet(seed)
        self.random = self.net.random.randbytes
        self.transcript = Transcript(self.net.clock)
        self.laptops: dict[str, Laptop] = {}
        self.origins = 0
        self.anchor = AnchorSide(self, pool, limits or Limits())

    def laptop(
        self,
        *wires: Wire,
        name: str = "laptop",
        secret: str | None = None,
        order: tuple[str, ...] = ("wifi", "cellular", "*"),
    ) -> Laptop:
        """Add a mobile host with a fresh token (or any `secret`), without any network yet."""
        secret = self.anchor.token(name) if secret is None else secret
        self.laptops[name] = laptop = Laptop(self, name, wires, secret, order)
        return laptop

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.net.run(seconds)

    def network_of(self, tunnel: int) -> str:
        """Return the name of the network that has a tunnel, for the transcript."""
        for laptop in self.laptops.values():
            held = laptop.host.network_of(TunnelId(tunnel))
            if held is not None:
                return held.network.name
        return "a tunnel that is gone"

    def signal(self, who: str, command: SendInner) -> None:
        """Write a signal inside a tunnel into the transcript."""
        said = inner_line(command.packet, self.network_of)
        self.transcript.say(f"{who} in {self.network_of(command.tunnel)}: {said}")

    def sip(self, who: str, wire: Wire, data: bytes) -> None:
        """Write a message of a SIP connection into the transcript."""
        self.transcript.say(f"{who} over {wire.name}: {sip_line(data, self.network_of)}")

    def arrive_sip(self, origin: int, source: Endpoint, data: bytes) -> None:
        """Hand the anchor one whole message of a connection."""
        self.anchor.tell(SipArrived(origin, source, "TLS", data))

    def passes(self, wire: Wire, datagram: bytes, fragment: bool, dead: bool) -> bool:
        """Say whether a wire carries a datagram."""
        lost = self.net.random.random() < wire.loss
        return not (dead or lost) and (fragment or len(datagram) + 28 <= wire.mtu)

    def arrival(self, wire: Wire, *, up: bool) -> float:
        """Return when a datagram that is sent now arrives."""
        when = self.net.now + wire.delay + self.net.random.random() * wire.jitter
        last = wire.last_up if up else wire.last_down
        when = when if wire.reorder else max(when, last)
        if up:
            wire.last_up = when
        else:
            wire.last_down = when
        return when
