"""Which application's flows were on which network, and when, and why, and how many bytes that cost.

The lab asks the host's control socket for its flows a few times a second and reads the roaming log at the end: all
that is shown here is what `sojourn flows` and `sojourn log` show anybody.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

HELD = "nowhere"
"""Flows that wait for a network."""


class Place(Struct, frozen=True):
    """From a time on an application's flows were on a network, or on several (copies, or a move under way)."""

    at: float
    application: str
    networks: tuple[str, ...]
    why: str = ""
    """As the roaming log says it."""


class Expected(Struct, frozen=True):
    """Where an application must be, some seconds after an event (its place in the list) and until the next one."""

    event: int
    application: str
    networks: tuple[str, ...]
    within: float = 1.0


class Verdict(Struct, frozen=True):
    """What became of an expectation: when the application was there for good, or where it was found instead."""

    expected: Expected
    met: bool
    found: str


class Places:
    """Follows applications through a run. Times are the caller's, seconds."""

    def __init__(self) -> None:
        self.history: list[Place] = []
        self.used: dict[str, dict[str, int]] = {}
        """Bytes by application and network."""
        self._seen: dict[str, int] = {}
        self._now: dict[str, tuple[str, ...]] = {}

    def take(self, at: float, flows: Iterable[Mapping[str, Any]]) -> None:
        """Take in what the host says of its flows at a time. A flow without an owner is nobody's, and passed over."""
        found: dict[str, set[str]] = {}
        for flow in flows:
            application = flow.get("application")
            if not application:
                continue
            network = flow.get("network") or HELD
            found.setdefault(application, set()).add(network)
            size = int(flow.get("bytes_in", 0)) + int(flow.get("bytes_out", 0))
            more = size - self._seen.get(str(flow["id"]), 0)
            self._seen[str(flow["id"])] = size
            used = self.used.setdefault(application, {})
            used[network] = used.get(network, 0) + max(0, more)
        for application, networks in found.items():
            place = tuple(sorted(networks))
            if self._now.get(application) != place:
                self._now[application] = place
                self.history.append(Place(at, application, place))

    def explain(self, entries: Sequence[tuple[float, str, str]], within: float = 1.5) -> None:
        """Give each change the newest reason of the roaming log that is at most `within` seconds older.

        A decision may speak of several applications, and is told with the network of the first. Where an application
        is seen first nothing need have moved it: only a decision for that network is its reason.
        """
        seen: set[str] = set()

        def reason(place: Place) -> str:
            since, moved = place.at - within, place.application in seen
            seen.add(place.application)
            fitting = [
                why for at, network, why in entries
                if since <= at <= place.at and (moved or network in place.networks)
            ]  # fmt: skip
            return fitting[-1] if fitting else ""

        self.history = [msgspec.structs.replace(place, why=reason(place)) for place in self.history]


def judge(expected: Expected, history: Sequence[Place], since: float, until: float) -> Verdict:
    """Say whether an application was where it should be from `since + within` to `until`, the next event."""
    due = since + expected.within
    mine = [place for place in history if place.application == expected.application and place.at < until]
    at_due = [place for place in mine if place.at <= due][-1:]
    spans = [*at_due, *(place for place in mine if place.at > due)]
    wrong = next((place for place in spans if place.networks != expected.networks), None)
    if not spans or wrong is not None:
        where = " and ".join(wrong.networks) if wrong is not None else "never seen"
        return Verdict(expected, False, where)
    arrived = spans[0].at - since
    return Verdict(expected, True, f"after {arrived * 1000:.0f} ms" if arrived > 0 else "all the time")


def reasons(lines: Iterable[bytes], offset: float) -> list[tuple[float, str, str]]:
    """Return (time, network, words) of each handover in the roaming log's file, network `HELD` where flows wait.

    `offset` turns the log's Unix time into the run's.
    """
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # half a line, written at this moment
            continue
        if entry.get("event") == "handover":
            network = str(entry.get("network") or HELD)
            found.append((float(entry["time"]) - offset, network, str(entry.get("reason") or "")))
    return found
