"""Two mobile hosts, both behind NATs: real daemons, a real node, both ends move (topology: lab/roaming.py)."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.lab import namespaces
from sojourn.lab.roaming import NODES, Roaming, command, until
from sojourn.linux.home import METRIC
from sojourn.model import HOMES
from tests.net import roam_ends
from tests.net.roam_lab import begin, conversation, end, home, roam_lab, said

pytestmark = pytest.mark.net


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roaming]:
    """One for all tests of it: each leaves both hosts on their Wi-Fi, with cellular beside."""
    with roam_lab(tmp_path_factory.mktemp("roam")) as made:
        begin(made)
        yield made


def test_home_addresses_answer_by_name_and_everything_about_it_is_shown(lab: Roaming) -> None:
    """The name is one of DNS: a server beside a says AAAA, and nothing of Sojourn is asked."""
    folder = namespaces.ETC_NETNS / lab.name("a")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1\n")
    server = end(lab, "a", "names", lab.homes["b"])
    try:
        until(lambda: lab.inside("a", "ss", "-Hlnu", "sport = :53").stdout != "", 10)
        pinged = lab.inside("a", "ping", "-6", "-c", "3", "-i", "0.2", "-W", "5", "laptop2.example")
    finally:
        server.kill()
        server.communicate()
    assert " 0% packet loss" in pinged.stdout, pinged.stdout + pinged.stderr
    assert lab.homes["b"] in pinged.stdout
    peers = lab.call("a", "peers")
    assert [(peer["name"], peer["state"], peer["private"]) for peer in peers["peers"]] == [("b", "met", True)]
    (flow,) = lab.call("b", "flows")
    assert (flow["peer"], flow["network"], flow["protocol"]) == ("a", "wifi", "icmpv6")
    assert lab.call("a", "status")["state"] == "reachable"
    route = lab.inside("a", "ip", "-6", "route", "show", HOMES).stdout
    assert "dev sojourn0" in route
    assert f"src {lab.homes['a']}" in route
    assert f"metric {METRIC}" in route


def test_a_tcp_stream_survives_both_ends_moving_in_the_same_second(lab: Roaming) -> None:
    for host in ("a", "b"):
        lab.detach(host, "cell")
        lab.carry(host, "cell")
    theirs, ours = conversation(lab, ("receive", "send"), 3.5)
    time.sleep(1.0)
    for host in ("a", "b"):
        lab.detach(host, "wifi")
    for host in ("a", "b"):
        lab.attach(host, "cell")
    sent, received = said(ours), said(theirs)
    assert received["sha256"] == sent["sha256"]
    assert received["bytes"] == sent["bytes"] >= 200 * roam_ends.PIECE
    assert received["longest"] < 1.5, received
    assert lab.call("a", "peers")["network"] == lab.call("b", "peers")["network"] == "cell"
    for host in ("a", "b"):
        lab.attach(host, "wifi")
    home(lab)


def test_what_was_carried_to_a_peer_counts_for_the_network_that_it_went_over(lab: Roaming) -> None:
    """At each move all flows are looked at; what one carried before anybody looked counts for where it was then."""

    def carried() -> dict[str, int]:
        rows = lab.call("a", "usage")["rows"]
        return {name: sum(row["bytes_out"] for row in rows if row["network"] == name) for name in ("wifi", "cell")}

    before = carried()
    theirs, ours = conversation(lab, ("receive", "send"), 5.0)
    for network in ("cell", "wifi"):
        time.sleep(1.5)
        lab.move("a", network)
    said(theirs)
    said(ours)
    lab.move("a", "cell")
    until(lambda: all(carried()[name] > before[name] + 50_000 for name in before), 10)
    home(lab)


def test_a_soft_handover_of_both_at_once_loses_nothing(lab: Roaming) -> None:
    theirs, ours = conversation(lab, ("count", "number"), 3.0)
    time.sleep(1.0)
    for host in ("a", "b"):
        lab.move(host, "cell")
    received = said(theirs)
    said(ours)
    assert received["lost"] == []
    assert received["twice"] == 0
    assert received["longest"] < 1.0
    until(lambda: lab.reachable_over("a", "cell") and lab.reachable_over("b", "cell"), 20)
    home(lab)


POLICIES = """
[[policy]]
name = "only over wifi"
peer = "b"
port = 7000
networks = ["wifi"]
otherwise = "hold"
trigger = "flow"

[[policy]]
name = "never"
peer = "b"
port = 9
block = true
"""


def test_a_policy_lets_flows_with_a_peer_wait_refuses_others_and_gives_them_triggers(lab: Roaming) -> None:
    toml = lab.folder / "a" / "host.toml"
    before = toml.read_text()
    toml.write_text(before + POLICIES)
    try:
        assert lab.call("a", "policy_reload")["ok"]
        lab.detach("a", "wifi")  # an order for everything would go before all policies
        until(lambda: lab.reachable_over("a", "cell"), 10)
        refused = lab.inside("a", "bash", "-c", f"exec 3<>/dev/tcp/{lab.homes['b']}/9")
        assert "refused" in refused.stderr.lower(), refused.stderr
        theirs, ours = conversation(lab, ("receive", "send"), 1.0)
        until(lambda: "waiting" in [flow["state"] for flow in lab.call("a", "flows")], 10)
        waiting = [flow for flow in lab.call("a", "flows") if flow["state"] == "waiting"]
        flow = min(waiting, key=lambda flow: flow["age_s"])  # those of earlier tests wait as well
        assert (flow["policy"], flow["peer"], flow["network"]) == ("only over wifi", "b", None)
        (told,) = lab.call("a", "policy_explain", what=flow["id"])["explanations"]
        assert told["reason"] == "its policy does not let it go over cell; peers are reached over cell"
        lab.attach("a", "wifi")
        until(lambda: lab.works("a", "wifi"), 10)
        lab.move("a", "wifi")
        sent, received = said(ours), said(theirs)
        assert received["sha256"] == sent["sha256"]
        rows = {row["name"]: row for row in lab.call("a", "policy_list")}
        assert rows["only over wifi"]["via"] == "peer"
    finally:
        toml.write_text(before)
        lab.call("a", "policy_reload")
    home(lab)


def test_a_stream_goes_on_while_control_and_then_the_data_path_are_killed(lab: Roaming) -> None:
    theirs, ours = conversation(lab, ("receive", "send"), 9.0)
    control = next(each for each in lab.processes if each.poll() is None and each.args[-1] == lab.socket("a"))  # type: ignore[index]
    control.kill()
    control.wait()
    lab.start_host("a")
    until(lambda: lab.reachable_over("a", "wifi"), 20)
    found = [pid for pid in namespaces.pids(lab.name("a")) if _is_data_path(pid)]
    assert found, "and the one that is kept in reserve"
    namespaces.send_signal(found, signal.SIGKILL)
    sent, received = said(ours), said(theirs)
    assert received["sha256"] == sent["sha256"]
    assert received["longest"] < 5.0
    home(lab)


def _is_data_path(pid: int) -> bool:
    try:
        return b"datapath" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_with_an_anchor_beside_peers_and_the_world_are_reached_and_move_together(tmp_path: Path) -> None:
    """a has an anchor, too: it stands where the node does. b has none."""
    with roam_lab(tmp_path, "x") as lab:
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
        until(lambda: lab.reachable_over("a", "cell"), 20)
        flows = lab.call("a", "flows")
        assert {flow["peer"] for flow in flows if flow["remote"].startswith(("fd53", "[fd53"))} == {"b"}
        assert lab.call("a", "status")["peers"]["network"] == "cell"


def _up(lab: Roaming, host: str) -> set[str]:
    return {row["name"] for row in lab.call(host, "status")["networks"] if row["state"] == "up"}
