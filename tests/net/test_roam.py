"""Two mobile hosts, both behind NATs, no anchor: real daemons, a real node, both ends move (topology: roam_lab.py)."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sojourn.lab import namespaces
from sojourn.linux.home import HOMES
from tests.net import roam_ends
from tests.net.roam_lab import RoamLab, until

pytestmark = pytest.mark.net

ENDS = str(Path(roam_ends.__file__).resolve())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RoamLab]:
    made = RoamLab(tmp_path)
    try:
        made.build()
        made.start_node()
        made.configure("a", "b")
        for host in ("a", "b"):
            made.attach(host, "wifi")
            made.start_host(host)
        until(lambda: made.reachable_over("a", "wifi") and made.reachable_over("b", "wifi"), 10)
        yield made
    finally:
        made.close()


def end(lab: RoamLab, host: str, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        namespaces.entering(lab.name(host), [sys.executable, ENDS, *words]), stdout=subprocess.PIPE, text=True
    )


def said(process: "subprocess.Popen[str]", seconds: float = 40.0) -> Any:  # noqa: ANN401
    out, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0
    return json.loads(out)


def conversation(lab: RoamLab, kind: tuple[str, str], seconds: float) -> tuple[Any, Any]:
    """Start b's end and then a's, which goes on for some seconds."""
    theirs = end(lab, "b", kind[0], lab.homes["b"])
    time.sleep(0.7)
    return theirs, end(lab, "a", kind[1], lab.homes["b"], str(seconds))


def test_home_addresses_answer_and_everything_about_it_is_shown(lab: RoamLab) -> None:
    pinged = lab.inside("a", "ping", "-c", "3", "-i", "0.2", "-W", "5", lab.homes["b"])
    assert " 0% packet loss" in pinged.stdout, pinged.stdout
    peers = lab.call("a", "peers")
    assert [(peer["name"], peer["state"], peer["private"]) for peer in peers["peers"]] == [("b", "met", True)]
    (flow,) = lab.call("b", "flows")
    assert (flow["peer"], flow["network"], flow["protocol"]) == ("a", "wifi", "icmpv6")
    assert lab.call("a", "status")["state"] == "reachable"
    route = lab.inside("a", "ip", "-6", "route", "show", HOMES).stdout
    assert "dev sojourn0" in route
    assert f"src {lab.homes['a']}" in route


def test_a_tcp_stream_survives_both_ends_moving_in_the_same_second(lab: RoamLab) -> None:
    theirs, ours = conversation(lab, ("receive", "send"), 5.0)
    time.sleep(2.0)
    for host in ("a", "b"):
        lab.detach(host, "wifi")
    for host in ("a", "b"):
        lab.attach(host, "cell")
    sent, received = said(ours), said(theirs)
    assert received["sha256"] == sent["sha256"]
    assert received["bytes"] == sent["bytes"] >= 400 * roam_ends.PIECE
    assert received["longest"] < 1.5, received
    assert lab.call("a", "peers")["network"] == lab.call("b", "peers")["network"] == "cell"


def test_a_soft_handover_of_both_at_once_loses_nothing(lab: RoamLab) -> None:
    for host in ("a", "b"):
        lab.attach(host, "cell")
    until(lambda: all(_works(lab, host, "cell") for host in ("a", "b")), 10)
    theirs, ours = conversation(lab, ("count", "number"), 4.0)
    time.sleep(1.5)
    for host in ("a", "b"):
        lab.call(host, "handover", to="cell")
    received = said(theirs)
    said(ours)
    assert received["lost"] == []
    assert received["twice"] == 0
    assert received["longest"] < 1.0
    until(lambda: lab.reachable_over("a", "cell") and lab.reachable_over("b", "cell"), 5)


def _works(lab: RoamLab, host: str, net: str) -> bool:
    networks = lab.call(host, "peers")["networks"]
    return net in networks and networks[net]["state"] == "works"
