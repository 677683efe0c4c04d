"""Private identifiers of single flows (ROAM: "per peer or, by policy, per flow").

A host whose policy says so gives each flow with a peer an identifier of its own; the peer sends that flow's packets to
it, and nobody but the two can tell from identifiers which flows belong together. Each end says for what comes to it. A
flow is named by protocol and ports, as its addresses are the two home addresses. Only TCP and UDP have any; packets of
other flows, fragments, and what goes beyond `MOST_OWN` use the identifier of the peer.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

from sojourn.i3.client import Wanted
from sojourn.i3.identifier import Identifier
from sojourn.model import TCP, UDP
from sojourn.packet.ip import IPV6_HEADER

# Ours: each is refreshed every 20 s.
MOST_OWN: Final = 64
MOST_THEIRS: Final = 256


class FlowPorts(NamedTuple):
    """A flow between two home addresses, as one end sees it."""

    protocol: int
    local: int
    remote: int

    def reversed(self) -> "FlowPorts":
        """Return it as the other end sees it."""
        return FlowPorts(self.protocol, self.remote, self.local)


NO_FLOW: Final = FlowPorts(0, 0, 0)


def ports_of(packet: bytes, *, came: bool = False) -> FlowPorts | None:
    """Return the flow of an inner packet, None where it has no ports of its own. `came`: the peer has sent it."""
    if len(packet) < IPV6_HEADER + 4 or packet[0] >> 4 != 6 or packet[6] not in (TCP, UDP):
        return None
    at = IPV6_HEADER
    ports = FlowPorts(packet[6], int.from_bytes(packet[at : at + 2]), int.from_bytes(packet[at + 2 : at + 4]))
    return ports.reversed() if came else ports


class OwnTrigger:
    """An identifier that a peer is to send one flow to."""

    __slots__ = ("owed", "wanted")

    def __init__(self, wanted: Wanted, owed: float) -> None:
        self.wanted = wanted
        self.owed: float | None = owed
        """When it goes alone, if no packet took it along."""


class FlowTriggers:
    """Those of one peer, ours and its own."""

    def __init__(self) -> None:
        self.own: dict[FlowPorts, OwnTrigger] = {}
        self._theirs: OrderedDict[FlowPorts, Identifier] = OrderedDict()

    def flow_of(self, packet: bytes) -> FlowPorts | None:
        """Return the flow of a packet that goes to the peer, if any flow has an identifier of its own."""
        return ports_of(packet) if self.own or self._theirs else None

    def target(self, flow: FlowPorts | None) -> Identifier | None:
        """Return where the peer wants a flow sent to, None where it has not said."""
        return self._theirs.get(flow) if flow is not None else None

    def told(self, flow: FlowPorts, identifier: Identifier) -> None:
        """Take in what the peer says of a flow (ours to name as this end sees it); the oldest is forgotten first."""
        self._theirs[flow] = identifier
        self._theirs.move_to_end(flow)
        if len(self._theirs) > MOST_THEIRS:
            self._theirs.popitem(last=False)

    def absent(self, identifier: Identifier) -> bool:
        """Forget an identifier that leads nowhere any more; say whether it was one of these."""
        gone = [flow for flow, known in self._theirs.items() if known == identifier]
        for flow in gone:
            del self._theirs[flow]
        return bool(gone)

    def lost(self) -> None:
        """Forget where the peer wants anything: it may have been started anew."""
        self._theirs.clear()

    def ended(self, flow: FlowPorts) -> Wanted | None:
        """Forget a flow; return our trigger for it, which is to be taken out."""
        self._theirs.pop(flow, None)
        own = self.own.pop(flow, None)
        return own.wanted if own is not None else None

    def wanted(self) -> Iterator[Wanted]:
        """Return our triggers."""
        return (own.wanted for own in self.own.values())

    def has(self, identifier: Identifier) -> bool:
        """Say whether an identifier is one of ours."""
        return any(own.wanted.identifier == identifier for own in self.own.values())
