"""`sojourn status` and `networks`: JSON passes through, people get the verdict first."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.control_socket import answers, serving, sojourn

NETWORKS = [
    {
        "name": "wlan0",
        "interface": "wlan0",
        "state": "up",
        "address": "192.168.1.7",
        "default": True,
        "tunnel": {"id": 70000, "rtt_ms": 23.456, "loss": 0.013, "mtu": 1420, "bytes_in": 1234567, "bytes_out": 999},
    },
    {
        "name": "wwan0",
        "interface": "wwan0",
        "state": "blocked",
        "address": "10.64.3.2",
        "tunnel": None,
        "reason": "no UDP",
    },
]
HOST = {
    "version": 1,
    "state": "associated",
    "vipa": "10.201.0.2",
    "vipa6": None,
    "anchor": "anchor.example.org",
    "networks": NETWORKS,
    "flows": 17,
}
ANCHOR = {
    "version": 1,
    "state": "running",
    "address": "192.0.2.1",
    "flows": 3,
    "hosts": [
        {"name": "laptop", "state": "associated", "vipa": "10.201.0.2", "vipa6": "fd00::2", "lease_s": 599},
        {"name": "phone\x1b[31m", "state": "invited", "vipa": None, "vipa6": None, "lease_s": None},
    ],
}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "h.sock")
    with serving(path, {"role": "host"}, answers({"status": HOST, "networks": NETWORKS})):
        yield path


def test_json_is_what_the_daemon_said(host: str) -> None:
    assert json.loads(sojourn("status", "--json", "--socket", host).out) == HOST
    assert json.loads(sojourn("networks", "--json", "--socket", host).out) == NETWORKS


def test_the_first_line_is_the_verdict(host: str) -> None:
    lines = sojourn("status", "--socket", host).out.splitlines()
    assert lines[0] == "associated: anchor anchor.example.org as 10.201.0.2, 17 flows"
    assert lines[1] == ""
    assert lines[2].split() == ["NETWORK", "STATE", "ADDRESS", "RTT", "LOSS", "MTU", "IN", "OUT", "REMARK"]
    assert lines[3].split() == [
        "*", "wlan0", "up", "192.168.1.7", "23.5", "ms", "1.3", "%", "1420", "1.2", "MB", "999", "B", "-",
    ]  # fmt: skip
    assert lines[4].split() == ["wwan0", "blocked", "10.64.3.2", "-", "-", "-", "-", "-", "no", "UDP"]


def test_check_turns_the_state_into_an_exit_code(tmp_path: Path, host: str) -> None:
    assert sojourn("status", "--check", "--socket", host).code == 0
    path = str(tmp_path / "o.sock")
    offline: dict[str, Any] = {**HOST, "state": "offline", "networks": [], "reason": "no network"}
    with serving(path, {}, answers({"status": offline})):
        ran = sojourn("status", "--check", "--socket", path)
        assert sojourn("status", "--socket", path).code == 0
    assert ran.code == 5
    assert ran.out.splitlines()[1] == "  no network"
    assert "No network is up." in ran.out
    assert "sojourn log" in ran.err


def test_an_anchor_shows_its_hosts_and_no_control_characters_of_theirs(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    with serving(path, {"role": "anchor"}, answers({"status": ANCHOR})):
        out = sojourn("status", "--socket", path).out
    assert out.splitlines()[0] == "running: anchor 192.0.2.1, 1 of 2 hosts associated, 3 flows"
    assert "9m 59s" in out
    assert "\x1b" not in out
