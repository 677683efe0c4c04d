"""What the rules do to real packets, rp_filter strict everywhere.

this namespace (mobile host)                    sjn-*-a, sjn-*-b (two access networks, each with all the world)
  e0  192.168.1.5/24, 2001:db8:1::5  --------- 192.168.1.1, 2001:db8:1::1    203.0.113.9  2001:db8:9::9
  e1  192.168.2.5/24                 --------- 192.168.2.1                   203.0.113.9
  sojourn0 (TUN)  10.201.0.7
The main table's default route is e1's: what leaves by e0 finds its gateway by our rules alone.
"""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator, Sequence

import pytest

from sojourn.errors import ConfigError
from sojourn.lab.namespaces import settle
from sojourn.linux import device
from sojourn.linux.capture import Action, Capture
from sojourn.linux.cleanup import cleanup
from sojourn.linux.numbers import PLACEHOLDER6
from sojourn.linux.routes import HostRouting
from sojourn.linux.tun import Tun
from sojourn.model import Endpoint, Network
from sojourn.packet import vnet
from sojourn.packet.ip import udp_packet, udp_parts
from sojourn.policy.match import parse
from tests.harness.standstill import Standstill
from tests.linux.fresh import fresh_namespace, kernel_state, named_namespace, sh

VIPA, VIPA6, DEVICE = "10.201.0.7", "fd00:5::7", "sojourn0"
FAR, FAR6 = "203.0.113.9", "2001:db8:9::9"
E0 = Network(name="e0", interface="e0", address="192.168.1.5", gateway="192.168.1.1")
E1 = Network(name="e1", interface="e1", address="192.168.2.5", gateway="192.168.2.1")
E0_6 = Network(name="e0-6", interface="e0", address="2001:db8:1::5", gateway="2001:db8:1::1")
ECHO = """
import socket, sys, threading
def serve(family, address):
    s = socket.socket(family, socket.SOCK_DGRAM); s.bind((address, 7))
    while True:
        data, peer = s.recvfrom(100)
        try: s.sendto(peer[0].encode(), peer)
        except OSError: pass  # a stranger: no way back
t = socket.create_server(("203.0.113.9", 7))
threading.Thread(target=serve, args=(socket.AF_INET, "203.0.113.9"), daemon=True).start()
threading.Thread(target=serve, args=(socket.AF_INET, sys.argv[1]), daemon=True).start()
print("ready", flush=True)
while True:
    c, peer = t.accept(); c.sendall(peer[0].encode()); c.close()
"""


@pytest.fixture(scope="module")
def world() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(fresh_namespace())
        for number, name in ((1, "a"), (2, "b")):
            router, near = stack.enter_context(named_namespace(name)), f"192.168.{number}"
            sh(f"ip link add e{number - 1} type veth peer name near0 netns {router}")
            sh(f"ip addr add {near}.1/24 dev near0; ip link set near0 up; ip addr add {FAR}/32 dev lo", router)
            sh(f"ip -6 addr add 2001:db8:{number}::1/64 dev near0 nodad; ip -6 addr add {FAR6}/128 dev lo", router)
            sh(f"ip addr add {near}.5/24 dev e{number - 1}; ip link set e{number - 1} up")
            sh(f"ip -6 addr add 2001:db8:{number}::5/64 dev e{number - 1} nodad")
            settle(router)
            server = subprocess.Popen(
                ["ip", "netns", "exec", router, sys.executable, "-c", ECHO, f"{near}.1"], stdout=subprocess.PIPE
            )
            stack.callback(server.wait)
            stack.callback(server.kill)
            assert server.stdout is not None
            stack.callback(server.stdout.close)
            assert server.stdout.readline() == b"ready\n"
        sh("ip route add default via 192.168.2.1; ip -6 route add default via 2001:db8:2::1")
        sh("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $f; done")
        _wait_for_settled_addresses()
        yield


def _wait_for_settled_addresses() -> None:
    settle()
    until = time.monotonic() + 10
    while "tentative" in sh("ip -6 addr"):  # link-local ones, which the tests compare
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.fixture
def host(world: None) -> Iterator[HostRouting]:
    """A mobile host's routing; at the end of each test nothing of it is left."""
    before = kernel_state()
    run(device.create_tun(DEVICE, [f"{VIPA}/32"], 1400))
    sh(f"echo 1 > /proc/sys/net/ipv4/conf/{DEVICE}/rp_filter")
    yield HostRouting()
    run(cleanup([DEVICE]))
    assert kernel_state() == before
    assert run(cleanup([DEVICE])) == []


def run(work: Coroutine[None, None, list[str] | bool | None]) -> list[str] | bool | None:
    return asyncio.run(work)


def captured(host: HostRouting, captures: Sequence[Capture] = (), *, kill_switch: bool = False) -> None:
    async def work() -> None:
        await host.set_network(E0)
        await host.set_network(E1)
        await host.up(DEVICE, VIPA, None, captures, kill_switch=kill_switch, inner=["10.201.0.1"])

    run(work())


def seen_by_echo(*, bind: str = "", interface: str = "", mark: int = 0, to: str = FAR) -> str:
    """The source address that a datagram arrives with, as the echo server says; its answer has come back, too."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        if interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        if bind:
            sock.bind((bind, 0))
        sock.sendto(b"?", (to, 7))
        return sock.recv(100).decode()


def source_to(destination: str, port: int = 443, kind: int = socket.SOCK_DGRAM, family: int = socket.AF_INET) -> str:
    """The source address that the kernel would give a new flow."""
    with socket.socket(family, kind) as sock:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect((destination, port))
        return str(sock.getsockname()[0])


def test_unbound_sockets_are_captured_and_their_answers_come_back(host: HostRouting) -> None:
    tun = Tun.open(DEVICE)
    try:
        captured(host)
        assert source_to(FAR) == VIPA
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(2)
            sock.sendto(b"question", (FAR, 7))
            source, destination, payload = udp_parts(_next_packet(tun))
            assert (source.address, destination, payload) == (VIPA, Endpoint(FAR, 7), b"question")
            tun.write(bytes(vnet.HEADER_BYTES), udp_packet(destination, source, b"answer"))
            assert sock.recvfrom(100) == (b"answer", (FAR, 7))
    finally:
        tun.close()


def _next_packet(tun: Tun) -> bytes:
    until = time.monotonic() + 2
    while time.monotonic() < until:
        read = tun.read()
        if read is None:
            time.sleep(0.005)
        elif read[vnet.HEADER_BYTES] >> 4 == 4:
            packet = bytearray(read[vnet.HEADER_BYTES :])
            packet[26:28] = b"\0\0"  # the checksum is left to the device
            return bytes(packet)
    raise AssertionError("nothing came to the device")


def test_bound_sockets_find_their_own_gateway_with_strict_reverse_paths(host: HostRouting) -> None:
    with pytest.raises(TimeoutError):
        seen_by_echo(bind="192.168.1.5")  # without our rules it leaves by main's default route, and nothing comes back
    captured(host)
    assert seen_by_echo(bind="192.168.1.5") == "192.168.1.5"
    assert seen_by_echo(bind="192.168.1.5", interface="e0") == "192.168.1.5"
    assert seen_by_echo(interface="e0") == "192.168.1.5"
    assert seen_by_echo(bind="192.168.2.5") == "192.168.2.5"
    with socket.create_connection((FAR, 7), timeout=2, source_address=("192.168.1.5", 0)) as connection:
        assert connection.recv(100) == b"192.168.1.5"


def test_a_network_works_when_main_has_no_default_route_at_all(host: HostRouting) -> None:
    captured(host)
    sh("ip route del default")
    try:
        assert seen_by_echo(bind="192.168.1.5", interface="e0") == "192.168.1.5"
    finally:
        sh("ip route add default via 192.168.2.1")


def test_lan_multicast_and_marked_sockets_are_direct(host: HostRouting) -> None:
    captured(host)
    assert seen_by_echo(to="192.168.1.1") == "192.168.1.5"
    assert seen_by_echo(mark=0x5A000001) == "192.168.2.5"
    for destination in ("224.0.0.251", "169.254.169.254"):
        assert source_to(destination) == "192.168.2.5"
    assert source_to("10.201.0.1") == VIPA


def test_a_flow_that_is_older_than_the_capture_stays_direct(host: HostRouting) -> None:
    with socket.create_connection((FAR, 7), timeout=2) as connection:
        captured(host, kill_switch=True)
        assert connection.recv(100) == b"192.168.2.5"
        assert connection.recv(100) == b""  # closed by the other end, acknowledged over the old way


def test_a_lan_of_two_interfaces_answers_on_the_right_one(host: HostRouting) -> None:
    sh("ip addr add 192.168.1.6/24 dev e1")
    try:
        captured(host)
        assert seen_by_echo(bind="192.168.1.5", to="192.168.1.1") == "192.168.1.5"
    finally:
        sh("ip addr del 192.168.1.6/24 dev e1")


def test_capture_entries_decide_in_their_order(host: HostRouting) -> None:
    captures = [
        Capture(parse("-p tcp --dport 22"), Action.DIRECT),
        Capture(parse("-d 203.0.113.64/26 ! -p udp"), Action.DIRECT),
        Capture(parse("-p udp -d 192.168.2.1 --dport 5000:5100"), Action.TUNNEL),
        Capture(parse("-p icmp"), Action.DIRECT),
        Capture(parse("-p tcp"), Action.TUNNEL),
        Capture(parse("-d 198.51.100.0/24"), Action.DIRECT, (12345, 12345)),
    ]
    captured(host, captures)
    direct, udp, tcp = "192.168.2.5", socket.SOCK_DGRAM, socket.SOCK_STREAM
    assert source_to(FAR, 22, tcp) == direct
    assert source_to(FAR, 22, udp) == VIPA
    assert source_to("203.0.113.65", 80, tcp) == direct
    assert source_to("203.0.113.65", 80, udp) == VIPA
    assert source_to("192.168.2.1", 5050, udp) == VIPA
    assert source_to("192.168.2.1", 4999, udp) == direct
    assert source_to("192.168.2.1", 80, tcp) == direct, "an entry without destination takes the LAN in"
    assert source_to(FAR, 80, tcp) == VIPA
    assert source_to("198.51.100.1", 80, udp) == VIPA
    ask = "import socket; s = socket.socket(2, 2); s.connect(('198.51.100.1', 9)); print(s.getsockname()[0])"
    asked = f'{sys.executable} -c "{ask}"'
    assert sh(f"setpriv --reuid 12345 --clear-groups {asked}").strip() == direct


def test_a_capture_that_no_rule_can_say_changes_nothing(host: HostRouting) -> None:
    captured(host)
    before = kernel_state()
    with pytest.raises(ConfigError):
        captured(host, [Capture(parse("-p udp --dport 0"), Action.DIRECT)])
    assert kernel_state() == before


def test_repeating_and_taking_over_change_nothing(host: HostRouting) -> None:
    captured(host, kill_switch=True)
    before = kernel_state()
    captured(host, kill_switch=True)
    captured(HostRouting(), kill_switch=True)
    assert kernel_state() == before


def test_a_successor_forgets_networks_that_are_gone(host: HostRouting) -> None:
    captured(host)
    successor = HostRouting()
    run(successor.set_networks([E1]))
    rules = sh("ip rule")
    assert "192.168.1.5" not in rules
    assert "oif e0" not in rules
    assert "192.168.2.5" in rules
    assert "dev sojourn0" in sh("ip route show table 5200"), "the capture goes on"
    run(successor.drop_network("e1"))
    assert "oif e1" not in sh("ip rule")


def test_a_network_follows_its_gateway_and_its_address(host: HostRouting) -> None:
    captured(host)
    sh("ip addr add 192.168.1.77/24 dev e0")
    moved = Network(name="e0", interface="e0", address="192.168.1.77", gateway="192.168.1.254")
    run(host.set_network(moved))
    rules = sh("ip rule")
    assert "192.168.1.5 " not in rules
    assert "192.168.1.77 " in rules
    table = sh("ip rule | sed -n 's/.*oif e0 lookup \\(52[0-9]*\\) .*/\\1/p'").strip()
    assert "via 192.168.1.254 dev e0" in sh(f"ip route show table {table}")
    assert "192.168.1.1 " not in sh(f"ip route show table {table}")
    sh("ip addr del 192.168.1.77/24 dev e0")


def test_a_gateway_beyond_the_subnet_or_of_the_other_family_is_taken(host: HostRouting) -> None:
    for gateway, shown in (("198.18.0.1", "via 198.18.0.1"), ("fe80::1", "via inet6 fe80::1")):
        run(host.set_network(Network(name="e0", interface="e0", address="192.168.1.5", gateway=gateway)))
        run(host.set_network(Network(name="e0", interface="e0", address="192.168.1.5", gateway=gateway)))
        assert f"default {shown} dev e0" in sh("ip route show table 5201")
    run(host.set_network(Network(name="e0", interface="e0", address="192.168.1.5")))
    assert "default dev e0 proto 90 scope link" in sh("ip route show table 5201")


def test_an_address_that_is_gone_is_an_os_error(host: HostRouting) -> None:
    with pytest.raises(OSError, match=r"[Ii]nvalid"):
        run(host.set_network(Network(name="e0", interface="e0", address="192.168.1.99", gateway="192.168.1.1")))
    with pytest.raises(OSError):
        run(host.set_network(Network(name="e9", interface="e9", address="192.168.1.5", gateway="192.168.1.1")))


def test_the_kill_switch_holds_when_the_device_is_gone(host: HostRouting) -> None:
    captured(host, kill_switch=True)
    sh(f"ip link del {DEVICE}")
    with pytest.raises(OSError) as refused:
        source_to(FAR)
    assert refused.value.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)
    assert seen_by_echo(bind="192.168.1.5") == "192.168.1.5"
    assert seen_by_echo(to="192.168.2.1") == "192.168.2.5"


def test_without_a_kill_switch_traffic_is_direct_when_the_device_is_gone(host: HostRouting) -> None:
    captured(host)
    sh(f"ip link del {DEVICE}")
    assert seen_by_echo() == "192.168.2.5"


def test_the_kill_switch_stands_after_kill_9_and_cleanup_needs_no_memory(host: HostRouting) -> None:
    program = (
        "import asyncio, os, sys; from tests.net.test_routes import *; "
        "captured(HostRouting(), kill_switch=True); print('up', flush=True); sys.stdin.read()"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGKILL)
    assert source_to(FAR) == VIPA
    with pytest.raises(TimeoutError):
        seen_by_echo()
    gone = run(cleanup([]))
    assert isinstance(gone, list)
    assert f"device {DEVICE}" in gone
    assert seen_by_echo() == "192.168.2.5"


def test_ipv6_is_captured_with_a_vipa6_and_left_alone_without(host: HostRouting) -> None:
    captured(host)
    assert source_to(FAR6, family=socket.AF_INET6) == "2001:db8:2::5"
    run(device.create_tun(DEVICE, [f"{VIPA}/32", f"{VIPA6}/128"], 1400))
    run(host.up(DEVICE, VIPA, VIPA6, inner=["fd00:5::1"]))
    run(host.set_network(E0_6))
    assert source_to(FAR6, family=socket.AF_INET6) == VIPA6
    assert source_to("2001:db8:1::1", family=socket.AF_INET6) == "2001:db8:1::5"
    assert "via 2001:db8:1::1 dev e0" in sh(f"ip -6 route get {FAR6} from 2001:db8:1::5")
    assert "dev sojourn0" in sh(f"ip -6 route get {FAR6} from {VIPA6}")


def test_ipv6_does_not_leak_past_a_kill_switch_without_vipa6(host: HostRouting) -> None:
    captured(host, kill_switch=True)
    counters = "oifname e0 counter; oifname e1 counter;"
    counted = f"table ip6 sjn_count {{ chain c {{ type filter hook output priority 300; {counters} }}; }}"
    sh(f"nft '{counted}'")
    try:
        assert source_to(FAR6, family=socket.AF_INET6) == PLACEHOLDER6
        with Standstill() as stood:
            start = time.monotonic()
            with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock, pytest.raises(OSError):
                sock.settimeout(5)
                sock.connect((FAR6, 7))
            assert stood.without(start, time.monotonic()) < 0.5, "the application was not told at once"
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.connect((FAR6, 7))
            with pytest.raises(OSError):
                sock.send(b"secret")
        assert sh("nft list table ip6 sjn_count").count("packets 0") == 2
        assert source_to("2001:db8:1::1", family=socket.AF_INET6) == "2001:db8:1::5"
        run(host.up(DEVICE, VIPA, None, kill_switch=False))
        assert source_to(FAR6, family=socket.AF_INET6) == "2001:db8:2::5"
    finally:
        sh("nft delete table ip6 sjn_count")


def test_release_gives_traffic_back_and_keeps_the_networks(host: HostRouting) -> None:
    captured(host, kill_switch=True)
    run(host.release())
    assert seen_by_echo() == "192.168.2.5"
    assert seen_by_echo(bind="192.168.1.5") == "192.168.1.5"


def test_the_owners_rules_routes_and_tables_are_the_same_before_during_and_after(world: None) -> None:
    sh("ip rule add priority 5350 from 192.0.2.1 lookup 77; ip route add 192.0.2.0/24 dev e0 table 77 proto static")
    sh("ip route add blackhole 198.18.0.0/15 metric 9; nft 'table ip own { chain c { tcp dport 1 drop; }; }'")
    try:
        before = kernel_state()
        host = HostRouting()
        run(device.create_tun(DEVICE, [f"{VIPA}/32"], 1400))
        captured(host, kill_switch=True)
        during = set(kernel_state().splitlines())
        own = {line for line in before.splitlines() if "sojourn" not in line}
        assert own <= during
        run(host.down())
        run(device.delete(DEVICE))
        assert kernel_state() == before
    finally:
        sh("ip rule del priority 5350; ip route flush table 77")
        sh("ip route del blackhole 198.18.0.0/15; nft delete table ip own")
