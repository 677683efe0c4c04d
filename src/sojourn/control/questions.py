"""Questions that policies leave to the user (`otherwise = "ask"`), with a default and a time limit each.

One question a policy and *situation*, which is the set of networks that work without fitting. While it is open its
flows wait; an answer, or the default after `ask_timeout`, holds until the situation ends, for the session, or for
ever (`Remember`). Nothing is written anywhere unless the user said for ever.

    open ── answer ──> answered ─┬─ situation ends ──> forgotten (once; the default too)
         ── time is up ──> default ┘                    kept (session, ever)
         ── situation ends ──> withdrawn

How the decision uses it: wherever a policy that asks has nothing that fits, `choice_for` says what to do now; where
something fits, `settle` ends the situation. After `answer` or `tick` it decides again.

Timer: the time limit of each open question.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

from sojourn.errors import ConfigError
from sojourn.policy.rules import Otherwise, Policy

MAX_OPEN: Final = 32
"""Questions at once; what comes on top gets its default. Nobody answers more."""
MAX_KEPT: Final = 256
"""Answers that are remembered; the oldest goes."""


class Remember(StrEnum):
    """How long an answer holds."""

    ONCE = "once"
    """Until another network fits, or others work."""
    SESSION = "session"
    """Until the daemon ends."""
    EVER = "ever"
    """Written down."""


class Question(Struct, frozen=True):
    """One question, as it is asked."""

    id: int
    policy: str
    """The policy's label."""
    text: str
    choices: tuple[str, ...]
    """Names of networks that work, and words of `Otherwise`."""
    default: str
    until: float
    """CLOCK_BOOTTIME when the default is taken."""
    situation: tuple[str, ...] = ()


class QuestionNews(Struct, frozen=True):
    """What became of a question: asked, answered, timeout, withdrawn."""

    what: str
    question: Question
    choice: str | None = None
    remember: Remember = Remember.ONCE


class AnswerGiven(Struct, frozen=True, tag=True):
    """The user's answer, as an event for the decision."""

    id: int
    choice: str
    remember: Remember = Remember.ONCE


class KeptAnswer(Struct, frozen=True):
    """An answer that holds beyond its situation, as it is written down."""

    policy: str
    situation: tuple[str, ...]
    choice: str
    remember: Remember = Remember.EVER


Listener = Callable[[QuestionNews], None]
_Key = tuple[str, tuple[str, ...]]


class Questions:
    """All questions of one host."""

    def __init__(self, kept: Sequence[KeptAnswer] = ()) -> None:
        self._open: dict[_Key, Question] = {}
        self._now: dict[_Key, str] = {}
        """What was answered, or taken for an answer, in situations that last."""
        self._kept: dict[_Key, KeptAnswer] = {}
        for answer in kept[-MAX_KEPT:]:
            self._kept[answer.policy, answer.situation] = answer
        self._listeners: list[Listener] = []
        self._next = 1

    @property
    def open(self) -> list[Question]:
        """Return the questions that wait for an answer, the oldest first."""
        return list(self._open.values())

    @property
    def written(self) -> list[KeptAnswer]:
        """Return the answers that the user wants to be written down."""
        return [answer for answer in self._kept.values() if answer.remember is Remember.EVER]

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` for all news; return the function that ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def choice_for(self, policy: Policy, networks: Sequence[str], now: float, *, concerned: bool = True) -> str:
        """Return what to do with the policy's flows now: a network's name or a word of `Otherwise` (never "ask").

        `networks` are those that work and do not fit, the best first. A question is asked if the answer is not known
        and anything is `concerned`: nobody wants to be asked about an application that does not run.
        """
        situation = tuple(sorted(networks))
        key = (policy.label, situation)
        self.settle(policy.label, but=situation)
        kept = self._kept.get(key)
        answer = self._now.get(key) or (kept.choice if kept is not None else None)
        if answer is not None:
            return answer
        if key not in self._open and concerned:
            if len(self._open) >= MAX_OPEN:
                return str(policy.ask_default)
            self._ask(key, policy, networks, now)
        return str(Otherwise.HOLD)

    def settle(self, label: str, but: tuple[str, ...] | None = None) -> None:
        """End the situations of a policy (all, or all `but` one): a network fits, or others work now."""
        for key in [key for key in self._open if key[0] == label and key[1] != but]:
            self._tell("withdrawn", self._open.pop(key))
        for key in [key for key in self._now if key[0] == label and key[1] != but]:
            del self._now[key]

    def keep_only(self, labels: Sequence[str]) -> None:
        """End the situations of every other policy: these are all that there are now."""
        for label in {key[0] for key in (*self._open, *self._now)} - set(labels):
            self.settle(label)

    def check(self, given: AnswerGiven) -> Question:
        """Return the question that an answer is for. Raises ConfigError with a remedy unless it can be taken."""
        question = next((one for one in self._open.values() if one.id == given.id), None)
        if question is None:
            numbers = ", ".join(str(one.id) for one in self._open.values()) or "none"
            raise ConfigError(f"question {given.id}", "is not open", f"Open now: {numbers}.")
        if given.choice not in question.choices:
            fix = f"Choose one of {', '.join(question.choices)}."
            raise ConfigError(f"question {given.id}", f"{given.choice!r} is no choice", fix)
        return question

    def answer(self, given: AnswerGiven) -> bool:
        """Take in the user's answer; say whether it counted (the question may have been settled meanwhile)."""
        try:
            question = self.check(given)
        except ConfigError:
            return False
        key = (question.policy, question.situation)
        del self._open[key]
        self._now[key] = given.choice
        if given.remember is not Remember.ONCE:
            self._kept.pop(key, None)
            if len(self._kept) >= MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = KeptAnswer(*key, given.choice, given.remember)
        self._tell("answered", question, given.choice, given.remember)
        return True

    def forget(self) -> int:
        """Forget all answers that were kept, the written ones too; return how many there were."""
        count = len(self._kept)
        self._kept.clear()
        self._now.clear()
        return count

    def deadline(self) -> float | None:
        """Return when the next open question takes its default."""
        return min((question.until for question in self._open.values()), default=None)

    def tick(self, now: float) -> bool:
        """Take the default of what was not answered in time; say whether that changed anything."""
        late = [key for key, question in self._open.items() if question.until <= now]
        for key in late:
            question = self._open.pop(key)
            self._now[key] = question.default
            self._tell("timeout", question, question.default)
        return bool(late)

    def _ask(self, key: _Key, policy: Policy, networks: Sequence[str], now: float) -> None:
        default = str(policy.ask_default)
        words = (Otherwise.HOLD, Otherwise.BLOCK, default)
        choices = tuple(dict.fromkeys([*networks, *map(str, words)]))
        there = f"only {' and '.join(networks)} works" if networks else "no network works"
        text = f"No network fits {policy.label or 'everything else'!r} now, {there}. Where shall its flows go?"
        question = Question(self._next, policy.label, text, choices, default, now + policy.ask_timeout, key[1])
        self._next += 1
        self._open[key] = question
        self._tell("asked", question)

    def _tell(
        self, what: str, question: Question, choice: str | None = None, remember: Remember = Remember.ONCE
    ) -> None:
        for listener in tuple(self._listeners):
            listener(QuestionNews(what, question, choice, remember))
