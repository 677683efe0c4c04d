"""The direct path with real packets: real daemons, a real node, NATs of nftables (topology: direct_lab.py)."""

import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from sojourn.lab import namespaces
from sojourn.lab.roaming import OUTSIDE, until
from tests.net.direct_lab import HOME, DirectLab
from tests.net.roam_lab import conversation, said

pytestmark = pytest.mark.net


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DirectLab]:
    """Return a lab in which a is on its Wi-Fi and b on cellular, both behind NATs that keep ports."""
    with DirectLab(tmp_path_factory.mktemp("direct")) as made:
        made.start_node()
        made.configure("a", "b", direct=True)
        for host, net in (("a", "wifi"), ("b", "cell")):
            made.attach(host, net)
            made.start_host(host)
        until(lambda: made.reachable_over("a", "wifi") and made.reachable_over("b", "cell"), 10)
        yield made


def ping(lab: DirectLab, count: int = 3) -> str:
    return lab.inside("a", "ping", "-c", str(count), "-i", "0.1", "-W", "5", lab.homes["b"]).stdout


def test_two_hosts_behind_nats_that_keep_ports_speak_without_the_node(lab: DirectLab) -> None:
    until(lambda: " 0% packet loss" in ping(lab, 1), 10, "they have met")
    lab.wait_for("on")
    for host, net, other in (("a", "wifi", ("b", "cell")), ("b", "cell", ("a", "wifi"))):
        direct = lab.direct(host)
        assert direct["network"] == net
        assert direct["remote"].startswith(OUTSIDE[other] + " port ")
        assert 0 < direct["rtt_ms"] < 500
    before = lab.between()
    assert " 0% packet loss" in ping(lab, 20)
    assert lab.between() - before >= 40


def test_a_path_that_becomes_narrow_without_a_word_is_measured_and_applications_are_told(lab: DirectLab) -> None:
    wide = 1500 - 28 - 24
    until(lambda: " 0% packet loss" in ping(lab, 1), 20, "they have met")
    until(lambda: [lab.room(host) for host in HOME] == [wide, wide], 30, "what an Ethernet carries")
    assert " 0% packet loss" in lab.inside("a", "ping", "-c1", "-W5", "-Mdo", f"-s{wide - 48}", lab.homes["b"]).stdout
    theirs, ours = conversation(lab, ("receive", "send"), 7.0)
    time.sleep(0.5)
    lab.narrow("b", "cell", 1400)  # a's packets are cut by the router; b's large ones get lost
    answered = until_narrow(lab, 1400 - 28 - 24)
    sent, received = said(ours), said(theirs)
    assert received["sha256"] == sent["sha256"]
    assert received["longest"] < 1.0, received
    assert answered
    assert lab.room("a") == lab.room("b") == 1348
    told = lab.inside("b", "ping", "-c1", "-W2", "-Mdo", "-s1380", lab.homes["a"])
    assert "mtu=1348" in told.stdout + told.stderr or "mtu: 1348" in told.stdout + told.stderr, told
    assert "mtu 1348" in lab.inside("b", "ip", "-6", "route", "get", lab.homes["a"]).stdout
    lab.narrow("b", "cell", 1500)


def until_narrow(lab: DirectLab, inner: int) -> bool:
    """Have b send what is too large for the path now, until both know; return whether some of it was answered then."""
    large = ("ping", "-c1", "-W1", "-Mdo", "-s1400", lab.homes["a"])
    until(
        lambda: bool(lab.inside("b", *large)) and [lab.room(host) for host in HOME] == [inner, inner], 40, "both know"
    )
    small = ("ping", "-c1", "-W2", "-Mdo", f"-s{inner - 48}", lab.homes["a"])
    return " 0% packet loss" in lab.inside("b", *small).stdout


def test_a_direct_path_that_dies_loses_nothing_and_comes_back(lab: DirectLab) -> None:
    theirs, ours = conversation(lab, ("count", "number"), 4.0)
    time.sleep(1.5)
    lab.let_die(OUTSIDE["a", "wifi"])
    lab.wait_for("no", 5)
    reasons = [lab.direct(host)["reason"] for host in HOME]
    assert all("answer" in reason for reason in reasons), reasons
    received = said(theirs)
    said(ours)
    assert received["lost"] == []
    assert received["twice"] == 0
    lab.let_die()
    lab.wait_for("on")


def test_a_fast_flow_goes_on_by_the_node_when_the_path_dies(lab: DirectLab) -> None:
    server = subprocess.Popen(
        namespaces.entering(lab.name("b"), ["iperf3", "-s", "-1", "-6"]), stdout=subprocess.DEVNULL
    )
    time.sleep(0.5)
    client = ["iperf3", "-c", lab.homes["b"], "-t", "30", "-i", "0.5", "-f", "k", "--forceflush"]
    ours = subprocess.Popen(namespaces.entering(lab.name("a"), client), stdout=subprocess.PIPE, text=True)
    try:
        rates = half_seconds(ours)
        at_first = sum(next(rates) for _ in range(3))
        before = lab.between()
        lab.let_die(OUTSIDE["a", "wifi"])
        buffered = [next(rates) for _ in range(3)]  # what TCP takes without anything arriving
        later: list[int] = []
        while sum(later) <= 200_000:  # when TCP's own timer lets it go on is TCP's business
            later.append(next(rates, -1))
            assert later[-1] >= 0, f"nothing went by the node: {buffered}, then {later}"
    finally:
        lab.let_die()
        for each in (ours, server):
            each.kill()
            each.wait()
        assert ours.stdout is not None
        ours.stdout.close()
    assert before > 500
    assert at_first > 500_000
    lab.wait_for("on")


def half_seconds(iperf: "subprocess.Popen[str]") -> Iterator[int]:
    """Return the bytes that a sender has written in each half second, as they are told."""
    assert iperf.stdout is not None
    for line in iperf.stdout:
        if (told := re.search(r"([0-9.]+) Kbits/sec", line)) and "sender" not in line and "receiver" not in line:
            yield int(float(told[1]) * 1000 / 8 / 2)


def test_between_symmetric_nats_packets_go_by_the_node_and_everybody_says_why(lab: DirectLab) -> None:
    lab.attach("a", "cell")
    lab.attach("b", "wifi")
    until(lambda: lab.works("a", "cell") and lab.works("b", "wifi"), 10)
    theirs, ours = conversation(lab, ("count", "number"), 3.0)
    time.sleep(1.0)
    lab.move("a", "cell")
    lab.move("b", "wifi")
    received = said(theirs)
    said(ours)
    assert received["lost"] == []
    lab.wait_for("no")
    until(lambda: "NAT" in lab.direct("a")["reason"], 15, "the reason")
    before = lab.between()
    assert " 0% packet loss" in ping(lab, 10)
    assert lab.between() - before < 20


def test_in_one_access_network_they_speak_inside_it_with_everything_else_cut_off(lab: DirectLab) -> None:
    for host in HOME:
        lab.go_home(host)
    until(lambda: lab.works("a", "home") and lab.works("b", "home"), 10)
    for host in HOME:
        lab.move(host, "home")
    until(lambda: lab.reachable_over("a", "home") and lab.reachable_over("b", "home"), 20)
    for host in HOME:
        for net in ("wifi", "cell"):
            lab.detach(host, net)
    assert " 0% packet loss" in ping(lab)
    until(lambda: lab.direct("a")["remote"] == lab_port(lab, "b") and lab.direct("b")["state"] == "on", 10)
    lab.cut_home_off()
    theirs, ours = conversation(lab, ("receive", "send"), 6.0)
    sent, received = said(ours), said(theirs)
    assert received["sha256"] == sent["sha256"]
    assert received["longest"] < 0.5, received
    assert [lab.direct(host)["state"] for host in HOME] == ["on", "on"]
    assert lab.direct("a")["remote"].startswith(HOME["b"])


def lab_port(lab: DirectLab, host: str) -> str:
    """Return where a host's socket is, as the other one should see it inside the network."""
    remote: str = lab.direct("a")["remote"] or ""
    return remote if remote.startswith(HOME[host]) else ""
