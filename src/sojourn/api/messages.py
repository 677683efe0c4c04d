"""What crosses the control socket: one JSON object a line, in both directions.

    request    {"id": 1, "verb": "status", "arguments": {}}
    answer     {"id": 1, "result": ...}          or   {"id": 1, "error": {"kind", "message", "remedy"}}
    stream     {"id": 1, "item": ...} any number of times, then {"id": 1, "end": true} or an error

A connection carries one request at a time; a stream ends early when the client hangs up.
The result of a verb is the JSON that `--json` prints (DESIGN §7), objects with "version": 1.

    verb            arguments                                    result
    about           -                                            role, program, pid, config_dir
    status          -                                            object
    networks        -                                            list (host)
    flows           -                                            list
    apps            -                                            list (host)
    handover        to; one of flow, app, match, all             object: to, moved, unchanged, waiting (host)
                    `to`: a network, or policy, hold, block, direct
    network_use     network, use (on, paused, excluded)          object: network, use, before (host)
    undo            -                                            object: undone, undo (host)
    watch           -                                            stream: snapshot, deltas (docs/window.md)
    history, usage, log_before                                   see daemon/host_past.py (host)
    policy_file, policy_edit_test, policy_save                   see daemon/policy_edit_api.py (host)
    up, down        -                                            object: state (host)
    policy_...      see daemon/policy_api.py: list, show, test, explain, reload; questions, answer, ask (host)
    metrics         -                                            object: text, in Prometheus' format
    log             limit, follow                                stream of RoamingEntry
    token           name                                         object: name, token (anchor)
    revoke, end     name                                         object: name (anchor)
    hosts           -                                            list (anchor)
    expose          protocol, port, public_port, host or null    object
    expose_remove   protocol, public_port                        object
    exposed         -                                            list
"""

from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sojourn.errors import RemoteProtocolError, SojournError

HOST_SOCKET: Final = "/run/sojourn/host.sock"
ANCHOR_SOCKET: Final = "/run/sojourn/anchor.sock"
RENDEZVOUS_SOCKET: Final = "/run/sojourn/rendezvous.sock"
SOCKET_GROUP: Final = "sojourn"
"""Members of this system group may use the sockets, where the group exists."""
MAX_REQUEST_BYTES: Final = 1 << 20
MAX_ANSWER_BYTES: Final = 64 << 20
"""`flows` of a busy anchor is some 200 bytes a flow."""


class ErrorKind(StrEnum):
    """Why a request failed; the command line makes its exit code of it."""

    FAILED = "failed"
    USAGE = "usage"
    UNKNOWN_VERB = "unknown_verb"
    NOT_ASSOCIATED = "not_associated"
    NO_PERMISSION = "no_permission"
    NOT_RUNNING = "not_running"
    CHANGED = "changed"
    """What the request builds on is not so any more: look again."""


class ApiError(SojournError):
    """A request that was refused: raised by a daemon's handler, raised again in the client."""

    def __init__(self, message: str, remedy: str = "", kind: ErrorKind = ErrorKind.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.kind = kind


class Request(Struct, frozen=True):
    """One question or order."""

    verb: str
    arguments: dict[str, Any] = {}
    id: int = 0


class Failure(Struct, frozen=True):
    """`ApiError` as it is sent."""

    kind: ErrorKind
    message: str
    remedy: str = ""


class Answer(Struct, frozen=True, omit_defaults=True):
    """One line back."""

    id: int
    result: Any = UNSET
    item: Any = UNSET
    error: Failure | UnsetType = UNSET
    end: bool = False


_encoder = msgspec.json.Encoder()
_request_decoder = msgspec.json.Decoder(Request)
_answer_decoder = msgspec.json.Decoder(Answer)


def encode(message: Request | Answer) -> bytes:
    """Return the line of a message."""
    return _encoder.encode(message) + b"\n"


def decode_request(line: bytes) -> Request:
    """Read a client's line, or raise RemoteProtocolError."""
    try:
        return _request_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not a request: {error}", reason="request") from error


def decode_answer(line: bytes) -> Answer:
    """Read a daemon's line, or raise RemoteProtocolError."""
    try:
        return _answer_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not an answer: {error}", reason="answer") from error
