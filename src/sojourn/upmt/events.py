"""What a data path tells control (datapath/base.py): past facts, frozen, of plain values."""

from msgspec import Struct

from sojourn.model import AssociationId, Endpoint, Flow, Origin, TunnelId
from sojourn.paft import MoveResult
from sojourn.upmt.commands import AddAssociation, InstallSecret, OpenTunnel, RowState, SetDefault, SetRules, Setup
from sojourn.upmt.peer_events import PeerEvent


class Event(Struct, frozen=True, tag=True):
    """Anything that the data path reports."""


class TunnelTested(Event, frozen=True):
    """A tunnel carried an authenticated answer after it was opened or moved: it works."""

    tunnel: TunnelId
    outer: Endpoint | None
    """Our own address as the other end sees it, where it said so."""
    rtt: float


class TunnelBlocked(Event, frozen=True):
    """No answer to the tests of a tunnel that was just opened (they go on, more slowly)."""

    tunnel: TunnelId
    reason: str


class TunnelSilent(Event, frozen=True):
    """A tested tunnel has stopped to answer while it should have (max(200 ms, srtt + 4 rttvar))."""

    tunnel: TunnelId
    after: float
    """Seconds since the last authenticated packet."""


class TunnelRecovered(Event, frozen=True):
    """A silent tunnel has answered again."""

    tunnel: TunnelId


class TunnelFailed(Event, frozen=True):
    """The system refused to send or to open a socket (no route, address gone, interface gone)."""

    tunnel: TunnelId
    why: str


class TunnelMoved(Event, frozen=True):
    """Anchor: a tunnel's outer address changed (an authenticated packet came from it, and it was proved)."""

    tunnel: TunnelId
    outer: Endpoint


class TunnelMeasured(Event, frozen=True):
    """What is known of a path. Times in seconds, losses as fractions, sizes in bytes; None = not known yet."""

    tunnel: TunnelId
    srtt: float | None
    rttvar: float | None
    jitter: float | None
    loss_out: float | None
    loss_in: float | None
    mtu: int
    """The largest inner packet that passes."""
    bytes_in: int
    bytes_out: int
    packets_in: int
    packets_out: int
    outer: Endpoint | None = None
    silent: bool = False
    counts: tuple[int, int, int, int] | None = None
    """Packets up to the newest answer, since the path was opened or ever: (we sent, they received, they sent,
    we received). The two ends may have started at different times: only differences mean anything."""


class TunnelClosed(Event, frozen=True):
    """The peer closed the tunnel by an authenticated frame."""

    tunnel: TunnelId


class FlowSeen(Event, frozen=True):
    """A flow got its first row; or (host) one that its correspondent began is known better now."""

    association: AssociationId
    flow: Flow
    tunnel: TunnelId | None
    origin: Origin | None = None
    """Host: who made it, where that is known."""
    label: str = ""
    """The rule that covers it (`SetRules`)."""
    copies: tuple[TunnelId, ...] = ()
    blocked: bool = False


class OriginUnknown(Event, frozen=True):
    """Host: a flow waits, because its owner's name needs a look that the data path may not take (`DescribeOrigin`)."""

    origin: Origin


class FlowMoved(Event, frozen=True):
    """A row followed an authenticated packet (learning), or a flow that never had a path got its first one."""

    association: AssociationId
    flow: Flow
    tunnel: TunnelId
    copies: tuple[TunnelId, ...] = ()


class FlowEnded(Event, frozen=True):
    """A row was removed: the flow closed, idled out, or had to make room."""

    association: AssociationId
    flow: Flow
    bytes_in: int = 0
    bytes_out: int = 0
    """What the row had counted in the end."""


class FlowsMoved(Event, frozen=True):
    """The answer to `MoveFlows`: for each move how many rows had which result.

    For `Exactly` the `results` stand in the order of its flows.
    """

    association: AssociationId
    number: int
    counts: tuple[dict[MoveResult, int], ...]
    results: tuple[tuple[MoveResult, ...], ...] = ()


class GapMeasured(Event, frozen=True):
    """Host: what a handover cost. Told once an order, when a flow that it moved was heard on its new path."""

    number: int
    """The move number."""
    seconds: float | None
    """Between the last packet on the old path and the first on the new one; None: nothing came for a long while."""
    packets: int = 0
    """How many had come by then."""


class InnerReceived(Event, frozen=True):
    """An inner datagram for control (signals), with the tunnel it came on."""

    association: AssociationId
    tunnel: TunnelId
    packet: bytes
    source: Endpoint | None = None
    """The outer address it came from."""


class StrangerReceived(Event, frozen=True):
    """Anchor: a bare inner datagram for control, from an outer address that no tunnel has. Nothing of it is proved."""

    association: AssociationId
    """Whose Vipa its inner source is."""
    packet: bytes
    source: Endpoint


class SecretNeeded(Event, frozen=True):
    """An epoch limit is near: register again."""

    association: AssociationId


class SecretInUse(Event, frozen=True):
    """Anchor: the host has sealed with this generation; the older one may be erased."""

    association: AssociationId
    generation: int


class Counters(Event, frozen=True):
    """Totals since the start of the data path, refusals by reason."""

    totals: dict[str, int]
    refused: dict[str, int]
    flows: int
    served_by: dict[str, str] = {}
    """Which engine moves the packets; `kernel`: why plain tunnels are not the kernel's, empty if they are."""


class State(Event, frozen=True):
    """Everything that stands: enough to drive this data path, or to start its successor."""

    setup: Setup | None
    associations: tuple[AddAssociation, ...]
    secrets: tuple[InstallSecret, ...]
    tunnels: tuple[OpenTunnel, ...]
    defaults: tuple[SetDefault, ...]
    rows: tuple[RowState, ...]
    outer: dict[TunnelId, Endpoint] = {}
    """Anchor: where each tunnel's host was last."""
    rules: tuple[SetRules, ...] = ()


AnyEvent = (TunnelTested | TunnelBlocked | TunnelSilent | TunnelRecovered | TunnelFailed | TunnelMoved | TunnelMeasured
    | TunnelClosed | FlowSeen | OriginUnknown | FlowMoved | FlowEnded | FlowsMoved | GapMeasured | InnerReceived
    | StrangerReceived | SecretNeeded | SecretInUse | Counters | State | PeerEvent
)  # fmt: skip
