"""A proxy that is killed between any two lines of its code: no byte is lost, none doubled, and every end is told.

The proxy dies by a real SIGKILL and its sockets stay with the real keeper; the client is the real one, too, and moves
all the time. Set SOJOURN_KILLS to have it killed more often.
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from sojourn.control.socks_account import password_of
from sojourn.linux import keeper
from sojourn.msocks import socks5
from sojourn.msocks.session import UNPROVED_HOLD
from sojourn.msocks.socks5 import Address, Command, Request
from sojourn.socket import line, mobile, session
from sojourn.socket.mobile import Unreachable
from sojourn.upmt.host_events import HandoverWanted
from tests.harness.mortal_proxy import Plan
from tests.harness.socks_ground import SECRET, Clients, free_port

KILLS = int(os.environ.get("SOJOURN_KILLS", "12"))
BLOCK = random.Random(7).randbytes(100_003)
"""Streams repeat it: a prime number of bytes, so that none fits at another place."""
ANSWER = 300_000
WHERE = (
    "resume:260", "begin:120", "restore:500", "cut:60", "_settle:300", "_write_note:40", "_enter:40", "_read_old:150",
    "_lost:60", "_over:40", "_finish:60", "_write_near:400", "adopt:200", ":6000",
)  # fmt: skip
"""Functions, and how many lines from their beginning a kill may come at most."""


class Stream:
    """One direction: a sender and a reader that knows what has to come."""

    def __init__(self, sends: socket.socket, hears: socket.socket, dice: random.Random) -> None:
        self._sends, self._hears, self._dice = sends, hears, dice
        self.sent = self.heard = 0
        self.stopped = False

    async def send(self, most: int = 1 << 62) -> None:
        loop = asyncio.get_running_loop()
        while not self.stopped and self.sent < most:
            at = self.sent % len(BLOCK)
            data = BLOCK[at : at + self._dice.choice((1, 700, 9000, 60_000))][: most - self.sent]
            self.sent += len(data)
            await loop.sock_sendall(self._sends, data)
            await asyncio.sleep(self._dice.choice((0, 0, 0.001, 0.01)))
        self._sends.shutdown(socket.SHUT_WR)

    async def hear(self) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(self._hears, 50_000):
            at = self.heard % len(BLOCK)
            assert data == (BLOCK[at:] + BLOCK)[: len(data)], f"wrong bytes after {self.heard}"
            self.heard += len(data)
            await asyncio.sleep(self._dice.choice((0, 0, 0, 0.002, 0.02)))


class Talk:
    """Both directions of one connection."""

    def __init__(self, mine: socket.socket, its: socket.socket, dice: random.Random) -> None:
        self.socks = mine, its
        self.up, self.down = Stream(mine, its, dice), Stream(its, mine, dice)
        self.work = [asyncio.ensure_future(do()) for way in (self.up, self.down) for do in (way.send, way.hear)]

    async def end(self) -> None:
        """Let both streams come to their ends, and see that all has arrived."""
        self.up.stopped = self.down.stopped = True
        async with asyncio.timeout(30.0):
            await asyncio.gather(*self.work)
        assert (self.up.heard, self.down.heard) == (self.up.sent, self.down.sent)
        for sock in self.socks:
            sock.close()


class Mortal:
    """The proxy's lives."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.alive = 0
        """The process that lives now."""

    @classmethod
    async def made(cls, plan: Plan) -> "Mortal":
        argv = [sys.executable, "-m", "tests.harness.mortal_proxy"]
        process = await asyncio.create_subprocess_exec(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        mortal = cls(process)
        mortal.begin(msgspec.json.encode(plan).decode())
        return mortal

    def begin(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())

    async def hear(self) -> str:
        """Return the next thing that it says."""
        assert self._process.stdout is not None
        said = (await self._process.stdout.readline()).decode().split()
        assert said, "it has ended"
        self.alive = int(said[1]) if said[0] == "ready" else 0
        return said[0]

    def kill(self) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):  # it has come before us
                os.kill(self.alive, signal.SIGKILL)

    async def close(self) -> None:
        """Wait until it is gone; it is dead already, and the keeper, which has its output, too, has been told."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), 10.0)


class Ground:
    """A proxy that dies, a client that moves, and what talks through them."""

    def __init__(self, clients: Clients, port: int, proxy: Mortal, dice: random.Random) -> None:
        self.clients, self.proxy, self.dice = clients, proxy, dice
        self._port = port
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setblocking(False)
        self.to = Address("127.0.0.1", self.listening.getsockname()[1])
        self._callers: dict[int, socket.socket] = {}
        self._number = 0
        self.answered = 0

    @classmethod
    async def made(cls, folder: Path, dice: random.Random, hold: float = UNPROVED_HOLD) -> "Ground":
        port = free_port()
        clients = Clients(port)
        static, client = clients.static.private_bytes_raw(), clients.ours.public_key().public_bytes_raw()
        proxy = await Mortal.made(Plan(port, static.hex(), client.hex(), SECRET.hex(), str(folder / "keeper"), hold))
        return cls(clients, port, proxy, dice)

    async def open(self, *, plain: bool = False) -> tuple[socket.socket, socket.socket]:
        """Connect; return both ends. What nobody was told of, because of a kill, calls here without a number."""
        loop = asyncio.get_running_loop()
        outside = await self._plain() if plain else (await self.clients.open(self.to))[0]
        self._number += 1
        number = self._number
        await loop.sock_sendall(outside, number.to_bytes(4, "big"))
        async with asyncio.timeout(20.0):
            while number not in self._callers:  # noqa: ASYNC110 - another task accepts
                await asyncio.sleep(0.005)
        return outside, self._callers.pop(number)

    async def accept(self) -> None:
        loop, asked = asyncio.get_running_loop(), set()
        try:
            while True:
                far, _ = await loop.sock_accept(self.listening)
                far.setblocking(False)
                task = asyncio.ensure_future(self._identify(far))
                asked.add(task)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _identify(self, far: socket.socket) -> None:
        loop, number = asyncio.get_running_loop(), b""
        try:
            while len(number) < 4 and (piece := await loop.sock_recv(far, 4 - len(number))):
                number += piece
        except BaseException:
            far.close()
            raise
        if len(number) == 4:
            self._callers[int.from_bytes(number, "big")] = far
        else:
            far.close()

    async def _plain(self) -> socket.socket:
        """Connect as a client does that knows nothing of ours."""
        loop, sock, word = asyncio.get_running_loop(), socket.socket(), password_of(SECRET).encode()
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", self._port))
        password = b"\1\3ann" + bytes([len(word)]) + word
        request = socks5.request(Request(Command.CONNECT, self.to))
        for data, answer in ((socks5.greeting(socks5.PASSWORD), 2), (password, 2), (request, 10)):
            await loop.sock_sendall(sock, data)
            assert len(await loop.sock_recv(sock, answer)) == answer
        return sock

    async def trouble(self) -> None:
        """Move everything, all the time."""
        while True:
            await asyncio.sleep(self.dice.random() * 0.06)
            up = [name for name, line in self.clients.mobile.lines.items() if line.up]
            if up:
                self.clients.mobile.order(HandoverWanted(self.dice.choice(up)))

    async def questions(self) -> None:
        """Ask, half close, and hear an answer to its end: whatever was opened is carried to both its ends."""
        while True:
            with contextlib.suppress(Unreachable):
                outside, far = await self.open()
                with outside, far:
                    await self._question(Stream(outside, far, self.dice), Stream(far, outside, self.dice))
                    self.answered += 1
            await asyncio.sleep(0.01)

    async def _question(self, up: Stream, down: Stream) -> None:
        async with asyncio.timeout(20.0):
            await asyncio.gather(up.send(50_000), up.hear())
            await asyncio.gather(down.send(ANSWER), down.hear())
        assert (up.heard, down.heard) == (50_000, ANSWER)

    async def close(self, kept: Path) -> None:
        self.clients.mobile.close()
        self.listening.close()
        for sock in self._callers.values():
            sock.close()
        self.proxy.kill()
        with keeper.connect(kept) as line:
            keeper.send(line, keeper.Note(b""))
        await self.proxy.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a client try again sooner than is kind to a network, and wait for a proxy on a busy machine."""
    monkeypatch.setattr(mobile, "NO_NETWORK_FOR", 20.0)
    monkeypatch.setattr(line, "RETRY", (0.01,))
    monkeypatch.setattr(session, "PAUSE", 0.01)


@pytest.mark.usefixtures("quick")
def test_a_session_that_its_client_was_never_told_of_does_not_stay(tmp_path: Path) -> None:
    async def main() -> None:
        loop, ground = asyncio.get_running_loop(), await Ground.made(tmp_path, random.Random(1), hold=0.3)
        try:
            ground.proxy.begin("begin@leg.sendall(answer)")
            assert await ground.proxy.hear() == "ready"
            await ground.clients.up()
            opening = asyncio.ensure_future(ground.clients.open(ground.to))
            orphan, _ = await loop.sock_accept(ground.listening)
            assert await ground.proxy.hear() == "dead"
            ground.proxy.begin(":0")
            assert await ground.proxy.hear() == "ready"
            outside, _ = await opening  # it has asked again
            far, _ = await loop.sock_accept(ground.listening)
            with orphan, outside, far:
                orphan.setblocking(False)
                async with asyncio.timeout(10.0):
                    with pytest.raises(ConnectionResetError):
                        await loop.sock_recv(orphan, 1)
                await loop.sock_sendall(far, b"goes on")
                assert await loop.sock_recv(outside, 20) == b"goes on"
        finally:
            await ground.close(tmp_path / "keeper")

    asyncio.run(main())


@contextlib.asynccontextmanager
async def beside(*work: "asyncio.Task[None]") -> AsyncIterator[None]:
    """Fail as soon as something beside fails; end it all afterwards."""
    try:
        yield
        for task in work:
            if task.done():
                task.result()
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


@pytest.mark.usefixtures("quick")
def test_killed_anywhere_the_proxy_loses_and_doubles_nothing(tmp_path: Path) -> None:
    dice = random.Random(int(os.environ.get("SOJOURN_SEED", "0")))

    async def main() -> None:
        ground = await Ground.made(tmp_path, dice)
        try:
            ground.proxy.begin(":0")
            assert await ground.proxy.hear() == "ready"
            await ground.clients.up()
            beside_it = [asyncio.ensure_future(ground.accept())]
            talks = [Talk(*await ground.open(plain=plain), dice) for plain in (False, False, True)]
            beside_it += [asyncio.ensure_future(do()) for do in (ground.trouble, ground.questions)]
            async with beside(*beside_it):
                await killed_often(ground, [*beside_it, *(work for talk in talks for work in talk.work)])
                for talk in talks:
                    await talk.end()
            assert ground.answered
        finally:
            await ground.close(tmp_path / "keeper")

    asyncio.run(main())


async def killed_often(ground: Ground, works: list["asyncio.Task[None]"]) -> None:
    for number in range(KILLS + 1):
        ground.proxy.kill()
        if number == 0 or ground.proxy.alive:
            assert await ground.proxy.hear() == "dead"
        function, most = ground.dice.choice(WHERE).split(":")
        word = f"{function}:{ground.dice.randrange(1, int(most))}" if number < KILLS else ":0"
        ground.proxy.begin(word)
        if await ground.proxy.hear() == "ready" and number < KILLS:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.4):
                    await ground.proxy.hear()
        for work in works:
            if work.done():
                raise AssertionError(f"broken by a kill at {word}") from work.exception()
