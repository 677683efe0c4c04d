"""The proxy's end of a connection until bytes are relayed: plain SOCKS5, or our method. One machine a connection.

    GREETING ── PASSWORD ─────────────── REQUEST ── OPEN
        └────── FRAMES ── HELLO ── PROVED ─┘ └───── CONTROL
                   └───── RECONNECT (again after a challenge) ── OPEN

`feed` takes bytes, however they were cut, and returns what happened. `Say` is to be sent; the other
events want one of the answering methods called, and until then nothing more is read. Nothing of a
client is believed before PROVED; what exceeds MAX_WAITING_BYTES before that ends the connection.
"""

from enum import Enum, auto
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.msocks import frames, socks5
from sojourn.msocks.frames import FrameType, Reconnect
from sojourn.msocks.socks5 import Code, Command, Reply, Request
from sojourn.packet.noise import CipherState, Handshake, Pattern

MAX_WAITING_BYTES: Final = 4096
MAX_CHALLENGES: Final = 2
"""RECONNECTs with a stale challenge that one connection may send."""


class Say(Struct, frozen=True):
    """Bytes for the client."""

    data: bytes


class Login(Struct, frozen=True):
    """A user's password wants to be checked: `login`."""

    user: str
    password: str


class Hello(Struct, frozen=True):
    """Somebody says to be this user, with this static key: `welcome` or `refuse`. Not proved yet."""

    user: str
    static: bytes


class Asked(Struct, frozen=True):
    """A request of a user who has proved to be it (or of anybody, where that is allowed): `reply`."""

    request: Request


class Resume(Struct, frozen=True):
    """A session wants to go on here: `challenge` or `resumed`."""

    asked: Reconnect
    proof: bytes


class Heard(Struct, frozen=True):
    """A record on a control connection."""

    record: frames.Record


class Refused(Struct, frozen=True):
    """The connection is over: say this, then close."""

    reason: str
    data: bytes = b""


Event = Say | Login | Hello | Asked | Resume | Heard | Refused


class _State(Enum):
    GREETING = auto()
    PASSWORD = auto()
    FRAMES = auto()
    PROVED = auto()
    REQUEST = auto()
    CONTROL = auto()
    WAITING = auto()
    OPEN = auto()
    OVER = auto()


class ServerDialogue:
    """See the module."""

    def __init__(self, static: X25519PrivateKey, ephemeral: bytes, methods: tuple[int, ...]) -> None:
        """`ephemeral` is 32 fresh random bytes, `methods` what this client may use, the preferred first."""
        self._methods = methods
        self._handshake = Handshake(Pattern.IKPSK2, static, ephemeral, prologue=frames.PROLOGUE)
        self._seal: CipherState | None = None
        self._open: CipherState | None = None
        self._state = _State.GREETING
        self._after = _State.OVER
        self._data = bytearray()
        self._challenged = 0
        self.user = ""
        """Who it is; empty for whoever was not asked."""
        self.static = b""
        self.key = b""
        """What the session that is opened here is proved with later; empty with plain SOCKS."""

    @property
    def ours(self) -> bool:
        """Whether the client speaks our method."""
        return self._seal is not None

    @property
    def rest(self) -> bytes:
        """What has arrived behind the last message: the first bytes of the stream, once it is open."""
        return bytes(self._data)

    def feed(self, data: bytes) -> list[Event]:
        """Take in bytes and return what they meant."""
        self._data += data
        events: list[Event] = []
        try:
            while self._state not in (_State.WAITING, _State.OPEN, _State.OVER):
                before = self._state, len(self._data)
                event = self._step()
                if event is not None:
                    events.append(event)
                if event is None and before == (self._state, len(self._data)):
                    break
            if self._state is not _State.OVER and len(self._data) > MAX_WAITING_BYTES:
                raise RemoteProtocolError("more than was asked for", reason="size")
        except RemoteProtocolError as error:
            events.append(self._refused(error))
        return events

    def login(self, accepted: bool) -> list[Event]:
        """Answer a `Login`."""
        if not accepted:
            self._state = _State.OVER
            return [Refused("password", socks5.password_answer(False))]
        return [Say(socks5.password_answer(True)), *self._go_on()]

    def welcome(self, secret: bytes) -> list[Event]:
        """Answer a `Hello` with the secret that this user shares with us."""
        self._handshake.psk = secret
        answer = Say(frames.frame(FrameType.WELCOME, self._handshake.write()))
        self._seal, self._open = self._handshake.split()
        self.key = self._handshake.export(frames.SESSION_LABEL)
        return [answer, *self._go_on()]

    def refuse(self, why: frames.Refusal) -> list[Event]:
        """Answer a `Hello` of a user who is not known, or who has too much."""
        self._state = _State.OVER
        return [Refused(why.name.lower(), frames.frame(FrameType.REFUSED, bytes([why])))]

    def challenge(self, challenge: bytes) -> list[Event]:
        """Answer a `Resume` whose challenge is stale or not ours."""
        self._challenged += 1
        if self._challenged > MAX_CHALLENGES:
            self._state = _State.OVER
            return [Refused("challenge")]
        return [Say(frames.frame(FrameType.CHALLENGE, challenge)), *self._go_on()]

    def resumed(self) -> None:
        """Note that a `Resume` was carried out: what comes now is the stream's."""
        self._state = _State.OPEN

    def reply(self, answer: Reply, session: bytes = bytes(frames.SESSION_BYTES), *, last: bool = True) -> bytes:
        """Return the answer to an `Asked`. Not `last`: another one will follow (BIND)."""
        if last and self._state is _State.WAITING:
            good = answer.code == Code.SUCCEEDED
            self._state = self._after if good else _State.OVER
        if self._seal is None:
            return socks5.reply(answer)
        return self.record(frames.Answer(session, answer))

    def record(self, record: frames.Record) -> bytes:
        """Seal a record for the client."""
        assert self._seal is not None
        return frames.frame(FrameType.RECORD, self._seal.seal(frames.encode_record(record)))

    def _go_on(self) -> list[Event]:
        self._state = self._after
        return self.feed(b"")

    def _wait(self, after: _State) -> None:
        self._state, self._after = _State.WAITING, after

    def _step(self) -> Event | None:
        match self._state:
            case _State.GREETING:
                return self._greeting()
            case _State.PASSWORD:
                return self._password()
            case _State.REQUEST:
                found = socks5.take_request(self._data)
                return None if found is None else self._asked(*found)
            case _:
                taken = frames.take_frame(self._data)
                return None if taken is None else self._frame(*taken)

    def _greeting(self) -> Event | None:
        found = socks5.take_greeting(self._data)
        if found is None:
            return None
        offered, length = found
        del self._data[:length]
        method = next((method for method in self._methods if method in offered), socks5.NO_METHOD)
        states = {socks5.NO_LOGIN: _State.REQUEST, socks5.PASSWORD: _State.PASSWORD, socks5.SOJOURN: _State.FRAMES}
        self._state = states.get(method, _State.OVER)
        if self._state is _State.OVER:
            return Refused("method", socks5.choice(method))
        return Say(socks5.choice(method))

    def _password(self) -> Event | None:
        found = socks5.take_password(self._data)
        if found is None:
            return None
        (self.user, password), length = found
        del self._data[:length]
        self._wait(_State.REQUEST)
        return Login(self.user, password)

    def _asked(self, request: Request, length: int) -> Event:
        del self._data[:length]
        control = request.command == Command.CONTROL and self.ours
        self._wait(_State.CONTROL if control else _State.OPEN)
        return Asked(request)

    def _frame(self, frame: frames.Frame, length: int) -> Event:
        del self._data[:length]
        if self._state is _State.FRAMES and frame.type == FrameType.HELLO:
            return self._hello(frame.body)
        if self._state is _State.FRAMES and frame.type == FrameType.RECONNECT:
            self._wait(_State.FRAMES)
            return Resume(*frames.parse_reconnect(frame.body))
        if self._state in (_State.PROVED, _State.CONTROL) and frame.type == FrameType.RECORD:
            assert self._open is not None
            record = frames.parse_record(self._open.open(frame.body))
            if self._state is _State.CONTROL:
                return Heard(record)
            if isinstance(record, Request):
                return self._asked(record, 0)
        raise RemoteProtocolError("this frame has no place here", reason="frame")

    def _hello(self, body: bytes) -> Event:
        name = self._handshake.read(body)
        try:
            self.user = name.decode()
        except UnicodeDecodeError as error:
            raise RemoteProtocolError("a user who is no text", reason="frame") from error
        self.static = self._handshake.remote_static
        self._wait(_State.PROVED)
        return Hello(self.user, self.static)

    def _refused(self, error: RemoteProtocolError) -> Refused:
        """Say what is wrong in the words that the client's state understands."""
        state, self._state = self._state, _State.OVER
        if state is _State.REQUEST:
            bad = error.reason == "address type"
            return Refused(error.reason, socks5.reply(Reply(Code.ADDRESS_NOT_SUPPORTED if bad else Code.FAILURE)))
        return Refused(error.reason)
