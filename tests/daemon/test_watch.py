"""Those who watch: a snapshot, then what changes, as fast as each one reads; nothing is looked at for nobody."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sojourn.api.server import Peer
from sojourn.control.picture import Picture
from sojourn.daemon.driver import Tasks
from sojourn.daemon.watch import MOST_A_SECOND, Watch

PEER = Peer(1, 0, 0)


class Bench:
    """A picture that counts how often it was looked at."""

    def __init__(self) -> None:
        self.looks = 0
        self.failed: list[BaseException] = []
        self.tasks = Tasks(self.failed.append)
        self.picture = Picture(("flows",))
        self.watch = Watch("host", self.picture, self.tasks, self._look)

    async def _look(self) -> None:
        self.looks += 1
        self.picture.set("looks", self.looks)

    def stream(self) -> Any:  # noqa: ANN401 - an async generator, which has aclose
        return self.watch.stream({}, PEER)


def play(scene: Callable[[Bench], Awaitable[None]]) -> None:
    async def go() -> None:
        bench = Bench()
        await scene(bench)
        await bench.tasks.close()
        assert not bench.failed

    asyncio.run(go())


def test_a_snapshot_comes_first_and_then_what_changed() -> None:
    async def scene(bench: Bench) -> None:
        stream = bench.stream()
        first = await anext(stream)
        assert (first["event"], first["role"], first["looks"]) == ("snapshot", "host", 1)
        bench.picture.log({"number": 7})
        bench.watch.tell()
        delta = await anext(stream)
        assert (delta["event"], delta["log"]) == ("delta", [{"number": 7}])
        await stream.aclose()

    play(scene)


def test_with_nobody_watching_nothing_is_looked_at() -> None:
    async def scene(bench: Bench) -> None:
        await asyncio.sleep(0.3)
        assert bench.looks == 0
        stream = bench.stream()
        await anext(stream)
        await anext(stream)
        await stream.aclose()
        assert not bench.watch.watched
        await asyncio.sleep(0.3)
        looks = bench.looks
        await asyncio.sleep(0.5)
        assert bench.looks == looks
        again = bench.stream()
        assert (await anext(again))["looks"] == looks + 1
        await anext(again)
        await again.aclose()

    play(scene)


def test_somebody_slow_is_told_once_what_others_are_told_often() -> None:
    async def scene(bench: Bench) -> None:
        quick, slow = bench.stream(), bench.stream()
        await anext(quick)
        await anext(slow)
        told = 0
        for number in range(20):
            bench.picture.log({"number": number})
            bench.watch.tell()
            await anext(quick)
            told += 1
        late = await anext(slow)
        assert [entry["number"] for entry in late["log"]] == list(range(20))
        assert told == 20
        await quick.aclose()
        await slow.aclose()

    play(scene)


def test_no_client_is_told_more_often_than_eyes_can_follow() -> None:
    async def scene(bench: Bench) -> None:
        stream = bench.stream()
        await anext(stream)
        loop = asyncio.get_running_loop()
        began, count = loop.time(), 0
        while loop.time() - began < 0.5:
            bench.picture.log({"number": count})
            bench.watch.tell()
            await anext(stream)
            count += 1
        assert count <= MOST_A_SECOND * 0.5 * 1.5 + 2
        await stream.aclose()

    play(scene)


def test_a_poke_is_a_look_at_once() -> None:
    async def scene(bench: Bench) -> None:
        stream = bench.stream()
        await anext(stream)
        await anext(stream)
        for _ in range(5):
            looks = bench.looks
            bench.watch.poke()
            await asyncio.sleep(0.02)
            assert bench.looks > looks
        await stream.aclose()

    play(scene)
