"""What follows the choice of our SOCKS method: frames, records inside Noise, and proofs (docs/wire.md, MSOCKS).

    frame    type (1), length (2), body
    record   a Noise transport message in a frame; its plaintext is kind (1) and body

Everything is bounded: a frame's body by MAX_BODY_BYTES. Decoders raise RemoteProtocolError only.
"""

import hashlib
import hmac
import struct
from enum import IntEnum
from typing import Final, TypeVar

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.msocks import socks5

T = TypeVar("T")

PROLOGUE: Final = b"sojourn/msocks 0"
"""Bound into the handshake: protocol and version."""
SESSION_LABEL: Final = b"sojourn/msocks session"
"""What a session's key is exported from the handshake under."""

MAX_BODY_BYTES: Final = 1024
SESSION_BYTES: Final = 16
CHALLENGE_BYTES: Final = 24
MAC_BYTES: Final = 32
CHALLENGE_LIFE: Final = 60.0
"""Seconds for which a challenge is fresh."""

_HEAD = struct.Struct(">BH")
HEAD_BYTES: Final = _HEAD.size
_RECONNECT = struct.Struct(f">{SESSION_BYTES}sIQ{CHALLENGE_BYTES}s")
_RESUMED = struct.Struct(">BIQ")
_PING = struct.Struct(">I")


class FrameType(IntEnum):
    """First byte of a frame."""

    HELLO = 1
    WELCOME = 2
    RECORD = 3
    RECONNECT = 4
    CHALLENGE = 5
    RESUMED = 6
    REFUSED = 7


class Kind(IntEnum):
    """First byte of a record's plaintext."""

    REQUEST = 1
    PING = 2
    END = 3
    REPLY = 0x81
    PONG = 0x82


class Status(IntEnum):
    """What becomes of a RECONNECT."""

    RESUMED = 0
    UNKNOWN = 1
    """No such session, or not any more; the proof is zero, since there is no key."""
    STALE = 2
    """A newer leg, or this very one, was there before."""
    ENDED = 3
    """The correspondent is done: all that it sent has been received, and nothing more can be said."""
    RESET = 4
    """The correspondent has cut the connection."""
    LOST = 5
    """The bytes after R are not held any more."""


class Refusal(IntEnum):
    """Why a HELLO is not answered by a WELCOME."""

    USER = 1
    LIMIT = 2


class Frame(Struct, frozen=True):
    """One frame."""

    type: int
    body: bytes


class Reconnect(Struct, frozen=True):
    """The order to continue a session on this connection."""

    session: bytes
    generation: int
    """Number of this leg: above that of every leg before."""
    received: int
    """R: bytes of the stream from the correspondent that the client has."""
    challenge: bytes

    def encode(self, key: bytes) -> bytes:
        """Return the frame, proved with the session's key."""
        body = self._body()
        return frame(FrameType.RECONNECT, body + _mac(key, b"reconnect", body))

    def proved(self, key: bytes, mac: bytes) -> bool:
        """Say whether the proof is right."""
        return hmac.compare_digest(mac, _mac(key, b"reconnect", self._body()))

    def _body(self) -> bytes:
        return _RECONNECT.pack(self.session, self.generation, self.received, self.challenge)


class Resumed(Struct, frozen=True):
    """The proxy's answer to a RECONNECT."""

    status: int
    generation: int
    received: int
    """A: bytes of the client's stream that the proxy answers for; the client goes on from there."""

    def encode(self, key: bytes | None, asked: Reconnect) -> bytes:
        """Return the frame; without a key the proof is zero."""
        proof = bytes(MAC_BYTES) if key is None else self._proof(key, asked)
        return frame(FrameType.RESUMED, self._body() + proof)

    def proved(self, key: bytes, asked: Reconnect, mac: bytes) -> bool:
        """Say whether this answers `asked`, and comes from who knows the key."""
        return hmac.compare_digest(mac, self._proof(key, asked))

    def _proof(self, key: bytes, asked: Reconnect) -> bytes:
        return _mac(key, b"resumed", asked._body() + self._body())

    def _body(self) -> bytes:
        return _RESUMED.pack(self.status, self.generation, self.received)


def frame(kind: FrameType, body: bytes) -> bytes:
    """Write one frame."""
    return _HEAD.pack(kind, len(body)) + body


def take_frame(data: bytes | bytearray) -> tuple[Frame, int] | None:
    """Read one frame from the front of what has arrived: with its length, or None while it is not whole."""
    if len(data) < _HEAD.size:
        return None
    kind, length = _HEAD.unpack_from(data)
    if length > MAX_BODY_BYTES or kind not in FrameType._value2member_map_:
        raise RemoteProtocolError("no frame of this protocol", reason="frame")
    if len(data) < _HEAD.size + length:
        return None
    return Frame(kind, bytes(data[_HEAD.size : _HEAD.size + length])), _HEAD.size + length


def frame_bytes(data: bytes | bytearray) -> int:
    """Return how long the frame is whose first HEAD_BYTES have come."""
    _, length = _HEAD.unpack_from(data)
    return _HEAD.size + int(length)


def parse_reconnect(body: bytes) -> tuple[Reconnect, bytes]:
    """Read a RECONNECT and its proof."""
    if len(body) != _RECONNECT.size + MAC_BYTES:
        raise RemoteProtocolError("a RECONNECT of a wrong size", reason="frame")
    return Reconnect(*_RECONNECT.unpack_from(body)), body[_RECONNECT.size :]


def parse_resumed(body: bytes) -> tuple[Resumed, bytes]:
    """Read the answer to a RECONNECT and its proof."""
    if len(body) != _RESUMED.size + MAC_BYTES:
        raise RemoteProtocolError("an answer of a wrong size", reason="frame")
    return Resumed(*_RESUMED.unpack_from(body)), body[_RESUMED.size :]


def parse_challenge(body: bytes) -> bytes:
    """Read a challenge."""
    if len(body) != CHALLENGE_BYTES:
        raise RemoteProtocolError("a challenge of a wrong size", reason="frame")
    return body


class Challenges:
    """Makes challenges and tells fresh ones, and remembers none: the time and a proof stand in each.

    One that was seen by others is of no use to them: whoever answers it needs the session's key, and
    an answer that is repeated has an old generation.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, now: float) -> bytes:
        """Return a challenge."""
        stamp = struct.pack(">Q", int(now * 1000))
        return stamp + self._proof(stamp)

    def fresh(self, challenge: bytes, now: float) -> bool:
        """Say whether we made it, and not long ago."""
        stamp = challenge[:8]
        age = now - int.from_bytes(stamp, "big") / 1000
        return -1.0 < age < CHALLENGE_LIFE and hmac.compare_digest(challenge[8:], self._proof(stamp))

    def _proof(self, stamp: bytes) -> bytes:
        return _mac(self._secret, b"challenge", stamp)[: CHALLENGE_BYTES - 8]


class Ping(Struct, frozen=True):
    """A heartbeat on a control connection, or (with a challenge) the answer to it."""

    number: int
    challenge: bytes = b""


class End(Struct, frozen=True):
    """The client is done with a session."""

    session: bytes


class Answer(Struct, frozen=True):
    """A SOCKS reply, and the session that it opens."""

    session: bytes
    reply: socks5.Reply


Record = socks5.Request | Ping | End | Answer


def encode_record(record: Record) -> bytes:
    """Return the plaintext of a record."""
    match record:
        case socks5.Request():
            return bytes([Kind.REQUEST]) + socks5.request(record)
        case Ping(number, b""):
            return bytes([Kind.PING]) + _PING.pack(number)
        case Ping(number, challenge):
            return bytes([Kind.PONG]) + _PING.pack(number) + challenge
        case End(session):
            return bytes([Kind.END]) + session
        case Answer(session, reply):
            return bytes([Kind.REPLY]) + session + socks5.reply(reply)


def parse_record(data: bytes) -> Record:
    """Read the plaintext of a record. Raises RemoteProtocolError."""
    kind, body = data[:1], data[1:]
    if kind == bytes([Kind.REQUEST]):
        return _whole(socks5.take_request(body), body)
    if kind == bytes([Kind.PING]) and len(body) == _PING.size:
        return Ping(_PING.unpack(body)[0])
    if kind == bytes([Kind.PONG]) and len(body) == _PING.size + CHALLENGE_BYTES:
        return Ping(_PING.unpack_from(body)[0], body[_PING.size :])
    if kind == bytes([Kind.END]) and len(body) == SESSION_BYTES:
        return End(body)
    if kind == bytes([Kind.REPLY]) and len(body) > SESSION_BYTES:
        session, rest = body[:SESSION_BYTES], body[SESSION_BYTES:]
        return Answer(session, _whole(socks5.take_reply(rest), rest))
    raise RemoteProtocolError("no record of this protocol", reason="record")


def _whole(found: tuple[T, int] | None, data: bytes) -> T:
    if found is None or found[1] != len(data):
        raise RemoteProtocolError("a record that is cut or too long", reason="record")
    return found[0]


def _mac(key: bytes, label: bytes, data: bytes) -> bytes:
    return hmac.new(key, b"sojourn/msocks " + label + b"\0" + data, hashlib.sha256).digest()
