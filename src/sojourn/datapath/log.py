"""The log that a data path's client writes to, as far as it is used."""

from typing import Protocol


class Log(Protocol):
    """As much of a structlog logger as is used here."""

    def info(self, event: str, **values: object) -> object:
        """Say what happened."""
        ...

    def warning(self, event: str, **values: object) -> object:
        """Say what should not have happened."""
        ...
