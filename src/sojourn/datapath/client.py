"""Control's end of the data-path process: starts or adopts it, and replaces it when it dies."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from sojourn.upmt.commands import AnyCommand
from sojourn.upmt.events import AnyEvent, State


class Log(Protocol):
    """As much of a structlog logger as is used here."""

    def info(self, event: str, **values: object) -> None:
        """Say what happened."""
        ...

    def warning(self, event: str, **values: object) -> None:
        """Say what should not have happened."""
        ...


class DataPathClient:
    """A `DataPath` that is a process of its own. `submit` at any time; events come through `emit`."""

    adopted: State | None
    """What a process that ran already (its control had died) knows; None when a new one was started."""
    epochs_void: bool
    """The epoch file was missing or of another boot: secrets of before must not be used, register again."""
    restarts: int
    """How often a dead process was replaced."""
    pid: int

    @classmethod
    async def start(
        cls,
        socket_path: Path,
        *,
        emit: Callable[[AnyEvent], None],
        epochs: Path | None,
        log: Log,
        on_superseded: Callable[[], None] | None = None,
        spare: bool = True,
    ) -> "DataPathClient":
        """Adopt the process that listens at `socket_path`, or start one. Raises OSError or SojournError."""
        raise NotImplementedError

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Hand over orders. While the process is being replaced they are kept in the mirror."""
        raise NotImplementedError

    async def close(self, *, stop: bool = True) -> None:
        """End the process and leave nothing; with `stop=False` leave it running for the next control (60 s)."""
        raise NotImplementedError
