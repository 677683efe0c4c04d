"""A host leaves a node that has become far for a nearer one, and no packet is lost by it: real daemons, three nodes.

        slow cable (relay) - 203.0.113.9  +
    core                                  | node: three nodes that share a redis-server
        fast link - 203.0.113.10, .11     +

Hosts and NATs: as in lab/roaming.py.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.lab import namespaces
from sojourn.lab.roaming import NODES, Roaming, until
from tests.net.roam_lab import conversation, roam_lab, said

pytestmark = pytest.mark.net

FAR, *NEAR = NODES
DELAY_MS = 80.0


class Cable:
    """Leads to the first node alone."""

    def __init__(self, lab: Roaming) -> None:
        self._settings = lab.folder / "cable.json"
        self.delay(0.0)
        core, node = lab.name("core"), lab.name("node")
        words = [sys.executable, "-m", "sojourn.lab.relay", f"{core}:slow", f"{node}:slow", str(self._settings)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        lab.processes.insert(0, self.process)
        assert self.process.stdout is not None
        with self.process.stdout as said:
            assert said.readline().strip() == "ready"
        for role in (core, node):
            namespaces.ip(role, ["link set dev slow up"])
        namespaces.ip(core, [f"route add {FAR}/32 dev slow"])
        namespaces.ip(node, [
            "route add 203.0.113.1/32 dev slow table 7", "route add default via 203.0.113.1 dev slow table 7",
            f"rule add from {FAR} lookup 7",
        ])  # fmt: skip

    def delay(self, milliseconds: float) -> None:
        scratch = self._settings.with_suffix(".new")
        scratch.write_text(json.dumps({"delay_ms": milliseconds, "jitter_ms": 0.0}))
        scratch.replace(self._settings)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[tuple[Roaming, Cable]]:
    with roam_lab(tmp_path, "s") as made:
        cable = Cable(made)
        assert made.start_nodes(), "redis-server is one of the tests' packages (Makefile)"
        made.configure("a", "b", nodes=NODES)
        for host in ("a", "b"):
            made.attach(host, "wifi")
            made.start_host(host)
        until(lambda: made.reachable_over("a", "wifi") and made.reachable_over("b", "wifi"), 20)
        yield made, cable


def node_of(lab: Roaming, host: str) -> str:
    return str(lab.call(host, "peers")["node"]).split()[0]


def test_a_host_leaves_a_node_that_has_become_far_and_loses_nothing(lab: tuple[Roaming, Cable]) -> None:
    roaming, cable = lab
    theirs, ours = conversation(roaming, ("count", "number"), 15.0)
    time.sleep(1.0)
    assert [node_of(roaming, host) for host in ("a", "b")] == [FAR, FAR], "the first of those that are equally near"
    cable.delay(DELAY_MS)
    until(lambda: node_of(roaming, "a") in NEAR, 15, "a nearer node")
    until(lambda: roaming.call("a", "peers")["rtt_ms"] < DELAY_MS, 3)
    received = said(theirs)
    said(ours)
    assert received["lost"] == []
    assert received["twice"] == 0
    assert received["longest"] < 1.0, received
    assert node_of(roaming, "a") in NEAR, "and it stays there"
