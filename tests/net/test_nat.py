"""NATs that forget: inbound traffic alone must go on arriving, because the host keeps the pinhole open.

    mh 192.168.100.25 --- nat0 (forgets 6 s after the last outgoing packet) --- core --- an --- ch 86.0.0.1:3000

The issue's NAT forgets after 30 s, and the default keep-alive is 25 s; the test keeps that proportion.
"""

import socket
import time

import pytest

from sojourn.lab import namespaces
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Lab
from tests.net.capture import Capture

pytestmark = pytest.mark.net

FORGETS, KEEP_ALIVE, SECONDS, SPACING = 6.0, 5.0, 20.0, 0.25
CORRESPONDENT = ("86.0.0.1", 3000)


def bound(namespace: str, at: tuple[str, int]) -> socket.socket:
    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.settimeout(2.0)
        made.bind(at)
        return made

    return namespaces.inside(namespace, make)


def inbound_only(lab: Lab) -> int:
    """Call the correspondent once, let it talk for SECONDS without an answer, and return how many packets came."""
    with bound(lab.namespace("mh"), ("", 2000)) as client, bound(lab.namespace("ch"), CORRESPONDENT) as server:
        client.sendto(b"call", CORRESPONDENT)
        _, caller = server.recvfrom(64)
        for _ in range(round(SECONDS / SPACING)):
            server.sendto(b"talk", caller)
            time.sleep(SPACING)
        client.setblocking(False)
        count = 0
        while True:
            try:
                client.recv(64)
            except BlockingIOError:
                return count
            count += 1


def test_a_forgetful_nat_cuts_off_whoever_only_listens(lab: Lab) -> None:
    """Without Sojourn: the NAT does forget, or the other test would show nothing."""
    lab.links["wifi"].set_forgetful(FORGETS)
    assert inbound_only(lab) <= (FORGETS + 1.0) / SPACING


def test_keep_alives_hold_the_pinhole_for_traffic_that_only_comes_in(lab: Lab) -> None:
    daemons = Daemons(lab)
    daemons.set_up()
    daemons.configure("mh", keep_alive=KEEP_ALIVE)
    daemons.start()
    for link in lab.links.values():
        link.set_forgetful(FORGETS)
    with Capture(lab.namespace("mh"), "wifi") as wifi:
        assert inbound_only(lab) == round(SECONDS / SPACING)
        outgoing = [packet for packet in wifi.read(0.1) if packet[12:16] == socket.inet_aton("192.168.100.25")]
    assert len(outgoing) >= SECONDS / FORGETS
