"""The answers to questions that hold for ever, in a file beside host.toml."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from sojourn.control.questions import KeptAnswer, QuestionNews, Questions, Remember
from sojourn.errors import ConfigError
from sojourn.store import config_dir

_log = structlog.get_logger(__name__)


class AnswerFile:
    """One file; it is not there while nothing is to be kept."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[KeptAnswer]:
        """Return what is written there. A file that cannot be used is told of, and nothing is known then."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[KeptAnswer])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("answers of before are not used", file=str(self._path), why=str(error))
            return []

    def write(self, answers: Sequence[KeptAnswer]) -> None:
        """Write them, or remove the file when there are none. Raises ConfigError."""
        if answers:
            config_dir.write(self._path, msgspec.json.format(msgspec.json.encode(answers)), private=True)
        else:
            self._path.unlink(missing_ok=True)

    def heed(self, news: QuestionNews, questions: Questions) -> None:
        """Write the answers down if one has come that holds for ever. What cannot be written is told of."""
        if news.remember is Remember.EVER:
            try:
                self.write(questions.written)
            except ConfigError as error:
                _log.error("answer not stored", error=str(error))
