"""How soon a change of the network is told, and that none is missed.

this namespace: e0 ---- p0 (same namespace; taking p0 down is pulling the cable)
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest

from sojourn.linux import netlink
from sojourn.linux.netlink import NetworkWatcher
from sojourn.model import Network
from sojourn.upmt.events_network import AnyNetworkFact, NetworkChanged, NetworkDown, NetworkUp
from tests.linux.fresh import namespace, sh

__all__ = ["namespace"]

CABLE = """
ip link add e0 type veth peer name p0
ip link set p0 up
ip link set e0 up
ip addr add 192.0.2.5/24 dev e0
ip route add default via 192.0.2.1
"""
E0 = Network(name="e0", interface="e0", address="192.0.2.5", gateway="192.0.2.1", kind="ethernet")
SOON = 0.1


class Facts:
    """The watcher's facts as they come, with a limit on the wait for each."""

    def __init__(self, watcher: NetworkWatcher) -> None:
        self._facts: AsyncIterator[AnyNetworkFact] = watcher.__aiter__()

    async def next(self) -> AnyNetworkFact:
        return await asyncio.wait_for(anext(self._facts), 5)

    async def after(self, command: str) -> tuple[AnyNetworkFact, float]:
        """The fact that a command leads to, and the seconds from the command's end to it (less than 0: before)."""
        running = asyncio.ensure_future(asyncio.to_thread(_run_until, command))
        fact = await self.next()
        told = time.monotonic()
        return fact, told - await running


def _run_until(command: str) -> float:
    sh(command)
    return time.monotonic()


def watch(test: Callable[[Facts], Coroutine[None, None, None]], **options: dict[str, str]) -> None:
    async def main() -> None:
        async with NetworkWatcher(**options) as watcher:
            await test(Facts(watcher))

    asyncio.run(main())


@pytest.mark.timed
def test_losses_and_returns_are_told_within_a_tenth_of_a_second(namespace: None) -> None:
    sh(CABLE)

    async def test(facts: Facts) -> None:
        assert await facts.next() == NetworkUp(E0)
        for command, expected in (
            ("ip link set p0 down", NetworkDown("e0", "no carrier")),
            ("ip link set p0 up", NetworkUp(E0)),
            ("ip addr del 192.0.2.5/24 dev e0", NetworkDown("e0", "address lost")),
            ("ip addr add 192.0.2.5/24 dev e0; ip route add default via 192.0.2.1", NetworkUp(E0)),
            ("ip route del default", NetworkDown("e0", "no default route")),
            ("ip route add default via 192.0.2.1", NetworkUp(E0)),
            ("ip link set e0 down", NetworkDown("e0", "interface was taken down")),
            ("ip link set e0 up; ip route add default via 192.0.2.1", NetworkUp(E0)),
            ("ip link del e0", NetworkDown("e0", "interface was taken down")),
        ):
            fact, delay = await facts.after(command)
            print(f"{delay * 1e3:6.1f} ms  {command}")  # noqa: T201 - the figure that this test is about
            assert fact == expected
            assert delay < SOON

    watch(test)


@pytest.mark.timed
def test_a_changed_gateway_and_a_changed_address_are_changes_and_no_losses(namespace: None) -> None:
    sh(CABLE + "ip addr add 198.51.100.5/24 dev e0")

    async def test(facts: Facts) -> None:
        await facts.next()
        fact, delay = await facts.after("ip route replace default via 192.0.2.254")
        assert isinstance(fact, NetworkChanged)
        assert (fact.network.gateway, fact.why) == ("192.0.2.254", "gateway changed")
        assert delay < SOON
        # The route goes with its subnet, which the kernel does not say, and another is there already.
        sh("ip route add default via 198.51.100.1 metric 5")
        fact, delay = await facts.after("ip addr del 192.0.2.5/24 dev e0")
        assert isinstance(fact, NetworkChanged)
        assert fact.network.address == "198.51.100.5"
        assert delay < SOON

    watch(test)


@pytest.mark.timed
def test_a_route_that_the_kernel_flushed_in_silence_is_missed_by_the_second_look(namespace: None) -> None:
    sh(CABLE + "ip addr add 198.51.100.5/24 dev e0\nip route replace default via 192.0.2.1 src 198.51.100.5")

    async def test(facts: Facts) -> None:
        await facts.next()
        fact, delay = await facts.after("ip addr del 198.51.100.5/24 dev e0")
        assert fact == NetworkDown("e0", "no default route")
        assert delay < SOON

    watch(test)


def test_ipv6_is_told_when_duplicate_detection_is_over(namespace: None) -> None:
    sh("ip link add e0 type veth peer name p0; ip link set p0 up; ip link set e0 up")

    async def test(facts: Facts) -> None:
        adding = "ip addr add 2001:db8::5/64 dev e0; ip -6 route add default via fe80::1 dev e0"
        fact, delay = await facts.after(adding)
        assert isinstance(fact, NetworkUp)
        assert fact.network.name == "e0-6"
        assert "tentative" not in sh("ip -6 addr show dev e0 scope global")
        assert delay > 0.5, "the address was still tentative"

    watch(test)


def test_names_and_ignored_interfaces_are_obeyed(namespace: None) -> None:
    sh(
        CABLE
        + "ip link add e1 type veth peer name p1; ip addr add 10.0.0.2/30 dev e1; ip link set p1 up; ip link set e1 up"
    )

    async def test() -> None:
        async with NetworkWatcher(names={"e0": "desk"}, ignore={"e1"}) as watcher:
            fact = await Facts(watcher).next()
            assert isinstance(fact, NetworkUp)
            assert fact.network.name == "desk"
            assert list(watcher.networks) == ["desk"]

    asyncio.run(test())


def test_messages_lost_to_a_full_buffer_are_made_good_by_a_dump(namespace: None) -> None:
    sh(CABLE)

    async def test() -> None:
        netlink_buffer, netlink.BUFFER_BYTES = netlink.BUFFER_BYTES, 2304
        try:
            async with NetworkWatcher() as watcher:
                facts = Facts(watcher)
                assert await facts.next() == NetworkUp(E0)
                batch = "\n".join(f"addr add 10.1.{n}.1/32 dev e0" for n in range(200))
                sh(f"ip -batch - <<X\n{batch}\nlink set p0 down\nX")
                assert await facts.next() == NetworkDown("e0", "no carrier")
                batch = "\n".join(f"addr del 10.1.{n}.1/32 dev e0" for n in range(200))
                sh(f"ip -batch - <<X\n{batch}\nlink set p0 up\nX")
                assert await facts.next() == NetworkUp(E0)
        finally:
            netlink.BUFFER_BYTES = netlink_buffer

    asyncio.run(test())


def test_a_tun_device_of_others_is_no_network(namespace: None) -> None:
    sh("ip tuntap add tun9 mode tun; ip addr add 10.9.0.2/24 dev tun9; ip link set tun9 up")
    sh("ip tuntap add tap9 mode tap; ip link set tap9 up; ip route add default via 10.9.0.1")

    async def test() -> None:
        links = netlink.NetworkWatcher()
        async with links:
            links._interfaces.replace(*await links._dump())
            found = {link.name: (link.virtual, link.kind) for link in links._interfaces._links.values()}
            assert found["tun9"][0]
            assert found["tap9"] == (False, "ethernet")

    asyncio.run(test())


def test_messages_older_than_a_dump_tell_of_no_loss_that_has_passed(namespace: None) -> None:
    """The kernel tells of a link first that it is up, and that it runs a moment later: a dump has seen both."""
    sh(CABLE)
    e1 = Network(name="e1", interface="e1", address="192.0.2.6", gateway="192.0.2.1", kind="ethernet")

    async def test() -> None:
        async with NetworkWatcher() as watcher:
            assert [fact async for fact in watcher._look()] == [NetworkUp(E0)]
            sh("ip link add e1 type veth peer name p1; ip link set p1 up; ip link set e1 up")
            sh("ip addr add 192.0.2.6/24 dev e1; ip route add default via 192.0.2.1 dev e1 metric 7")
            told = [fact async for fact in watcher._look()]
            assert [fact for data in watcher._waiting() for fact in watcher._taken(data)] == []
            assert told == [NetworkUp(e1)]

    asyncio.run(test())
