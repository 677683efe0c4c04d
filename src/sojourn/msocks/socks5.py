"""SOCKS5 in bytes: greeting, user and password, requests, replies, datagrams (RFC 1928, RFC 1929).

Each `take_...` reads one message from the front of what has arrived: it returns the message and its
length, or None while some of it is still to come, and raises RemoteProtocolError for what no
continuation can mend. So a stream may be cut anywhere.
"""

import ipaddress
from enum import IntEnum
from typing import Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError

VERSION: Final = 5
PASSWORD_VERSION: Final = 1

NO_LOGIN, PASSWORD, NO_METHOD = 0x00, 0x02, 0xFF
SOJOURN: Final = 0x8D
"""Our method, in the range that RFC 1928 §3 leaves to private use (docs/wire.md, MSOCKS)."""

IPV4, NAME, IPV6 = 1, 3, 4
MAX_NAME_BYTES: Final = 255


class Command(IntEnum):
    """What a client asks for (RFC 1928 §4); CONTROL is ours and only allowed in our method."""

    CONNECT = 1
    BIND = 2
    UDP_ASSOCIATE = 3
    CONTROL = 0xF0


class Code(IntEnum):
    """What a proxy answers (RFC 1928 §6)."""

    SUCCEEDED = 0
    FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_NOT_SUPPORTED = 8
    NO_SUCH_NAME = 0xF0
    """Ours, in our method only: the proxy's resolver does not know the name. Others hear HOST_UNREACHABLE."""


class Address(Struct, frozen=True):
    """Where to: an IP address in canonical text, or a name that the proxy resolves."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


NOWHERE: Final = Address("0.0.0.0", 0)


class Request(Struct, frozen=True):
    """One request."""

    command: int
    address: Address


class Reply(Struct, frozen=True):
    """One reply; `address` is the proxy's end of what it opened."""

    code: int
    address: Address = NOWHERE


class Datagram(Struct, frozen=True):
    """A UDP datagram as it passes between client and proxy (RFC 1928 §7)."""

    address: Address
    payload: bytes


def take_greeting(data: bytes | bytearray) -> tuple[frozenset[int], int] | None:
    """Read the methods that a client offers."""
    _version(data, VERSION)
    if len(data) < 2 or len(data) < 2 + data[1]:
        return None
    return frozenset(data[2 : 2 + data[1]]), 2 + data[1]


def take_choice(data: bytes | bytearray) -> tuple[int, int] | None:
    """Read the method that a proxy has chosen."""
    _version(data, VERSION)
    return (data[1], 2) if len(data) >= 2 else None


def take_password(data: bytes | bytearray) -> tuple[tuple[str, str], int] | None:
    """Read user and password (RFC 1929 §2)."""
    _version(data, PASSWORD_VERSION)
    user = _counted(data, 1)
    if user is None:
        return None
    password = _counted(data, 2 + len(user))
    if password is None:
        return None
    try:
        return (user.decode(), password.decode()), 3 + len(user) + len(password)
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("user or password is not UTF-8", reason="socks") from error


def take_password_answer(data: bytes | bytearray) -> tuple[bool, int] | None:
    """Read whether user and password were accepted."""
    _version(data, PASSWORD_VERSION)
    return (data[1] == 0, 2) if len(data) >= 2 else None


def take_request(data: bytes | bytearray) -> tuple[Request, int] | None:
    """Read a request. An address type that nobody knows raises RemoteProtocolError ("address type")."""
    found = _take_command_and_address(data)
    return None if found is None else (Request(found[0], found[1]), found[2])


def take_reply(data: bytes | bytearray) -> tuple[Reply, int] | None:
    """Read a reply."""
    found = _take_command_and_address(data)
    return None if found is None else (Reply(found[0], found[1]), found[2])


def parse_datagram(data: bytes) -> Datagram:
    """Read a relayed datagram. Fragments are refused, as RFC 1928 §7 allows whoever cannot put them together."""
    if len(data) < 4 or data[0] or data[1]:
        raise RemoteProtocolError("no SOCKS datagram", reason="socks")
    if data[2]:
        raise RemoteProtocolError("a SOCKS fragment", reason="fragment")
    found = _take_address(data, 3)
    if found is None:
        raise RemoteProtocolError("a SOCKS datagram that ends in its address", reason="socks")
    return Datagram(found[0], bytes(data[found[1] :]))


def greeting(*methods: int) -> bytes:
    """Write a client's greeting."""
    return bytes([VERSION, len(methods), *methods])


def choice(method: int) -> bytes:
    """Write a proxy's choice."""
    return bytes([VERSION, method])


def password(user: str, word: str) -> bytes:
    """Write user and password. Raises ValueError when one of them does not fit."""
    parts = [text.encode() for text in (user, word)]
    return bytes([PASSWORD_VERSION]) + b"".join(bytes([len(part)]) + part for part in parts)


def password_answer(accepted: bool) -> bytes:
    """Write whether user and password were accepted; after a refusal the proxy closes."""
    return bytes([PASSWORD_VERSION, 0 if accepted else 1])


def request(asked: Request) -> bytes:
    """Write a request."""
    return bytes([VERSION, asked.command, 0]) + encode_address(asked.address)


def reply(answer: Reply) -> bytes:
    """Write a reply."""
    return bytes([VERSION, answer.code, 0]) + encode_address(answer.address)


def datagram(relayed: Datagram) -> bytes:
    """Write a relayed datagram."""
    return bytes(3) + encode_address(relayed.address) + relayed.payload


def encode_address(address: Address) -> bytes:
    """Write type, address and port. Raises ValueError for a name that is too long or not ASCII."""
    try:
        ip = ipaddress.ip_address(address.host)
    except ValueError:
        name = address.host.encode("ascii")
        if not 1 <= len(name) <= MAX_NAME_BYTES:
            raise ValueError("a name has 1 to 255 characters") from None
        where = bytes([NAME, len(name)]) + name
    else:
        where = bytes([IPV4 if ip.version == 4 else IPV6]) + ip.packed
    return where + address.port.to_bytes(2, "big")


def _take_command_and_address(data: bytes | bytearray) -> tuple[int, Address, int] | None:
    _version(data, VERSION)
    if len(data) < 4:
        return None
    found = _take_address(data, 3)  # RSV is not looked at: some clients leave rubbish there
    return None if found is None else (data[1], *found)


def _take_address(data: bytes | bytearray, at: int) -> tuple[Address, int] | None:
    """Read type, address and port; return the address and where it ends."""
    kind = data[at]
    if kind == NAME:
        name = _counted(data, at + 1)
        end = at + 2 + (0 if name is None else len(name))
        if name is None or len(data) < end + 2:
            return None
        return Address(_host_name(name), int.from_bytes(data[end : end + 2], "big")), end + 2
    if kind not in (IPV4, IPV6):
        raise RemoteProtocolError(f"address type {kind} is unknown", reason="address type")
    end = at + 1 + (4 if kind == IPV4 else 16)
    if len(data) < end + 2:
        return None
    host = str(ipaddress.ip_address(bytes(data[at + 1 : end])))
    return Address(host, int.from_bytes(data[end : end + 2], "big")), end + 2


def _host_name(name: bytes) -> str:
    """Return a name as text; an address that was sent as a name becomes that address."""
    if not name or not all(0x21 <= byte < 0x7F for byte in name):
        raise RemoteProtocolError("a name that is none", reason="name")
    text = name.decode("ascii")
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        return text


def _counted(data: bytes | bytearray, at: int) -> bytes | None:
    if len(data) <= at or len(data) < at + 1 + data[at]:
        return None
    return bytes(data[at + 1 : at + 1 + data[at]])


def _version(data: bytes | bytearray, version: int) -> None:
    if data and data[0] != version:
        raise RemoteProtocolError(f"version {data[0]}, not {version}", reason="version")
