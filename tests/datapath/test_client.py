"""Control's end: deaths of the process are made good, running processes adopted, hanging ones replaced.

The processes are real, their engine is tests/harness/engine_double.py.
"""

import asyncio
import os
import signal
import socket
import sys
import time

import pytest

from sojourn.datapath.private_socket import PrivateListener
from sojourn.datapath.spare import DELAY
from sojourn.errors import SojournError
from sojourn.linux.descriptors import tunnel_name
from sojourn.upmt import commands, events
from tests.harness.data_path_bench import (
    HOST,
    OPENED,
    ORDERS,
    OTHER,
    SECRET,
    TUNNEL,
    Bench,
    alive,
    udp_inodes,
    with_bench,
)  # fmt: skip

IMPOSTOR = """
import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("ready", flush=True)
connection, _ = listener.accept()
connection.sendall(bytes((0, 0, 0, 1, 0xC0)))
time.sleep(60)
"""


@with_bench
async def test_kill_9_of_the_process_is_made_good_with_its_socket_state_and_flows(bench: Bench) -> None:
    client = await bench.start(spare=True)
    client.submit(ORDERS)
    bench.perform(client, "see 1000 0")
    await bench.until(lambda: bench.seen() == 1000)
    before = await bench.state(client)
    ports = {name: socket.socket(fileno=os.dup(fd)) for name, fd in client._held.by_name.items()}
    addresses = {name: udp.getsockname() for name, udp in ports.items()}
    await bench.until(lambda: client._spare.child is not None)
    await asyncio.sleep(0.7)  # the spare loads
    pid = client.pid
    started = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    await bench.until(lambda: client.last_gap)
    state = await bench.state(client)
    taken = time.monotonic() - started
    sys.stderr.write(
        f"kill -9 to state of the successor: {taken * 1000:.0f} ms, to its first word {client.last_gap * 1000:.0f} ms\n"
    )
    assert client.pid not in {0, pid}
    assert client.restarts == 1
    assert (state.setup, state.associations, state.secrets, state.tunnels, state.defaults) == (
        before.setup, before.associations, before.secrets, before.tunnels, before.defaults,
    )  # fmt: skip
    assert {(row.flow, row.tunnel, row.move) for row in state.rows} == {
        (row.flow, row.tunnel, row.move) for row in before.rows
    }
    assert list(addresses) == [tunnel_name(OPENED)]
    assert {port for port, _ in udp_inodes(client.pid)} == {address[1] for address in addresses.values()}
    for udp in ports.values():
        udp.close()


@with_bench
async def test_a_spare_stands_by_again_shortly_after_the_last_one_stepped_in(bench: Bench) -> None:
    client = await bench.start(spare=True)
    pids = {client.pid}
    for _ in range(2):
        began = time.monotonic()
        await bench.until(lambda: client._spare.child is not None)
        assert time.monotonic() - began < 1.0 + DELAY, "started once the other one ran"
        os.kill(client.pid, signal.SIGKILL)
        await bench.until(lambda: client.pid not in {0, *pids})
        pids.add(client.pid)
    assert bench.log.names().count("datapath.died") == 2


@with_bench
async def test_a_process_without_spare_is_replaced_too(bench: Bench) -> None:
    client = await bench.start()
    client.submit(ORDERS)
    await bench.state(client)
    os.kill(client.pid, signal.SIGKILL)
    await bench.until(lambda: client.last_gap)
    sys.stderr.write(f"without a spare: {client.last_gap * 1000:.0f} ms\n")
    assert (await bench.state(client)).tunnels == (OPENED,)


@with_bench
async def test_orders_given_while_no_process_runs_reach_the_successor(bench: Bench) -> None:
    client = await bench.start()
    client.submit(ORDERS)
    await bench.state(client)
    os.kill(client.pid, signal.SIGKILL)
    await bench.until(lambda: client._link is None or client.restarts)
    client.submit([commands.SetDefault(HOST, None)])
    state = await bench.state(client)
    assert state.defaults == (commands.SetDefault(HOST, None),)


@with_bench
async def test_a_handover_that_was_not_answered_is_answered_by_the_successor(bench: Bench) -> None:
    client = await bench.start()
    client.submit(ORDERS)
    bench.perform(client, "see 3 0")
    await bench.turn(client)
    bench.perform(client, "hang 60")
    order = commands.MoveFlows(HOST, 4, (commands.Move(commands.OnTunnel(TUNNEL), OTHER),))
    client.submit([order, commands.CloseTunnel(TUNNEL)])
    await asyncio.sleep(0.1)
    os.kill(client.pid, signal.SIGKILL)
    await bench.until(lambda: any(isinstance(event, events.FlowsMoved) for event in bench.events))
    answer = next(event for event in bench.events if isinstance(event, events.FlowsMoved))
    assert answer.counts == ({"moved": 3},)
    state = await bench.state(client)
    assert [row.tunnel for row in state.rows] == [OTHER] * 3
    assert state.tunnels == ()


@with_bench
async def test_kill_9_of_control_leaves_the_process_to_the_next_one(bench: Bench) -> None:
    first = await bench.start()
    first.submit(ORDERS)
    bench.perform(first, "see 5000 0")
    await bench.until(lambda: bench.seen() == 5000)
    pid = first.pid
    inodes = udp_inodes(pid)
    await first.close(stop=False)  # as far as the process can see, what kill -9 does
    await asyncio.sleep(0.1)
    assert alive(pid)
    second = await bench.start()
    assert second.pid == pid
    assert second.adopted is not None
    assert len(second.adopted.rows) == 5000
    assert second.adopted.tunnels == (OPENED,)
    assert list(second._held.by_name) == [tunnel_name(OPENED)]
    assert udp_inodes(pid) == inodes
    # And what was adopted can be replaced as well as what was started.
    os.kill(pid, signal.SIGKILL)
    await bench.until(lambda: second.last_gap)
    state = await bench.state(second)
    assert len(state.rows) == 5000
    assert state.secrets == (SECRET,)
    assert udp_inodes(second.pid) == inodes


@with_bench
async def test_a_second_control_takes_over_and_the_first_is_told(bench: Bench) -> None:
    first = await bench.start(spare=True)
    first.submit(ORDERS)
    await bench.state(first)
    pid = first.pid
    second = await bench.start()
    await bench.until(lambda: bench.superseded)
    assert first.superseded
    assert second.pid == pid
    assert (await bench.state(second)).tunnels == (OPENED,)
    first.submit([commands.CloseTunnel(TUNNEL)])
    await first.close()
    assert alive(pid)
    assert (await bench.state(second)).tunnels == (OPENED,)


@with_bench
async def test_sigterm_to_the_process_is_made_good(bench: Bench) -> None:
    client = await bench.start()
    client.submit(ORDERS)
    await bench.state(client)
    os.kill(client.pid, signal.SIGTERM)
    await bench.until(lambda: client.last_gap)
    assert (await bench.state(client)).tunnels == (OPENED,)
    assert dict(bench.log.lines)["datapath.died"]["status"] == "exit status 0"


@with_bench
async def test_a_control_that_does_not_read_gets_a_state_instead_of_every_event(bench: Bench) -> None:
    client = await bench.start()
    client.submit(ORDERS)
    await bench.state(client)
    bench.events.clear()
    for first in range(0, 60000, 2000):
        bench.perform(client, f"see 2000 {first}")
    time.sleep(2.0)  # noqa: ASYNC251 - control hangs, that is the point
    await bench.until(lambda: "datapath.resync" in bench.log.names(), 30)
    await bench.until(lambda: any(isinstance(event, events.State) for event in bench.events), 30)
    state = next(event for event in bench.events if isinstance(event, events.State))
    assert len(state.rows) == 60000
    assert bench.seen() < 60000
    assert client.restarts == 0
    assert sum(len(known.table.flows) for known in client._mirror.associations.values()) == 60000


@with_bench
async def test_a_process_that_lets_go_of_a_living_control_is_connected_to_again(bench: Bench) -> None:
    client = await bench.start()
    client.submit(ORDERS)
    bench.perform(client, "see 10 0")
    await bench.until(lambda: bench.seen() == 10)
    pid = client.pid
    assert client._link is not None
    client._link._connection.shutdown(socket.SHUT_RDWR)
    client.submit([commands.SetDefault(HOST, None)])  # lost with the connection
    await bench.until(lambda: "datapath.reconnecting" in bench.log.names())
    state = await bench.state(client)
    assert client.pid == pid
    assert len(state.rows) == 10
    assert (await bench.state(client)).defaults == (commands.SetDefault(HOST, None),)


@with_bench
async def test_a_process_that_dies_of_an_error_says_so_and_is_replaced(bench: Bench) -> None:
    client = await bench.start()
    client.submit(ORDERS)
    bench.perform(client, "raise")
    await bench.until(lambda: client.last_gap)
    assert (await bench.state(client)).tunnels == (OPENED,)


@with_bench
async def test_a_process_that_dies_again_and_again_is_started_more_and_more_slowly(bench: Bench) -> None:
    client = await bench.start()
    client.submit(ORDERS)
    for round_ in range(4):
        await bench.until(lambda: client.pid and client._link is not None)
        os.kill(client.pid, signal.SIGKILL)
        await bench.until(lambda round_=round_: client.restarts == round_ + 1)  # type: ignore[misc]
    pauses = [values["starting_again_in"] for name, values in bench.log.lines if name == "datapath.died"]
    assert pauses == [0.0, 0.1, 0.2, 0.4]
    assert (await bench.state(client)).tunnels == (OPENED,)


@with_bench
async def test_a_process_that_hangs_is_killed_and_replaced(bench: Bench) -> None:
    client = await bench.start()
    client.submit(ORDERS)
    await bench.state(client)
    pid = client.pid
    bench.perform(client, "hang 60")
    for _ in range(6):
        client._ping()
    await bench.until(lambda: client.last_gap)
    assert "datapath.hangs" in bench.log.names()
    assert client.pid != pid


@with_bench
async def test_a_program_that_ends_at_once_is_one_clear_error(bench: Bench) -> None:
    other = PrivateListener(bench.path)
    other.socket.close()
    with pytest.raises(SojournError, match=r"path\.sock: another data path is running here"):
        await bench.start()
    other.close()


@with_bench
async def test_a_listener_that_speaks_otherwise_is_ended_and_replaced(bench: Bench) -> None:
    arguments = (sys.executable, "-c", IMPOSTOR, str(bench.path))
    impostor = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    assert impostor.stdout is not None
    assert await impostor.stdout.readline() == b"ready\n"  # its file is there before it listens
    client = await bench.start()
    assert client.adopted is None
    assert client.pid != impostor.pid
    assert await impostor.wait() == -signal.SIGTERM
    assert "datapath.unusable" in bench.log.names()


@with_bench
async def test_a_spare_goes_with_its_control(bench: Bench) -> None:
    client = await bench.start(spare=True)
    await bench.until(lambda: client._spare.child is not None)
    assert client._spare.child is not None
    pid = client._spare.child.pid
    os.kill(pid, signal.SIGKILL)
    await bench.until(lambda: client._spare.child is None)
    client._spare.start()
    await asyncio.sleep(0.3)
    pid = client._spare.child.pid
    await client.close()
    assert not alive(pid)
