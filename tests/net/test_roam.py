"""Two mobile hosts, both behind NATs: real daemons, a real node, both ends move (topology: lab/roaming.py)."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sojourn.lab import namespaces
from sojourn.lab.roaming import NODES, Roaming, command, until
from sojourn.linux.home import HOMES
from tests.net import roam_ends
from tests.net.roam_lab import roam_lab

pytestmark = pytest.mark.net

ENDS = str(Path(roam_ends.__file__).resolve())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Roaming]:
    with roam_lab(tmp_path) as made:
        made.start_node()
        made.configure("a", "b")
        for host in ("a", "b"):
            made.attach(host, "wifi")
            made.start_host(host)
        until(lambda: made.reachable_over("a", "wifi") and made.reachable_over("b", "wifi"), 10)
        yield made


def end(lab: Roaming, host: str, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        namespaces.entering(lab.name(host), [sys.executable, ENDS, *words]), stdout=subprocess.PIPE, text=True
    )


def said(process: "subprocess.Popen[str]", seconds: float = 40.0) -> Any:  # noqa: ANN401
    out, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0
    return json.loads(out)


def conversation(lab: Roaming, kind: tuple[str, str], seconds: float) -> tuple[Any, Any]:
    """Start b's end and then a's, which goes on for some seconds."""
    theirs = end(lab, "b", kind[0], lab.homes["b"])
    time.sleep(0.7)
    return theirs, end(lab, "a", kind[1], lab.homes["b"], str(seconds))


def test_home_addresses_answer_and_everything_about_it_is_shown(lab: Roaming) -> None:
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


def test_a_tcp_stream_survives_both_ends_moving_in_the_same_second(lab: Roaming) -> None:
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


def test_a_soft_handover_of_both_at_once_loses_nothing(lab: Roaming) -> None:
    for host in ("a", "b"):
        lab.attach(host, "cell")
    until(lambda: lab.works("a", "cell") and lab.works("b", "cell"), 10)
    theirs, ours = conversation(lab, ("count", "number"), 4.0)
    time.sleep(1.5)
    for host in ("a", "b"):
        lab.move(host, "cell")
    received = said(theirs)
    said(ours)
    assert received["lost"] == []
    assert received["twice"] == 0
    assert received["longest"] < 1.0
    until(lambda: lab.reachable_over("a", "cell") and lab.reachable_over("b", "cell"), 5)


def test_with_an_anchor_beside_peers_and_the_world_are_reached_and_move_together(tmp_path: Path) -> None:
    """a has an anchor, too: it stands where the node does. b has none."""
    with roam_lab(tmp_path) as lab:
        lab.start_node()
        etc, anchor = str(tmp_path / "a"), str(tmp_path / "anchor")
        token = command("init", "--config-dir", anchor, "--address", NODES[1], "--name", "a").strip().splitlines()[-1]
        lab.start("node", "anchor", "--config-dir", anchor, "--socket", lab.socket("anchor"))
        command("join", token, "--config-dir", etc, "--name", "a")
        toml = tmp_path / "a" / "host.toml"
        joined = toml.read_text().replace('order = ["ethernet", "wifi", "cellular", "*"]', 'order = ["wifi", "cell"]')
        toml.write_text(joined + '[portal]\nurl = ""\n')
        lab.configure("a", "b")
        for host in ("a", "b"):
            for net in ("wifi", "cell"):
                lab.attach(host, net)
            lab.start_host(host)
        until(lambda: lab.call("a", "status")["state"] == "associated" and lab.works("a", "cell"), 15)
        until(lambda: lab.reachable_over("a", "wifi") and lab.reachable_over("b", "wifi"), 10)
        assert " 0% packet loss" in lab.inside("b", "ping", "-c", "2", "-i", "0.2", "-W", "5", lab.homes["a"]).stdout
        until(lambda: _up(lab, "a") >= {"wifi", "cell"}, 15)
        theirs, ours = conversation(lab, ("count", "number"), 3.0)
        time.sleep(1.0)
        lab.move("a", "cell")
        received = said(theirs)
        said(ours)
        assert received["lost"] == []
        until(lambda: lab.reachable_over("a", "cell"), 5)
        flows = lab.call("a", "flows")
        assert {flow["peer"] for flow in flows if flow["remote"].startswith(("fd53", "[fd53"))} == {"b"}
        assert lab.call("a", "status")["peers"]["network"] == "cell"


def _up(lab: Roaming, host: str) -> set[str]:
    return {row["name"] for row in lab.call(host, "status")["networks"] if row["state"] == "up"}
