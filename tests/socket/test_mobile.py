"""The client's whole half against a real proxy in the same process: two networks that are addresses of the loopback."""

import asyncio
import hashlib
import random
import socket

import pytest

from sojourn.errors import SojournError
from sojourn.model import Endpoint
from sojourn.msocks.client import NO_CHALLENGE
from sojourn.msocks.frames import Reconnect, Status, parse_reconnect, take_frame
from sojourn.msocks.socks5 import NOWHERE, Address, Code, Command, Request
from sojourn.policy.rules import Otherwise, Policy, Subject
from sojourn.socket.calls import Call, Listening
from sojourn.socket.datagrams import Datagrams
from sojourn.socket.mobile import Unreachable, flow_to
from sojourn.upmt.host_events import HandoverWanted
from tests.harness.socks_ground import NETWORKS, Ground, pair, run, until


async def server() -> tuple[socket.socket, Address]:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    return listening, Address("127.0.0.1", listening.getsockname()[1])


def test_sessions_move_by_order_and_with_their_network_at_the_exact_byte() -> None:
    data = random.Random(1).randbytes(3_000_000)

    async def work(ground: Ground) -> None:
        loop = asyncio.get_running_loop()
        listening, to = await server()
        with listening:
            outside, session = await ground.open(to)
            far, _ = await loop.sock_accept(listening)
            with outside, far:
                far.setblocking(False)
                told: list[tuple[str, str]] = []
                ground.mobile.on_moved = lambda one, before: told.append((before, one.line.network.name))

                async def send() -> None:
                    for at in range(0, len(data), 30_000):
                        await loop.sock_sendall(outside, data[at : at + 30_000])
                        await asyncio.sleep(0.002)
                    outside.shutdown(socket.SHUT_WR)

                async def trouble() -> None:
                    for number in range(4):
                        await asyncio.sleep(0.03)
                        ground.mobile.order(HandoverWanted(("net3", "net2")[number % 2], (session.flow,)))
                    ground.mobile.network_down(session.line.network.name, "test")

                sending, troubling = asyncio.ensure_future(send()), asyncio.ensure_future(trouble())
                seen = hashlib.sha256()
                while piece := await loop.sock_recv(far, 65536):
                    seen.update(piece)
                await asyncio.gather(sending, troubling)
                assert seen.digest() == hashlib.sha256(data).digest()
                assert len(told) >= 2
            await until(lambda: not ground.mobile.sessions)

    run(Ground, work)


def test_policies_place_hold_and_refuse_by_the_applications_name() -> None:
    policies = (
        Policy("call", Subject(applications=("call",)), ("net3",), otherwise=Otherwise.HOLD),
        Policy("spy", Subject(applications=("spy",)), blocked=True),
    )

    async def work(ground: Ground) -> None:
        listening, to = await server()
        with listening:
            outside, session = await ground.open(to, "call")
            assert session.line.network.name == "net3"
            with pytest.raises(Unreachable) as error:
                await ground.open(to, "spy")
            assert error.value.code == Code.NOT_ALLOWED
            ground.mobile.network_down("net3", "test")
            await until(lambda: session.relay.leg is None)
            await asyncio.sleep(0.2)
            assert session.relay.leg is None, "it waits: net2 is not for calls"
            ground.mobile.network_up(NETWORKS[1])
            await until(lambda: session.relay.leg is not None)
            ground.mobile.replace_policies((Policy("call", Subject(applications=("call",)), ("net2",)),))
            await until(lambda: session.line.network.name == "net2")
            ground.mobile.replace_policies((Policy("call", Subject(applications=("call",)), blocked=True),))
            await until(lambda: not ground.mobile.sessions)
            outside.close()

    run(lambda: Ground(*policies), work)


def test_an_order_to_a_network_that_does_not_work_is_refused() -> None:
    async def work(ground: Ground) -> None:
        with pytest.raises(SojournError, match="net9"):
            ground.mobile.order(HandoverWanted("net9"))

    run(Ground, work)


def test_a_call_that_has_just_been_taken_begins_before_a_client_that_moves_is_told_that_there_was_none() -> None:
    async def work(ground: Ground) -> None:
        flow = flow_to(Endpoint("127.0.0.1", 1), NOWHERE)
        ground.mobile.wanted(flow, NOWHERE, None)
        listening = Listening(ground.mobile, flow, NOWHERE)
        await listening.begin()
        requests, table = ground.proxy._requests, ground.proxy.sessions.table
        ((session, (key, _, _)),) = requests._pending.items()
        with socket.create_connection((listening.address.host, listening.address.port), 5.0):
            for listener in requests.listeners._held.values():
                listener._accept()  # and before the one that waits for it has its turn, the client asks:
            taken = take_frame(Reconnect(session, 1, 0, NO_CHALLENGE).encode(key))
            assert taken is not None
            asked, proof = parse_reconnect(taken[0].body)
            assert table.judge(asked, proof, 0.0).status is Status.UNKNOWN
            assert await requests.not_called(asked, proof)
            assert session in table.entries
            assert not await requests.not_called(asked, proof)
        listening.close()

    run(Ground, work)


def test_a_listener_loses_no_call_while_its_network_changes() -> None:
    async def work(ground: Ground) -> None:
        loop = asyncio.get_running_loop()
        flow = flow_to(Endpoint("127.0.0.1", 1), NOWHERE)
        ground.mobile.wanted(flow, NOWHERE, None)
        listening = Listening(ground.mobile, flow, NOWHERE)
        await listening.begin()
        first = listening.address
        callers: list[socket.socket] = []
        for turn in range(4):
            waiting = asyncio.ensure_future(listening.call())
            await asyncio.sleep(0.05)
            if turn % 2:
                name = NETWORKS[turn // 2 % 2].name
                ground.mobile.network_down(name, "test")
                await asyncio.sleep(0.05)
            caller = socket.create_connection((first.host, first.port), 5.0)
            caller.setblocking(False)
            callers.append(caller)
            call = await waiting
            assert isinstance(call, Call)
            await carried(ground, loop, call, caller, turn)
            if turn % 2:
                ground.mobile.network_up(NETWORKS[turn // 2 % 2])
                await until(lambda: all(line.up for line in ground.mobile.lines.values()))
            if listening._opened is None:
                await listening.begin()
            assert listening.address == first, "the port stays"
        listening.close()
        for caller in callers:
            caller.close()

    run(Ground, work)


async def carried(
    ground: Ground, loop: asyncio.AbstractEventLoop, call: Call, caller: socket.socket, turn: int
) -> None:
    outside, near = pair()
    flow = flow_to(Endpoint("127.0.0.1", near.getpeername()[1]), call.caller)
    ground.mobile.wanted(flow, call.caller, None)
    call.carry(ground.mobile, near, flow)
    await loop.sock_sendall(caller, b"hello %d" % turn)
    assert await loop.sock_recv(outside, 100) == b"hello %d" % turn
    outside.close()


def test_a_call_that_came_while_the_network_died_is_found_again() -> None:
    async def work(ground: Ground) -> None:
        loop = asyncio.get_running_loop()
        flow = flow_to(Endpoint("127.0.0.1", 1), NOWHERE)
        ground.mobile.wanted(flow, NOWHERE, None)
        listening = Listening(ground.mobile, flow, NOWHERE)
        await listening.begin()
        with socket.create_connection((listening.address.host, listening.address.port), 5.0) as caller:
            caller.setblocking(False)
            await until(lambda: ground.proxy.served["bind"] == 1)  # paired, and the client has not heard of it
            ground.mobile.network_down("net2", "test")
            call = await listening.call()
            assert call.caller == NOWHERE
            await carried(ground, loop, call, caller, 7)

    run(Ground, work)


def test_datagrams_go_on_over_another_network() -> None:
    async def work(ground: Ground) -> None:
        loop = asyncio.get_running_loop()
        flow = flow_to(Endpoint("127.0.0.1", 1), NOWHERE)
        ground.mobile.wanted(flow, NOWHERE, None)
        there, here = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        datagrams = Datagrams(ground.mobile, flow, "127.0.0.1", "127.0.0.1")
        running = asyncio.ensure_future(datagrams.run())
        with there, here:
            for sock in (there, here):
                sock.bind(("127.0.0.1", 0))
                sock.setblocking(False)
            for turn in range(2):
                await until(lambda: datagrams._outside is not None)
                to = Address("127.0.0.1", there.getsockname()[1])
                text = b"\0\0\0\1" + socket.inet_aton(to.host) + to.port.to_bytes(2, "big") + b"%d" % turn
                here.sendto(text, (datagrams.address.host, datagrams.address.port))
                data, source = await asyncio.wait_for(loop.sock_recvfrom(there, 100), 5.0)
                assert data == b"%d" % turn
                there.sendto(b"back", source)
                assert (await asyncio.wait_for(loop.sock_recv(here, 100), 5.0)).endswith(b"back")
                ground.mobile.network_down("net2", "test")
                await until(lambda: datagrams._outside is None or turn)  # noqa: B023
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        datagrams.close()

    run(Ground, work)


def test_a_name_that_nobody_knows_is_told_apart_from_a_host_that_does_not_answer() -> None:
    async def work(ground: Ground) -> None:
        with pytest.raises(Unreachable) as error:
            await ground.open(Address("no.such.name.invalid", 80))
        assert error.value.code == Code.NO_SUCH_NAME
        assert not ground.steering._flows

    run(Ground, work)


def test_ports_below_1024_and_too_many_listeners_are_refused() -> None:
    async def work(ground: Ground) -> None:
        flow = flow_to(Endpoint("127.0.0.1", 1), NOWHERE)
        ground.mobile.wanted(flow, NOWHERE, None)
        with pytest.raises(Unreachable) as error:
            await ground.mobile.open(flow, Request(Command.BIND, Address("0.0.0.0", 80)))
        assert error.value.code == Code.NOT_ALLOWED

    run(Ground, work)
