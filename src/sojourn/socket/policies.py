"""The policies of a client without root: read from host.toml, and again when that changes. No daemon is needed."""

import asyncio
import os
from collections.abc import Callable
from typing import Final

import structlog

from sojourn.control.config import HostConfig
from sojourn.control.entries import Entry, of_question
from sojourn.control.policies import PolicyBook
from sojourn.control.questions import QuestionNews, Questions
from sojourn.control.steering import left_out
from sojourn.errors import ConfigError
from sojourn.linux.users import user_id
from sojourn.policy.rules import Policy
from sojourn.store import config_dir
from sojourn.store.answers import AnswerFile
from sojourn.store.config_dir import ConfigDir

LOOK_EVERY: Final = 1.0
"""Seconds after which a changed host.toml is noticed."""

_log = structlog.get_logger(__name__)


class ClientPolicies:
    """One client's."""

    def __init__(self, directory: ConfigDir) -> None:
        """Read what stands in `directory`. Raises ConfigError: nobody starts with a wrong host.toml."""
        self._file = directory.host_toml
        self.book = PolicyBook(str(self._file), user_id)
        self._stamp = self._look()
        self.book.load(config_dir.read(self._file, "Make it with `sojourn join TOKEN`."))
        if self.book.errors:
            raise self.book.errors[0].error()
        self.changed: Callable[[tuple[Policy, ...], str], None] = lambda _policies, _reason: None
        """Is told when others hold, and why."""
        self.note: Callable[[Entry], None] = lambda _entry: None
        """Is told what the roaming log shall say."""
        self._answers = AnswerFile(directory.host_answers)
        self.questions = Questions(self._answers.read())
        self.questions.listen(self._news)
        self._said: set[str] = set()
        for warning in self.book.warnings:
            _log.warning("policy", warning=str(warning))

    def say_what_is_left_out(self) -> None:
        """Tell of each thing that policies say and that has no meaning here, once."""
        for problem in map(str, left_out(self.book.policies, self.book.file)):
            if problem not in self._said:
                self._said.add(problem)
                self.note(Entry("policies", None, problem))
                _log.warning("policy", warning=problem)

    def forgotten(self) -> None:
        """Write down that no answer is kept any more. Raises ConfigError."""
        self._answers.write(self.questions.written)
        self.changed(self.book.policies, "answers were forgotten")

    def _news(self, news: QuestionNews) -> None:
        self.note(of_question(news))
        self._answers.heed(news, self.questions)

    @property
    def config(self) -> HostConfig:
        """Return host.toml as it was read last."""
        assert isinstance(self.book.config, HostConfig)
        return self.book.config

    def reload(self) -> bool:
        """Read host.toml again; say whether it was right. A wrong one changes nothing."""
        self._stamp = self._look()
        try:
            text = config_dir.read(self._file, "Put it back: the old policies stay until then.")
        except ConfigError as error:
            _log.warning("policies", why=f"{error} The old policies stay")
            return False
        changed = self.book.load(text)
        if self.book.errors:
            _log.warning("policies", why=f"{self.book.errors[0]} The old policies stay")
            return False
        self.say_what_is_left_out()
        if changed:
            self.changed(self.book.policies, f"{self._file.name} was read again")
        return True

    async def watch(self) -> None:
        """Look after the file; a task."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = self._look()
            if now is not None and now != self._stamp:  # while an editor replaces it, it may be away for a moment
                self.reload()

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._file)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size
