"""The client's end of a connection to the proxy until bytes are relayed: set-up, control, or RECONNECT.

Each is a machine for one connection: `begin` returns the first bytes, `feed` what the proxy's mean.
Greeting and first frame go out together, since the method that the proxy will choose is known.

    set-up      2 round trips after TCP's: Noise, then request and reply
    reconnect   1 after TCP's with a fresh challenge at hand, else 2
"""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.msocks import frames, socks5
from sojourn.msocks.frames import FrameType, Reconnect, Resumed
from sojourn.msocks.socks5 import Reply, Request
from sojourn.packet.noise import CipherState, Handshake, Pattern

NO_CHALLENGE: Final = bytes(frames.CHALLENGE_BYTES)
CHOICE_BYTES: Final = 2
"""Of the answer to a greeting (RFC 1928 §3)."""


class Account(Struct, frozen=True):
    """Who we are to a proxy, and who it is."""

    user: str
    secret: bytes
    """Shared with the proxy (32 bytes)."""
    static: bytes
    """Our private X25519 key."""
    proxy: bytes
    """The proxy's public one."""

    def __repr__(self) -> str:
        return f"Account(user={self.user!r})"


class Say(Struct, frozen=True):
    """Bytes for the proxy."""

    data: bytes


class Replied(Struct, frozen=True):
    """The proxy's reply, and the session that it opened if it says SUCCEEDED."""

    reply: Reply
    session: bytes


class Heard(Struct, frozen=True):
    """A record on a control connection."""

    record: frames.Record


class Answered(Struct, frozen=True):
    """What became of a RECONNECT; `proved` unless the proxy does not know the session."""

    resumed: Resumed
    proved: bool


Event = Say | Replied | Heard | Answered


class _Frames:
    """Takes the choice of the method and then frames off a stream."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._chosen = False
        self._over = False

    @property
    def rest(self) -> bytes:
        """What has arrived behind the last message."""
        return bytes(self._data)

    @property
    def wants(self) -> int:
        """How many bytes complete what has begun: who reads no more than that leaves the stream where it is."""
        if not self._chosen:
            return CHOICE_BYTES - len(self._data)
        if len(self._data) < frames.HEAD_BYTES:
            return frames.HEAD_BYTES - len(self._data)
        return frames.frame_bytes(self._data) - len(self._data)

    def feed(self, data: bytes) -> list[Event]:
        """Take in bytes and return what they meant. Raises RemoteProtocolError: then the connection is of no use."""
        self._data += data
        events: list[Event] = []
        while not self._over:
            if not self._chosen:
                choice = socks5.take_choice(self._data)
                if choice is None:
                    break
                if choice[0] != socks5.SOJOURN:
                    raise RemoteProtocolError("the proxy does not speak MSOCKS with us", reason="method")
                self._chosen = True
                del self._data[: choice[1]]
            taken = frames.take_frame(self._data)
            if taken is None:
                break
            del self._data[: taken[1]]
            events += self._frame(taken[0])
        return events

    def _frame(self, frame: frames.Frame) -> list[Event]:
        raise NotImplementedError


class SetUp(_Frames):
    """A new session, or a control connection: Noise, one request, its reply."""

    def __init__(self, account: Account, ephemeral: bytes, request: Request) -> None:
        super().__init__()
        static = X25519PrivateKey.from_private_bytes(account.static)
        self._handshake = Handshake(
            Pattern.IKPSK2,
            static,
            ephemeral,
            remote_static=account.proxy,
            psk=account.secret,
            prologue=frames.PROLOGUE,
        )
        self._user = account.user
        self._request = request
        self._replies = 2 if request.command == socks5.Command.BIND else 1
        self._seal: CipherState | None = None
        self._open: CipherState | None = None
        self.key = b""
        """The session's key, once the proxy is proved."""

    def begin(self) -> bytes:
        """Return greeting and HELLO."""
        hello = self._handshake.write(self._user.encode())
        return socks5.greeting(socks5.SOJOURN) + frames.frame(FrameType.HELLO, hello)

    def record(self, record: frames.Record) -> bytes:
        """Seal a record for the proxy."""
        assert self._seal is not None
        return frames.frame(FrameType.RECORD, self._seal.seal(frames.encode_record(record)))

    def _frame(self, frame: frames.Frame) -> list[Event]:
        if frame.type == FrameType.REFUSED and self._seal is None:
            why = frames.Refusal(frame.body[0]).name.lower() if frame.body in (b"\1", b"\2") else "refused"
            raise RemoteProtocolError(f"the proxy refuses us: {why}", reason=why)
        if frame.type == FrameType.WELCOME and self._seal is None:
            self._handshake.read(frame.body)
            self._seal, self._open = self._handshake.split()
            self.key = self._handshake.export(frames.SESSION_LABEL)
            return [Say(self.record(self._request))]
        if frame.type != FrameType.RECORD or self._open is None:
            raise RemoteProtocolError("this frame has no place here", reason="frame")
        record = frames.parse_record(self._open.open(frame.body))
        if not isinstance(record, frames.Answer):
            return [Heard(record)]
        self._replies -= 1
        failed = record.reply.code != socks5.Code.SUCCEEDED
        self._over = failed or (self._replies == 0 and self._request.command != socks5.Command.CONTROL)
        return [Replied(record.reply, record.session)]


class Return(_Frames):
    """An existing session on a new connection."""

    def __init__(self, key: bytes, asked: Reconnect) -> None:
        super().__init__()
        self._key = key
        self._asked = asked
        self._challenged = False

    def begin(self) -> bytes:
        """Return greeting and RECONNECT."""
        return socks5.greeting(socks5.SOJOURN) + self._asked.encode(self._key)

    def _frame(self, frame: frames.Frame) -> list[Event]:
        if frame.type == FrameType.CHALLENGE and not self._challenged:
            self._challenged = True
            asked = self._asked
            challenge = frames.parse_challenge(frame.body)
            self._asked = Reconnect(asked.session, asked.generation, asked.received, challenge)
            return [Say(self._asked.encode(self._key))]
        if frame.type != FrameType.RESUMED:
            raise RemoteProtocolError("this frame has no place here", reason="frame")
        resumed, proof = frames.parse_resumed(frame.body)
        proved = resumed.proved(self._key, self._asked, proof)
        if not proved and (resumed.status != frames.Status.UNKNOWN or any(proof)):
            raise RemoteProtocolError("an answer that is not proved", reason="proof")
        self._over = True
        return [Answered(resumed, proved)]
