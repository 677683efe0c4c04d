"""How a daemon ends: told to stop, told to make way, or failing; and a set-up that is cut short."""

import asyncio
import errno
import os
import signal

import pytest

from sojourn.daemon.ending import Ending


async def told(*numbers: signal.Signals) -> Ending:
    ending = Ending()
    ending.listen()
    for number in numbers:
        os.kill(os.getpid(), number)
        await asyncio.sleep(0.01)
    await asyncio.wait_for(ending.wait(), 5.0)
    return ending


@pytest.mark.parametrize(("numbers", "clean"), [
    ([signal.SIGTERM], True), ([signal.SIGINT], True), ([signal.SIGUSR2], False),
    ([signal.SIGUSR2, signal.SIGTERM], True), ([signal.SIGTERM, signal.SIGUSR2], False),
])  # fmt: skip
def test_the_last_signal_says_whether_anything_is_to_stay(numbers: list[signal.Signals], clean: bool) -> None:
    ending = asyncio.run(told(*numbers))
    assert ending.clean is clean
    assert ending.failed is None


def test_a_failure_leaves_what_stands_and_the_first_one_is_told() -> None:
    async def main() -> Ending:
        ending = Ending()
        first = OSError("first")
        ending.fail(first)
        ending.fail(OSError("second"))
        await ending.wait()
        assert ending.failed is first
        return ending

    assert not asyncio.run(main()).clean


def test_a_set_up_is_finished_unless_the_daemon_is_told_to_end() -> None:
    async def main() -> list[str]:
        did: list[str] = []

        async def long(name: str, seconds: float) -> None:
            try:
                await asyncio.sleep(seconds)
                did.append(f"{name} done")
            except asyncio.CancelledError:
                did.append(f"{name} cut short")
                raise

        ending = Ending()
        assert await ending.unless_told(long("one", 0.0))
        asyncio.get_running_loop().call_later(0.01, ending.stop)
        assert not await ending.unless_told(long("two", 60.0))
        return did

    assert asyncio.run(main()) == ["one done", "two cut short"]


def test_what_goes_wrong_in_a_set_up_is_raised() -> None:
    async def main() -> None:
        async def wrong() -> None:
            raise OSError(errno.EPERM, "no")

        with pytest.raises(PermissionError):
            await Ending().unless_told(wrong())

    asyncio.run(main())
