import asyncio

import pytest

from sojourn.daemon import inquiry
from sojourn.daemon.inquiry import Inquiry
from sojourn.upmt.commands import AnyCommand, Report, Snapshot
from sojourn.upmt.events import Counters, State

COUNTERS = Counters({"packets_in": 1}, {}, 2)
STATE = State(None, (), (), (), (), ())


def test_counters_are_asked_for_and_the_answer_is_kept() -> None:
    async def run() -> None:
        asked: list[AnyCommand] = []

        def submit(command: AnyCommand) -> None:
            asked.append(command)
            asyncio.get_running_loop().call_soon(ask.see, COUNTERS)

        ask = Inquiry(submit)
        await ask.measure()
        await ask.measure(tunnels=False)
        assert asked == [Report(), Report(tunnels=False)]
        assert ask.counters == COUNTERS

    asyncio.run(run())


def test_one_state_answers_everybody_who_waits() -> None:
    async def run() -> None:
        asked: list[AnyCommand] = []
        ask = Inquiry(asked.append)
        waiting = asyncio.gather(ask.snapshot(), ask.snapshot())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ask.see(STATE)
        assert list(await waiting) == [STATE, STATE]
        assert asked == [Snapshot(), Snapshot()]

    asyncio.run(run())


def test_without_an_answer_the_last_counters_stand_and_a_snapshot_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiry, "MEASURE_PATIENCE", 0.01)
    monkeypatch.setattr(inquiry, "SNAPSHOT_PATIENCE", 0.01)

    async def run() -> None:
        ask = Inquiry(lambda command: None)
        ask.see(COUNTERS)
        await ask.measure()
        assert ask.counters == COUNTERS
        with pytest.raises(TimeoutError):
            await ask.snapshot()
        ask.see(STATE)

    asyncio.run(run())
