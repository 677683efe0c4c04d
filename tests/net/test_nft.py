"""Sojourn's nftables tables on real packets.

sjn-*-h (a host's side)          this namespace (anchor)              sjn-*-c (correspondent, 198.51.100.9)
  10.201.0.5, fd00:5::5  ------- sojourn-a      eth0 198.51.100.1 ---- 198.51.100.9, 2001:db8:9::9
sojourn-a is a veth here, so that the host's TCP is the kernel's; its name is all that the table knows of it.
"""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from pyroute2 import NFCTSocket

from sojourn.errors import ConfigError
from sojourn.lab.namespaces import inside, settle
from sojourn.linux import nft
from sojourn.linux.nft import AnchorRules, HostRules, PortForward
from tests.linux.fresh import fresh_namespace, kernel_state, named_namespace, sh

VIPA, VIPA6, OTHER = "10.201.0.5", "fd00:5::5", "10.201.0.6"
PUBLIC, FAR, FAR6 = "198.51.100.1", "198.51.100.9", "2001:db8:9::9"
RULES = AnchorRules(
    device="sojourn-a", pool="10.201.0.0/16", uplink="eth0", pool6="fd00:5::/64", snat=PUBLIC,
    forwards=(PortForward("tcp", 22, VIPA, 2222), PortForward("udp", 53, VIPA, 5353)),
)  # fmt: skip


class World:
    """The names of the two other machines."""

    def __init__(self, host: str, far: str) -> None:
        self.host, self.far = host, far


@pytest.fixture(scope="module")
def machines() -> Iterator[World]:
    with fresh_namespace(), named_namespace("h") as host, named_namespace("c") as far:
        sh(f"ip link add sojourn-a type veth peer name up0 netns {host}")
        sh(f"ip link add eth0 type veth peer name e0 netns {far}")
        sh("ip addr add 10.201.0.1/16 dev sojourn-a; ip -6 addr add fd00:5::1/64 dev sojourn-a nodad")
        sh(f"ip addr add {PUBLIC}/24 dev eth0; ip -6 addr add 2001:db8:9::1/64 dev eth0 nodad")
        sh("ip link set sojourn-a up; ip link set eth0 up")
        sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        sh(f"ip link set up0 up; ip addr add {VIPA}/16 dev up0; ip addr add {OTHER}/16 dev up0", host)
        sh(f"ip -6 addr add {VIPA6}/64 dev up0 nodad; ip -6 route add default via fd00:5::1", host)
        sh("ip route add default via 10.201.0.1", host)
        sh(f"ip link set e0 up; ip addr add {FAR}/24 dev e0; ip -6 addr add {FAR6}/64 dev e0 nodad", far)
        sh("ip route add 10.201.0.0/16 via 198.51.100.1", far)
        for name in (None, host, far):
            settle(name)
        yield World(host, far)


@pytest.fixture
def anchor(machines: World) -> Iterator[World]:
    nft.set_anchor(RULES)
    yield machines
    nft.remove_anchor()


def listener(namespace: str, address: str, port: int, kind: int) -> socket.socket:
    def work() -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(3)
        sock.bind((address, port))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        return sock

    return inside(namespace, work)


def caller(server: socket.socket) -> str:
    """Who the next connection comes from, as the server sees it."""
    connection, peer = server.accept()
    connection.close()
    return str(peer[0])


def connected(namespace: str, source: str, destination: str, port: int) -> socket.socket:
    return inside(namespace, lambda: socket.create_connection((destination, port), 3, source_address=(source, 0)))


def sent(namespace: str, source: str, destination: str, port: int) -> None:
    with listener(namespace, source, 0, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (destination, port))


def time_outs(protocol: int) -> list[int]:
    """The seconds that conntrack still gives to each flow of this protocol and of the pool."""
    found = []
    with NFCTSocket() as conntrack:
        for entry in conntrack.dump():
            tuple_ = entry.get_attr("CTA_TUPLE_ORIG")
            number = tuple_.get_attr("CTA_TUPLE_PROTO").get_attr("CTA_PROTO_NUM")
            addresses = tuple_.get_attr("CTA_TUPLE_IP")
            mine = {VIPA, OTHER, VIPA6} & {value for _, value in addresses["attrs"]}
            if number == protocol and (mine or PUBLIC in str(addresses)):
                found.append(entry.get_attr("CTA_TIMEOUT"))
    return found


def test_hosts_leave_by_the_anchors_address_in_both_families(anchor: World) -> None:
    for source, far, seen in ((VIPA, FAR, PUBLIC), (VIPA6, FAR6, "2001:db8:9::1")):
        server = listener(anchor.far, far, 8080, socket.SOCK_STREAM)
        with server, connected(anchor.host, source, far, 8080):
            assert caller(server) == seen


def test_without_a_known_address_the_anchor_masquerades(machines: World) -> None:
    nft.set_anchor(AnchorRules(device="sojourn-a", pool="10.201.0.0/16", uplink="eth0"))
    with listener(machines.far, FAR, 8081, socket.SOCK_DGRAM) as server:
        sent(machines.host, VIPA, FAR, 8081)
        assert server.recvfrom(10)[1][0] == PUBLIC
    nft.remove_anchor()


def test_a_routed_prefix_keeps_its_addresses(machines: World) -> None:
    sh("ip -6 route replace fd00:5::/64 via 2001:db8:9::1", machines.far)
    rules = AnchorRules(
        device="sojourn-a", pool="10.201.0.0/16", uplink="eth0", pool6="fd00:5::/64", nat6=False,
        forwards=(PortForward("tcp", 22, VIPA6, 22),),
    )  # fmt: skip
    nft.set_anchor(rules)
    with listener(machines.far, FAR6, 8082, socket.SOCK_DGRAM) as server:
        sent(machines.host, VIPA6, FAR6, 8082)
        assert server.recvfrom(10)[1][0] == VIPA6
    with listener(machines.host, VIPA6, 22, socket.SOCK_STREAM) as server, connected(machines.far, FAR6, VIPA6, 22):
        assert caller(server) == FAR6
    with listener(machines.host, VIPA6, 23, socket.SOCK_STREAM), pytest.raises(TimeoutError):
        connected(machines.far, FAR6, VIPA6, 23)
    nft.remove_anchor()


def test_exposed_ports_lead_to_the_host_and_show_it_who_calls(anchor: World) -> None:
    with listener(anchor.host, VIPA, 22, socket.SOCK_STREAM) as server, connected(anchor.far, FAR, PUBLIC, 2222):
        assert caller(server) == FAR
    with listener(anchor.host, VIPA, 53, socket.SOCK_DGRAM) as server:
        sent(anchor.far, FAR, PUBLIC, 5353)
        assert server.recvfrom(10)[1][0] == FAR


def test_what_is_not_exposed_is_not_reached_even_by_a_neighbour_that_routes_to_the_pool(anchor: World) -> None:
    with listener(anchor.host, VIPA, 23, socket.SOCK_STREAM), pytest.raises(TimeoutError):
        connected(anchor.far, FAR, VIPA, 23)


def test_strange_inner_sources_are_dropped(anchor: World) -> None:
    sh("ip addr add 192.0.2.77/32 dev up0", anchor.host)
    sh("ip route add 192.0.2.77/32 dev sojourn-a")
    with listener(anchor.far, FAR, 8083, socket.SOCK_DGRAM) as server:
        sent(anchor.host, "192.0.2.77", FAR, 8083)
        sent(anchor.host, VIPA, FAR, 8083)
        assert server.recvfrom(10)[1][0] == PUBLIC
    sh("ip route del 192.0.2.77/32 dev sojourn-a")


def test_hosts_do_not_reach_each_other_unless_told_so(machines: World) -> None:
    # Two hosts are one machine here, whose packets go by way of the anchor: dev sojourn-a in and out.
    with named_namespace("n") as other:
        sh(f"ip link add b0 type bridge; ip link add p1 type veth peer name n0 netns {other}", machines.host)
        sh("ip addr flush dev up0; ip link set up0 master b0; ip link set p1 master b0", machines.host)
        sh("ip link set b0 up; ip link set p1 up; ip addr add 10.201.0.5/32 dev b0", machines.host)
        sh("ip route add 10.201.0.1 dev b0; ip route add default via 10.201.0.1 dev b0", machines.host)
        sh("ip link set n0 up; ip addr add 10.201.0.8/32 dev n0; ip route add 10.201.0.1 dev n0", other)
        sh("ip route add default via 10.201.0.1 dev n0", other)
        try:
            for isolate in (True, False):
                rules = AnchorRules(device="sojourn-a", pool="10.201.0.0/16", uplink="eth0", isolate=isolate)
                nft.set_anchor(rules)
                with listener(other, "10.201.0.8", 9000, socket.SOCK_DGRAM) as server:
                    server.settimeout(0.5)
                    sent(machines.host, VIPA, "10.201.0.8", 9000)
                    with pytest.raises(TimeoutError) if isolate else contextlib.nullcontext():
                        assert server.recvfrom(10)[1][0] == VIPA
        finally:
            nft.remove_anchor()
            sh("ip link del b0; ip link del p1", machines.host)
            sh(f"ip addr add {VIPA}/16 dev up0; ip addr add {OTHER}/16 dev up0", machines.host)
            sh(f"ip -6 addr add {VIPA6}/64 dev up0 nodad; ip -6 route replace default via fd00:5::1", machines.host)
            sh("ip route replace default via 10.201.0.1", machines.host)
            settle(machines.host)


def test_conntrack_remembers_udp_for_an_hour_also_after_a_reload(anchor: World) -> None:
    with NFCTSocket() as conntrack:
        conntrack.flush()
    server = listener(anchor.far, FAR, 8084, socket.SOCK_DGRAM)
    client = listener(anchor.host, VIPA, 0, socket.SOCK_DGRAM)
    with server, client:
        client.sendto(b"1", (FAR, 8084))
        peer = server.recvfrom(10)[1]
        assert max(time_outs(socket.IPPROTO_UDP)) > nft.UDP_IDLE - 60
        nft.set_anchor(RULES)
        server.sendto(b"2", peer)
        assert client.recv(10) == b"2"
        assert max(time_outs(socket.IPPROTO_UDP)) > nft.UDP_IDLE - 60


def test_whoever_calls_a_forwarded_port_is_remembered_for_long_once_the_host_has_answered(anchor: World) -> None:
    with NFCTSocket() as conntrack:
        conntrack.flush()
    client = listener(anchor.far, FAR, 0, socket.SOCK_DGRAM)
    server = listener(anchor.host, VIPA, 53, socket.SOCK_DGRAM)
    with client, server:
        client.sendto(b"1", (PUBLIC, 5353))
        peer = server.recvfrom(10)[1]
        assert max(time_outs(socket.IPPROTO_UDP)) <= nft.UDP_UNANSWERED
        time.sleep(2.1)  # a conversation, in the kernel's view, lasts longer than two seconds
        server.sendto(b"2", peer)
        assert client.recv(10) == b"2"
        client.sendto(b"3", (PUBLIC, 5353))
        assert server.recv(10) == b"3"
        assert max(time_outs(socket.IPPROTO_UDP)) > nft.UDP_IDLE - 60


def test_conntrack_remembers_tcp_with_unacknowledged_data_for_a_day_also_after_a_reload(anchor: World) -> None:
    server = listener(anchor.far, FAR, 8085, socket.SOCK_STREAM)
    with server, connected(anchor.host, VIPA, FAR, 8085) as client:
        connection, _ = server.accept()
        nft.set_anchor(RULES)
        sh("ip link set up0 down", anchor.host)  # the host is away
        try:
            connection.sendall(b"x" * 1000)
            time.sleep(0.2)
            waiting = [left for left in time_outs(socket.IPPROTO_TCP) if left < 2 * nft.TCP_WAITING]
            assert any(left > nft.TCP_WAITING - 60 for left in waiting), waiting
        finally:
            sh("ip link set up0 up; ip route replace default via 10.201.0.1", anchor.host)
            sh(f"ip -6 addr replace {VIPA6}/64 dev up0 nodad; ip -6 route replace default via fd00:5::1", anchor.host)
        client.settimeout(10)
        assert client.recv(1000) == b"x" * 1000
        connection.close()


def test_the_tables_of_others_are_not_touched(machines: World) -> None:
    sh("nft 'table inet own { chain forward { type filter hook forward priority 5; policy accept; counter; }; }'")
    try:
        before = kernel_state()
        nft.set_anchor(RULES)
        nft.set_host(HostRules("sojourn0", VIPA, resolver="10.201.0.1"))
        nft.set_held()
        assert sh("nft list table inet own") in sh("nft list ruleset")
        assert nft.remove_anchor()
        assert nft.remove_host()
        assert nft.remove_held()
        assert not nft.remove_anchor()
        assert kernel_state() == before
    finally:
        sh("nft delete table inet own")


def test_a_wrong_name_or_protocol_is_refused_before_nft_sees_it() -> None:
    with pytest.raises(ConfigError):
        nft.anchor_text(AnchorRules('x" accept; #', "10.201.0.0/16", "eth0"))
    with pytest.raises(ConfigError):
        nft.anchor_text(AnchorRules("t", "10.201.0.0/16", "eth0", forwards=(PortForward("icmp", 1, VIPA, 1),)))


def test_a_refused_ruleset_is_an_os_error_with_nfts_words() -> None:
    with fresh_namespace(), pytest.raises(OSError, match="syntax error"):
        nft.run("nonsense\n")


DNS = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("10.201.0.1", 53)); print("ready", flush=True)
while True:
    data, peer = s.recvfrom(100); s.sendto(peer[0].encode(), peer)
"""


def test_questions_for_any_name_server_go_through_the_tunnel_and_come_back_with_strict_reverse_paths() -> None:
    """The host's half: a LAN resolver is asked, the anchor's answers; our own marked look-ups are left alone."""
    with fresh_namespace(), named_namespace("t") as tunnel, named_namespace("l") as lan:
        sh(f"ip link add sojourn0 type veth peer name t0 netns {tunnel}")
        sh(f"ip link add e0 type veth peer name l0 netns {lan}")
        sh("ip addr add 10.201.0.5/32 dev sojourn0; ip link set sojourn0 up")
        sh("ip addr add 192.168.1.5/24 dev e0; ip link set e0 up; ip route add default via 192.168.1.1")
        sh("ip rule add priority 5300 to 10.201.0.1 lookup 5200; ip route add 10.201.0.1 dev sojourn0 table 5200")
        sh("ip rule add priority 5301 from 192.168.1.5 lookup main")
        sh("ip link set t0 up; ip addr add 10.201.0.1/24 dev t0", tunnel)
        sh("ip link set l0 up; ip addr add 192.168.1.1/24 dev l0", lan)
        sh("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $f; done")
        nft.set_host(HostRules("sojourn0", VIPA, resolver="10.201.0.1"))
        server = subprocess.Popen(["ip", "netns", "exec", tunnel, sys.executable, "-c", DNS], stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(2)
                sock.connect(("192.168.1.1", 53))
                sock.send(b"who?")
                assert sock.recv(100) == VIPA.encode()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x5A000000)
                sock.settimeout(2)
                sock.connect(("192.168.1.1", 53))
                sock.send(b"who?")
                with pytest.raises(ConnectionRefusedError):
                    sock.recv(100)
        finally:
            server.kill()
            server.wait()
            if server.stdout is not None:
                server.stdout.close()
