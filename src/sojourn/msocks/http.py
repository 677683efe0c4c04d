"""An HTTP proxy's requests: CONNECT, and absolute URIs (RFC 9110 §9.3.6, RFC 9112 §3.2.2). One request a connection.

A request with an absolute URI goes on as the origin server wants it, without the proxy's own headers and
with `Connection: close`, so that the next request, which may be for another server, comes anew.
"""

import base64
import binascii
import re
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.msocks.socks5 import Address

MAX_HEAD_BYTES: Final = 16384
ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_DROPPED: Final = frozenset({"connection", "proxy-connection", "proxy-authorization", "keep-alive"})
_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) (\S{1,8192}) HTTP/1\.[01]")


class HttpRequest(Struct, frozen=True):
    """Where a request wants to go, and what of it goes on."""

    address: Address
    user: str
    """Of Proxy-Authorization: it names the application. Empty without one."""
    head: bytes
    """What the origin server is sent first; empty for CONNECT."""


def take_request(data: bytes | bytearray) -> tuple[HttpRequest, int] | None:
    """Read a request's head: with its length, or None while it is not whole. Raises RemoteProtocolError."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > MAX_HEAD_BYTES:
            raise _bad("a head that does not end")
        return None
    if end > MAX_HEAD_BYTES:
        raise _bad("a head that is too long")
    first, *lines = bytes(data[:end]).decode("latin-1").split("\r\n")
    match = _LINE.fullmatch(first)
    if match is None:
        raise _bad("no request line")
    user = _user(lines)
    method, target = match[1], match[2]
    if method == "CONNECT":
        return HttpRequest(_authority(target, None), user, b""), end + 4
    try:
        uri = urlsplit(target)
    except ValueError as error:
        raise _bad("no URI") from error
    if uri.scheme.lower() != "http" or not uri.netloc:
        raise _bad("not an absolute http URI")
    path = (uri.path or "/") + (f"?{uri.query}" if uri.query else "")
    kept = [line for line in lines if line.partition(":")[0].strip().lower() not in _DROPPED]
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""])
    return HttpRequest(_authority(uri.netloc.rpartition("@")[2], 80), user, head.encode("latin-1")), end + 4


def failure(status: int, reason: str) -> bytes:
    """Write an answer that ends the connection."""
    return f"HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def _authority(text: str, default: int | None) -> Address:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]/@]+))(?::([0-9]{1,5}))?", text)
    port = default if match is None or match[3] is None else int(match[3])
    if match is None or port is None or not 0 < port < 65536:
        raise _bad("no host and port")
    host = match[1] or match[2]
    if not host.isascii() or not 1 <= len(host) <= 255:
        raise _bad("no host name")
    return Address(host, port)


def _user(lines: list[str]) -> str:
    for line in lines:
        name, _, value = line.partition(":")
        kind, _, word = value.strip().partition(" ")
        if name.lower() == "proxy-authorization" and kind.lower() == "basic":
            try:
                return base64.b64decode(word, validate=True).decode().partition(":")[0][:64]
            except (binascii.Error, ValueError):
                return ""
    return ""


def _bad(why: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"HTTP: {why}", reason="http")
