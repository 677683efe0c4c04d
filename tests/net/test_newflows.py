"""Thousands of new flows through the real daemons: the core begins them, and everybody knows of each all the same.

mh --wifi/cellular--> an --> ch        flows are opened at mh; ch answers one of them
"""

import json
import re
import sys

import pytest

from bench.newflows import OPEN, STREAM
from sojourn.api.client import Client
from sojourn.lab import topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Lab, Topology
from tests.net.conftest import MakeLab
from tests.net.standing import eventually

pytestmark = pytest.mark.net

FLOWS, RATE, FIRST_PORT = 1000, 1000, 20000
ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 3000)); print("ready", flush=True)
while True:
    data, where = s.recvfrom(2048); s.sendto(data, where)
"""
POLICY = """
[[policy]]
application = "flood"
networks = ["cellular", "wifi"]

[[policy]]
match = "-p udp --dport 3000"
networks = ["wifi", "cellular"]
"""


def opened(lab: Lab, daemons: Daemons, first: int) -> None:
    """Have a program that is called "flood" open its flows."""
    run = [sys.executable, "-m", "sojourn", "run", "--socket", str(daemons.host_socket), "--app", "flood", "--"]
    words = [lab.topology.correspondent.address, str(FLOWS), str(RATE), str(first)]
    lab.start(topology.MOBILE_HOST, f"flood{first}", [*run, sys.executable, "-c", OPEN, *words]).wait_for("failed", 40)


def begun(daemons: Daemons) -> float:
    """Return how many flows the host's core has begun by itself."""
    text = str(daemons.call("metrics")["text"])
    found = re.search(r'^sojourn_datapath_events_total{event="core_flows_begun"} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found is not None else 0.0


def test_new_flows_go_by_rule_without_python_and_those_that_are_there_lose_nothing(
    make_lab: MakeLab, prefix: str
) -> None:
    lab = make_lab(Topology(prefix=prefix))
    daemons = Daemons(lab)
    daemons.set_up()
    daemons.append(topology.MOBILE_HOST, POLICY)
    daemons.start()
    lab.start(topology.CORRESPONDENT, "echo", [sys.executable, "-c", ECHO]).wait_for("ready", 30)
    stream = lab.start(
        topology.MOBILE_HOST, "stream", [sys.executable, "-c", STREAM, lab.topology.correspondent.address, "6"]
    )
    opened(lab, daemons, FIRST_PORT)
    opened(lab, daemons, FIRST_PORT)  # another execution, other sources: only its first flow is asked about
    stream.wait_for("longest_gap_ms", 20)
    assert json.loads(stream.output().splitlines()[-1])["lost"] == 0

    def known() -> bool:
        return len([flow for flow in daemons.call("flows") if flow["application"] == "flood"]) >= 2 * FLOWS

    eventually("every flow is in the table", known)
    flows = [flow for flow in daemons.call("flows") if int(flow["remote"].rpartition(":")[2]) >= FIRST_PORT]
    assert len(flows) == 2 * FLOWS
    assert {(flow["application"], flow["network"], flow["exact"]) for flow in flows} == {("flood", "cellular", True)}
    assert len({flow["pid"] for flow in flows}) == 2
    eventually("the core has begun nearly all, and has said so", lambda: begun(daemons) > 1.8 * FLOWS)
    anchor = Client(str(daemons.anchor_socket)).call("status")
    assert anchor["flows"] >= 2 * FLOWS
    assert anchor["totals"]["core_flows_begun"] > 1.8 * FLOWS
