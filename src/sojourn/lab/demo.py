"""The demo's picture: networks as lanes, the flows as a thread through them, each stream with its gaps, and the table.

Drawn from a `Result` alone, so that it can be drawn again from the JSON of an earlier run.
"""

from itertools import pairwise

from sojourn.lab.gaps import NOTABLE_GAP, gaps
from sojourn.lab.picture import Drawing, Line, Polygon, Rectangle, Text
from sojourn.lab.report import EventFigures, Result
from sojourn.lab.stage import GONE, LOSSY, SILENT, UP, Condition, Sample, outages
from sojourn.lab.tables import gap, verdict

WIDTH = 1160
LEFT, RIGHT = 110, 30
LANE, LANE_GAP, STRIP, STRIP_GAP, ROW = 46, 14, 18, 8, 19
TOP = 84
COLOURS = {UP: "#e3f4e8", LOSSY: "#fdf0cf", SILENT: "#f9d7d3", GONE: "#eceff1"}
WORDS = {LOSSY: "loses packets", SILENT: "silent", GONE: "gone"}
THREAD, VOLUME, GOOD, BAD, OUTAGE = "#1565c0", "#9cc3ea", "#43a047", "#d32f2f", "#78909c"
GREY, INK = "#90a4ae", "#1f2933"
CARRYING_SHARE = 0.6
CARRYING_BYTES = 2000
"""From this share of the bytes between two readings, and this many, a network is drawn as the one that carries."""


class _Sheet:
    """Where things are: time to x, rows to y."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self.networks = list(result.samples[0].carried) if result.samples else []
        self.strips = TOP + len(self.networks) * (LANE + LANE_GAP) + 16
        self.axis = self.strips + len(result.streams) * (STRIP + STRIP_GAP) + 4
        self.table = self.axis + 56
        height = self.table + (len(result.events) + 1) * ROW + 20
        self.drawing = Drawing(WIDTH, height)

    def x(self, seconds: float) -> float:
        share = min(1.0, max(0.0, seconds / self.result.seconds))
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def lane(self, network: str) -> float:
        return TOP + self.networks.index(network) * (LANE + LANE_GAP)


def draw(result: Result) -> Drawing:
    """Return the picture of a run."""
    sheet = _Sheet(result)
    sheet.drawing.add(
        Text(LEFT, 30, "Sojourn lab: " + result.scenario, 20), Text(LEFT, 54, verdict(result), 13, "#52606d")
    )
    _lanes(sheet)
    _events(sheet)
    _thread(sheet)
    _strips(sheet)
    _axis(sheet)
    _table(sheet)
    return sheet.drawing


def spans(conditions: tuple[Condition, ...], network: str, end: float) -> list[tuple[float, float, str]]:
    """Return (since, until, state) of a network over the whole run."""
    mine = [(it.at, it.state) for it in conditions if it.network == network]
    edges = [*mine, (end, "")]
    return [(since, until, state) for (since, state), (until, _) in pairwise(edges) if until > since]


def _lanes(sheet: _Sheet) -> None:
    for network in sheet.networks:
        y = sheet.lane(network)
        sheet.drawing.add(Text(LEFT - 12, y + LANE / 2 + 5, network, 14, INK, "end"))
        for since, until, state in spans(sheet.result.conditions, network, sheet.result.seconds):
            x, width = sheet.x(since), sheet.x(until) - sheet.x(since)
            sheet.drawing.add(Rectangle(x, y, width, LANE, COLOURS[state]))
            if state in WORDS and width > 60:
                sheet.drawing.add(Text(x + 5, y + 13, WORDS[state], 10, "#7b8794"))
        _volume(sheet, network, y)


def _volume(sheet: _Sheet, network: str, y: float) -> None:
    rates = list(_rates(sheet.result.samples, network))
    peak = max((rate for name in sheet.networks for _, rate in _rates(sheet.result.samples, name)), default=0.0)
    if peak <= 0 or len(rates) < 2:
        return
    points = [(sheet.x(at), y + LANE - 2 - min(1.0, rate / peak) * (LANE - 18)) for at, rate in rates]
    floor = [(points[-1][0], y + LANE - 2), (points[0][0], y + LANE - 2)]
    sheet.drawing.add(Polygon((*points, *floor), VOLUME))


def _rates(samples: tuple[Sample, ...], network: str) -> list[tuple[float, float]]:
    """Return (time, bytes per second) between successive readings."""
    return [
        (after.at, (after.carried.get(network, 0) - before.carried.get(network, 0)) / (after.at - before.at))
        for before, after in pairwise(samples)
        if after.at > before.at
    ]


def _thread(sheet: _Sheet) -> None:
    points: list[tuple[float, float]] = []
    for before, after in pairwise(sheet.result.samples):
        network = carrier(before, after)
        if network is None:
            _draw_thread(sheet, points)
            points = []
            continue
        y = sheet.lane(network) + LANE / 2
        if not points or points[-1][1] != y:
            x = sheet.x(before.at)
            points += [(x, points[-1][1]), (x, y)] if points else [(x, y)]
        points.append((sheet.x(after.at), y))
    _draw_thread(sheet, points)


def _draw_thread(sheet: _Sheet, points: list[tuple[float, float]]) -> None:
    if points:
        sheet.drawing.add(Line(tuple(points), THREAD, 3))


def carrier(before: Sample, after: Sample) -> str | None:
    """Return the network that carried the flows between two readings; None when none did."""
    moved = {name: count - before.carried.get(name, 0) for name, count in after.carried.items()}
    best = max(moved, key=lambda name: moved[name])
    return best if moved[best] >= max(CARRYING_BYTES, CARRYING_SHARE * sum(moved.values())) else None


def _events(sheet: _Sheet) -> None:
    for number, event in enumerate(sheet.result.events, 1):
        x = sheet.x(event.at)
        sheet.drawing.add(
            Line(((x, TOP - 8), (x, sheet.axis)), GREY, 0.8, 4), Text(x, TOP - 12, str(number), 11, INK, "middle")
        )


def _strips(sheet: _Sheet) -> None:
    for place, stream in enumerate(sheet.result.streams):
        y = sheet.strips + place * (STRIP + STRIP_GAP)
        arrivals = sheet.result.arrivals.get(stream.name, [])
        until = sheet.result.seconds
        sheet.drawing.add(
            Text(LEFT - 12, y + STRIP - 4, stream.name, 13, INK, "end"),
            Rectangle(sheet.x(0), y, sheet.x(until) - sheet.x(0), STRIP, GOOD),
        )
        for silence in gaps(arrivals, 0.0, until):
            x = sheet.x(silence.at)
            width = max(1.5, sheet.x(silence.at + silence.seconds) - x)
            sheet.drawing.add(Rectangle(x, y, width, STRIP, BAD))
            out = outages(sheet.result.conditions, until)
            sheet.drawing.add(*_excused(sheet, y, silence.at, silence.at + silence.seconds, out))
            if width > 34:
                word = f"{silence.seconds:.1f} s"
                sheet.drawing.add(Text(x + width / 2, y + STRIP - 5, word, 10, "#ffffff", "middle"))


def _excused(sheet: _Sheet, y: float, since: float, until: float, out: list[tuple[float, float]]) -> list[Rectangle]:
    spans = [(max(since, first), min(until, last)) for first, last in out]
    return [
        Rectangle(sheet.x(first), y, sheet.x(last) - sheet.x(first), STRIP, OUTAGE)
        for first, last in spans
        if last > first
    ]


def _axis(sheet: _Sheet) -> None:
    y = sheet.axis
    sheet.drawing.add(Line(((sheet.x(0), y), (sheet.x(sheet.result.seconds), y)), INK, 1))
    step = next((step for step in (1, 2, 5, 10, 30, 60) if sheet.result.seconds / step <= 16), 300)
    for second in range(0, int(sheet.result.seconds) + 1, step):
        x = sheet.x(second)
        sheet.drawing.add(Line(((x, y), (x, y + 5)), INK, 1), Text(x, y + 18, f"{second} s", 11, INK, "middle"))
    note = (
        f"green: data arrives; red: nothing for more than {NOTABLE_GAP * 1000:.0f} ms; "
        "grey: no network at all, or the host asleep; blue: the network in use"
    )
    sheet.drawing.add(Text(sheet.x(0), y + 34, note, 10, "#7b8794"))


def _table(sheet: _Sheet) -> None:
    columns = ((LEFT - 12, "end"), (LEFT, "start"), (LEFT + 530, "end"), (LEFT + 650, "end"), (LEFT + 800, "end"))
    head = ("", "event", "longest gap", "packets lost", "flows broken")
    rows = [head, *(_row(number, event) for number, event in enumerate(sheet.result.events, 1))]
    for place, row in enumerate(rows):
        y = sheet.table + place * ROW
        for (x, anchor), word in zip(columns, row, strict=True):
            colour = "#52606d" if place == 0 else BAD if row[4] not in ("0", "flows broken") else INK
            sheet.drawing.add(Text(x, y, word, 12, colour, anchor))


def _row(number: int, event: EventFigures) -> tuple[str, str, str, str, str]:
    return str(number), f"{event.at:.1f} s  {event.text}", gap(event), str(event.lost), ", ".join(event.broken) or "0"
