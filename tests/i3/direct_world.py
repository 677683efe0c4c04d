"""Peers that allow each other a direct path, in networks behind NATs, under one clock.

a (wifi ...) -- NAT -+-- node
b (wifi ...) -- NAT -+
"""

from itertools import count

from sojourn.i3.direct import Agent
from sojourn.i3.roam_sessions import PeerKnown, Settings
from sojourn.model import Endpoint
from sojourn.packet.path_mtu import OUTER_UDP_IPV4
from tests.i3.roam_world import Roamer, RoamWorld
from tests.i3.world import NODE, identity


class Nat:
    """A NAT as RFC 4787 names them; `filtering`: "any", "address" or "port" of who may answer."""

    def __init__(self, public: str, *, symmetric: bool = False, filtering: str = "port", hairpin: bool = False) -> None:
        self.public, self.symmetric, self.filtering, self.hairpin = public, symmetric, filtering, hairpin
        self._ports = count(40000)
        self._mapped: dict[tuple[Endpoint, Endpoint | None], Endpoint] = {}
        self._inside: dict[Endpoint, Endpoint] = {}
        self._sent: set[tuple[Endpoint, Endpoint]] = set()

    def outgoing(self, source: Endpoint, destination: Endpoint) -> Endpoint:
        key = source, destination if self.symmetric else None
        if key not in self._mapped:
            outside = Endpoint(self.public, next(self._ports))
            self._mapped[key] = outside
            self._inside[outside] = source
        self._sent.add((self._mapped[key], destination))
        return self._mapped[key]

    def incoming(self, source: Endpoint, destination: Endpoint) -> Endpoint | None:
        inside = self._inside.get(destination)
        if inside is None or self.filtering == "any":
            return inside
        known = [to for outside, to in self._sent if outside == destination]
        if self.filtering == "address":
            return inside if source.address in {to.address for to in known} else None
        return inside if source in known else None


class DirectWorld(RoamWorld):
    """As RoamWorld; a host whose network is in `behind` sends through that NAT."""

    def __init__(self, *, delay: float = 0.01, loss: float = 0.0) -> None:
        super().__init__(delay=delay, loss=loss)
        self.behind: dict[Endpoint, Nat] = {}
        self.between_dead = False
        """Nothing gets through between hosts; nodes are reached."""
        self.mtu = 1500
        """What the path between hosts carries (IPv4); what is larger is lost, fragments and all, without a word."""
        self.device_mtu = 1448

    def wishing(self, name: str, peer: str, *, direct: bool = True) -> Roamer:
        theirs = identity(peer)
        known = PeerKnown(peer, theirs.address, theirs.keys.signing, theirs.keys.exchange, direct)
        made = Roamer(self, name, Settings((NODE,), (known,), device_mtu=self.device_mtu))
        self.roamers.append(made)
        return made

    def place(self, roamer: Roamer, path: str, address: str, nat: Nat | None = None, *, use: bool = True) -> None:
        """Give a host a network."""
        if nat is not None:
            self.behind[Endpoint(address, 4000)] = nat
        roamer.up(path, address, use=False)
        roamer.proxy.local(path, Endpoint(address, 4000))
        if use:
            roamer.use(path)

    def send(self, data: bytes, source: Endpoint, destination: Endpoint) -> None:
        nat = self.behind.get(source)
        other = self.behind.get(destination)
        private = destination in self.behind or destination.address.startswith(("192.168.", "10."))
        if private and (nat is None or other is not nat):
            return  # another network's address means nothing here
        between = NODE not in (source, destination)
        if between and (self.between_dead or len(data) + OUTER_UDP_IPV4 > self.mtu):
            return
        outside = nat.outgoing(source, destination) if nat is not None and not private else source
        super().send(data, outside, destination)

    def _arrive(self, data: bytes, source: Endpoint, destination: Endpoint) -> None:
        nat = next((nat for nat in self.behind.values() if nat.public == destination.address), None)
        if nat is not None:
            inside = nat.incoming(source, destination)
            if inside is None or (source.address == nat.public and not nat.hairpin):
                return
            destination = inside
        super()._arrive(data, source, destination)


def agent_of(here: Roamer, there: Roamer) -> Agent:
    peer = here.proxy.peer_at(there.home)
    assert peer is not None
    assert peer.agent is not None
    return peer.agent


def pair_at(
    one: str, other: str, behind: tuple[Nat | None, Nat | None] = (None, None), *, loss: float = 0.0
) -> tuple[DirectWorld, Roamer, Roamer]:
    """Return two hosts that wish a direct path, each on its Wi-Fi, and have not met yet."""
    made = DirectWorld(loss=loss)
    a, b = made.wishing("a", "b"), made.wishing("b", "a")
    made.place(a, "wifi", one, behind[0])
    made.place(b, "wifi", other, behind[1])
    made.run(0.5)
    return made, a, b


def pair_behind(one: Nat | None, other: Nat | None, *, loss: float = 0.0) -> tuple[DirectWorld, Roamer, Roamer]:
    """Return two hosts that have met, and talked for five seconds."""
    inside = "192.168.1.3" if other is one else "192.168.7.2"
    made, a, b = pair_at(
        "192.168.1.2" if one else "198.51.100.1", inside if other else "198.51.100.2", (one, other), loss=loss
    )
    missing = talk(made, a, b, 5.0)
    assert loss or missing == []
    return made, a, b


def talk(world: DirectWorld, a: Roamer, b: Roamer, seconds: float, every: float = 0.1) -> list[tuple[str, str]]:
    """Let both say a number every `every` seconds; return what did not come, or came twice: (who said it, what)."""
    sent: list[tuple[str, str]] = []
    for number in range(round(seconds / every)):
        for here, there in ((a, b), (b, a)):
            text = f"{here.name}{world.now:.3f}-{number}"
            here.send(there, text)
            sent.append((here.name, text))
        world.run(every)
    world.run(1.0)
    got = [("a", text) for text in b.got()] + [("b", text) for text in a.got()]
    return sorted(one for one in sent if got.count(one) != 1)


def met(*, mtu: int = 1500, device_mtu: int = 1448, six: bool = False) -> tuple[DirectWorld, Roamer, Roamer]:
    """Return two hosts that speak directly over a path of `mtu` bytes."""
    world = DirectWorld()
    world.mtu, world.device_mtu = mtu, device_mtu
    a, b = world.wishing("a", "b"), world.wishing("b", "a")
    world.place(a, "wifi", "2001:db8:1::2" if six else "198.51.100.1")
    world.place(b, "wifi", "2001:db8:2::2" if six else "198.51.100.2")
    world.run(0.5)
    assert talk(world, a, b, 3.0) == []
    assert agent_of(a, b).selected is not None
    return world, a, b
