"""The pairs of one peer's direct path: which are checked when, which one is used, and what may be lost there.

Of ICE this is RFC 8445 §6.1.4 (pacing), §7.3.1.3 and §7.3.1.4 (peer-reflexive candidates, triggered checks), §7.2.5.2
(answers), §8.1.1 (nomination: the best valid pair, by USE in its checks), and RFC 7675 (consent). The agent (direct.py)
says what candidates there are.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from sojourn.bucket import Bucket
from sojourn.errors import RemoteProtocolError
from sojourn.i3.direct_checks import (
    PACE,
    PEER_REFLEXIVE_PREFERENCE,
    PREFERENCE,
    TRIES,
    Pair,
    State,
    may_be_anywhere,
    may_check,
    pair_priority,
    priority_of,
)
from sojourn.i3.direct_message import TRANSACTION_BYTES, Answer, Check, Kind, Offer, SizeProbe
from sojourn.i3.direct_mtu import DirectMtu
from sojourn.i3.direct_orders import Order, SendSealed, SendTo, Told
from sojourn.model import Endpoint
from sojourn.packet.path_mtu import MIN_INNER_MTU

# Ours.
PATIENCE: Final = 0.15
"""Seconds for which a better pair than the first valid one is waited for."""
MAKE: Final = 4.0
"""Seconds for which the pair in use stays after a move, if no other is nominated."""
ROUND, LONGEST_ROUND = 1.0, 60.0
"""Seconds after which everything is checked anew where nothing has answered."""
MAX_FOUND: Final = 4
MAX_ASKED: Final = 64
CHECKS: Final = (6.0, 48.0)
"""A second, and at once: checks of addresses that have not answered."""
ANSWERS: Final = (50.0, 100.0)
KEPT, KEPT_BYTES = 2048, 3 << 20


class Place(Struct, frozen=True):
    """Where this host is: the network that it sends over, and the socket's addresses."""

    path: str
    local: Endpoint
    seen: Endpoint
    """As the node sees it."""


class Pairs:
    """What happened is a method's; orders are in `out` until they are taken."""

    def __init__(
        self, random: Callable[[int], bytes], now: float, *, controlling: bool, device_mtu: int = MIN_INNER_MTU
    ) -> None:
        self.controlling = controlling
        self.mtu = DirectMtu(random, device_mtu)
        self.place: Place | None = None
        self.theirs: Offer | None = None
        self.pairs: dict[tuple[str, Endpoint], Pair] = {}
        self.selected: Pair | None = None
        self.why = "the peer has not said yet whether it allows it"
        """Why there is no direct path."""
        self.out: list[Order] = []
        self._random = random
        self._found = 0
        self._asked: OrderedDict[bytes, tuple[Pair, float, bool]] = OrderedDict()
        self._pace_at = float("-inf")
        self._nominated: Pair | None = None
        self._nominate_at: float | None = None
        self._make_until = float("inf")
        self._round_at: float | None = None
        self._rounds = 0
        self._kept: deque[tuple[float, bytes]] = deque()
        self._kept_bytes = 0
        self._checks = Bucket(*CHECKS)
        self._answers = Bucket(*ANSWERS)

    # Use.

    def use(self, datagram: bytes, now: float) -> Pair | None:
        """Return where a sealed packet goes that leaves now; None: by way of the node."""
        pair = self.selected
        if pair is None:
            return None
        if pair.used <= pair.heard or pair.used <= pair.answered:
            pair.used = now
        self._kept.append((now, datagram))
        self._kept_bytes += len(datagram)
        while len(self._kept) > KEPT or self._kept_bytes > KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popleft()[1])
        return pair

    def used_elsewhere(self, came: float, left: float) -> None:
        """Note when packets last came and left over the pair in use that nobody has kept (0: none)."""
        pair = self.selected
        if pair is not None and came:
            pair.heard = max(pair.heard, came)
        if pair is not None and left and pair.used <= max(pair.heard, pair.answered):
            pair.used = left

    def heard(self, path: str, source: Endpoint, now: float) -> None:
        """Something authentic came from there."""
        pair = self.pairs.get((path, source))
        if pair is not None:
            pair.heard = now

    # Checks and answers.

    def checked(self, check: Check, path: str, source: Endpoint, now: float) -> None:
        """Answer a check, and check where it came from; RemoteProtocolError."""
        if not self._answers.take(now):
            raise RemoteProtocolError("more checks than are answered", reason="rate")
        self.out.append(SendTo(path, source, bytes(Answer(check.transaction, source))))
        pair = self.pairs.get((path, source)) or self._find(check, path, source, now)
        if pair is None:
            return
        pair.heard = now
        if check.use and not self.controlling:
            for each in self.pairs.values():
                each.wanted = each is pair
        if pair.state is State.VALID:
            self._select_wanted(pair, now)
        elif pair.state is State.FAILED:
            pair.restart(now)
        elif not pair.outstanding or now - pair.outstanding[-1] > PACE:
            pair.due = now

    def probed(self, probe: SizeProbe, path: str, source: Endpoint, now: float) -> None:
        """Say that a packet of this size has passed; RemoteProtocolError."""
        if not self._answers.take(now):
            raise RemoteProtocolError("more probes than are answered", reason="rate")
        self.out.append(SendTo(path, source, bytes(Answer(probe.transaction, source))))

    def answered(self, answer: Answer, path: str, source: Endpoint, now: float) -> None:
        """Take in the answer to a check or probe of ours; RemoteProtocolError."""
        if self.mtu.answered(answer.transaction, now) is not None:
            return  # from wherever: a probe of this size has arrived
        pair, sent, use = self._asked.pop(answer.transaction, (None, 0.0, False))
        if pair is None or self.pairs.get((pair.path, pair.remote)) is not pair:
            raise RemoteProtocolError("an answer to no check of ours", reason="no-check")
        if (path, source) != (pair.path, pair.remote):
            raise RemoteProtocolError("an answer from elsewhere", reason="no-check")  # RFC 8445 §7.2.5.2.1
        pair.answer(sent, now)
        if pair is self.selected:
            while self._kept and self._kept[0][0] <= sent:
                self._kept_bytes -= len(self._kept.popleft()[1])
        if use and self.controlling and pair is self._nominated:
            self._nominated = self._nominate_at = None
            self._select(pair, now)
        self._select_wanted(pair, now)
        self._look_for_better(now)

    # Pairs.

    def _form(self, now: float) -> None:
        """Make the pairs of our place and the peer's candidates; the pair in use stays until another one is."""
        self._found, self._nominated, self._nominate_at = 0, None, None
        self._rounds, self._round_at = 0, None
        kept, before = self.selected, self.pairs
        self.pairs = {} if kept is None else {(kept.path, kept.remote): kept}
        if kept is not None:
            kept.stale, self._make_until = True, now + MAKE
        if self.place is None or self.theirs is None or not self.theirs.wants:
            return
        mine = priority_of(PREFERENCE[Kind.HOST])
        for each in self.theirs.candidates:
            key = self.place.path, each.endpoint
            if each.endpoint in (self.place.local, self.place.seen):
                continue
            if may_check(each.endpoint, self.place.seen, self.theirs.candidates):
                priority = pair_priority(mine, each.priority, controlling=self.controlling)
                if kept is not None and key == (kept.path, kept.remote):
                    kept.stale, self._make_until = False, float("inf")
                else:
                    self.pairs[key] = before.get(key) or Pair(*key, priority, now)
                    self.pairs[key].priority = priority
        if not self.pairs and self.theirs.candidates:
            self.why = "the peer has no address that can be tried from this network"

    def _find(self, check: Check, path: str, source: Endpoint, now: float) -> Pair | None:
        """Return the pair of a peer-reflexive candidate, if there is room for one more."""
        here = self.place is not None and path == self.place.path and self.theirs is not None and self.theirs.wants
        if not here or self._found >= MAX_FOUND or not may_be_anywhere(source):
            return None
        self._found += 1
        mine = priority_of(PREFERENCE[Kind.HOST])
        priority = pair_priority(mine, check.priority, controlling=self.controlling)
        pair = self.pairs[path, source] = Pair(path, source, priority, now)
        return pair

    def _select_wanted(self, pair: Pair, now: float) -> None:
        if pair.wanted and pair.state is State.VALID and not self.controlling:
            self._select(pair, now)

    def _select(self, pair: Pair, now: float) -> None:
        before = self.selected
        if before is pair:
            return
        if before is not None and before.outstanding:
            self._give_back()
        self._forget_kept()
        if before is not None and before.stale:
            self.pairs.pop((before.path, before.remote), None)
        self.selected, pair.stale = pair, False
        self.mtu.begin(pair, now)
        self._make_until, self.why = float("inf"), ""
        self._rounds, self._round_at = 0, None
        self.out.append(Told("direct"))

    def _look_for_better(self, now: float) -> None:
        """Nominate, at the controlling end."""
        if not self.controlling or self._nominated is not None:
            return
        fresh = [pair for pair in self.pairs.values() if not pair.stale]
        valid = [pair for pair in fresh if pair.state is State.VALID]
        best = max(valid, key=lambda pair: pair.priority, default=None)
        chosen = self.selected
        if best is None or (chosen is not None and not chosen.stale and chosen.priority >= best.priority):
            self._nominate_at = None
            return
        hopeful = any(pair.priority > best.priority and pair.state in (State.WAITING, State.CHECKING) for pair in fresh)
        if hopeful and now < best.first + PATIENCE:
            self._nominate_at = best.first + PATIENCE
            return
        best.tries = 0
        self._nominated, self._nominate_at = best, now

    def _lose(self, why: str, now: float) -> None:
        """Send by way of the node from now on, and what may be lost once more."""
        pair, self.selected = self.selected, None
        if pair is None:
            return
        self.mtu.stop()
        if pair.stale:
            self.pairs.pop((pair.path, pair.remote), None)
        else:
            pair.state, pair.due, pair.wanted = State.FAILED, None, False
        self._make_until = float("inf")
        self._give_back()
        self._forget_kept()
        self.why = why
        self._later(now)
        self.out.append(Told("lost"))

    def _later(self, now: float) -> None:
        self._round_at = now + min(ROUND * 2**self._rounds, LONGEST_ROUND)
        self._rounds = min(self._rounds + 1, 10)

    def _give_back(self) -> None:
        self.out += [SendSealed(datagram) for _, datagram in self._kept]

    def _forget_kept(self) -> None:
        self._kept.clear()
        self._kept_bytes = 0

    # Time.

    def pairs_deadline(self) -> float | None:
        """When `pairs_tick` wants to be called next."""
        times = [at for at in (self._round_at, self._nominate_at) if at is not None]
        dues = [pair.due for pair in self.pairs.values() if pair.due is not None and pair.state is not State.VALID]
        times += [max(min(dues), self._pace_at)] if dues else []
        if self.selected is not None:
            times.append(self.selected.consent_due())
            sizes = self.mtu.deadline()
            times += [sizes] if sizes is not None else []
        return min(times, default=None)

    def pairs_tick(self, now: float) -> None:
        """Check, nominate, ask for consent."""
        if self._round_at is not None and self._round_at <= now:
            self._round_at = None
            for pair in self.pairs.values():
                if pair.state is State.FAILED:
                    pair.restart(now)
        self._check_waiting(now)
        if self._nominate_at is not None and self._nominate_at <= now:
            self._nominate(now)
        self._keep_consent(now)
        self._measure(now)
        self._settle(now)

    def _check_waiting(self, now: float) -> None:
        waiting = [p for p in self.pairs.values() if p.due is not None and p.due <= now and p.state is not State.VALID]
        for pair in sorted(waiting, key=lambda pair: -pair.priority):
            if pair.tries >= TRIES:
                pair.state, pair.due = State.FAILED, None
            elif now >= self._pace_at:
                if self._checks.take(now):
                    self._ask(pair, now)
                else:
                    pair.due = now + 1 / CHECKS[0]
                self._pace_at = now + PACE
        if waiting:
            self._look_for_better(now)

    def _settle(self, now: float) -> None:
        """Try again later where nothing answers."""
        states = {pair.state for pair in self.pairs.values()}
        if self.selected is None and self._round_at is None and states == {State.FAILED}:
            self.why = f"none of {len(self.pairs)} addresses of the peer answers: NATs or firewalls let nothing through"
            self._later(now)

    def _nominate(self, now: float) -> None:
        pair = self._nominated
        if pair is None:
            self._look_for_better(now)
            pair = self._nominated
            if pair is None:
                return
        if pair.tries >= TRIES:
            pair.state, self._nominated, self._nominate_at = State.FAILED, None, None
            if pair is not self.selected:
                self._look_for_better(now)
            return
        self._nominate_at = now + max(0.1, 2 * (pair.rtt.srtt or 0.0)) * 2**pair.tries
        self._ask(pair, now, use=True)

    def _keep_consent(self, now: float) -> None:
        pair = self.selected
        if pair is None:
            return
        if pair.is_dead(now):
            self._lose(f"no answer for {(now - max(pair.answered, pair.heard)) * 1000:.0f} ms", now)
        elif pair.consent_due() <= now:
            self._ask(pair, now, use=self.controlling)

    def _measure(self, now: float) -> None:
        pair = self.selected
        if pair is None:
            return
        probes, check = self.mtu.tick(pair, now)
        self.out += [SendTo(pair.path, pair.remote, bytes(probe), whole=True) for probe in probes]
        if check and not pair.outstanding:
            self._ask(pair, now, use=self.controlling)

    def _ask(self, pair: Pair, now: float, *, use: bool = False) -> None:
        transaction = self._random(TRANSACTION_BYTES)
        self._asked[transaction] = pair, now, use
        while len(self._asked) > MAX_ASKED:
            self._asked.popitem(last=False)
        pair.asked(now)
        check = Check(transaction, priority_of(PEER_REFLEXIVE_PREFERENCE), use)
        self.out.append(SendTo(pair.path, pair.remote, bytes(check)))
