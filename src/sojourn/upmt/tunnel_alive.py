"""Whether a tunnel works: when to ask the other end, and when its silence means something.

Host:    testing --answer--> up --silence--> silent --answer--> up
         testing --3 s--> blocked --answer--> up
Anchor:  up --data went out for 3 s, nothing came--> silent (the host is away) --anything comes--> up

Silence is judged only while something is expected: data of ours, a stream that was coming in, or a
probe is unanswered. Then probes go out at once, and the verdict falls max(SILENCE_FLOOR, srtt + 4 rttvar)
after the last packet (or after what was expected began), once enough probes are overdue. How many
that takes depends on how many get lost anyway.
"""

from enum import Enum, auto

from sojourn.upmt.constants import (
    ACTIVE_FOR,
    ANCHOR_MEASURE_EVERY,
    ASK_AGAIN,
    ASK_WITHIN,
    AWAY_AFTER,
    AWAY_ASK_AFTER,
    AWAY_ASK_AGAIN,
    AWAY_SPACING_MAX,
    BLOCKED_AFTER,
    BLOCKED_SPACING,
    FIRST_TESTS,
    MEASURE_EVERY,
    ONE_WAY_AFTER,
    ONE_WAY_ASK,
    QUIET,
    SILENCE_FLOOR,
    SILENT_SPACING,
    STREAM_GAP,
    TEST_SPACING_MAX,
    WITNESSES_IDLE,
    WITNESSES_MAX,
)
from sojourn.upmt.tunnel_measure import Probes, Rtt

NEVER = float("inf")
LONG_AGO = float("-inf")


class Life(Enum):
    """What is thought of a tunnel."""

    TESTING = auto()
    BLOCKED = auto()
    UP = auto()
    SILENT = auto()


class Wants(Enum):
    """What a tick asks for."""

    PROBE = auto()
    MEASURE = auto()
    """A probe, and a report of what is known."""


class Liveness:
    """What both ends have in common. `due` is never too late; what the hot loop calls only lowers it."""

    measure_every = MEASURE_EVERY

    def __init__(self, rtt: Rtt, probes: Probes) -> None:
        self.life = Life.TESTING
        self.due = NEVER
        self.last_heard = LONG_AGO
        """When anything authentic came."""
        self.last_out = LONG_AGO
        self.data_in_at = LONG_AGO
        self.data_out_at = LONG_AGO
        self._rtt = rtt
        self._probes = probes
        self._since = NEVER
        """Since when something has been expected."""
        self._ask_at = NEVER
        self._measure_at = LONG_AGO
        self._watched_until = LONG_AGO
        self._spacing = FIRST_TESTS

    def active(self, now: float) -> bool:
        """Say whether data passed in the last seconds, or control wants to know as much as if it had."""
        return now - max(self.data_in_at, self.data_out_at) < ACTIVE_FOR or now < self._watched_until

    def watch(self, until: float, now: float) -> None:
        """Measure until then, whether data passes or not."""
        self._watched_until = max(until, self._watched_until)
        self._sooner(self._measure_due(now))

    def settle(self, now: float) -> None:
        """Put `due` off if `tick` would find nothing to do then."""
        if now < self.due:
            self.due = max(self.due, self._due(now))

    def _due(self, now: float) -> float:
        raise NotImplementedError

    def _sooner(self, at: float) -> None:
        if at < self.due:
            self.due = at

    def _measure(self, now: float) -> bool:
        if now < self._measure_at or not self.active(now):
            return False
        self._measure_at = now + self.measure_every
        return True

    def _measure_due(self, now: float) -> float:
        return max(self._measure_at, now) if self.life is Life.UP and self.active(now) else NEVER


class HostLiveness(Liveness):
    """The mobile host's: tests fresh tunnels, finds dead ones in a fraction of a second, keeps pinholes open."""

    def __init__(self, rtt: Rtt, probes: Probes, keep_alive: float) -> None:
        super().__init__(rtt, probes)
        self.keep_alive = keep_alive
        self._began = LONG_AGO
        self._asked = 0
        self._idle = False
        """What is expected is the answer to a keep-alive only."""
        self._witness_at = NEVER
        """When the last of the probes that a verdict needs was sent."""
        self._unanswered = 0
        self._unanswered_since = NEVER

    def begin(self, now: float) -> None:
        """Test a tunnel that was just opened or moved, or a machine that slept."""
        self.life = Life.TESTING
        self._began = self._ask_at = self.due = now
        self._asked = 0
        self._answered()
        self._spacing = max(FIRST_TESTS, 2 * (self._rtt.srtt or 0.0))

    def fail(self, now: float) -> None:
        """Take the system's word that nothing can be sent now."""
        if self.life is Life.UP:
            self._fall_silent(now)

    def data_out(self, now: float) -> None:
        """Note data that went out. Hot."""
        if self.life is Life.UP and (self._since == NEVER or self._idle):
            self._expect(self.last_heard if now - self.data_out_at < STREAM_GAP else now)
        self.data_out_at = self.last_out = now

    def data_in(self, now: float) -> None:
        """Note data that came in. Hot."""
        self.last_heard = now
        if self.life is Life.UP:
            if now - self.data_in_at < STREAM_GAP:
                self._expect(now)
            else:
                self._since = NEVER
        self.data_in_at = now

    def answered(self, now: float) -> Life:
        """Note the answer to a probe; return what life was before."""
        before = self.life
        self.last_heard = now
        self._answered()
        self.life = Life.UP
        if before is not Life.UP:
            self._spacing = FIRST_TESTS
            self._measure_at = now
        self._sooner(now)
        return before

    def frame_in(self, now: float) -> None:
        """Note any other authentic frame."""
        self.last_heard = now
        if self.life is Life.UP:
            self._since = NEVER

    def shift(self, gap: float) -> None:
        """Forgive `gap` seconds in which the process did not run."""
        self.last_heard += gap
        self._since += gap
        self._witness_at += gap
        self._unanswered_since += gap
        self._began += gap
        self._probes.forgive()

    def asked_for_test(self) -> int:
        """Return how many probes the present test has sent."""
        return self._asked

    def silent_at(self) -> float:
        """Return when the verdict falls if nothing comes."""
        if self._since == NEVER or self._witness_at == NEVER:
            return NEVER
        late = self._rtt.late_after()
        return max(max(self.last_heard, self._since) + max(SILENCE_FLOOR, late), self._witness_at + late)

    def tick(self, now: float) -> Wants | None:
        """Advance; `life` may have changed. The caller sends the probe that is wanted, and calls again."""
        wants = self._tick_up(now) if self.life is Life.UP else self._tick_test(now)
        self.due = self._due(now)
        return wants

    def _tick_up(self, now: float) -> Wants | None:
        if now >= self.silent_at() or self._one_way(now):
            self._fall_silent(now)
            return self._tick_test(now)
        wants = self._wants_measure(now)
        if self._since == NEVER and now >= self.last_out + self.keep_alive:
            self._since, self._asked, self._idle, self._witness_at = now, 0, True, NEVER
        elif self._since == NEVER or now < self._ask_at:
            return wants and self._ask(wants, now)
        return self._interrogate(now, wants)

    def _wants_measure(self, now: float) -> Wants | None:
        if not self._measure(now):
            return None
        if self._unanswered >= 2:
            self._measure_at = now + ONE_WAY_ASK
        return Wants.MEASURE

    def _interrogate(self, now: float, wants: Wants | None) -> Wants | None:
        """Ask because something is expected: first what a verdict needs, then now and again."""
        late = self._rtt.late_after()
        needed = self._needed()
        if self._asked == 0 and not self._idle:
            # Probes that are out already are witnesses as good as new ones.
            self._asked = min(self._probes.waiting(now - late), needed)
        again = now + max(ASK_AGAIN, self._rtt.guess() / 4)
        if self._asked == needed and self._witness_at == NEVER:
            self._witness_at, self._ask_at = now, again
            return wants and self._ask(wants, now)
        self._asked += 1
        if self._asked == needed:
            self._witness_at = now
        if self._idle and self._asked == 1:
            self._ask_at = now + max(SILENCE_FLOOR, late)
        elif self._asked < needed and not self._idle:
            self._ask_at = now + ASK_WITHIN / (needed - 1)
        else:
            self._ask_at = again
        return self._ask(wants or Wants.PROBE, now)

    def _tick_test(self, now: float) -> Wants | None:
        if self.life is Life.TESTING and now - self._began >= BLOCKED_AFTER:
            self.life = Life.BLOCKED
            self._spacing = BLOCKED_SPACING
        if now < self._ask_at:
            return None
        self._asked += 1
        self._ask_at = now + self._spacing
        most = TEST_SPACING_MAX
        if self.life is Life.BLOCKED:
            most = BLOCKED_SPACING
        elif self.life is Life.SILENT:
            most = next(most for limit, most in SILENT_SPACING if now - self._began < limit)
        self._spacing = min(self._spacing * 2, most)
        return self._ask(Wants.PROBE, now)

    def _one_way(self, now: float) -> bool:
        """Say whether data comes in while none of ours arrives any more."""
        needed = max(WITNESSES_MAX, 2 * self._needed())
        patience = max(ONE_WAY_AFTER, 4 * self._rtt.late_after())
        return self._unanswered >= needed and now - self._unanswered_since >= patience

    def _needed(self) -> int:
        return max(self._probes.witnesses(), WITNESSES_IDLE if self._idle else 0)

    def _ask(self, wants: Wants, now: float) -> Wants:
        self.last_out = now
        if self._unanswered == 0:
            self._unanswered_since = now
        self._unanswered += 1
        return wants

    def _expect(self, since: float) -> None:
        self._since, self._asked, self._idle, self._witness_at = since, 0, False, NEVER
        self._ask_at = since + QUIET
        if self._ask_at < self.due:
            self.due = self._ask_at

    def _answered(self) -> None:
        self._since = NEVER
        self._unanswered, self._unanswered_since = 0, NEVER

    def _fall_silent(self, now: float) -> None:
        self.life = Life.SILENT
        self._began, self._spacing, self._ask_at = now, FIRST_TESTS, now
        self._probes.forgive()
        self.due = now

    def _due(self, now: float) -> float:
        if self.life is not Life.UP:
            return min(self._ask_at, self._began + BLOCKED_AFTER) if self.life is Life.TESTING else self._ask_at
        waiting = self._ask_at if self._since != NEVER else self.last_out + self.keep_alive
        return min(waiting, self.silent_at(), self._measure_due(now))


class AnchorLiveness(Liveness):
    """The anchor's: a host that does not answer is away, and may come back after minutes."""

    measure_every = ANCHOR_MEASURE_EVERY

    def __init__(self, rtt: Rtt, probes: Probes) -> None:
        super().__init__(rtt, probes)
        self.life = Life.UP

    def data_out(self, now: float) -> None:
        """Note data that went out, or would have if the host were not away. Hot."""
        self.data_out_at = self.last_out = now
        if self._since == NEVER:
            self._since = now
            self._ask_at = now + AWAY_ASK_AFTER
        if self._ask_at < self.due:
            self.due = self._ask_at

    def data_in(self, now: float) -> None:
        """Note data that came in. Hot."""
        self.data_in_at = self.last_heard = now
        self._since = NEVER

    def answered(self, now: float) -> Life:
        """Note an authentic packet of any kind; return what life was before."""
        before, self.life = self.life, Life.UP
        self.last_heard = now
        self._since = NEVER
        return before

    def shift(self, gap: float) -> None:
        """Forgive `gap` seconds in which the process did not run."""
        self.last_heard += gap
        self._since += gap
        self._probes.forgive()

    def tick(self, now: float) -> Wants | None:
        """Advance; `life` may have changed."""
        wants = None
        if self._since != NEVER and now >= self._ask_at:
            wants = self._ask_away(now)
        elif self.life is Life.UP and self._measure(now):
            wants = Wants.MEASURE
        self.due = self._due(now)
        return wants

    def _due(self, now: float) -> float:
        return min(self._ask_at if self._since != NEVER else NEVER, self._measure_due(now))

    def _ask_away(self, now: float) -> Wants:
        if self.life is Life.SILENT:
            # The next one is sent when there is data for the host again.
            self._since = NEVER if now - self.data_out_at > self._spacing else self._since
            self._spacing = min(self._spacing * 2, AWAY_SPACING_MAX)
            self._ask_at = now + self._spacing
        elif now - self._since >= AWAY_AFTER:
            self.life, self._spacing = Life.SILENT, AWAY_ASK_AFTER
            self._ask_at = now + self._spacing
        else:
            self._ask_at = now + AWAY_ASK_AGAIN
        return Wants.PROBE
