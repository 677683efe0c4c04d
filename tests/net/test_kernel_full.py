"""The kernel path with maps that are full: what finds no room is carried by the engine.

Topology: tests/net/kernel_lab.py.
"""

import contextlib
import os
import socket

import pytest

from tests.net.engine_lab import within
from tests.net.kernel_lab import CORRESPONDENT, HOST, PEER, KernelLab, layout

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces and TUN devices"),
]
ROWS, FLOWS = 8, 24


def udp() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(10)
    return made


def test_flows_that_the_maps_have_no_room_for_are_carried_all_the_same() -> None:
    with layout(), contextlib.ExitStack() as stack:
        lab = KernelLab(4, "", "", "", "--rows", str(ROWS))
        stack.callback(lab.close)
        server = stack.enter_context(within(CORRESPONDENT, udp))
        server.bind((PEER, 5010))
        clients = [stack.enter_context(within(HOST, udp)) for _ in range(FLOWS)]
        for client in clients * 3:
            client.sendto(b"there", (PEER, 5010))
            _, source = server.recvfrom(100)
            server.sendto(b"back", source)
            assert client.recv(100) == b"back"
        for end in (lab.host, lab.anchor):
            totals = end.counters().totals
            assert totals["kernel-rows"] == ROWS
            assert totals["kernel-full"] == FLOWS - ROWS
            assert totals["kernel-carried-out"] >= 2 * ROWS, "some are the kernel's"
