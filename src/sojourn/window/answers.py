"""What the window's server answers: JSON, and errors that say what is wrong and what to do."""

from typing import Any, Final

import msgspec
from starlette.responses import Response

from sojourn.api.messages import ApiError, ErrorKind

TOKEN: Final = "token"
"""The kind of error of a request without the right token."""
STATUS: Final[dict[str, int]] = {
    ErrorKind.FAILED: 500,
    ErrorKind.USAGE: 400,
    ErrorKind.UNKNOWN_VERB: 404,
    ErrorKind.NOT_ASSOCIATED: 409,
    ErrorKind.CHANGED: 409,
    ErrorKind.NO_PERMISSION: 403,
    ErrorKind.NOT_RUNNING: 503,
    TOKEN: 401,
}


def json_response(value: Any, status: int = 200) -> Response:  # noqa: ANN401 - JSON
    """Return a value as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def failure(error: ApiError) -> dict[str, Any]:
    """Return the JSON of an error."""
    return {"error": {"kind": str(error.kind), "message": error.message, "remedy": error.remedy}}


def error_response(kind: str, message: str, remedy: str, status: int | None = None) -> Response:
    """Return an error as JSON, with its status."""
    value = {"error": {"kind": str(kind), "message": message, "remedy": remedy}}
    return json_response(value, status or STATUS.get(kind, 500))
