"""The process: its socket, its signals, what it tells whom, and what it leaves behind.

The engine is tests/harness/engine_double.py (tests/net/test_datapath_process.py has the real one).
"""

import asyncio
import os
import signal

from sojourn.upmt import commands
from tests.harness.data_path_bench import (
    ADDED,
    HOST,
    OPENED,
    ORDERS,
    SECRET,
    SETUP,
    TUNNEL,
    Bench,
    alive,
    of_process,
    with_bench,
)  # fmt: skip


@with_bench
async def test_a_new_process_is_started_obeys_and_leaves_nothing(bench: Bench) -> None:
    client = await bench.start()
    assert client.adopted is None
    assert client.epochs_void
    client.submit(ORDERS)
    state = await bench.state(client)
    assert (state.setup, state.associations, state.secrets) == (SETUP, (ADDED,), (SECRET,))
    assert (state.tunnels, state.defaults) == ((OPENED,), (commands.SetDefault(HOST, TUNNEL),))
    assert bench.path.stat().st_mode & 0o777 == 0o600


@with_bench
async def test_a_process_alone_ends_after_its_time_and_leaves_nothing(bench: Bench) -> None:
    client = await bench.start(alone=2)
    pid = client.pid
    await client.close(stop=False)
    assert alive(pid)
    await bench.until(lambda: not alive(pid))
    assert not bench.path.exists()


@with_bench
async def test_sigterm_to_a_process_alone_removes_its_files(bench: Bench) -> None:
    client = await bench.start()
    pid = client.pid
    await client.close(stop=False)
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGTERM)
    await bench.until(lambda: not alive(pid))
    assert not bench.path.exists()


@with_bench
async def test_files_of_a_process_that_died_alone_are_no_obstacle(bench: Bench) -> None:
    first = await bench.start()
    pid = first.pid
    await first.close(stop=False)
    os.kill(pid, signal.SIGKILL)
    await bench.until(lambda: not alive(pid))
    assert bench.path.exists()
    second = await bench.start()
    assert second.adopted is None
    assert second.pid != pid
    assert not second.epochs_void


@with_bench
async def test_secrets_are_in_no_argument_environment_or_log(bench: Bench) -> None:
    client = await bench.start()
    client.submit(ORDERS)
    await bench.state(client)
    for name in ("cmdline", "environ", "comm"):
        assert "hunter2" not in of_process(client.pid, name)
    assert of_process(client.pid, "comm") == "sojourn-path\n"
    assert "hunter2" not in repr(bench.log.lines)
    assert "hunter2" not in repr(ORDERS)


@with_bench
async def test_the_process_is_confined(bench: Bench) -> None:
    client = await bench.start()
    status = of_process(client.pid, "status")
    assert "Seccomp:\t2" in status
    assert "NoNewPrivs:\t1" in status
    if os.geteuid() == 0:
        assert "CapBnd:\t0000000000003000" in status
