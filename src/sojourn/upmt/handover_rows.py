"""What an anchor is told of a handover: its own words, as few of them as say it.

A mobile host moves flows by the rules that cover them; an anchor knows no rules. So a row for a label becomes a list
of the flows that the host knows to have it; and where most of what a tunnel carries goes to one place, that is said of
the tunnel, with the exceptions in a list: the last row that means a flow has it (datapath/moves.py).

What waits or is refused is the host's affair: its flows stay where the anchor has them.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from sojourn.model import Flow, TunnelId
from sojourn.upmt.commands import Everything, Exactly, Labelled, Move, OnTunnel
from sojourn.upmt.flow_table import FlowTable

MANY: Final = 32
"""Flows of one tunnel that are rather spoken of as all that it carries."""


_Place = tuple[TunnelId | None, tuple[TunnelId, ...]]
"""A tunnel, and further ones for copies."""


def rows_for_anchor(moves: Sequence[Move], table: FlowTable) -> list[Move]:
    """Return the moves that the anchor is asked for; `table`: the flows as they stood before the order."""
    told = [move for move in moves if move.tunnel is not None and not move.block]
    if not any(isinstance(move.select, Labelled) for move in moves):
        return told
    now: list[_Place] = [(place.tunnel, place.copies) for place in table.flows.values()]
    wanted = [
        was if move is None or move.tunnel is None or move.block else (move.tunnel, move.copies)
        for was, move in zip(now, table.meant(moves), strict=True)
    ]
    whole = [move for move in told if not isinstance(move.select, Labelled | Exactly)]
    if not any(isinstance(move.select, Everything) for move in whole):
        whole = [*_tunnels(now, wanted), *whole]
    lists: dict[_Place, list[Flow]] = {}
    for flow, was, is_to_be, move in zip(table.flows, now, wanted, table.meant(whole), strict=True):
        if is_to_be != (was if move is None else (move.tunnel, move.copies)) and is_to_be[0] is not None:
            lists.setdefault(is_to_be, []).append(flow)
    for move in told:  # flows that were named, and that are not known, yet
        if isinstance(move.select, Exactly):
            new = [flow for flow in move.select.flows if flow not in table.flows]
            lists.setdefault((move.tunnel, move.copies), []).extend(new)
    return [*whole, *(Move(Exactly(tuple(flows)), *place) for place, flows in lists.items() if flows)]


def _tunnels(now: Sequence[_Place], wanted: Sequence[_Place]) -> list[Move]:
    """Return moves of all that a tunnel carries, where that is shorter than a list."""
    carried = Counter(tunnel for tunnel, _ in now)
    moving = Counter((was[0], is_to_be) for was, is_to_be in zip(now, wanted, strict=True) if was != is_to_be)
    out: dict[TunnelId, Move] = {}
    for (tunnel, place), count in moving.most_common():
        if tunnel is None or tunnel in out or count < MANY or 2 * count <= carried[tunnel]:
            continue
        out[tunnel] = Move(OnTunnel(tunnel), *place)
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
