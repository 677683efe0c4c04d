"""Mobile hosts and their anchor, control and data path each, on a fake net: all of Sojourn but the kernel.

    Laptop: HostControl <-> MemoryDataPath ~~ wires with NATs, delay, loss, death ~~ MemoryDataPath <-> Anchor
                   \\~~~~~~~~~~~~~~ SIP, a byte stream over the same wires ~~~~~~~~~~~~~~~~~~~~~~~~/

What a data path tells its control arrives a moment later, as over their socket. Everything is
driven by the net's clock; `World.run` lets time pass. `transcript` has what was said.
"""

from sojourn.model import Endpoint, TunnelId
from sojourn.sip.registrar import Limits
from sojourn.upmt.anchor import (
    SipArrived,
)
from sojourn.upmt.commands import SendInner, SendOutside
from tests.harness.anchor_side import AnchorSide
from tests.harness.fakenet import FakeNet, Wire
from tests.harness.laptop import Laptop as Laptop
from tests.harness.transcript import Transcript, inner_line, sip_line


class World:
    """One anchor, its hosts, and the net between them."""

    def __init__(
        self, seed: int = 1, pool: str = "10.201.0.0/16", limits: Limits | None = None, *, plain: bool = False
    ) -> None:
        """`plain`: the anchor allows plain tunnels, and its hosts have no others."""
        self.plain = plain
        self.net = FakeNet(seed)
        self.random = self.net.random.randbytes
        self.transcript = Transcript(self.net.clock)
        self.laptops: dict[str, Laptop] = {}
        self.origins = 0
        self.lose = 0
        """So many of the next signals inside tunnels get lost."""
        self.lost: list[SendInner] = []
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

    def signal(self, who: str, command: SendInner) -> bool:
        """Write a signal inside a tunnel into the transcript, and say whether it passes."""
        said = inner_line(command.packet, self.network_of, self.network_of(command.tunnel))
        passes = not self.lose
        self.transcript.say(f"{who} in {self.network_of(command.tunnel)}: {said}{'' if passes else ' (lost)'}")
        if not passes:
            self.lose -= 1
            self.lost.append(command)
        return passes

    def outside(self, command: SendOutside) -> None:
        """Write what the anchor says outside of any tunnel into the transcript."""
        self.transcript.say(f"anchor outside: {inner_line(command.packet, self.network_of)}")

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
