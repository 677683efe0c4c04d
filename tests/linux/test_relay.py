"""The relay over real connections that are cut at random: every byte arrives, in both directions."""

import asyncio
import contextlib
import hashlib
import random
import socket
from collections.abc import Awaitable, Callable

import pytest

from sojourn.linux import tcp_state
from sojourn.linux.relay import Over, Relay
from sojourn.msocks.copy_buffer import CopyBuffer
from sojourn.msocks.session import Session

SIZE = 200_000


def tcp() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
    for sock in (one, other):
        tcp_state.prepare(sock)
    return one, other


class End:
    """One end: a relay, and the application or correspondent behind it."""

    def __init__(self, *, returns: bool = True) -> None:
        self.outside, near = tcp()
        self.losses = 0
        self.over: Over | None = None
        session = Session(*(CopyBuffer(memoryview(bytearray(SIZE))) for _ in range(2)))  # type: ignore[arg-type]
        self.relay = Relay(near, session, returns=returns, on_leg_lost=self._lost, on_over=self._ended)

    def _lost(self) -> None:
        self.losses += 1

    def _ended(self, how: Over) -> None:
        self.over = how

    def close(self) -> None:
        self.outside.close()
        if not self.relay.over:
            self.relay.close(reset=True)


class Pair:
    """Two ends and the legs between them."""

    def __init__(self, *, returns: bool = True) -> None:
        self.client, self.proxy = End(returns=returns), End(returns=returns)
        mine, its = tcp()
        self.client.relay.start(mine)
        self.proxy.relay.start(its)

    async def move(self, pause: float = 0.0) -> None:
        received = self.client.relay.cut()
        await asyncio.sleep(pause)  # the proxy may hear of the old leg's end before the client comes back
        answered = self.proxy.relay.cut()
        if Over.DONE in (self.client.over, self.proxy.over):
            for end in (self.client, self.proxy):  # as the proxy's answer ENDED orders it
                if end.over is None:
                    end.relay.finish()
            return
        mine, its = tcp()
        self.proxy.relay.attach(its, received)
        self.client.relay.attach(mine, answered)

    async def until(self, is_so: Callable[[], object]) -> None:
        while not is_so():  # noqa: ASYNC110 - what is waited for are two ends' callbacks
            await asyncio.sleep(0.01)

    def close(self) -> None:
        self.client.close()
        self.proxy.close()


def run(work: Callable[[Pair], Awaitable[None]], *, returns: bool = True) -> None:
    async def main() -> None:
        pair = Pair(returns=returns)
        try:
            await asyncio.wait_for(work(pair), 30.0)
        finally:
            pair.close()

    asyncio.run(main())


async def send(sock: socket.socket, data: bytes, *, finish: bool = True) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)
    if finish:
        sock.shutdown(socket.SHUT_WR)


async def digest(sock: socket.socket, dice: random.Random | None = None) -> str:
    """Read to the end; with dice, in fits and starts."""
    seen, loop = hashlib.sha256(), asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, 65536):
        seen.update(data)
        if dice is not None and dice.random() < 0.2:
            await asyncio.sleep(dice.random() * 0.02)
    return seen.hexdigest()


@pytest.mark.parametrize("seed", range(6))
def test_every_byte_arrives_over_any_number_of_legs(seed: int) -> None:
    dice = random.Random(seed)
    up, down = dice.randbytes(12_000_000), dice.randbytes(12_000_000)

    async def work(pair: Pair) -> None:
        async def trouble() -> None:
            while pair.client.over is None:
                await asyncio.sleep(dice.random() * 0.02)
                if pair.client.over is None and pair.proxy.over is None:
                    await pair.move(dice.random() * 0.01)
                    moves.append(1)

        moves: list[int] = []
        troubling = asyncio.ensure_future(trouble())
        found = await asyncio.gather(
            send(pair.client.outside, up), send(pair.proxy.outside, down),
            digest(pair.proxy.outside, dice), digest(pair.client.outside, dice),
        )  # fmt: skip
        assert list(found[2:]) == [hashlib.sha256(data).hexdigest() for data in (up, down)]
        troubling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await troubling
        assert len(moves) > 3

    run(work)


def test_both_ends_are_over_when_both_streams_are() -> None:
    async def work(pair: Pair) -> None:
        await send(pair.client.outside, b"question")
        assert await digest(pair.proxy.outside) == hashlib.sha256(b"question").hexdigest()
        assert pair.client.over is None, "the other direction is open"
        await send(pair.proxy.outside, b"answer")
        assert await digest(pair.client.outside) == hashlib.sha256(b"answer").hexdigest()
        await pair.until(lambda: None not in (pair.client.over, pair.proxy.over))
        assert {pair.client.over, pair.proxy.over} == {Over.DONE}

    run(work)


def test_a_stream_that_was_finished_before_a_move_is_finished_after_it() -> None:
    async def work(pair: Pair) -> None:
        await send(pair.client.outside, b"all of it")
        assert await digest(pair.proxy.outside) == hashlib.sha256(b"all of it").hexdigest()
        await pair.move()
        await pair.move()
        await send(pair.proxy.outside, b"answer")
        assert await digest(pair.client.outside) == hashlib.sha256(b"answer").hexdigest()
        await pair.until(lambda: None not in (pair.client.over, pair.proxy.over))

    run(work)


def test_bytes_wait_while_there_is_no_leg_and_more_are_not_read_than_fit() -> None:
    data = random.Random(1).randbytes(20_000_000)

    async def work(pair: Pair) -> None:
        received, answered = pair.client.relay.cut(), pair.proxy.relay.cut()
        sending = asyncio.ensure_future(send(pair.proxy.outside, data))
        await asyncio.sleep(0.1)
        assert pair.proxy.relay.session.out.head <= SIZE
        assert not sending.done()
        mine, its = tcp()
        pair.proxy.relay.attach(its, received)
        pair.client.relay.attach(mine, answered)
        assert await digest(pair.client.outside) == hashlib.sha256(data).hexdigest()
        await sending

    run(work)


def test_a_reset_by_the_near_connection_ends_the_session_by_a_reset() -> None:
    async def work(pair: Pair) -> None:
        tcp_state.reset(pair.proxy.outside)
        await pair.until(lambda: pair.proxy.over is not None and pair.client.losses)
        assert pair.proxy.over is Over.RESET
        assert pair.client.over is None

    run(work)


def test_a_reset_that_writing_hears_of_first_is_no_end_of_the_stream() -> None:
    async def work(pair: Pair) -> None:
        relay = pair.proxy.relay
        relay._watch(relay.near, False, None)  # as where there is no room for what it says
        await send(pair.proxy.outside, b"last words", finish=False)
        tcp_state.reset(pair.proxy.outside)
        await send(pair.client.outside, b"for nobody", finish=False)
        await pair.until(lambda: relay.near_deaf)
        relay._watch_near()
        await pair.until(lambda: pair.proxy.over is not None)
        assert pair.proxy.over is Over.RESET

    run(work)


def test_without_a_way_back_a_lost_leg_is_the_end() -> None:
    async def work(pair: Pair) -> None:
        assert pair.proxy.relay.leg is not None
        tcp_state.reset(pair.client.outside)
        await pair.until(lambda: None not in (pair.client.over, pair.proxy.over))
        assert (pair.client.over, pair.proxy.over) == (Over.RESET, Over.LEG)
        with pytest.raises(ConnectionResetError):
            await asyncio.get_running_loop().sock_recv(pair.proxy.outside, 1)

    run(work, returns=False)
