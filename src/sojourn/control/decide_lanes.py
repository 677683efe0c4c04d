"""One policy's lane: where its flows are, and how patient it is with networks that it left because they did not fit.

Hysteresis, beside what decide_paths.py says of networks that fail:
- A network that was left because it did not fit any more is returned to only after it has fitted for `SETTLE_UNFIT`,
  with a margin (`MARGIN`); twice as long each further time within `FORGIVE_UNFIT`.
- Where networks are ordered by what is measured, another one must have been better, by the same margin, for
  `SETTLE_BETTER`, and that, too, doubles with each such move.
- Flows that suffer do not wait for that: they leave at once for a network that fits, if it is not one that they have
  just left (`SETTLE_ESCAPE`, doubling likewise).
"""

from typing import Final

from msgspec.structs import replace

from sojourn.policy.rules import Facts, Order, Policy

MARGIN: Final = 1.25
"""By so much a network that was left must be better than its bounds say."""
SETTLE_UNFIT: Final = 10.0
SETTLE_UNFIT_LONGEST: Final = 300.0
SETTLE_ESCAPE: Final = 2.0
SETTLE_BETTER: Final = 5.0
FORGIVE_UNFIT: Final = 600.0

_NEVER = float("inf")
_LONG_AGO = float("-inf")


class Unfit:
    """A network that the lane left because it did not fit."""

    __slots__ = ("count", "fits_since", "left_at")

    def __init__(self) -> None:
        self.count = 0
        self.left_at = _LONG_AGO
        self.fits_since: float | None = None

    def settled_at(self, patience: float, longest: float) -> float:
        """Return when it will have fitted long enough; never while it does not fit."""
        if self.fits_since is None:
            return _NEVER
        return self.fits_since + min(patience * 2.0 ** (self.count - 1), longest)


class Lane:
    """One policy, and where its flows are now."""

    def __init__(self, policy: Policy, left: str = "a network is there") -> None:
        self.policy = policy
        self.place: str | None = None
        """The network of new flows, and of those that did not stay behind."""
        self.copies: tuple[str, ...] = ()
        self.blocked = False
        self.held = False
        """They wait although a network works: none fits."""
        self.direct = False
        """New ones are to be direct meanwhile: none fits (`otherwise`)."""
        self.since = _LONG_AGO
        """When it came to its place."""
        self.why = "no network yet"
        """The reason of its last move."""
        self.left = left
        """Why it has no place, for the reason of the next move."""
        self.behind: dict[str, None] = {}
        """Networks where flows stayed that were there before (`stay`), oldest first."""
        self.due: float | None = None
        """When it wants to be asked again."""
        self._unfit: dict[str, Unfit] = {}
        self._better: tuple[str, float] | None = None
        """The network that is better by measurement, and since when."""
        self._chosen = 0
        self._chosen_at = _LONG_AGO

    @property
    def label(self) -> str:
        """Its policy's name."""
        return self.policy.label

    @property
    def measured(self) -> bool:
        """Say whether measurements can change where it should be."""
        require = self.policy.require
        bounds = (require.rtt, require.loss, require.jitter, require.rate, require.signal)
        return self.scored or any(bound is not None for bound in bounds)

    @property
    def scored(self) -> bool:
        """Say whether networks are put in order by what is measured."""
        return self.policy.order in (Order.PERFORMANCE, Order.VOIP)

    def uses(self, network: str) -> bool:
        """Say whether any of its flows may be there."""
        return network == self.place or network in self.copies or network in self.behind

    def judged(self, facts: Facts, now: float) -> Facts:
        """Return a network's facts as this lane looks at them: stricter, where it was left or is not in use."""
        if self.uses(facts.name):
            return facts
        if not self.recently_left(facts.name, now) and not (self.scored and self.place is not None):
            return facts

        def worse(value: float | None) -> float | None:
            return None if value is None else value * MARGIN

        def less(value: float | None) -> float | None:
            return None if value is None else value / MARGIN

        return replace(
            facts, rtt=worse(facts.rtt), loss=worse(facts.loss), jitter=worse(facts.jitter),
            rate=less(facts.rate), signal=less(facts.signal),
        )  # fmt: skip

    # -- moving

    def go(
        self, network: str | None, why: str, now: float, copies: tuple[str, ...] = (), *, blocked: bool = False
    ) -> None:
        """Come to another place."""
        if network != self.place:
            self.since = now
        self.place, self.copies, self.blocked, self.held = network, copies, blocked, False
        self.why = self.left = why

    def network_gone(self, network: str, why: str) -> None:
        """Take in that a network is not there any more."""
        if network == self.place:
            self.place, self.left = None, f"{network}: {why}"
        self.copies = tuple(name for name in self.copies if name != network)

    def leave_behind(self, network: str) -> None:
        """Note that nothing stays behind on a network any more."""
        self.behind.pop(network, None)

    # -- patience

    def note(self, fitting: tuple[str, ...], now: float) -> None:
        """Take in which networks fit now."""
        for name, unfit in list(self._unfit.items()):
            if now - unfit.left_at > FORGIVE_UNFIT and not self.uses(name):
                del self._unfit[name]
            elif name not in fitting:
                unfit.fits_since = None
            elif unfit.fits_since is None:
                unfit.fits_since = now

    def leave_unfit(self, network: str, now: float) -> None:
        """Note that flows had to leave a network that works, but does not fit."""
        unfit = self._unfit.setdefault(network, Unfit())
        unfit.count = unfit.count + 1 if now - unfit.left_at < FORGIVE_UNFIT else 1
        unfit.left_at, unfit.fits_since = now, None

    def recently_left(self, network: str, now: float) -> bool:
        """Say whether the network was left because it did not fit, not long ago."""
        unfit = self._unfit.get(network)
        return unfit is not None and now - unfit.left_at <= FORGIVE_UNFIT

    def waits_for(self, now: float) -> dict[str, bool]:
        """Return the networks that were left and are not used now, with whether each fits now."""
        return {
            name: unfit.fits_since is not None
            for name, unfit in self._unfit.items()
            if not self.uses(name) and now - unfit.left_at <= FORGIVE_UNFIT
        }

    def escape_at(self, network: str) -> float:
        """Return when flows that suffer where they are may go to a network that fits."""
        unfit = self._unfit.get(network)
        return _LONG_AGO if unfit is None else unfit.settled_at(SETTLE_ESCAPE, SETTLE_UNFIT_LONGEST)

    def ready_at(self, network: str, settled: float, now: float) -> float:
        """Return when flows may move to a network that is better. `settled`: when its path has worked long enough."""
        times = [settled, self.since + self.policy.minimum_stay]
        if (unfit := self._unfit.get(network)) is not None:
            times.append(unfit.settled_at(SETTLE_UNFIT, SETTLE_UNFIT_LONGEST))
        if self.scored:
            if self._better is None or self._better[0] != network:
                self._better = (network, now)
            recent = self._chosen if now - self._chosen_at < FORGIVE_UNFIT else 0
            times.append(self._better[1] + min(SETTLE_BETTER * 2.0**recent, SETTLE_UNFIT_LONGEST))
        return max(times)

    def no_better(self) -> None:
        """Note that no network is better than the one in use."""
        self._better = None

    def chose(self, now: float) -> None:
        """Note a move to a network that was better by measurement only."""
        if self.scored:
            self._chosen = self._chosen + 1 if now - self._chosen_at < FORGIVE_UNFIT else 1
            self._chosen_at, self._better = now, None
