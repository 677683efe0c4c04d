"""What an anchor is told of a handover: its own words, as few of them as say it.

A mobile host moves flows by the rules that cover them; an anchor knows no rules. So a row for a label becomes a list
of the flows that the host knows to have it; and where most of what a tunnel carries goes to one place, that is said of
the tunnel, with the exceptions in a list: the last row that means a flow has it (datapath/moves.py).

What waits or is refused is the host's affair: its flows stay where the anchor has them.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from sojourn.model import Flow, TunnelId
from sojourn.upmt.commands import Everything, Exactly, Labelled, Move, OnTunnel
from sojourn.upmt.flow_table import FlowPlace, FlowTable

MANY: Final = 32
"""Flows of one tunnel that are rather spoken of as all that it carries."""


class _Place(NamedTuple):
    tunnel: TunnelId | None
    copies: tuple[TunnelId, ...]


def rows_for_anchor(moves: Sequence[Move], table: FlowTable) -> list[Move]:
    """Return the moves that the anchor is asked for; `table`: the flows as they stood before the order."""
    told = [move for move in moves if move.tunnel is not None and not move.block]
    if not any(isinstance(move.select, Labelled) for move in moves):
        return told
    targets = {flow: (_Place(place.tunnel, place.copies), _target(place, move))
               for flow, place, move in table.governed(moves)}  # fmt: skip
    whole = [move for move in told if not isinstance(move.select, Labelled | Exactly)]
    if not any(isinstance(move.select, Everything) for move in whole):
        whole = [*_tunnels(table, targets), *whole]
    by_whole = {flow: _Place(move.tunnel, move.copies) for flow, _, move in table.governed(whole)}
    lists: dict[_Place, list[Flow]] = {}
    for flow, place in table.flows.items():
        now = _Place(place.tunnel, place.copies)
        wanted = targets[flow][1] if flow in targets else now
        if by_whole.get(flow, now) != wanted and wanted.tunnel is not None:
            lists.setdefault(wanted, []).append(flow)
    named = {flow for flows in lists.values() for flow in flows}
    for move in told:  # flows that were named, and that are not known, yet
        if isinstance(move.select, Exactly):
            new = [flow for flow in move.select.flows if flow not in table.flows and flow not in named]
            lists.setdefault(_Place(move.tunnel, move.copies), []).extend(new)
    return [*whole, *(Move(Exactly(tuple(flows)), *place) for place, flows in lists.items() if flows)]


def _target(place: FlowPlace, move: Move) -> _Place:
    """Return where the anchor is to have a flow after a move."""
    if move.tunnel is None or move.block:
        return _Place(place.tunnel, place.copies)
    return _Place(move.tunnel, move.copies)


def _tunnels(table: FlowTable, targets: dict[Flow, tuple[_Place, _Place]]) -> list[Move]:
    """Return moves of all that a tunnel carries, where that is shorter than a list."""
    carried = Counter(place.tunnel for place in table.flows.values())
    moving = Counter((now.tunnel, wanted) for now, wanted in targets.values() if now != wanted)
    out: dict[TunnelId, Move] = {}
    for (tunnel, wanted), count in moving.most_common():
        if tunnel is None or tunnel in out or count < MANY or 2 * count <= carried[tunnel]:
            continue
        out[tunnel] = Move(OnTunnel(tunnel), wanted.tunnel, wanted.copies)
    return list(out.values())


def in_parts(moves: Sequence[Move], most: int) -> list[tuple[Move, ...]]:
    """Cut an order into ones with at most so many flows; all of one number, they may be carried out one by one."""
    parts: list[tuple[Move, ...]] = []
    few: list[Move] = []
    for move in moves:
        flows = move.select.flows if isinstance(move.select, Exactly) else ()
        if len(flows) <= most:
            few.append(move)
            continue
        parts += [
            (replace(move, select=Exactly(flows[at : at + most])),) for at in range(0, len(flows), most)
        ]  # fmt: skip
    return [tuple(few), *parts] if few else parts
