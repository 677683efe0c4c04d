"""The signals of UPMT: JSON bodies of SIP MESSAGE (paper §VII, Table II, Fig. 9; docs/wire.md, signals).

A body is one signal or an array of them; the answers stand in the 200 OK at the same positions.
Unknown fields are ignored; a signal that is unknown or malformed is answered by `Failure` in its place.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint, Flow, TunnelId
from sojourn.packet.ip import packed, text
from sojourn.paft import MoveResult
from sojourn.policy.match import parse as parse_match
from sojourn.policy.match import write as write_match
from sojourn.upmt.commands import Everything, Exactly, Labelled, Matching, Move, OnTunnel, Select

CONTENT_TYPE = "application/json"
CONTENT_TYPES = frozenset({CONTENT_TYPE, "application/text"})
"""The second one is the paper's own (Fig. 9)."""
MAX_LABEL = 64
"""Characters of an application label."""
MAX_SIGNALS = 64
MAX_FLOWS = 65536
MAX_ADDRESS = 45
"""Characters of an address, at most (INET6_ADDRSTRLEN - 1)."""
MAX_COPIES = 3
"""Copies of a packet, beside the packet itself."""

WireFlow = tuple[int, str, int, str, int]
"""Protocol, local address and port, remote address and port."""
TunnelChoice = int | str
"""A tunnel ID, also as text (Fig. 9 prints it in quotes), or "any"."""


class Signal(Struct, frozen=True, tag_field="mType", tag=True, omit_defaults=True):
    """Any signal; its JSON key `mType` is the class's name, as in the paper's Fig. 9."""


class TunnelRequest(Signal, frozen=True):
    """Ask for the tunnel that this very message came in (paper §V, tunnel establishment).

    A plain tunnel has no index on the wire: there the request must name it.
    """

    tunnel_id: int | None = msgspec.field(default=None, name="tunnelID")


class TunnelResponse(Signal, frozen=True):
    """The tunnel's ID, and the outer address that the anchor saw."""

    tunnel_id: int = msgspec.field(name="tunnelID")
    address: str | None = msgspec.field(default=None, name="yourAddress")
    port: int | None = msgspec.field(default=None, name="yourPort")


class WireMatch(Struct, frozen=True):
    """Fig. 9's `match`: a syntax, and text in it."""

    syntax: str
    match: str


class WireRow(Struct, frozen=True, omit_defaults=True):
    """One row of a handover request: what to move (exactly one of the selectors) and where to.

    Without `tunnelID` it goes to the tunnel that the request came on.
    """

    flows: tuple[WireFlow, ...] | None = None
    match: WireMatch | None = None
    on: int | None = None
    """All flows that this tunnel carries now."""
    all: bool = False
    """Every flow of the host, and those to come."""
    application: str | None = None
    """Every flow that a request gave this label. Beside `flows` it is the label that these get."""
    tunnel_ids: tuple[TunnelChoice, ...] = msgspec.field(default=(), name="tunnelID")
    copies: tuple[int, ...] = ()
    """Further tunnels that carry a copy of each packet."""


class HandoverRequest(Signal, frozen=True):
    """Change rows at the anchor. The paper's form has one match and its tunnels at the top level."""

    move: int = 0
    rows: tuple[WireRow, ...] = ()
    match: WireMatch | None = None
    tunnel_ids: tuple[TunnelChoice, ...] = msgspec.field(default=(), name="tunnelID")

    def all_rows(self) -> tuple[WireRow, ...]:
        """Return the rows, the paper's top-level form included."""
        if self.match is None:
            return self.rows
        return (WireRow(match=self.match, tunnel_ids=self.tunnel_ids), *self.rows)


class RowResult(Struct, frozen=True, omit_defaults=True):
    """How many flows of a row had which result; the positions (in `flows`) of those that did not move."""

    tunnel_id: int | None = msgspec.field(default=None, name="tunnelID")
    counts: dict[str, int] = {}
    stale: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()


class HandoverResponse(Signal, frozen=True):
    """A result for each row of the request with the same move number."""

    move: int = 0
    results: tuple[RowResult, ...] = ()


class KeepAlive(Signal, frozen=True):
    """Hold a pinhole open and measure (the paper's combined form); answered by itself."""

    sequence: int = 0


class Failure(Signal, frozen=True):
    """The answer to a signal that could not be carried out."""

    reason: str = ""
    again: bool = False
    """Nothing was wrong with the request: the same one may succeed later."""


AnySignal = TunnelRequest | TunnelResponse | HandoverRequest | HandoverResponse | KeepAlive | Failure

_decoder: msgspec.json.Decoder[AnySignal] = msgspec.json.Decoder(AnySignal)


def decode(body: bytes) -> list[AnySignal]:
    """Read a body; raise RemoteProtocolError when it is no JSON of ours at all."""
    if body.lstrip()[:1] not in (b"[", b"{"):
        raise RemoteProtocolError("a signal is a JSON object or an array of them", reason="signal")
    try:
        parts = msgspec.json.decode(body, type=list[msgspec.Raw]) if body.lstrip()[:1] == b"[" else [body]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"signal is not JSON: {error}", reason="signal") from error
    if len(parts) > MAX_SIGNALS:
        raise RemoteProtocolError("too many signals in one message", reason="signal")
    return [_decode_one(part) for part in parts]


def _decode_one(part: bytes | msgspec.Raw) -> AnySignal:
    try:
        return _decoder.decode(part)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        return Failure(f"bad UPMT signal: {error}")


def encode(signals: Sequence[AnySignal]) -> bytes:
    """Write a body: an object for one signal, an array for several."""
    return msgspec.json.encode(signals[0] if len(signals) == 1 else list(signals))


def wire_flow(flow: Flow) -> WireFlow:
    """Return a flow as a row carries it."""
    return (flow.protocol, flow.local.address, flow.local.port, flow.remote.address, flow.remote.port)


def choices(tunnel_ids: Sequence[TunnelChoice]) -> list[TunnelId | None]:
    """Return a preference list with None for "any"; raise RemoteProtocolError for other words."""
    chosen: list[TunnelId | None] = []
    for choice in tunnel_ids:
        if choice == "any":
            chosen.append(None)
        elif isinstance(choice, int) or (choice.isascii() and choice.isdigit() and len(choice) <= 8):
            chosen.append(TunnelId(int(choice)))
        else:
            raise RemoteProtocolError(f"tunnelID is a number or any, not {choice[:20]!r}", reason="signal")
    return chosen


def selector(row: WireRow) -> Select:
    """Return what a row selects; raise RemoteProtocolError unless that is exactly one thing."""
    chosen: list[Select] = []
    if row.flows is not None:
        if len(row.flows) > MAX_FLOWS:
            raise RemoteProtocolError("too many flows in one row", reason="signal")
        chosen.append(Exactly(tuple(_flow(flow) for flow in row.flows)))
    if row.match is not None:
        if row.match.syntax.lower() != "iptables":
            raise RemoteProtocolError(f"match syntax {row.match.syntax!r} is unknown; IPtables is", reason="signal")
        chosen.append(Matching(parse_match(row.match.match)))
    if row.on is not None:
        if not 0 <= row.on < 1 << 24:
            raise RemoteProtocolError(f"no tunnel has the ID {row.on}", reason="signal")
        chosen.append(OnTunnel(TunnelId(row.on)))
    if row.all:
        chosen.append(Everything())
    if row.application is not None and row.flows is None:
        chosen.append(Labelled(row.application[:MAX_LABEL]))
    if len(chosen) != 1:
        raise RemoteProtocolError("a row selects by exactly one of flows, match, on, all, application", reason="signal")
    return chosen[0]


def _flow(wire: WireFlow) -> Flow:
    """Read a flow; its addresses are written as ours are, whatever form the peer prefers: flows are compared."""
    protocol, local, local_port, remote, remote_port = wire
    try:
        if not (0 <= protocol <= 255 and 0 <= local_port <= 65535 and 0 <= remote_port <= 65535):
            raise ValueError("out of range")
        if len(local) > MAX_ADDRESS or len(remote) > MAX_ADDRESS:
            raise ValueError("too long")
        near, far = packed(local), packed(remote)
        if len(near) != len(far):
            raise ValueError("addresses of both families")
    except ValueError as error:
        raise RemoteProtocolError(f"no flow ({error}): {str(wire)[:100]}", reason="signal") from error
    return Flow(protocol, Endpoint(text(near), local_port), Endpoint(text(far), remote_port))


def row_of(move: Move, here: TunnelId | None = None) -> WireRow:
    """Write one move as a row; its tunnel is not named where that is the one that the message goes in (`here`)."""
    tunnel_ids: tuple[TunnelChoice, ...] = () if move.tunnel is None or move.tunnel == here else (move.tunnel,)
    copies = tuple(int(copy) for copy in move.copies)
    match move.select:
        case Exactly(flows):
            named = tuple(wire_flow(flow) for flow in flows)
            return WireRow(flows=named, application=move.label, tunnel_ids=tunnel_ids, copies=copies)
        case OnTunnel(old):
            return WireRow(on=old, tunnel_ids=tunnel_ids, copies=copies)
        case Matching(match):
            return WireRow(match=WireMatch("IPtables", write_match(match)), tunnel_ids=tunnel_ids, copies=copies)
        case Labelled(label):
            return WireRow(application=label, tunnel_ids=tunnel_ids, copies=copies)
        case Everything():
            return WireRow(all=True, tunnel_ids=tunnel_ids, copies=copies)


def result_of(counts: dict[MoveResult, int], results: Sequence[MoveResult], tunnel: TunnelId | None) -> RowResult:
    """Write what a data path answered for one move."""
    return RowResult(
        tunnel,
        {str(result): count for result, count in counts.items() if count},
        tuple(place for place, result in enumerate(results) if result is MoveResult.STALE),
        tuple(place for place, result in enumerate(results) if result is MoveResult.UNKNOWN),
    )
