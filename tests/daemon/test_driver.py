"""Machines on a real event loop: commands at once, one timer, tasks that never fail unseen, sleep that is noticed."""

import asyncio
import logging

import pytest

from sojourn.daemon import driver
from sojourn.daemon.driver import Driver, SleepWatch, Tasks


class Echo:
    """A machine that says what it was told and when it was ticked."""

    def __init__(self) -> None:
        self.due: float | None = None
        self.ticks: list[float] = []

    def handle(self, event: str, now: float) -> list[str]:
        return [event, f"{event} again"]

    def deadline(self) -> float | None:
        return self.due

    def tick(self, now: float) -> list[str]:
        self.ticks.append(now)
        if self.due is not None and now >= self.due:
            self.due = None
        return ["tick"]


class Clock:
    """CLOCK_BOOTTIME as the test wants it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        real = driver.now
        monkeypatch.setattr(driver, "now", lambda: real() + self.ahead)


def test_commands_are_carried_out_in_order_before_feed_returns() -> None:
    async def main() -> None:
        said: list[str] = []
        Driver(Echo(), said.append).feed("hello")
        assert said == ["hello", "hello again"]

    asyncio.run(main())


def test_a_command_may_bring_the_next_event() -> None:
    async def main() -> None:
        said: list[str] = []

        def execute(command: str) -> None:
            said.append(command)
            if command == "one":
                fed.feed("two")

        fed: Driver[str, str] = Driver(Echo(), execute)
        fed.feed("one")
        assert said == ["one", "two", "two again", "one again"]

    asyncio.run(main())


def test_the_machine_is_ticked_when_its_deadline_has_come() -> None:
    async def main() -> None:
        machine, said = Echo(), list[str]()
        fed: Driver[str, str] = Driver(machine, said.append)
        machine.due = due = driver.now() + 0.05
        fed.feed("x")
        await asyncio.sleep(0.1)
        assert said[-1] == "tick"
        assert machine.ticks[-1] == pytest.approx(due, abs=0.04)
        count = len(machine.ticks)
        await asyncio.sleep(0.05)
        assert len(machine.ticks) == count, "no deadline, no tick"

    asyncio.run(main())


def test_an_earlier_deadline_is_kept_too() -> None:
    async def main() -> None:
        machine = Echo()
        fed: Driver[str, str] = Driver(machine, lambda _command: None)
        machine.due = driver.now() + 60.0
        fed.feed("x")
        machine.due = due = driver.now() + 0.02
        fed.feed("x")
        await asyncio.sleep(0.1)
        assert [tick >= due for tick in machine.ticks] == [True]

    asyncio.run(main())


def test_a_deadline_that_ticking_does_not_clear_leaves_the_loop_alive() -> None:
    async def main() -> None:
        machine = Echo()
        machine.tick = lambda now: machine.ticks.append(now) or []  # type: ignore[func-returns-value, method-assign]
        fed: Driver[str, str] = Driver(machine, lambda _command: None)
        machine.due = 0.0
        fed.feed("x")
        await asyncio.sleep(0.05)
        fed.close()
        assert 1 <= len(machine.ticks) <= 50

    asyncio.run(main())


def test_events_that_come_thick_do_not_put_the_tick_off() -> None:
    async def main() -> None:
        machine = Echo()
        fed: Driver[str, str] = Driver(machine, lambda _command: None)
        machine.due = 0.0
        end = asyncio.get_running_loop().time() + 0.1
        while asyncio.get_running_loop().time() < end:
            fed.feed("x")
            await asyncio.sleep(0)
        assert machine.ticks

    asyncio.run(main())


def test_after_sleep_a_deadline_is_kept_by_the_clock_that_went_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's own clock stands still in suspend: its timer alone would ring ten minutes late."""
    clock = Clock(monkeypatch)

    async def main() -> None:
        machine = Echo()
        fed: Driver[str, str] = Driver(machine, lambda _command: None)
        machine.due = driver.now() + 300.0
        fed.feed("x")
        clock.ahead = 600.0
        fed.feed("woke up")
        await asyncio.sleep(0.05)
        assert len(machine.ticks) == 1

    asyncio.run(main())


def test_a_closed_driver_does_nothing_any_more() -> None:
    async def main() -> None:
        machine, said = Echo(), list[str]()
        fed: Driver[str, str] = Driver(machine, said.append)
        machine.due = driver.now() + 0.01
        fed.feed("x")
        fed.close()
        fed.feed("y")
        await asyncio.sleep(0.05)
        assert said == ["x", "x again"]
        assert machine.ticks == []

    asyncio.run(main())


def test_a_task_that_fails_is_logged_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("broken")

    async def main() -> None:
        failures: list[BaseException] = []
        tasks = Tasks(failures.append)
        tasks.start(fail(), "the broken one")
        tasks.start(asyncio.sleep(0), "a good one")
        await asyncio.sleep(0.01)
        assert [str(error) for error in failures] == ["broken"]
        await tasks.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert "the broken one" in caplog.text


def test_closing_ends_what_runs_and_is_no_failure() -> None:
    async def main() -> None:
        failures: list[BaseException] = []
        tasks = Tasks(failures.append)
        ended = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        tasks.start(work(), "work")
        await asyncio.sleep(0)
        await tasks.close()
        assert ended.is_set()
        assert failures == []

    asyncio.run(main())


@pytest.mark.parametrize(("slept", "told"), [(600.0, True), (1.5, True), (0.5, False)])
def test_sleep_is_noticed(monkeypatch: pytest.MonkeyPatch, slept: float, told: bool) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(driver, "SLEEP_CHECK", 0.01)

    async def main() -> None:
        woke: list[float] = []
        watching = asyncio.ensure_future(SleepWatch(woke.append).run())
        await asyncio.sleep(0.03)
        clock.ahead = slept
        await asyncio.sleep(0.05)
        watching.cancel()
        assert [round(seconds) for seconds in woke] == ([round(slept)] if told else [])

    asyncio.run(main())


def test_logind_s_word_is_told_at_once_and_the_clocks_do_not_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, woke = Clock(monkeypatch), list[float]()
    watch = SleepWatch(woke.append)
    clock.ahead = 3600.0
    watch.look(woken=True)
    assert [round(seconds) for seconds in woke] == [3600]
    watch.look()
    watch.look(woken=True)
    assert len(woke) == 1
    monkeypatch.setattr(driver, "TOLD_FOR", 0.0)
    watch.look(woken=True)
    assert [round(seconds) for seconds in woke] == [3600, 0]
