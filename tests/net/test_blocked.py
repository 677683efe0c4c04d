"""What an application is told of flows that a policy refuses, and of flows that wait: real sockets, real daemons.

mh --- nat0 (wifi) ------ core --- an
  \\-- nat1 (cellular) --/  \\---- ch 86.0.0.1, 2001:db8:86::1
"""

import json

import pytest

from sojourn.lab import topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Topology
from tests.harness.standstill import Standstill
from tests.net.conftest import MakeLab

pytestmark = pytest.mark.net

RULES = """
[[policy]]
name = "never"
port = 7001
block = true

[[policy]]
name = "later"
port = 7002
networks = ["satellite"]
otherwise = "hold"
"""
TRY = """
import errno, json, socket, sys, time
address, six = sys.argv[1], ":" in sys.argv[1]
family = socket.AF_INET6 if six else socket.AF_INET

def tcp(port, patience):
    began = time.monotonic()
    with socket.socket(family, socket.SOCK_STREAM) as link:
        link.settimeout(patience)
        try:
            link.connect((address, port))
            return "connected", began, began
        except OSError as error:
            return errno.errorcode.get(error.errno, "timeout"), began, time.monotonic()

def udp(port, patience):
    began = time.monotonic()
    with socket.socket(family, socket.SOCK_DGRAM) as link:
        link.connect((address, port))
        link.settimeout(patience)
        try:
            link.send(b"x")
            link.recv(100)
            return "answered", began, began
        except OSError as error:
            return errno.errorcode.get(error.errno, "timeout"), began, time.monotonic()

print(json.dumps([tcp(7001, 3), udp(7001, 3), tcp(7002, 1.5), udp(7002, 1.5)]))
"""


def test_refused_flows_are_told_at_once_and_waiting_ones_nothing(make_lab: MakeLab, prefix: str) -> None:
    lab = make_lab(Topology(prefix=prefix, ipv6=True))
    daemons = Daemons(lab)
    daemons.set_up()
    daemons.append(topology.MOBILE_HOST, RULES)
    daemons.start()
    site = lab.topology.correspondent
    for address, udp_error in ((site.address, "EHOSTUNREACH"), (site.address6, "EACCES")):
        with Standstill() as stood:
            said = json.loads(lab.run(topology.MOBILE_HOST, "python3", "-c", TRY, address, timeout=30.0))
        words, times = [word for word, *_ in said], [stood.without(began, ended) for _, began, ended in said]
        assert words == ["ECONNREFUSED", udp_error, "timeout", "timeout"], address
        assert max(times[:2]) < 0.5
    assert daemons.status()["refused"]["blocked"] >= 4
    rows = {(row["protocol"], row["remote"].rpartition(":")[2]) for row in daemons.call("flows")}
    assert ("tcp", "7002") in rows, "it is still waiting, or was until it gave up"
