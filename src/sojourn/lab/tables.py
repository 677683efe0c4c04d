"""A result as people read it: rows of events, of streams and of expectations, and one sentence that says it all.

A table is (headings, rows); a heading that begins with ">" asks for its column to be set right.
"""

from sojourn.lab.places import HELD
from sojourn.lab.report import EventFigures, Result

Table = tuple[tuple[str, ...], list[list[object]]]


def events(result: Result) -> Table:
    """Return what each event did: longest gap, packets lost, time until all streams were back, flows broken."""
    headings = (">AT", "EVENT", ">LONGEST GAP", ">PACKETS LOST", ">ALL BACK AFTER", "FLOWS BROKEN")
    rows: list[list[object]] = [
        [
            f"{event.at:.1f} s", event.text, gap(event), event.lost,
            "never" if event.back_ms is None else _milliseconds(event.back_ms), ", ".join(event.broken) or 0,
        ]
        for event in result.events
    ]  # fmt: skip
    return headings, rows


def streams(result: Result) -> Table:
    """Return how each stream fared over the whole run."""
    headings = (
        "STREAM",
        "STATE",
        ">LONGEST GAP",
        ">BEGAN AT",
        ">LOST",
        ">DOUBLED",
        ">OUT OF ORDER",
        ">ERRORS",
        "REMARK",
    )
    rows: list[list[object]] = [
        [
            stream.name, "broken" if stream.broken else "ok", _milliseconds(stream.longest_gap_ms),
            f"{stream.gap_at:.1f} s", *_counts(stream.sent, stream.lost, stream.doubled, stream.disordered),
            stream.errors, stream.why,
        ]
        for stream in result.streams
    ]  # fmt: skip
    return headings, rows


def checks(result: Result) -> Table:
    """Return each expectation with what was measured."""
    headings = ("EXPECTATION", ">LIMIT", ">MEASURED", "")
    rows: list[list[object]] = [
        [check.what, check.limit, check.measured, "ok" if check.met else "missed"] for check in result.checks
    ]
    return headings, rows


def places(result: Result) -> Table:
    """Return where each application went, when, and why."""
    rows: list[list[object]] = [
        [f"{place.at:.1f} s", place.application, " and ".join(place.networks), place.why] for place in result.places
    ]
    return (">AT", "APPLICATION", "ON", "WHY"), rows


def used(result: Result) -> Table:
    """Return how many bytes each application carried over each network."""
    networks = sorted({network for sizes in result.used.values() for network in sizes if network != HELD})
    rows: list[list[object]] = [
        [application, *(_size(sizes.get(network, 0)) for network in networks)]
        for application, sizes in sorted(result.used.items())
    ]
    return ("APPLICATION", *(f">{network.upper()}" for network in networks)), rows


def verdict(result: Result) -> str:
    """Say in one sentence how it went."""
    who = "with Sojourn" if result.sojourn else "without Sojourn"
    flows = len({stream.name.split()[0] for stream in result.streams})
    if result.broken:
        return f"{result.scenario} {who}: {len(result.broken)} of {flows} flows broke: {', '.join(result.broken)}."
    longest = max((event.longest_gap_ms - event.outage_ms for event in result.events), default=0.0)
    return (
        f"{result.scenario} {who}: none of {flows} flows broke in {len(result.events)} events; "
        f"the longest gap beside outages was {_milliseconds(longest)}."
    )


def gap(event: EventFigures) -> str:
    """Write an event's longest gap; what nobody could have bridged stands apart."""
    beside = _milliseconds(event.longest_gap_ms - event.outage_ms)
    return f"{_milliseconds(event.outage_ms)} outage + {beside}" if event.outage_ms else beside


def _counts(sent: int, *counts: int) -> list[object]:
    return list(counts) if sent else ["-"] * len(counts)


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count else "-"


def _milliseconds(value: float) -> str:
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.0f} ms"
