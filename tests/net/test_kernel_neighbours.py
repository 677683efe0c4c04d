"""The kernel path beside ends and devices that are otherwise, and when the process that looks after it is killed.

Topologies: tests/net/kernel_lab.py, tests/net/test_plain.py.
"""

import itertools
import os
import re
import subprocess
import threading
import time

import pytest

from sojourn.lab import namespaces
from sojourn.lab.topology import Lab
from tests.net.kernel_lab import ANCHOR, CORRESPONDENT, HOST, KernelLab, layout
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
            train(made, six, up)
        finally:
            made.close()


def test_the_kernel_carries_on_while_a_data_path_is_killed_and_replaced(lab: Lab) -> None:
    daemons = configure(lab)
    daemons.start()
    lab.run("mh", "ping", "-q", "-c", "2", CH)
    time.sleep(1.5)  # both have a spare now
    said: list[str] = []
    argv = namespaces.entering(lab.namespace("mh"), ["ping", "-D", "-i", "0.01", "-c", "500", "-W", "1", CH])

    def ping() -> None:
        said.append(subprocess.run(argv, capture_output=True, text=True, check=False).stdout)

    thread = threading.Thread(target=ping)
    thread.start()
    for role in ("mh", "an", "mh"):
        time.sleep(1.0)
        daemons.kill_data_path(role)
    thread.join(30)
    times = [float(found) for found in re.findall(r"^\[([0-9.]+)\] 64 bytes", said[0], re.MULTILINE)]
    assert len(times) >= 498
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 0.15
    flows = daemons.call("flows")
    assert any(flow["protocol"] == "icmp" for flow in flows)
