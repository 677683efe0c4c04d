"""One session's bytes over a row of connections (legs), the same at both ends; and the proxy's table of them.

Each end has a connection that stays (the proxy's to the correspondent, the client's to the application)
and a leg that changes. For each direction there is one `CopyBuffer`:

    out    from the near connection to the leg; kept until the leg's TCP says that the other end has it
    into   from the leg to the near connection; kept until the near connection took it

What the kernel has acknowledged on a leg is this end's to answer for. So when a leg is cut, the bytes
in its receive queue still count: the leg is read up to there, and only then the next one.
"""

import itertools
from collections import OrderedDict, deque
from typing import Final

from msgspec import Struct

from sojourn.msocks.copy_buffer import CopyBuffer
from sojourn.msocks.frames import Challenges, Reconnect, Status

MAX_GENERATION: Final = (1 << 32) - 1
TOMBSTONES: Final = 4096
TOMBSTONE_LIFE: Final = 120.0
PROVING: Final = 90.0
"""Seconds after which a first leg that still stands shows that the client has heard of its session: who waits for an
answer gives up after 30 s, and a leg without an acknowledgement is lost after 60."""
UNPROVED_HOLD: Final = 30.0
"""Seconds for which a session waits whose client may never have heard of it, for then it does not come back."""


class Session:
    """Positions of one session at one end."""

    def __init__(self, out: CopyBuffer, into: CopyBuffer, ends: tuple[int, ...] = ()) -> None:
        """Begin; `ends` are the positions at which legs end that were cut and are not read to their end yet."""
        self.out = out
        self.into = into
        self.ends = deque(ends)

    @property
    def received(self) -> int:
        """Bytes of the peer's stream that this end answers for, the present leg's receive queue not counted."""
        return self.ends[-1] if self.ends else self.into.head

    def cut(self, unread: int) -> int:
        """Give the present leg up, with `unread` bytes in its receive queue; return what this end answers for.

        If there are such bytes, the leg has to be kept until `took` has seen them all.
        """
        have = self.received + unread
        if unread:
            self.ends.append(have)
        return have

    def room(self) -> memoryview:
        """Return where the next bytes of the oldest leg that is not read to its end go; empty: wait."""
        space = self.into.space()
        return space[: self.ends[0] - self.into.head] if self.ends else space

    def took(self, count: int) -> bool:
        """Note bytes in `room()`; say whether that was the end of a leg that was cut."""
        self.into.took(count)
        if self.ends and self.into.head == self.ends[0]:
            self.ends.popleft()
            return True
        return False

    def attach(self, position: int) -> None:
        """Go on sending at `position`, which is what the peer answers for. Raises RemoteProtocolError."""
        self.out.rewind(position)

    def acknowledged(self, unacknowledged: int) -> None:
        """Note how many bytes given to the leg its peer has not acknowledged."""
        self.out.confirm(self.out.sent - unacknowledged)


class Limits(Struct, frozen=True):
    """What sessions may take."""

    sessions: int = 20_000
    per_user: int = 2048
    held: int = 4096
    """Sessions without a leg; above it the one that is longest without goes."""
    hold_s: float = 7200.0
    """Seconds for which a session waits for its next leg."""


class Entry(Struct):
    """What the proxy knows of a session, besides its bytes."""

    id: bytes
    user: str
    key: bytes
    """Empty: a plain SOCKS client's, which cannot come back."""
    generation: int = 0
    legless_since: float | None = None
    unproved_until: float = 0.0
    """Until then the client may not have heard the answer that names the session; 0: it has (a byte of it has come)."""


class Verdict(Struct, frozen=True):
    """What is to become of a RECONNECT: a status to answer with, a challenge to send first, or (both None) do it."""

    status: Status | None = None
    challenge: bool = False
    key: bytes | None = None


class SessionTable:
    """The proxy's sessions: who may come back, and for how long they wait."""

    def __init__(self, limits: Limits, challenges: Challenges) -> None:
        self.limits = limits
        self.entries: dict[bytes, Entry] = {}
        self._challenges = challenges
        self._by_user: dict[str, int] = {}
        self._legless: OrderedDict[bytes, None] = OrderedDict()
        self._unproved: OrderedDict[bytes, None] = OrderedDict()
        """Legless, too, but not for long."""
        self._gone: OrderedDict[bytes, tuple[bytes, Status, float]] = OrderedDict()

    def room_for(self, user: str) -> bool:
        """Say whether this user may have one session more."""
        return len(self.entries) < self.limits.sessions and self._by_user.get(user, 0) < self.limits.per_user

    def count(self, user: str) -> int:
        """Return how many sessions a user has."""
        return self._by_user.get(user, 0)

    def add(self, entry: Entry) -> None:
        """Enter a session that has a leg, or (a restart) waits for one."""
        self.entries[entry.id] = entry
        self._by_user[entry.user] = self._by_user.get(entry.user, 0) + 1
        if entry.legless_since is not None:
            self._wait(entry, entry.legless_since)

    def judge(self, asked: Reconnect, proof: bytes, now: float) -> Verdict:
        """Decide on a RECONNECT. Nothing is changed yet: `resume` does that."""
        entry = self.entries.get(asked.session)
        key = entry.key if entry is not None else self._gone.get(asked.session, (b"",))[0]
        if not key or not asked.proved(key, proof):
            return Verdict(Status.UNKNOWN)  # to whoever cannot prove it, nothing is told of what exists
        if not self._challenges.fresh(asked.challenge, now):
            return Verdict(challenge=True)
        if entry is None:
            return Verdict(self._gone[asked.session][1], key=key)
        return Verdict(Status.STALE if asked.generation <= entry.generation else None, key=key)

    def resume(self, session: bytes, generation: int) -> None:
        """Note that a session goes on on a new leg."""
        self.entries[session].generation = generation
        self.entries[session].legless_since = None
        self.entries[session].unproved_until = 0.0
        self._waits_no_more(session)

    def leg_lost(self, session: bytes, now: float) -> list[bytes]:
        """Note that a session waits for a leg; return those that have to go for it."""
        entry = self.entries.get(session)
        if entry is None or entry.legless_since is not None:
            return []
        self._wait(entry, now)
        surplus = len(self._legless) + len(self._unproved) - self.limits.held
        return list(itertools.islice(itertools.chain(self._unproved, self._legless), max(surplus, 0)))

    def remove(self, session: bytes, status: Status, now: float) -> None:
        """Forget a session, but for a while not how it ended."""
        entry = self.entries.pop(session, None)
        self._waits_no_more(session)
        if entry is None:
            return
        left = self._by_user[entry.user] - 1
        if left:
            self._by_user[entry.user] = left
        else:
            del self._by_user[entry.user]
        if entry.key:
            self._gone[session] = (entry.key, status, now + TOMBSTONE_LIFE)
            if len(self._gone) > TOMBSTONES:
                self._gone.popitem(last=False)

    def expired(self, now: float) -> list[bytes]:
        """Return the sessions that have waited for too long; call it every second or so."""
        while self._gone and next(iter(self._gone.values()))[2] <= now:
            self._gone.popitem(last=False)
        over = []
        hold = self.limits.hold_s
        for waiting, hold_s in ((self._unproved, min(hold, UNPROVED_HOLD)), (self._legless, hold)):
            for session in waiting:  # the longest without a leg comes first
                since = self.entries[session].legless_since
                if since is None or since + hold_s > now:
                    break
                over.append(session)
        return over

    def _wait(self, entry: Entry, since: float) -> None:
        entry.legless_since = since
        if since >= entry.unproved_until:
            entry.unproved_until = 0.0
        (self._unproved if entry.unproved_until else self._legless)[entry.id] = None

    def _waits_no_more(self, session: bytes) -> None:
        self._legless.pop(session, None)
        self._unproved.pop(session, None)
