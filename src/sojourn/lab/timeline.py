"""The run as it goes: on a terminal lanes that grow, in a pipe one line an event.

A lane is a stream; one character is a span of time, by the longest silence in it:
█ none worth a name, ▓ over 100 ms, ▒ over 500 ms, · nothing at all. Above them: which network carries the flows.
"""

import sys
from bisect import bisect_left
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from sojourn.lab.gaps import longest
from sojourn.lab.report import Happened
from sojourn.lab.runner import Moment
from sojourn.lab.stage import GONE, LOSSY, SILENT, Condition, Sample

LABEL = 14
DRAW_EVERY = 0.25
SETTLED = 0.3
"""Seconds after which the journals of a time are surely read."""
MARKS = ((0.1, "█", "green"), (0.5, "▓", "yellow"), (float("inf"), "▒", "red"))
NOTHING = ("·", "red")
NETWORK_MARKS = {GONE: (" ", "dim"), SILENT: ("x", "red"), LOSSY: ("~", "yellow")}
CARRYING = 1000
"""Bytes in a span from which a network is said to carry flows."""


class PlainObserver:
    """One line for each thing that happens."""

    def step(self, text: str) -> None:
        """Print a step."""
        print(f"-- {text}", file=sys.stderr, flush=True)

    def happened(self, event: Happened) -> None:
        """Print an event with its time."""
        print(f"{event.at:6.1f} s  {event.text}", file=sys.stderr, flush=True)

    def tick(self, moment: Moment) -> None:
        """Print nothing: time passes."""


class LiveObserver:
    """Lanes that grow in place. A context, for the time in which the terminal is drawn on."""

    def __init__(self, title: str, seconds: float) -> None:
        self._console = Console(stderr=True)
        self._title = title
        self._events: list[Happened] = []
        self._lanes = Lanes(seconds, max(20, self._console.width - LABEL - 2))
        self._drawn = 0.0
        self._live = Live(Text(title), console=self._console, auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def step(self, text: str) -> None:
        """Show a step while nothing runs yet."""
        if not self._events:
            self._live.update(Text(f"{self._title}: {text} ..."), refresh=True)

    def happened(self, event: Happened) -> None:
        """Remember an event; the next tick shows it."""
        self._events.append(event)

    def tick(self, moment: Moment) -> None:
        """Draw again, when it is time: the traffic needs the processor, too."""
        if moment.elapsed - self._drawn >= DRAW_EVERY:
            self._drawn = moment.elapsed
            self._lanes.advance(moment)
            self._live.update(self._lanes.picture(self._title, moment, self._events), refresh=True)


def observer(title: str, seconds: float) -> LiveObserver | PlainObserver:
    """Return what suits the terminal."""
    return LiveObserver(title, seconds) if sys.stderr.isatty() else PlainObserver()


class Lanes:
    """The lanes as far as they are drawn, `width` characters for all of `seconds`. What is drawn stays as it is."""

    def __init__(self, seconds: float, width: int) -> None:
        self._seconds = seconds
        self._width = width
        self._span = seconds / width
        self._columns = 0
        self._lanes: dict[str, Text] = {}

    def advance(self, moment: Moment) -> None:
        """Draw the columns whose time is over, and whose arrivals have been taken in."""
        columns = min(self._width, int((moment.elapsed - SETTLED) / self._span))
        for column in range(self._columns, columns):
            since = moment.start + column * self._span
            until = since + self._span
            for network in moment.stage.networks:
                mark = _network_mark(network, since, until, moment.stage.conditions, moment.stage.samples)
                self._append(network, *mark)
            for stream in moment.streams:
                self._append(stream.name, *_stream_mark(stream.arrivals, since, until))
        self._columns = max(self._columns, columns)

    def _append(self, name: str, mark: str, style: str) -> None:
        self._lanes.setdefault(name, _label(name)).append(mark, style)

    def picture(self, title: str, moment: Moment, events: list[Happened]) -> Group:
        """Return title, lanes, marks of events, and the latest events in words."""
        return Group(
            Text(f"{title}   {moment.elapsed:5.1f} of {self._seconds:.0f} s", style="bold"),
            *self._lanes.values(),
            _event_marks(events, self._span, self._width),
            *(Text(f"{event.at:6.1f} s  {event.text}", style="dim") for event in events[-6:]),
        )


def _label(text: str) -> Text:
    return Text(text[: LABEL - 1].ljust(LABEL), style="bold")


def _stream_mark(arrivals: list[float], since: float, until: float) -> tuple[str, str]:
    first, last = bisect_left(arrivals, since), bisect_left(arrivals, until)
    if first == last:
        return NOTHING
    silence = longest(arrivals, since, until).seconds
    return next((mark, style) for limit, mark, style in MARKS if silence <= limit)


def _network_mark(
    network: str, since: float, until: float, conditions: list[Condition], samples: list[Sample]
) -> tuple[str, str]:
    states = [it.state for it in conditions if it.network == network and it.at < until]
    if states and states[-1] in NETWORK_MARKS and states[-1] != LOSSY:
        return NETWORK_MARKS[states[-1]]
    if carried(network, since, until, samples) >= CARRYING:
        return ("~", "yellow") if states and states[-1] == LOSSY else ("━", "cyan")
    return ("─", "dim")


def carried(network: str, since: float, until: float, samples: list[Sample]) -> float:
    """Return how many bytes a network carried in a span, between the readings around it."""
    first = max(0, bisect_left(samples, since, key=_time) - 1)
    last = min(len(samples) - 1, bisect_left(samples, until, key=_time))
    if last <= first:
        return 0.0
    moved = samples[last].carried.get(network, 0) - samples[first].carried.get(network, 0)
    return moved * (until - since) / (samples[last].at - samples[first].at)


def _time(sample: Sample) -> float:
    return sample.at


def _event_marks(events: list[Happened], span: float, width: int) -> Text:
    marks = [" "] * width
    for event in events:
        column = min(width - 1, int(event.at / span))
        marks[column] = "▲"
    return Text(" " * LABEL + "".join(marks), style="magenta")
