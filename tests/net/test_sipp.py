"""SIPp, a SIP peer that nobody here wrote, against registrar, transactions and listener on a real wire.

    sipp 127.0.0.1:random  --UDP or TCP-->  127.0.0.1:5060  SipAnchor (tests/net/sip_anchor.py)
    both in one fresh network namespace

SIPp 3.6, as Debian 12 has it, knows digest with MD5 only (RFC 8760's SHA-256 came with 3.7), so the
anchor here allows MD5, as an owner can configure. With SHA-256 the same exchange is tested between
our own ends in tests/upmt/test_association.py.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from sojourn.model import Endpoint
from tests.linux.namespace import in_new_namespace
from tests.net.sip_anchor import SipAnchor, serving
from tests.net.sipp_peer import needed, run_sipp

TARGET = Endpoint("127.0.0.1", 5060)
both = pytest.mark.parametrize("transport", ["UDP", "TCP"])
pytestmark = pytest.mark.net


def against_an_anchor(work: Callable[[SipAnchor], Awaitable[None]]) -> None:
    """Run `work` beside a small anchor in a namespace of its own."""
    needed()

    async def run() -> None:
        async with serving(TARGET.address, TARGET.port) as anchor:
            await work(anchor)

    in_new_namespace(lambda: asyncio.run(run()))


@both
def test_a_register_without_credentials_is_challenged_with_received_and_rport(transport: str) -> None:
    async def work(anchor: SipAnchor) -> None:
        await run_sipp("challenge", TARGET, transport, calls=5)
        assert anchor.accepted == []
        assert len(anchor.sip.transactions) == 0

    against_an_anchor(work)


@both
def test_a_register_with_credentials_is_lent_an_address_keeps_it_and_leaves(transport: str) -> None:
    async def work(anchor: SipAnchor) -> None:
        await run_sipp("register", TARGET, transport)
        assert [(one.expires, one.wanted) for one in anchor.accepted] == [(300, None), (300, "1.2.3.2"), (0, None)]
        assert anchor.lent == {}
        assert len(anchor.pool) == 0

    against_an_anchor(work)


def test_every_request_is_worked_on_once_however_often_it_is_sent() -> None:
    async def work(anchor: SipAnchor) -> None:
        await run_sipp("retransmission", TARGET, "UDP", calls=5)
        bindings = [one.binding for one in anchor.accepted]
        assert len(bindings) == len(set((one.call_id, one.sequence) for one in bindings)) == 10

    against_an_anchor(work)


def test_a_lossy_wire_costs_time_and_nothing_else() -> None:
    async def work(anchor: SipAnchor) -> None:
        await run_sipp("register", TARGET, "UDP", loss=15)
        assert [one.expires for one in anchor.accepted] == [300, 300, 0]

    against_an_anchor(work)


@both
def test_a_sequence_number_out_of_order_is_refused_and_the_next_is_not(transport: str) -> None:
    async def work(anchor: SipAnchor) -> None:
        await run_sipp("out_of_order", TARGET, transport)
        assert [one.binding.sequence for one in anchor.accepted] == [11, 12]

    against_an_anchor(work)


@both
def test_an_interval_that_is_too_brief_gets_423(transport: str) -> None:
    async def work(anchor: SipAnchor) -> None:
        await run_sipp("brief", TARGET, transport)
        assert anchor.accepted == []

    against_an_anchor(work)


@both
def test_bad_messages_get_the_answers_of_rfc_3261(transport: str) -> None:
    async def work(anchor: SipAnchor) -> None:
        await run_sipp("malformed", TARGET, transport)
        assert anchor.sip.refused == {"400": 4, "405": 1, "415": 1, "416": 1, "420": 1, "505": 1}

    against_an_anchor(work)


@both
def test_a_wrong_secret_an_unknown_user_and_another_terminal_are_refused(transport: str) -> None:
    async def work(anchor: SipAnchor) -> None:
        await run_sipp("refused", TARGET, transport, secret="guess")
        await run_sipp("refused", TARGET, transport, user="mallory")
        await run_sipp("register", TARGET, transport)
        await run_sipp("refused", TARGET, transport, tid="phone")
        assert [one.tid for one in anchor.accepted] == ["laptop"] * 3

    against_an_anchor(work)


def test_a_scenario_that_goes_wrong_fails_its_test() -> None:
    async def work(anchor: SipAnchor) -> None:
        with pytest.raises(AssertionError, match="sipp challenge ended with"):
            await run_sipp("challenge", Endpoint(TARGET.address, 5069), "TCP")
        with pytest.raises(AssertionError, match="sipp brief ended with"):
            await run_sipp("brief", TARGET, "TCP", secret="guess")

    against_an_anchor(work)


def test_garbage_changes_nothing_for_who_comes_next() -> None:
    nonsense = [b"", b"\0" * 1400, b"\r\n" * 50, bytes(range(256))]
    garbage = [*nonsense, b"REGISTER sip:x SIP/2.0\r\n\r\n", b"SIP/2.0 200 OK\r\n\r\n"]

    async def work(anchor: SipAnchor) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for data in garbage:
                sock.sendto(data, (TARGET.address, TARGET.port))
        for data in garbage:
            _, writer = await asyncio.open_connection(TARGET.address, TARGET.port)
            writer.write(data)
            writer.close()
        for transport in ("UDP", "TCP"):
            await run_sipp("register", TARGET, transport)
        assert [one.expires for one in anchor.accepted] == [300, 300, 0] * 2

    against_an_anchor(work)
