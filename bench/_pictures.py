"""Which picture a program's figures have: bars of ours and its peers' for each row, or curves."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Final

from bench._figure import Figure, Json
from bench._figures import HANDOVER, PEERS, TABLES
from bench._plot import Bars, Curves, Panel


def panels_of(name: str, founds: Sequence[Json]) -> list[Panel]:
    """Return the panels of one program's picture; none where it has none to draw."""
    if name in SPECIAL:
        return SPECIAL[name](founds)
    rows = (bars(figure, founds) for figure in TABLES.get(name, []) if figure.plotted)
    return [row for row in rows if row is not None]


def bars(figure: Figure, founds: Sequence[Json]) -> Bars | None:
    """Return one row's bars, absolute, with its target in the same unit."""
    gets = {"sojourn": figure.ours} | {PEERS.get(name, name): get for name, get in figure.beside.items()}
    values = {name: [value for found in founds if _finite(value := get(found))] for name, get in gets.items()}
    known = {name: [value for value in each if value is not None] for name, each in values.items() if each}
    if "sojourn" not in known:
        return None
    line = figure.least if figure.least is not None else figure.most
    base = known.get(PEERS.get(name, name)) if (name := figure.by or figure.beyond) else None
    if line is not None and name:
        middle = statistics.median(base) if base else None
        line = None if middle is None else line * middle if figure.by else line + middle
    title = f"{figure.what.partition(', by ')[0].partition(', beyond ')[0]}{f' ({figure.unit})' if figure.unit else ''}"
    return Bars(title, known, line, "to reach" if figure.least is not None else "at most")


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def scale(founds: Sequence[Json]) -> list[Panel]:
    """Return processor time a packet, and idle, by the number of hosts; medians of the runs."""
    sizes = [size["associations"] for size in founds[-1].get("sizes", [])]

    def line(*path: str) -> list[float]:
        rows = [[_inside(size, path) for size in found["sizes"]] for found in founds]
        return [statistics.median(row[place] for row in rows if place < len(row)) for place in range(len(sizes))]

    costs = {"the same ten talk": "us_per_packet", "others after 400": "us_per_long", "others after 40": "us_per_short"}
    idle = {"data path": "path", "control": "control"}
    return [
        Curves("anchor's data path, µs a packet", "hosts", sizes, {name: line(key) for name, key in costs.items()}),
        Curves("idle anchor, % of one processor", "hosts", sizes,
               {name: line("idle_percent", key) for name, key in idle.items()}),
    ] if sizes else []  # fmt: skip


def _inside(found: Json, path: Sequence[str]) -> float:
    for step in path:
        found = found[step]
    return float(found)


def handover(founds: Sequence[Json]) -> list[Panel]:
    """Return one bar for each scenario: the longest gap in parts of what it may be."""
    parts: dict[str, list[float]] = {}
    for figure in HANDOVER:
        if figure.by is None:
            continue
        for found in founds:
            ours, limit = figure.ours(found), figure.beside[figure.by](found)
            if ours is not None and limit and math.isfinite(ours):
                parts.setdefault(figure.what.partition(":")[0], []).append(ours / limit)
    return [Bars("longest gap, in parts of its limit", parts, 1.0, "at most")] if parts else []


def nodes(founds: Sequence[Json]) -> list[Panel]:
    """Return stretch and times by the number of rendezvous nodes; a simulation, the same in each run."""
    rows = founds[-1]["rows"]
    across = "rendezvous nodes"
    count = [row["nodes"] for row in rows]
    stretch = {"median": "stretch_median", "nine in ten": "stretch_p90"}
    times = {"first packet": "first_ms", "insert": "insert_ms", "direct way": "direct_ms"}
    return [
        Curves("stretch: way taken / direct way", across, count,
               {name: [row[key] for row in rows] for name, key in stretch.items()}),
        Curves("time (ms)", across, count, {name: [row[key] for row in rows] for name, key in times.items()}),
    ]  # fmt: skip


SPECIAL: Final[dict[str, Callable[[Sequence[Json]], list[Panel]]]] = {
    "scale": scale, "handover": handover, "rendezvous_nodes": nodes,
}  # fmt: skip
