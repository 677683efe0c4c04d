"""The other end of the control socket, synchronous: what the command line uses."""

import os
import socket
from collections.abc import Iterator
from typing import Any

from msgspec import UNSET

from sojourn.api.messages import MAX_ANSWER_BYTES, Answer, ApiError, ErrorKind, Request, decode_answer, encode
from sojourn.errors import RemoteProtocolError

CALL_TIMEOUT = 30.0
"""Seconds for one answer; a handover of 10,000 flows takes far less."""


class Client:
    """A daemon's control socket. Each call is a connection of its own."""

    def __init__(self, path: str, timeout: float = CALL_TIMEOUT) -> None:
        self.path = path
        self._timeout = timeout

    def call(self, verb: str, **arguments: object) -> Any:  # noqa: ANN401 - JSON is Any
        """Ask, and return the answer. Raises ApiError, also where no daemon answers."""
        with self._connect() as connection:
            connection.sendall(encode(Request(verb, arguments, 1)))
            for answer in self._answers(connection):
                return answer.result
        raise self._cut_off()

    def stream(self, verb: str, **arguments: object) -> Iterator[Any]:
        """Ask, and yield items as they come; the time-out does not apply between them."""
        with self._connect() as connection:
            connection.sendall(encode(Request(verb, arguments, 1)))
            connection.settimeout(None)
            for answer in self._answers(connection):
                if answer.end:
                    return
                yield answer.item
        raise self._cut_off()

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._timeout)
        try:
            connection.connect(self.path)
        except PermissionError as error:
            connection.close()
            remedy = "Run it as root, or join the group: adduser $USER sojourn."
            raise ApiError(f"no permission for {self.path}", remedy, ErrorKind.NO_PERMISSION) from error
        except OSError as error:
            connection.close()
            remedy = "Start `sojourn host` (or `sojourn anchor`), or name its socket with --socket."
            message = f"no daemon answers at {self.path} ({os.strerror(error.errno or 0).lower()})"
            raise ApiError(message, remedy, ErrorKind.NOT_RUNNING) from error
        return connection

    def _answers(self, connection: socket.socket) -> Iterator[Answer]:
        buffer = bytearray()
        while True:
            try:
                chunk = connection.recv(1 << 18)
            except TimeoutError as error:
                remedy = "It may be busy or stopped: look at its log."
                raise ApiError(f"the daemon at {self.path} does not answer", remedy) from error
            except ConnectionError as error:
                raise self._cut_off() from error
            if not chunk:
                return
            searched = len(buffer)
            buffer += chunk
            while (end := buffer.find(b"\n", searched)) >= 0:
                yield self._decode(bytes(buffer[:end]))
                del buffer[: end + 1]
                searched = 0
            if len(buffer) > MAX_ANSWER_BYTES:
                raise ApiError(f"what answers at {self.path} does not stop", "Is it a Sojourn daemon?")

    def _decode(self, line: bytes) -> Answer:
        try:
            answer = decode_answer(line)
        except RemoteProtocolError as error:
            raise ApiError(f"what answers at {self.path} is {error}", "Is it a Sojourn daemon?") from error
        if answer.error is not UNSET:
            failure = answer.error
            raise ApiError(failure.message, failure.remedy, failure.kind)
        return answer

    def _cut_off(self) -> ApiError:
        return ApiError(f"the daemon at {self.path} hung up", "It may have stopped: look at its log.")
