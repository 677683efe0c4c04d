"""What a run showed: values computed from streams and events, checked against limits, and printed as tables.

Event figures belong to the window from an event to the next one. The longest gap of an event is that of the voice
streams where there are any (50 packets/s; the others have pauses of their own).
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from sojourn.lab.gaps import Gap, longest, tally
from sojourn.lab.places import Expected, Place, judge
from sojourn.lab.scenarios import Limits, Scenario
from sojourn.lab.stage import Condition, Sample, outages
from sojourn.lab.traffic import Stream
from sojourn.lab.voice import INTERVAL

STAY_SHARE = 0.1
"""A network that carries less than this share of the bytes carries only tests and keep-alives."""
BLAME = 0.2
"""Seconds: a flow whose last sign of life is this shortly before an event was broken by that event."""


class Happened(Struct, frozen=True):
    """An event as it was carried out: seconds since the start of the run, and how long it took."""

    at: float
    text: str
    took: float = 0.0


class StreamFigures(Struct, frozen=True):
    """How one stream fared over the whole run."""

    name: str
    broken: bool
    why: str
    longest_gap_ms: float
    gap_at: float
    """When the longest gap began, in seconds since the start of the run."""
    received: int
    """Packets of a voice stream, bytes of the others."""
    sent: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    errors: int = 0


class EventFigures(Struct, frozen=True):
    """What happened until the next event."""

    at: float
    text: str
    longest_gap_ms: float
    outage_ms: float
    """How much of the longest gap nobody could have bridged: no network at all, or the host asleep."""
    lost: int
    back_ms: float | None
    """From the event to the last stream's first arrival after it; None when one had none."""
    broken: tuple[str, ...]


class Check(Struct, frozen=True):
    """One expectation and whether it was met."""

    what: str
    limit: str
    measured: str
    met: bool


class Result(Struct, frozen=True):
    """All of a run. Times are seconds since its start."""

    version: int
    scenario: str
    purpose: str
    sojourn: bool
    """False for a bare run, without Sojourn."""
    seconds: float
    streams: tuple[StreamFigures, ...]
    events: tuple[EventFigures, ...]
    checks: tuple[Check, ...]
    arrivals: dict[str, list[float]]
    conditions: tuple[Condition, ...]
    samples: tuple[Sample, ...]
    places: tuple[Place, ...] = ()
    """Where applications were, and why."""
    used: dict[str, dict[str, int]] = {}
    """Bytes by application and network."""

    @property
    def broken(self) -> list[str]:
        """The flows that broke. A voice call counts once, not once a direction."""
        return sorted({stream.name.split()[0] for stream in self.streams if stream.broken})

    @property
    def met(self) -> bool:
        """Say whether every expectation was met."""
        return all(check.met for check in self.checks)


def build(
    scenario: Scenario, *, sojourn: bool, start: float, end: float, streams: Sequence[Stream],
    happened: Sequence[Happened], conditions: Sequence[Condition], samples: Sequence[Sample], slack_ms: float = 0.0,
    places: Sequence[Place] = (), used: dict[str, dict[str, int]] | None = None,
) -> Result:  # fmt: skip
    """Compute the result of a run between two times of CLOCK_BOOTTIME."""
    figures = tuple(_stream(stream, start, end) for stream in streams)
    edges = [start + event.at for event in happened] + [end]
    out = outages(conditions, end)
    events = tuple(_event(event, streams, edges[place], edges[place + 1], out) for place, event in enumerate(happened))
    checks = _checks(_loosened(scenario.limits, slack_ms), streams, figures, events, samples, start, end)
    if sojourn:
        checks += _placed(scenario.expected, places, happened, end - start, slack_ms / 1000)
    return Result(
        1, scenario.name, scenario.purpose, sojourn, round(end - start, 2), figures, events,
        tuple(checks),
        {stream.name: [round(at - start, 4) for at in stream.arrivals] for stream in streams},
        tuple(Condition(round(max(0.0, it.at - start), 3), it.network, it.state) for it in conditions),
        tuple(Sample(round(it.at - start, 3), it.carried) for it in samples),
        tuple(msgspec.structs.replace(place, at=round(place.at, 2)) for place in places), used or {},
    )  # fmt: skip


def _placed(
    expected: Sequence[Expected], places: Sequence[Place], happened: Sequence[Happened], end: float, slack: float
) -> list[Check]:
    checks = []
    for one in expected:
        since = happened[one.event].at
        until = happened[one.event + 1].at if one.event + 1 < len(happened) else end
        verdict = judge(msgspec.structs.replace(one, within=one.within + slack), places, since, until)
        what = f"{one.application} on {' and '.join(one.networks)} after {happened[one.event].text!r}"
        checks.append(Check(what, f"{one.within:g} s", verdict.found, verdict.met))
    return checks


def _loosened(limits: Limits, slack_ms: float) -> Limits:
    gap = None if limits.gap_ms is None else limits.gap_ms + slack_ms
    returns = {place: limit + slack_ms for place, limit in limits.return_ms.items()}
    return msgspec.structs.replace(limits, gap_ms=gap, return_ms=returns)


def _end_of(stream: Stream, end: float) -> float:
    return end if stream.ended is None else min(end, stream.ended)


def _stream(stream: Stream, start: float, end: float) -> StreamFigures:
    gap = longest(stream.arrivals, start, _end_of(stream, end))
    fate = tally(stream.sent, stream.packets, start, end)
    return StreamFigures(
        stream.name, stream.broken, stream.why, round(gap.seconds * 1000, 1), round(gap.at - start, 2),
        len(stream.packets) or stream.received_bytes, fate.sent, fate.lost, fate.doubled, fate.disordered,
        stream.errors,
    )  # fmt: skip


def _event(
    event: Happened, streams: Sequence[Stream], since: float, until: float, out: Sequence[tuple[float, float]]
) -> EventFigures:
    smooth = [stream for stream in streams if stream.kind == "voice"] or streams
    gap = max((longest(it.arrivals, since, min(until, _end_of(it, until))) for it in smooth), default=Gap(0.0, since))
    lost = sum(tally(stream.sent, stream.packets, since, until).lost for stream in streams)
    broken = {it.name.split()[0] for it in streams if it.broken and since <= _last(it) + BLAME < until}
    return EventFigures(
        round(event.at, 2), event.text, round(gap.seconds * 1000, 1), round(_overlap(gap, out) * 1000, 1), lost,
        _back(streams, since), tuple(sorted(broken)),
    )  # fmt: skip


def _overlap(gap: Gap, spans: Sequence[tuple[float, float]]) -> float:
    return sum(max(0.0, min(gap.at + gap.seconds, until) - max(gap.at, since)) for since, until in spans)


def _last(stream: Stream) -> float:
    return stream.arrivals[-1] if stream.arrivals else 0.0


def _back(streams: Sequence[Stream], since: float) -> float | None:
    latest = 0.0
    for stream in streams:
        first = next((at for at in stream.arrivals if at >= since), None)
        if first is None:
            return None
        latest = max(latest, first - since)
    return round(latest * 1000, 1)


def sender_unevenness(stream: Stream, start: float, end: float) -> float:
    """Return by how many seconds the sender's own longest pause exceeded its interval: not the path's fault."""
    times = [at for _, at in stream.sent]
    if not times:
        return 0.0
    return max(0.0, longest(times, start, min(end, times[-1])).seconds - INTERVAL)


def _checks(
    limits: Limits, streams: Sequence[Stream], figures: Sequence[StreamFigures], events: Sequence[EventFigures],
    samples: Sequence[Sample], start: float, end: float,
) -> list[Check]:  # fmt: skip
    broken = [f"{it.name}: {it.why}" for it in figures if it.broken]
    checks = [Check("flows broken", "0", "; ".join(broken) or "0", not broken)]
    voice = [(it, fig) for it, fig in zip(streams, figures, strict=True) if it.kind == "voice"]
    if limits.gap_ms is not None:
        for stream, figure in voice:
            allowed = limits.gap_ms + sender_unevenness(stream, start, end) * 1000
            text = f"{figure.longest_gap_ms:.0f} ms"
            met = figure.longest_gap_ms <= allowed
            checks.append(Check(f"longest gap, {stream.name}", f"{allowed:.0f} ms", text, met))
    counts = (
        ("packets lost", limits.lost, sum(it.lost for it in figures)),
        ("packets doubled", limits.doubled, sum(it.doubled for it in figures)),
        ("errors told to applications", limits.errors, sum(it.errors for it in figures)),
    )
    checks += [
        Check(what, str(limit), str(measured), measured <= limit)
        for what, limit, measured in counts
        if limit is not None
    ]
    for place, limit in limits.return_ms.items():
        back = events[place].back_ms if place < len(events) else None
        text = "never" if back is None else f"{back:.0f} ms"
        checks.append(
            Check(
                f"flows go on after {events[place].text!r}", f"{limit:.0f} ms", text, back is not None and back <= limit
            )
        )
    if limits.stay is not None:
        checks.append(_stay(limits.stay, samples))
    return checks


def _stay(network: str, samples: Sequence[Sample]) -> Check:
    shares = [share for before, after in zip(samples, samples[4:], strict=False)
              if (share := _share(network, before, after)) is not None]  # fmt: skip
    lowest = min(shares, default=0.0)
    return Check(
        f"share of the traffic on {network}, at any time", f"{1 - STAY_SHARE:.0%}", f"{lowest:.0%}",
        lowest >= 1 - STAY_SHARE,
    )  # fmt: skip


def _share(network: str, before: Sample, after: Sample) -> float | None:
    moved = {name: count - before.carried.get(name, 0) for name, count in after.carried.items()}
    total = sum(moved.values())
    return moved.get(network, 0) / total if total > 0 else None
