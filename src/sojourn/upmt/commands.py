"""What control orders a data path to do (datapath/base.py is the interface that takes these).

They cross a function call or a Unix socket as they are: frozen, tagged, of plain values.
"""

from enum import StrEnum

from msgspec import Struct

from sojourn.model import AssociationId, Endpoint, Flow, Origin, TunnelId
from sojourn.packet.seal import Secret
from sojourn.policy.match import Match
from sojourn.policy.rules import Rule
from sojourn.upmt.peer_commands import PeerCommand


class Role(StrEnum):
    """Which end of the tunnels this data path is."""

    HOST = "host"
    ANCHOR = "anchor"


class Command(Struct, frozen=True, tag=True):
    """Anything that control orders."""


class Setup(Command, frozen=True):
    """Say who we are. The first command, once; a repeated one updates what may change.

    The TUN device is opened by the process from `device` (it exists, persistent, with its
    addresses, set up by control through linux/).
    """

    role: Role
    device: str
    mtu: int
    signal_port: int = 5060
    """Inner UDP datagrams between a Vipa and the anchor's inner address with this port (at the anchor's
    side) go up to control as `InnerReceived` and never to the TUN."""
    inner_addresses: tuple[str, ...] = ()
    """The anchor's inner addresses, IPv4 and IPv6."""
    refused: tuple[str, ...] = ()
    """Anchor: inner destinations (CIDR) that are dropped and counted; the Vipa pool is always among them
    unless `isolate` is off."""
    allowed: tuple[str, ...] = ()
    """Anchor: exceptions from `refused` (CIDR)."""
    inner_ports: tuple[int, ...] = ()
    """Anchor: ports of its inner addresses that hosts may reach, beside ICMP echo."""
    listen: tuple[Endpoint, ...] = ()
    """Anchor: where tunnels arrive (UDP); "0.0.0.0" and "::" allowed."""
    epoch_file: str = ""
    """Where used epochs are stored before their first use."""
    plain: bool = False
    """There may be plain tunnels. Anchor: signals from addresses without a tunnel go up as `StrangerReceived`."""
    without_kernel: str = ""
    """Why plain tunnels are not to be the kernel's (datapath/kernel_engine.py); empty: they are, if that can be."""
    zero_checksum6: bool = False
    """Plain tunnels over IPv6 go without UDP checksum (RFC 6936), which the peer must allow, too. Only so can they
    be the kernel's."""


class AddAssociation(Command, frozen=True):
    """Anchor: a mobile host; host: itself. Repeated with the same id it updates."""

    association: AssociationId
    vipa: str
    vipa6: str | None
    tunnels: tuple[TunnelId, ...]
    """The tunnel index of each slot, in slot order."""


class RemoveAssociation(Command, frozen=True):
    """Forget a mobile host with its secrets, tunnels and rows."""

    association: AssociationId


class InstallSecret(Command, frozen=True):
    """A new secret. A host seals with it at once, an anchor once the host has."""

    association: AssociationId
    secret: Secret


class OpenTunnel(Command, frozen=True):
    """Host: bring up the tunnel of one slot over one network. Repeated with another address it moves.

    The data path opens the UDP socket (bound to `interface` and `local`), keeps the pinhole open
    every `keep_alive` seconds without traffic, tests the path and reports `TunnelTested`.
    At the anchor a plain tunnel is opened by it, too (`remote` = the proved outer address);
    sealed ones need no opening there.
    """

    association: AssociationId
    tunnel: TunnelId
    interface: str
    local: Endpoint
    remote: Endpoint
    sealed: bool = True
    keep_alive: float = 25.0
    ready: bool = True
    """Host, plain: False until signalling has set the tunnel up; nothing but signals is sent till then."""


class CloseTunnel(Command, frozen=True):
    """Give up a tunnel: its rows wait (`SetDefault` and `MoveFlows` find them a new place first)."""

    tunnel: TunnelId


class SetDefault(Command, frozen=True):
    """Where flows without a row go; None = they wait."""

    association: AssociationId
    tunnel: TunnelId | None
    number: int = 0
    """The order for everything that it comes from, where a successor is told: older ones must not change it."""


class OnTunnel(Struct, frozen=True, tag=True):
    """All flows that a tunnel carries now."""

    tunnel: TunnelId


class Everything(Struct, frozen=True, tag=True):
    """All flows of the association, those to come included (it sets the default, too)."""


class Exactly(Struct, frozen=True, tag=True):
    """These flows. A flow without a row gets one."""

    flows: tuple[Flow, ...]


class Matching(Struct, frozen=True, tag=True):
    """All present flows that a match covers."""

    match: Match


class Labelled(Struct, frozen=True, tag=True):
    """All flows, present and to come, that one rule covers (policy/rules.py; DEFAULT = no rule).

    At an anchor: the flows that requests of the host have given this label.
    """

    label: str


Select = OnTunnel | Everything | Exactly | Matching | Labelled


class Move(Struct, frozen=True):
    """Some flows and the tunnel for them; None = let them wait."""

    select: Select
    tunnel: TunnelId | None
    copies: tuple[TunnelId, ...] = ()
    """Further tunnels that get a copy of each packet."""
    block: bool = False
    """Host: refuse their packets at once (ICMP, RST)."""
    label: str | None = None
    """Anchor: the label that these flows get, where the request gives one."""


class Placed(Struct, frozen=True):
    """A rule, and where flows that it covers go."""

    rule: Rule
    tunnel: TunnelId | None
    copies: tuple[TunnelId, ...] = ()
    block: bool = False
    own_trigger: bool = False
    """Flows with peers: each gets a private identifier of its own."""


class SetRules(Command, frozen=True):
    """Host: the rules in order, all of them. A new flow goes where the first that covers it says.

    Rows that exist get their labels anew, but are not moved by this (`MoveFlows` does that).
    A flow that no rule covers follows `SetDefault`.
    """

    association: AssociationId
    rules: tuple[Placed, ...]


class DescribeOrigin(Command, frozen=True):
    """Host: the answer to `OriginUnknown`; flows that waited for it are placed now."""

    origin: Origin


class MoveFlows(Command, frozen=True):
    """One handover order, answered by `FlowsMoved`. Of several moves that mean a flow the last one has it.

    A host carries it out as a whole between two packets; an anchor in slices, if it means very many flows.
    """

    association: AssociationId
    number: int
    """The move number (DESIGN §2, 3). Rows with a higher one answer `stale`."""
    moves: tuple[Move, ...]


class SendInner(Command, frozen=True):
    """Send one inner packet in this very tunnel, whatever the table says (signals)."""

    tunnel: TunnelId
    packet: bytes


class SendOutside(Command, frozen=True):
    """Anchor: send one inner packet to an outer address, outside of any tunnel (answers to `StrangerReceived`)."""

    destination: Endpoint
    packet: bytes


class Report(Command, frozen=True):
    """Ask for `Counters`, now, and for one `TunnelMeasured` a tunnel."""

    tunnels: bool = True
    """False: for the counters only. An anchor of ten thousand hosts has thirty thousand tunnels."""


class Measure(Command, frozen=True):
    """Host: probe this tunnel for some seconds as if data passed, and report likewise (`TunnelMeasured`)."""

    tunnel: TunnelId
    seconds: float


class Snapshot(Command, frozen=True):
    """Ask for everything that a new owner must know: answered by `State`."""


class Resumed(Command, frozen=True):
    """The machine slept: drop what was measured, test every tunnel, refresh pinholes."""

    slept: float


class RowState(Struct, frozen=True):
    """One row, for `flows` and for a new owner."""

    association: AssociationId
    flow: Flow
    tunnel: TunnelId | None
    move: int
    packets_in: int
    packets_out: int
    bytes_in: int
    bytes_out: int
    age: float
    origin: Origin | None = None
    label: str = ""
    copies: tuple[TunnelId, ...] = ()
    blocked: bool = False


class Restore(Command, frozen=True):
    """Rows and outer addresses of a data path that died, given to its successor after the other commands."""

    rows: tuple[RowState, ...]
    outer: dict[TunnelId, Endpoint] = {}


AnyCommand = (
    Setup | AddAssociation | RemoveAssociation | InstallSecret | OpenTunnel | CloseTunnel | SetDefault
    | MoveFlows | SetRules | DescribeOrigin | SendInner | SendOutside | Report | Measure | Snapshot | Resumed
    | Restore | PeerCommand
)  # fmt: skip
