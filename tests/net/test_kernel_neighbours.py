"""The kernel path beside ends and devices that are otherwise, and when the process that looks after it is killed.

Topologies: tests/net/kernel_lab.py, tests/net/test_plain.py.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time

import pytest
from msgspec.structs import replace

from sojourn.api.client import Client
from sojourn.lab import namespaces
from sojourn.lab.topology import CELLULAR, WIFI, Lab, Topology
from tests.harness.standstill import Standstill
from tests.net.capture import ETH_P_ALL
from tests.net.conftest import MakeLab
from tests.net.kernel_lab import ANCHOR, CORRESPONDENT, HOST, OUTER, PEER, KernelLab, layout
from tests.net.test_kernel_path import (
    _close_sockets,
    families,
    inside,
    test_a_train_of_datagrams_arrives_whole,
    transfer,
    ways,
)
from tests.net.test_plain import CH, configure

__all__ = ["_close_sockets"]

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces and TUN devices"),
]

CARD = ("tso", "off", "gso", "on", "tx-udp_tnl-segmentation", "off", "tx-udp_tnl-csum-segmentation", "off",
        "tx-udp-segmentation", "off", "tx", "off")  # fmt: skip

train = test_a_train_of_datagrams_arrives_whole
del test_a_train_of_datagrams_arrives_whole


@pytest.mark.parametrize("ends", [("", "python"), ("python", ""), ("core", ""), ("", "core")], ids="-".join)
@families
def test_an_end_without_the_kernel_path_speaks_with_one_that_has_it(ends: tuple[str, str], six: bool) -> None:
    with layout():
        made = KernelLab(4, "", *ends)
        try:
            for up in (True, False):
                transfer(six, up, 8 << 20)
            assert max(made.carried()) > 0 or ends[0]
        finally:
            made.close()


@families
@ways
def test_it_crosses_devices_without_offloads(six: bool, up: bool) -> None:
    with layout():
        for namespace, device in ((HOST, "h0"), (ANCHOR, "a0"), (ANCHOR, "a1"), (CORRESPONDENT, "c0")):
            inside(namespace, "ethtool", "-K", device, *CARD)
        made = KernelLab(4)
        try:
            transfer(six, up, 32 << 20)
            assert made.carried()[not up] > 20000
            end = ANCHOR if up else HOST
            single = int(inside(end, "cat", "/sys/class/net/sj0-j1/statistics/rx_packets"))
            assert single > 20000, "all have passed where the kernel joins them"
            train(made, six, up)
        finally:
            made.close()


def test_packets_follow_a_neighbour_to_another_hardware_address_within_a_second() -> None:
    def tapped() -> socket.socket:
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        tap.bind(("a0", ETH_P_ALL))
        tap.setblocking(False)
        return tap

    def addressed_to(tap: socket.socket) -> list[str]:
        """Return where the tunnel's packets that have come since the last call went to."""
        found, source = [], socket.inet_aton(OUTER[4][0][0])
        with contextlib.suppress(BlockingIOError):
            while frame := tap.recv(2048):
                if frame[26:30] == source and len(frame) > 100:  # a ping: the tunnel's own are shorter
                    found.append(frame[:6].hex(":"))
        return found

    with layout():
        made = KernelLab(4)
        try:
            before, after = inside(ANCHOR, "cat", "/sys/class/net/a0/address").strip(), "02:00:00:00:77:01"
            ping = ["ping", "-q", "-i", "0.02", "-c", "150", "-W", "1", PEER]
            with (
                namespaces.inside(ANCHOR, tapped) as tap,
                subprocess.Popen(namespaces.entering(HOST, ping), stdout=subprocess.PIPE) as pinging,
            ):
                time.sleep(1.2)
                inside(ANCHOR, "ip", "link", "set", "a0", "address", after)
                assert set(addressed_to(tap)) == {before}
                inside(HOST, "ip", "neigh", "replace", OUTER[4][0][1], "lladdr", after, "dev", "h0")
                time.sleep(1.2)
                assert set(addressed_to(tap)) == {before, after}, "a way is believed for a second"
                pinging.communicate(timeout=30)
                assert set(addressed_to(tap)) == {after}
            assert min(made.carried()) > 100
        finally:
            made.close()


REFUSED = """
import socket, sys
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.settimeout(5)
made.connect((sys.argv[1], 5999))
for _ in range(3):
    try:
        made.send(b"anyone?")
        made.recv(100)
    except ConnectionRefusedError:
        print("refused")
"""


def carried(status: object) -> int:
    """Return the packets that an anchor's kernel has carried, of the direction that has fewer."""
    assert isinstance(status, dict)
    assert status["data_path"]["kernel"] is True
    return int(min(status["totals"][f"kernel-carried-{way}"] for way in ("in", "out")))


def test_behind_nats_the_kernel_carries_on_while_data_paths_and_the_anchor_are_killed_and_replaced(lab: Lab) -> None:
    daemons = configure(lab)
    daemons.start()
    lab.run("mh", "ping", "-q", "-c", "2", CH)
    # The error is about the anchor's translation of a packet, and comes back to the socket.
    assert lab.run("mh", sys.executable, "-c", REFUSED, CH).split() == ["refused"] * 3
    time.sleep(1.5)  # both have a spare now
    said: list[str] = []
    argv = namespaces.entering(lab.namespace("mh"), ["ping", "-D", "-i", "0.01", "-c", "700", "-W", "1", CH])

    def ping() -> None:
        said.append(subprocess.run(argv, capture_output=True, text=True, check=False).stdout)

    thread = threading.Thread(target=ping)
    clocks = time.monotonic() - time.time()  # noqa: TID251 - ping's is the wall's
    with Standstill() as stood:
        thread.start()
        for role in ("mh", "an", "mh"):
            time.sleep(1.0)
            daemons.kill_data_path(role)
        time.sleep(1.0)
        daemons.kill_anchor()
        time.sleep(0.5)
        daemons.start_anchor()
        thread.join(30)
    times = [float(found) + clocks for found in re.findall(r"^\[([0-9.]+)\] 64 bytes", said[0], re.MULTILINE)]
    assert len(times) >= 698
    assert stood.longest(times) < 0.5
    flows = daemons.call("flows")
    assert any(flow["protocol"] == "icmp" for flow in flows)
    assert carried(Client(str(daemons.anchor_socket)).call("status")) >= 300, "successors, too"
    assert daemons.status()["data_path"]["kernel"] is True


@pytest.mark.parametrize("both", [True, False], ids=["both-ends", "the-host-alone"])
def test_over_ipv6_the_kernel_carries_them_where_both_ends_go_without_checksum(
    make_lab: MakeLab, prefix: str, both: bool
) -> None:
    access = tuple(replace(network, ipv4=False, ipv6=True) for network in (WIFI, CELLULAR))
    lab = make_lab(Topology(prefix=prefix, access=access, ipv6=True))
    daemons = configure(lab, address=lab.topology.anchor.address6)
    daemons.configure("mh", zero_checksum6="true")
    if both:
        daemons.configure("an", zero_checksum6="true")
        daemons.start()
        assert " 5 received" in lab.run("mh", "ping", "-q", "-c", "5", "-i", "0.05", "-W", "2", CH)
        assert carried(Client(str(daemons.anchor_socket)).call("status")) >= 3
        return
    daemons.start_anchor()
    daemons.start_host()
    time.sleep(5.0)
    assert "up" not in daemons.network_states().values(), "a wrong configuration is seen at once, not when data is lost"
