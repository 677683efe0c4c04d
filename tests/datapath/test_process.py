"""The process: its socket, its signals, what it tells whom, and what it leaves behind.

The engine is tests/harness/engine_double.py (tests/net/test_datapath_process.py has the real one).
"""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from sojourn.datapath import wire
from sojourn.model import Endpoint
from sojourn.upmt import commands, events
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


async def connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    return reader, writer


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def next_frame(reader: asyncio.StreamReader) -> tuple[wire.ToControl, ...]:
    size = int.from_bytes(await reader.readexactly(wire.LENGTH_BYTES))
    return wire.to_control(await reader.readexactly(size))


async def frame_with(reader: asyncio.StreamReader, kind: type) -> tuple[wire.ToControl, ...]:
    """Return the first frame that holds a message of a kind."""
    while True:
        messages = await asyncio.wait_for(next_frame(reader), 5)
        if any(isinstance(message, kind) for message in messages):
            return messages


@with_bench
async def test_all_events_of_one_turn_come_in_one_frame(bench: Bench) -> None:
    client = await bench.start()
    client.submit(ORDERS)
    await bench.state(client)
    pid = client.pid
    reader, writer = await connect(bench.path)
    await frame_with(reader, wire.StateRows)
    writer.write(wire.frame([wire.encode(commands.SendInner(TUNNEL, b"see 500 0"))]))
    messages = await frame_with(reader, events.FlowSeen)
    assert [type(message) for message in messages] == [events.FlowSeen] * 500 + [wire.Done]
    writer.write(wire.frame([wire.encode(wire.Shutdown())]))
    await reader.read()
    await close(writer)
    await bench.until(lambda: not alive(pid))


@with_bench
async def test_whoever_connects_is_told_who_is_there_and_all_that_stands(bench: Bench) -> None:
    client = await bench.start()
    client.submit(ORDERS)
    await bench.state(client)
    pid = client.pid
    reader, writer = await connect(bench.path)
    messages = [*await frame_with(reader, wire.Hello), *await frame_with(reader, wire.StateRows)]
    assert messages[0] == wire.Hello(wire.VERSION, pid, epochs_void=True)
    state = next(message for message in messages if isinstance(message, events.State))
    assert state.tunnels == (OPENED,)
    await bench.until(lambda: bench.superseded)
    writer.write(wire.frame([wire.encode(wire.Shutdown())]))
    await reader.read()
    await close(writer)
    await bench.until(lambda: not alive(pid))


@with_bench
async def test_bytes_that_are_no_order_end_the_connection_and_nothing_else(bench: Bench) -> None:
    client = await bench.start()
    client.submit(ORDERS)
    await bench.state(client)
    pid = client.pid
    for spoiled in (b"\x00\x00\x00\x01\xc0", b"\xff" * 8, wire.frame([wire.encode(wire.TakeDescriptor("x"))])):
        reader, writer = await connect(bench.path)
        await frame_with(reader, wire.StateRows)
        writer.write(spoiled)
        assert b"Said" in await asyncio.wait_for(reader.read(), 5)
        await close(writer)
    assert alive(pid)
    assert (await bench.start()).pid == pid


@with_bench
async def test_an_order_that_cannot_be_carried_out_is_said_and_the_next_one_is_done(bench: Bench) -> None:
    client = await bench.start()
    nowhere = commands.OpenTunnel(HOST, TUNNEL, "lo", Endpoint("192.0.2.250", 0), Endpoint("127.0.0.1", 9))
    client.submit([SETUP, ADDED, nowhere, commands.SetDefault(HOST, TUNNEL)])
    state = await bench.state(client)
    assert state.defaults == (commands.SetDefault(HOST, TUNNEL),)
    said = dict(bench.log.lines)["datapath.said"]
    assert "OpenTunnel" in str(said["text"])
