"""The roaming log: what happened to the networks, what was decided, and why.

A bounded ring in memory; every new entry also goes to `write` as one JSON line (the daemon
gives a rotating file, store/journal.py) and to whoever listens (`sojourn log --follow`).
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from msgspec import Struct

KEPT_ENTRIES: Final = 2000
MAX_TEXT: Final = 500
"""Characters of a reason: it may quote a peer."""

Listener = Callable[["RoamingEntry"], None]


class RoamingEntry(Struct, frozen=True):
    """One line of the log."""

    number: int
    """Grows by one an entry, also over restarts while the file is there."""
    time: float
    """Unix seconds: this is for people."""
    event: str
    """What happened: network_up, network_down, silent, recovered, blocked, handover, associated, order..."""
    network: str | None = None
    decision: str | None = None
    """What was done about it: "moved 12 flows to wlan0"."""
    reason: str | None = None
    gap_ms: float | None = None
    """How long the flows concerned heard nothing, where it was measured."""
    flows: int | None = None
    """How many flows moved."""
    known: dict[str, str] | None = None
    """The cause of a decision: what was known of each network then."""


class RoamingLog:
    """The newest entries, oldest first."""

    def __init__(self, write: Callable[[bytes], None] | None = None, kept: int = KEPT_ENTRIES) -> None:
        self._entries: deque[RoamingEntry] = deque(maxlen=kept)
        self._write = write
        self._listeners: list[Listener] = []
        self._next = 1

    def restore(self, lines: Iterable[bytes]) -> None:
        """Take in what an earlier run has written; lines that cannot be read are passed over."""
        for line in lines:
            try:
                entry = msgspec.json.decode(line, type=RoamingEntry)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            self._entries.append(entry)
            self._next = max(self._next, entry.number + 1)

    def add(
        self,
        time: float,
        event: str,
        *,
        network: str | None = None,
        decision: str | None = None,
        reason: str | None = None,
        gap_ms: float | None = None,
        flows: int | None = None,
        known: dict[str, str] | None = None,
    ) -> RoamingEntry:
        """Write an entry down and tell the listeners."""
        reason = reason[:MAX_TEXT] if reason is not None else None
        entry = RoamingEntry(self._next, time, event, network, decision, reason, gap_ms, flows, known or None)
        self._next += 1
        self._entries.append(entry)
        if self._write is not None:
            self._write(msgspec.json.encode(entry) + b"\n")
        for listener in tuple(self._listeners):
            listener(entry)
        return entry

    def entries(self, limit: int | None = None, after: int = 0) -> list[RoamingEntry]:
        """Return the newest `limit` entries with a number above `after`, oldest first."""
        found = [entry for entry in self._entries if entry.number > after]
        return found if limit is None else found[max(0, len(found) - max(0, limit)) :]

    def before(self, number: int, limit: int) -> list[RoamingEntry]:
        """Return the newest `limit` entries with a number below `number`, oldest first."""
        found = [entry for entry in self._entries if entry.number < number]
        return found[max(0, len(found) - max(0, limit)) :]

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` for each new entry; return the function that ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None
