"""The anchor's SOCKS and MSOCKS port: opens what is asked for, and keeps sessions while clients move.

A connection is a *stranger* until it has asked for something: at most STRANGERS of them, and
STRANGERS_PER_SOURCE from one place, each for HANDSHAKE seconds. After that a user's own limits count.

    accept ── ServerDialogue ── CONNECT, BIND ── ProxySession (relay, memory, the keeper's note)
                    │                └─ UDP ASSOCIATE ── UdpRelay
                    ├── CONTROL ── heartbeats, ends of sessions
                    └── RECONNECT ── the session that has it
"""

import asyncio
import os
import socket
from collections import Counter
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sojourn.control import socks_account
from sojourn.control.socks_access import Access
from sojourn.control.socks_config import SocksConfig
from sojourn.control.socks_splice import choose
from sojourn.daemon.driver import now
from sojourn.daemon.socks_open import Opener
from sojourn.daemon.socks_requests import Requests
from sojourn.daemon.socks_session import Notes
from sojourn.daemon.socks_splice import Splices, open_tables
from sojourn.daemon.socks_table import Sessions
from sojourn.errors import RemoteProtocolError
from sojourn.linux import keeper, tcp_state
from sojourn.linux.sip_listener import place_of
from sojourn.linux.sip_transport import endpoint
from sojourn.linux.splice import NotSpliced
from sojourn.linux.splice_tables import remove_of
from sojourn.msocks import frames, socks5
from sojourn.msocks.frames import Challenges
from sojourn.msocks.server import Asked, Event, Hello, Login, Refused, Resume, Say, ServerDialogue
from sojourn.msocks.session import Limits
from sojourn.upmt.records import Subscriber

STRANGERS: Final = 1024
STRANGERS_PER_SOURCE: Final = 64
HANDSHAKE: Final = 10.0
LEG_LOST: Final = 60
"""Seconds without an acknowledgement after which a client's connection is lost; its session is then held."""
SWEEP: Final = 1.0
ACCEPT_PAUSE: Final = 0.2
READ_BYTES: Final = 2048


class Users(Protocol):
    """Who is known."""

    def find(self, user: str) -> Subscriber | None:
        """Return the record of a user who may use the proxy."""
        ...

    def bind(self, user: str, static: bytes) -> None:
        """Note the client key that this user came with first, and has to come with from now on."""
        ...


class Stranger:
    """A connection from its acceptance until it is served."""

    def __init__(self, sock: socket.socket, source: str, dialogue: ServerDialogue) -> None:
        self.sock = sock
        self.source = source
        self.dialogue = dialogue
        self.handed_over = False
        """Somebody else closes the socket."""


class SocksProxy:
    """See the module. `start`, then `run` as a task, then `close`."""

    def __init__(
        self, config: SocksConfig, static: X25519PrivateKey, users: Users, access: Access, tunnels: tuple[str, ...] = ()
    ) -> None:
        """`tunnels`: the networks of hosts' addresses, over which passwords may go."""
        self.config = config
        self.access = access
        self.refused: Counter[str] = Counter()
        """What was refused or went wrong, by reason."""
        self.served: Counter[str] = Counter()
        self._users = users
        self._static = static
        self._tunnels = tunnels
        self.challenges = Challenges(os.urandom(32))
        limits = Limits(config.sessions, config.sessions_per_user, config.held, config.hold)
        self.sessions = Sessions(limits, self.challenges, config.buffer_kib << 10, self.refused)
        self.opener = Opener(access)
        self.mode_because = "nobody asked for the splice"
        self._requests = Requests(self)
        self._listening: list[socket.socket] = []
        self._strangers: dict[Stranger, str] = {}
        self._group: asyncio.TaskGroup | None = None

    # -- life

    def splice(self, key: str) -> None:
        """Splice in the kernel, if that is wanted and it lets us; `key` names what is pinned there. Before `start`.

        Raises ConfigError.
        """
        asked = choose(self.config, os.environ)
        self.mode_because = asked.why
        if not asked.splice:
            remove_of(key)  # what a predecessor that spliced has left would go on by itself
            return
        try:
            tables = open_tables(key, self.config.sessions)
        except NotSpliced as error:
            self.mode_because = f"{asked.why}, but {error.reason}"
        else:
            self.sessions.splices = Splices(self.sessions, tables, self.refused, self.config.idle)

    def start(self, addresses: tuple[str, ...], line: socket.socket | None) -> None:
        """Listen, with what a predecessor has left at the keeper (`line`). Raises OSError when a port is taken."""
        keeper.raise_descriptors()
        self.sessions.notes = Notes(line)
        if line is not None:
            self.sessions.restore(line)
        if self.sessions.splices is not None:
            self.sessions.splices.restored()
        assert self.config.port is not None
        for address in addresses:
            self._listening.append(_listen(address, self.config.port))

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._sweep())
            for sock in self._listening:
                group.create_task(self._accept(sock))

    def close(self, *, clean: bool) -> None:
        """Stop. `clean`: end every session; else they stay with the keeper for a successor."""
        for sock in self._listening:
            sock.close()
        for stranger in list(self._strangers):
            stranger.sock.close()
        self.sessions.close(clean=clean)
        self._requests.listeners.close()
        self.opener.close()

    def spawn(self, work: Any) -> None:  # noqa: ANN401 - any coroutine
        """Run something beside; what it raises ends the proxy."""
        assert self._group is not None
        self._group.create_task(work)

    def status(self) -> dict[str, Any]:
        """Say what goes on, for `status`."""
        table = self.sessions.table
        splices = self.sessions.splices
        legless = sum(entry.legless_since is not None for entry in table.entries.values())
        return {
            "port": self.config.port,
            "mode": "relay" if splices is None else "splice",
            "why": self.mode_because,
            "splice": None if splices is None else splices.status(),
            "sessions": len(table.entries),
            "waiting": legless,
            "strangers": len(self._strangers),
            "unheld": self.sessions.notes.lost,
            "served": dict(self.served),
            "refused": dict(self.refused),
        }

    # -- connections

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
            except OSError:
                self.refused["accept"] += 1
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            source = endpoint(address).address
            place = place_of(source)
            here = sum(other == place for other in self._strangers.values())
            if here >= STRANGERS_PER_SOURCE or len(self._strangers) >= STRANGERS:
                self.refused["crowded"] += 1
                sock.close()
                continue
            dialogue = ServerDialogue(self._static, os.urandom(32), self._methods(source))
            stranger = Stranger(sock, source, dialogue)
            self._strangers[stranger] = place
            self.spawn(self._serve(stranger))

    def _methods(self, source: str) -> tuple[int, ...]:
        methods = [socks5.SOJOURN]
        if self.access.password(source, self._tunnels):
            methods.append(socks5.PASSWORD)
        if self.access.anonymous(source):
            methods.append(socks5.NO_LOGIN)
        return tuple(methods)

    async def _serve(self, stranger: Stranger) -> None:
        """Serve one connection to its end, or until its session has it."""
        try:
            tcp_state.prepare(stranger.sock, lost_s=LEG_LOST)
            async with asyncio.timeout(HANDSHAKE):
                wanted = await self._understand(stranger)
            self._strangers.pop(stranger, None)
            if isinstance(wanted, Asked):
                await self._requests.serve(stranger, wanted.request)
            elif wanted is not None:
                await self._resume(stranger, wanted)
        except TimeoutError:
            self.refused["timeout"] += 1
        except RemoteProtocolError as error:
            self.refused[error.reason] += 1
        except OSError:
            self.refused["broken"] += 1
        finally:
            self._strangers.pop(stranger, None)
            if not stranger.handed_over:
                stranger.sock.close()

    async def _understand(self, stranger: Stranger) -> Asked | Resume | None:
        """Read until the client has asked for something that takes time; None: it is gone or was sent away."""
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(stranger.sock, READ_BYTES):
            events = stranger.dialogue.feed(data)
            while events:
                event = events.pop(0)
                match event:
                    case Say(answer):
                        await loop.sock_sendall(stranger.sock, answer)
                    case Refused(reason, answer):
                        self.refused[reason] += 1
                        await loop.sock_sendall(stranger.sock, answer)
                        return None
                    case Login() | Hello():
                        events += self._judge(stranger, event)
                    case Resume():
                        if self._stale(event):
                            events += stranger.dialogue.challenge(self.challenges.make(now()))
                        else:
                            return event
                    case Asked():
                        self._proved(stranger)
                        return event
                    case _:
                        raise RemoteProtocolError("a record out of place", reason="record")
        return None

    def _judge(self, stranger: Stranger, event: Login | Hello) -> list[Event]:
        known = self._users.find(event.user)
        if isinstance(event, Login):
            good = known is not None and socks_account.is_password(known.socks_secret, event.password)
            return stranger.dialogue.login(good)
        if known is None or known.socks_static not in (b"", event.static):
            return stranger.dialogue.refuse(frames.Refusal.USER)
        if not self.sessions.table.room_for(event.user):
            return stranger.dialogue.refuse(frames.Refusal.LIMIT)
        return stranger.dialogue.welcome(known.socks_secret)

    def _proved(self, stranger: Stranger) -> None:
        """Bind a user to the client key that it came with first."""
        dialogue = stranger.dialogue
        known = self._users.find(dialogue.user) if dialogue.ours else None
        if known is not None and not known.socks_static:
            self._users.bind(dialogue.user, dialogue.static)
        elif dialogue.ours and (known is None or known.socks_static != dialogue.static):
            raise RemoteProtocolError("revoked, or bound to another key meanwhile", reason="user")

    def _stale(self, event: Resume) -> bool:
        return self.sessions.table.judge(event.asked, event.proof, now()).challenge

    async def _resume(self, stranger: Stranger, event: Resume) -> None:
        """Continue a session on this connection, or say why not."""
        verdict = self.sessions.table.judge(event.asked, event.proof, now())
        if verdict.status is frames.Status.UNKNOWN and await self._requests.not_called(event.asked, event.proof):
            verdict = self.sessions.table.judge(event.asked, event.proof, now())
        status = verdict.status
        if status is None:
            status = self.sessions.resume(stranger, event.asked, verdict.key or b"")
        if status is frames.Status.RESUMED:
            self.served["resumed"] += 1
            return
        self.refused[f"resume: {status.name.lower()}"] += 1
        answer = frames.Resumed(status, event.asked.generation, 0).encode(verdict.key, event.asked)
        await asyncio.get_running_loop().sock_sendall(stranger.sock, answer)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            self.sessions.sweep(now())


def _listen(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(512)
    except OSError:
        sock.close()
        raise
    return sock
