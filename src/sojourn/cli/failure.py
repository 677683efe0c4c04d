"""From an error to one sentence and an exit code (cli/main.py lists the codes)."""

from typing import Final

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.errors import SojournError

_CODES: Final = {
    ErrorKind.FAILED: 1,
    ErrorKind.USAGE: 2,
    ErrorKind.UNKNOWN_VERB: 2,
    ErrorKind.NOT_RUNNING: 3,
    ErrorKind.NO_PERMISSION: 4,
    ErrorKind.NOT_ASSOCIATED: 5,
    ErrorKind.CHANGED: 1,
}


def exit_code(error: SojournError) -> int:
    """Return what the process exits with."""
    if isinstance(error, ApiError):
        return _CODES[error.kind]
    return 4 if isinstance(error.__cause__, PermissionError) else 1


def sentence(error: SojournError) -> str:
    """Say what is wrong and what to do."""
    if isinstance(error, ApiError):
        return f"{error.message}. {error.remedy}" if error.remedy else f"{error.message}."
    return str(error)
