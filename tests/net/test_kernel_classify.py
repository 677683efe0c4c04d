"""Plain tunnels in the kernel and who made a flow: its first packet leaves by its own program's network.

mh ==wifi==\\
   ==cell==- an --- ch       everything by wifi, but for two programs; what passes an access network is read there
   ==lan===/
"""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from sojourn.api.client import Client
from sojourn.lab import namespaces
from sojourn.lab.topology import CELLULAR, ETHERNET, WIFI, Lab, Topology
from sojourn.model import Endpoint
from sojourn.packet.ip import udp_packet
from tests.harness.watched import script_at
from tests.net.capture import Capture
from tests.net.conftest import MakeLab
from tests.net.standing import eventually
from tests.net.test_plain import CH, configure
from tests.net.wire import address_of, protocol_of

pytestmark = pytest.mark.net

NETWORKS = ("wifi", "cellular", "lan")
RULES = """
[[policy]]
application = "alpha"
networks = ["cellular"]

[[policy]]
application = "beta"
networks = ["lan"]
"""
TALK = """#!/usr/bin/python3
import os, socket, sys, time

def talk(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(20):
        sock.sendto(b"x", ("{peer}", port))
        time.sleep(0.02)

first = int(sys.argv[1])
if os.fork() == 0:
    talk(first + 1)
    link = socket.create_connection(("{peer}", first + 2), 10)
    link.sendall(b"y" * 100000)
    time.sleep(60)
talk(first)
os.wait()
"""
SERVE = """
import socket, sys, threading
def serve(port):
    link, _ = socket.create_server(("0.0.0.0", port)).accept()
    while link.recv(65536):
        pass
    threading.Event().wait()
for port in (7003, 7103, 7203):
    threading.Thread(target=serve, args=(port,)).start()
print("ready", flush=True)
"""
UNSEEN = 7999


@pytest.fixture
def lab(make_lab: MakeLab, prefix: str) -> Lab:
    return make_lab(Topology(prefix=prefix, access=(WIFI, CELLULAR, replace(ETHERNET, name="lan"))))


@pytest.fixture
def taps(lab: Lab) -> Iterator[dict[str, Capture]]:
    with contextlib.ExitStack() as taps:
        yield {name: taps.enter_context(Capture(lab.namespace("mh"), name)) for name in NETWORKS}


def ways_of(taps: dict[str, Capture]) -> dict[int, set[str]]:
    """Return by which networks the packets to each of the correspondent's ports have left."""
    found: dict[int, set[str]] = {}
    for network, tap in taps.items():
        tap.read(0.2)
        for outer in tap.packets:
            inner = outer[28:]
            is_plain = protocol_of(outer) == socket.IPPROTO_UDP and len(inner) >= 28 and inner[0] == 0x45
            if is_plain and address_of(inner, source=False) == CH:
                found.setdefault(int.from_bytes(inner[22:24]), set()).add(network)
    return found


def test_a_flows_first_packet_leaves_by_its_programs_network_and_so_do_its_childrens(
    lab: Lab, taps: dict[str, Capture], tmp_path: Path
) -> None:
    daemons = configure(lab)
    daemons.configure("mh", order='["wifi", "cellular", "lan"]')
    daemons.append("mh", RULES)
    daemons.start()
    assert daemons.status()["data_path"]["kernel"] is True
    lab.start("ch", "serve", ["python3", "-c", SERVE]).wait_for("ready", 10)
    programs = {"alpha": (7001, "cellular"), "beta": (7101, "lan"), "gamma": (7201, "wifi")}
    eventually("all networks work", lambda: daemons.network_states() == dict.fromkeys(NETWORKS, "up"))
    for name, (port, _) in programs.items():
        script = script_at(tmp_path / name, TALK.format(peer=CH))
        lab.start("mh", name, [str(script), str(port)])

    def named() -> dict[int, tuple[str | None, bool | None, str]]:
        return {
            int(flow["remote"].rpartition(":")[2]): (flow["application"], flow["exact"], flow["network"])
            for flow in daemons.call("flows")
            if flow["remote"].startswith(CH)
        }

    expected = {port + at: (name, True, network) for name, (port, network) in programs.items() for at in range(3)}
    eventually("nine flows with their programs and networks", lambda: named() == expected)
    # A packet that no program's socket sends, as a packet socket's, has no mark: it goes as everything else does.
    address = daemons.status()["vipa"]
    raw = namespaces.inside(lab.namespace("mh"), lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM))
    with raw:
        for _ in range(20):
            raw.sendto(udp_packet(Endpoint(address, 4000), Endpoint(CH, UNSEEN), b"who?"), ("sojourn0", 0x0800))
        eventually("the flow of nobody", lambda: UNSEEN in named())
    assert named()[UNSEEN] == (None, None, "wifi")
    told = daemons.call("policy_explain", what="beta")["explanations"]
    assert {(one["policy"], one["network"], one["flow"]["application"]) for one in told} == {("beta", "lan", "beta")}
    ways = ways_of(taps)
    # Every packet from the first on, none has been moved.
    assert ways == {port: {network} for port, (_, _, network) in expected.items()} | {UNSEEN: {"wifi"}}
    carried = Client(str(daemons.anchor_socket)).call("status")["totals"]["kernel-carried-in"]
    assert carried > 6 * 19, "all but each flow's first are the kernel's"
