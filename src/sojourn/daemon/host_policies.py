"""The host's policies at work: read from host.toml, read again when it changes, joined with what the anchor pushes.

host.toml (SIGHUP, or when it changes) ──┐               ┌── HostControl (PoliciesChanged)
PolicyPush of the anchor               ──┼── PolicyBook ─┼── roaming log
answers that hold for ever (host.answers)┘   Questions   └── control socket (policy_api)
"""

import asyncio
import os
import signal
from collections.abc import Callable

import structlog

from sojourn.control.config import HostConfig
from sojourn.control.entries import of_question
from sojourn.control.host_control import ControlEvent, Entry, HostControl
from sojourn.control.network_facts import NetworkBook
from sojourn.control.policies import PoliciesChanged, PolicyBook, with_addresses
from sojourn.control.questions import QuestionNews, Questions
from sojourn.daemon.driver import Tasks
from sojourn.daemon.host_names import HostNames
from sojourn.errors import ConfigError
from sojourn.linux.users import user_id
from sojourn.policy.rules import Policy
from sojourn.store import config_dir
from sojourn.store.answers import AnswerFile
from sojourn.store.config_dir import ConfigDir
from sojourn.upmt.policy_push import PolicyPush

LOOK_EVERY = 1.0
"""Seconds after which a changed host.toml is noticed."""
RELOADED = ("policies", "order", "accept")
"""Keys of host.toml that are read again; all others need a restart."""

_Stamp = tuple[int, int, int] | None
_log = structlog.get_logger(__name__)


class HostPolicies:
    """Owns the book and the questions. `start` once the daemon can be fed."""

    def __init__(self, directory: ConfigDir) -> None:
        """Read what stands in `directory`. Raises ConfigError: a daemon does not start with a wrong host.toml."""
        self._file = directory.host_toml
        self._answers = AnswerFile(directory.host_answers)
        self.book = PolicyBook(str(self._file), user_id)
        self._stamp = self._look()
        self.book.load(config_dir.read(self._file, "Make it with `sojourn join TOKEN`."))
        if self.book.errors:
            raise self.book.errors[0].error()
        self.questions = Questions(self._answers.read())
        self._config: HostConfig | None = None
        self._networks: NetworkBook | None = None
        self._names: HostNames | None = None
        self._feed: Callable[[ControlEvent], None] = lambda _event: None
        self._note: Callable[[Entry], None] = lambda _entry: None

    def start(
        self,
        tasks: Tasks,
        config: HostConfig,
        networks: NetworkBook,
        control: HostControl,
        feed: Callable[[ControlEvent], None],
        note: Callable[[Entry], None],
    ) -> None:
        """Watch host.toml, take SIGHUP, tell the roaming log of questions, learn names of destinations."""
        self._config, self._networks, self._feed, self._note = config, networks, feed, note
        self._names = HostNames(config.device, control, self._named)
        tasks.start(self._names.run(lambda: self.book.policies), "DNS answers")
        self.questions.listen(self._news)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)
        tasks.start(self._watch(), "host.toml")
        for warning in self.book.warnings:
            _log.warning("policy", warning=str(warning))

    def reload(self) -> bool:
        """Read host.toml again; say whether it was right. A wrong one changes nothing."""
        self._stamp = self._look()
        try:
            text = config_dir.read(self._file, "Put it back: the old policies stay until then.")
        except ConfigError as error:
            self._say("policies", f"{error} The old policies stay")
            return False
        changed = self.book.load(text)
        if self.book.errors:
            more = f" (and {len(self.book.errors) - 1} more mistakes)" if len(self.book.errors) > 1 else ""
            self._say("policies", f"{self.book.errors[0]}{more} The old policies stay")
            return False
        if changed:
            self._changed(f"{self._file.name} was read again")
        self._warn_of_rest()
        return True

    def pushed(self, push: PolicyPush) -> None:
        """Take in what the anchor offers."""
        if push == self.book.push:
            return
        changed, accepted = self.book.take(push), sorted(self.book.accept)
        offer = f"{len(push.policies)} policies, {len(push.costs)} costs, {'an' if push.order else 'no'} order"
        uses = f"used are {', '.join(accepted)}" if accepted else "nothing is used: `accept` in host.toml is empty"
        self._say("push", f"the anchor offers {offer}; {uses}")
        if self.book.push_errors:  # there may be thousands, and another push a moment later: one line
            _log.warning("push", problem=str(self.book.push_errors[0])[:500], problems=len(self.book.push_errors))
        if changed:
            self._changed("the anchor has pushed policies")

    def forgotten(self) -> None:
        """Have everything decided again: no answer is kept any more. Raises ConfigError."""
        self._answers.write(self.questions.written)
        self._feed(PoliciesChanged(self._effective(), "answers were forgotten"))

    def _changed(self, reason: str) -> None:
        if self._networks is not None:
            self._networks.pushed = self.book.costs
        count = len(self.book.policies) - 1
        self._say("policies", f"{reason}: {count} {'policy' if count == 1 else 'policies'} and the general order")
        self._feed(PoliciesChanged(self._effective(), reason))

    def _named(self) -> None:
        self._feed(PoliciesChanged(self._effective(), "names of destinations", names_only=True))

    def _effective(self) -> tuple[Policy, ...]:
        return self.book.policies if self._names is None else with_addresses(self.book.policies, self._names.known)

    def _warn_of_rest(self) -> None:
        candidate = self.book.config
        if self._config is None or candidate is None:
            return
        names = [name for name in HostConfig.__struct_fields__ if name not in RELOADED]
        other = [name for name in names if getattr(candidate, name, None) != getattr(self._config, name)]
        if other:
            _log.warning("these keys of host.toml need a restart", keys=other)

    def _say(self, event: str, text: str) -> None:
        """Write one line, which goes to both logs."""
        self._note(Entry(event, None, text))

    def _news(self, news: QuestionNews) -> None:
        self._note(of_question(news))
        self._answers.heed(news, self.questions)

    def _look(self) -> _Stamp:
        try:
            status = os.stat(self._file)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = self._look()
            if now is not None and now != self._stamp:  # while an editor replaces it, it may be away for a moment
                self.reload()
