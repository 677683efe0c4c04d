"""Non-INVITE transactions: an answer to every request, over a wire that loses both (RFC 3261 §17).

Client (§17.1.2): Trying -> Proceeding -> Completed -> Terminated
    E  retransmit, T1 doubling to T2; after a provisional answer T2     (unreliable only)
    F  64 T1: give up
    K  T4: absorb late copies of the answer                             (reliable: 0)
Server (§17.2.2): Trying -> Completed -> Terminated
    J  64 T1: repeat the answer to each retransmission                  (reliable: 0)

Signals inside a tunnel start with a shorter T1 (`Timers.t1`), as RFC 3261 §17.1.1.1 allows where
the round trip is known; F and J keep the standard's 32 s unless they are set.
"""

from collections import OrderedDict
from collections.abc import Hashable
from enum import Enum, auto
from typing import Final

from msgspec import Struct

from sojourn.sip.message import Request, Response
from sojourn.sip.via import MAGIC_COOKIE

# The protocol's (RFC 3261, table 4).
T1: Final = 0.5
T2: Final = 4.0
T4: Final = 5.0

# Ours.
MAX_TRANSACTIONS: Final = 4096
MAX_REMEMBERED_BYTES: Final = 8 << 20


class Timers(Struct, frozen=True):
    """How patient a transaction is, in seconds."""

    t1: float = T1
    t2: float = T2
    t4: float = T4
    life: float = 64 * T1
    """Timers F and J."""


class Transmit(Struct, frozen=True):
    """Order: send these bytes to where the request goes (again)."""

    data: bytes


class Answered(Struct, frozen=True):
    """The one final answer; copies of it are absorbed."""

    response: Response


class GaveUp(Struct, frozen=True):
    """No final answer came in time (Timer F)."""

    why: str


ClientCommand = Transmit | Answered | GaveUp


class ClientState(Enum):
    """RFC 3261 figure 6."""

    TRYING = auto()
    PROCEEDING = auto()
    COMPLETED = auto()
    TERMINATED = auto()


class ClientTransaction:
    """One request of ours until its answer. `start` first."""

    def __init__(self, request: Request, reliable: bool, timers: Timers | None = None) -> None:
        self.request = request
        self.data = bytes(request)
        self.state = ClientState.TRYING
        self._reliable = reliable
        self._timers = timers or Timers()
        self._branch = request.via.branch
        self._method = request.method
        self._interval = self._timers.t1
        self._retransmit: float | None = None
        self._end: float | None = None

    def start(self, now: float) -> list[ClientCommand]:
        """Send the request for the first time."""
        self._end = now + self._timers.life
        if not self._reliable:
            self._retransmit = now + self._interval
        return [Transmit(self.data)]

    def matches(self, response: Response) -> bool:
        """Say whether a response is an answer to this request: branch and method (§17.1.3).

        May raise RemoteProtocolError for a response without usable Via or CSeq.
        """
        return response.via.branch == self._branch and response.cseq.method == self._method

    def received(self, response: Response, now: float) -> list[ClientCommand]:
        """Take in a response that `matches`."""
        if self.state not in {ClientState.TRYING, ClientState.PROCEEDING}:
            return []
        if not response.final:
            self.state = ClientState.PROCEEDING
            self._interval = self._timers.t2
            if self._retransmit is not None:
                self._retransmit = now + self._interval
            return []
        self._retransmit = None
        self.state = ClientState.TERMINATED if self._reliable else ClientState.COMPLETED
        self._end = None if self._reliable else now + self._timers.t4
        return [Answered(response)]

    def abandon(self) -> None:
        """Stop at once: the path it went on was given up."""
        self.state = ClientState.TERMINATED
        self._retransmit = self._end = None

    def deadline(self) -> float | None:
        """When `tick` wants to be called, or None when terminated."""
        return min((at for at in (self._retransmit, self._end) if at is not None), default=None)

    def tick(self, now: float) -> list[ClientCommand]:
        """Retransmit or end, as due."""
        if self._end is not None and now >= self._end:
            waiting = self.state is not ClientState.COMPLETED
            self.abandon()
            return [GaveUp(f"no answer to {self._method} within {self._timers.life:g} s")] if waiting else []
        if self._retransmit is None or now < self._retransmit:
            return []
        if self.state is ClientState.TRYING:
            self._interval = min(2 * self._interval, self._timers.t2)
        self._retransmit = now + self._interval
        return [Transmit(self.data)]


ServerKey = tuple[Hashable, ...]


class _Remembered:
    __slots__ = ("answer", "until")

    def __init__(self, until: float) -> None:
        self.answer: bytes | None = None
        self.until = until


class ServerTransactions:
    """All requests that we have answered lately, so that a copy of one gets the same answer.

    Bounded in number and bytes: the oldest go first. A challenge need not be remembered at all
    (`forget`): it is computed again, and costs a stranger's flood no memory (§8.2.7).
    """

    def __init__(
        self,
        timers: Timers | None = None,
        max_transactions: int = MAX_TRANSACTIONS,
        max_bytes: int = MAX_REMEMBERED_BYTES,
    ) -> None:
        self._timers = timers or Timers()
        self._known: OrderedDict[ServerKey, _Remembered] = OrderedDict()
        self._max = max_transactions
        self._max_bytes = max_bytes
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    @staticmethod
    def key(request: Request, origin: Hashable) -> ServerKey:
        """Name the transaction of a request (§17.2.3).

        `origin` is the connection, or the source of a datagram: an answer may hold a secret, and
        must not be repeated to whoever else guesses the branch. May raise RemoteProtocolError.
        """
        via = request.via
        if via.branch is not None and via.branch.startswith(MAGIC_COOKIE) and via.branch != MAGIC_COOKIE:
            return (origin, via.branch, via.host.lower(), via.port, request.method)
        # A branch of RFC 2543, such as "z9h" in the paper's Fig. 9.
        return (origin, str(via), request.uri, request.header("From"), request.call_id, str(request.cseq))

    def received(self, key: ServerKey, reliable: bool, now: float) -> tuple[bool, bytes | None]:
        """Note a request: (True, None) when it is new, else (False, the answer to repeat if there is one yet)."""
        self._expire(now)
        known = self._known.get(key)
        if known is not None:
            return False, known.answer
        if not reliable:  # Timer J is 0 on a reliable transport
            self._known[key] = _Remembered(now + self._timers.life)
            self._trim()
        return True, None

    def answered(self, key: ServerKey, answer: bytes) -> None:
        """Keep the final answer for copies of the request."""
        known = self._known.get(key)
        if known is not None:
            self._bytes += len(answer) - len(known.answer or b"")
            known.answer = answer
            self._trim()

    def forget(self, key: ServerKey) -> None:
        """Drop a transaction before its time."""
        known = self._known.pop(key, None)
        if known is not None:
            self._bytes -= len(known.answer or b"")

    def _expire(self, now: float) -> None:
        while self._known:
            key, known = next(iter(self._known.items()))
            if known.until > now:
                return
            self.forget(key)

    def _trim(self) -> None:
        while self._known and (len(self._known) > self._max or self._bytes > self._max_bytes):
            self.forget(next(iter(self._known)))
