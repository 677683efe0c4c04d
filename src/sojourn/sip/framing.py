"""Where one SIP message ends: by Content-Length on a stream, by the datagram otherwise (RFC 3261 §18.3)."""

from typing import Final

from sojourn.errors import RemoteProtocolError
from sojourn.sip.message import MAX_HEAD_BYTES, Request, Response, parse

MAX_BODY_BYTES: Final = 4 << 20
"""A list of 10,000 flows to hand over takes about 1.5 MB."""
MAX_STRANGER_BODY_BYTES: Final = 8192
"""What someone who is not yet authenticated may make us keep."""
_END: Final = b"\r\n\r\n"


class StreamFramer:
    """Cuts a byte stream into messages. After an error the stream cannot be used any more (§18.3)."""

    def __init__(self, max_body: int = MAX_BODY_BYTES) -> None:
        self.max_body = max_body
        """May grow once the sender is authenticated."""
        self._buffer = bytearray()
        self._scanned = 0
        self._needed: int | None = None
        self._failed: str | None = None

    def feed(self, data: bytes) -> None:
        """Add bytes as they came; then call `next_message` until it returns None."""
        self._buffer += data

    def next_message(self) -> Request | Response | None:
        """Return the next complete message or None; RemoteProtocolError when the stream makes no sense any more."""
        data = self.next_bytes()
        return None if data is None else parse(data)

    def next_bytes(self) -> bytes | None:
        """Return the next complete message as it came; its head has been read and will parse."""
        if self._failed is not None:
            raise RemoteProtocolError(self._failed)
        try:
            return self._next()
        except RemoteProtocolError as error:
            self._failed = str(error)
            self._buffer.clear()
            raise

    @property
    def buffered(self) -> int:
        """Bytes held of a message that is not complete."""
        return len(self._buffer)

    def _next(self) -> bytes | None:
        if self._needed is None:
            self._needed = self._find_end()
        if self._needed is None or len(self._buffer) < self._needed:
            return None
        data = bytes(self._buffer[: self._needed])
        del self._buffer[: self._needed]
        self._needed, self._scanned = None, 0
        return data

    def _find_end(self) -> int | None:
        self._skip_line_ends()
        end = self._buffer.find(_END, max(self._scanned - len(_END) + 1, 0))
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise RemoteProtocolError("no end of the headers, or not soon enough", reason="size")
            self._scanned = len(self._buffer)
            return None
        head = bytes(self._buffer[: end + len(_END)])
        length = parse(head).content_length
        if length is None:
            raise RemoteProtocolError("no Content-Length on a stream", reason="length")
        if length > self.max_body:
            raise RemoteProtocolError(f"a body of {length} bytes is more than we take", reason="size")
        return len(head) + length

    def _skip_line_ends(self) -> None:
        """Pass over the CR LF before a start line (§7.5)."""
        count = 0
        while self._buffer[2 * count : 2 * count + 2] == b"\r\n":
            count += 1
        if count:
            del self._buffer[: 2 * count]
            self._scanned = 0


def parse_datagram(data: bytes) -> Request | Response:
    """Read the message in a datagram: bytes beyond Content-Length are dropped, too few are an error (§18.3)."""
    message = parse(data.lstrip(b"\r\n"))
    length = message.content_length
    if length is None:
        return message
    if length > len(message.body):
        raise RemoteProtocolError("the datagram ends before its body", reason="length")
    message.body = message.body[:length]
    return message
