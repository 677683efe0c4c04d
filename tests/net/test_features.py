"""Whatever part of the kernel's batching is missing, everything works: each part is forced off at both ends.

mh --- nat0 (wifi) --- core --- an          SOJOURN_WITHOUT in the environment of both daemons
                         \\---- ch 86.0.0.1
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.lab import namespaces
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import WIFI, Lab, Topology
from sojourn.linux import ethtool
from tests.net import wire
from tests.net.capture import Capture
from tests.net.conftest import MakeLab
from tests.net.exchange import exchange
from tests.net.standing import Sockets

pytestmark = pytest.mark.net

CORRESPONDENT = "86.0.0.1"
UDP_SEGMENT = 103
FRAME = 1500


@pytest.fixture
def without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    missing: str = request.param
    monkeypatch.setenv("SOJOURN_WITHOUT", missing)
    return missing


@pytest.fixture
def daemons(without: str, make_lab: MakeLab, prefix: str) -> Daemons:
    daemons = Daemons(make_lab(Topology(prefix=prefix, access=(WIFI,))))
    daemons.set_up()
    daemons.start()
    return daemons


@pytest.fixture
def sockets(daemons: Daemons) -> Iterator[Sockets]:
    made = Sockets(daemons.lab)
    try:
        yield made
    finally:
        made.close()


def has_tso(lab: Lab, role: str, device: str) -> bool:
    """Ask the kernel whether a device takes TCP super-packets."""
    return bool(namespaces.inside(lab.namespace(role), lambda: ethtool.ask(device, ethtool.GET_TSO)))


def largest(tap: Capture, source: str) -> int:
    """Return the size of the largest UDP packet from an address: a message of many segments is one packet here."""
    packets = [packet for packet in tap.read(0.1) if wire.protocol_of(packet) == wire.UDP]
    return max(len(packet) for packet in packets if wire.address_of(packet, source=True) == source)


@pytest.mark.parametrize(
    "without", ["", "uso", "tso", "gso", "gro", "uso,gso,gro,tso"], indirect=True, ids=lambda word: word or "nothing"
)
def test_transfers_are_whole_without(daemons: Daemons, sockets: Sockets, without: str) -> None:
    lab, missing = daemons.lab, set(without.split(","))
    for role, device in (("mh", "sojourn0"), ("an", "sojourn-a0")):
        environment = Path(f"/proc/{daemons.data_path(role)}/environ").read_bytes().split(b"\0")
        assert f"SOJOURN_WITHOUT={without}".encode() in environment
        assert has_tso(lab, role, device) is ("tso" not in missing)
    with Capture(lab.namespace("mh"), "wifi") as at_host, Capture(lab.namespace("an"), "eth0") as at_anchor:
        assert exchange(sockets, CORRESPONDENT, 8001).whole
        for sent in (largest(at_host, "192.168.100.25"), largest(at_anchor, "45.0.0.1")):
            assert (sent > FRAME) is ("gso" not in missing), "UDP_SEGMENT makes one large packet of many"
    # What an application itself sends as one message of many datagrams arrives as those datagrams.
    server, client = sockets.at("ch", port=8002), sockets.at("mh")
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
    message = b"".join(bytes((number,)) * 1000 for number in range(20)) + b"the end"
    for _ in range(3):
        client.sendto(message, (CORRESPONDENT, 8002))
        assert b"".join(server.recv(2000) for _ in range(21)) == message
