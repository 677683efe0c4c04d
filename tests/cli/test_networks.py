"""`sojourn networks` with what a network is, and `networks open`, which runs a command here, on that network."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sojourn.api.messages import ApiError, ErrorKind
from tests.harness.control_socket import answers, serving, sojourn

ROWS = [
    {
        "name": "wlan0", "interface": "wlan0", "state": "captive", "address": "192.0.2.7", "label": "Corner Café",
        "kind": "wifi", "signal": 0.724, "security": "open", "metered": False, "used_bytes": 5000, "cap_bytes": None,
        "tunnel": None, "reason": "its portal is closed",
    },
    {
        "name": "wwan0", "interface": "wwan0", "state": "up", "address": "10.64.3.2", "label": None, "default": True,
        "kind": "cellular", "technology": "lte", "signal": 0.4, "operator": "Example Mobile", "roaming": True,
        "metered": True, "used_bytes": 6_000_000_000, "cap_bytes": 5_000_000_000, "over_cap": True, "trusted": True,
        "tunnel": {"id": 7, "rtt_ms": 40.0, "loss": 0.0, "mtu": 1400, "bytes_in": 1, "bytes_out": 2},
    },
]  # fmt: skip
FOUND: dict[str, Any] = {
    "version": 1, "name": "wlan0", "interface": "lo", "address": "127.0.0.5", "captive": True, "found": "captive",
    "portal": "http://login.example/", "url": "http://probe.example/",
}  # fmt: skip


@pytest.fixture
def asked() -> list[tuple[str, dict[str, Any]]]:
    return []


@pytest.fixture
def host(tmp_path: Path, asked: list[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    path = str(tmp_path / "h.sock")
    resolved = {"version": 1, "addresses": ["127.0.0.1"]}
    with serving(path, {}, answers({"networks": ROWS, "probe": FOUND, "resolve": resolved}, asked)):
        yield path


def test_the_table_says_what_kind_of_access_each_network_is(host: str) -> None:
    first, *rows = sojourn("networks", "--socket", host).out.splitlines()
    assert first.split() == ["NETWORK", "STATE", "ADDRESS", "RTT", "LOSS", "MTU", "IN", "OUT", "ACCESS", "REMARK"]
    assert "wlan0 (Corner Café)" in rows[0]
    assert rows[0].endswith("its portal is closed")
    assert "  wifi 72 %, open  " in rows[0]
    wanted = "cellular lte 40 %, Example Mobile, trusted, roaming, metered, 6.0 GB of 5.0 GB, over its cap"
    assert wanted in rows[1]


def test_a_command_is_run_here_with_the_portals_page_and_a_proxy(
    host: str, tmp_path: Path, asked: list[tuple[str, dict[str, Any]]]
) -> None:
    seen = tmp_path / "seen"
    script = f"import os, sys; open({str(seen)!r}, 'w').write(' '.join([os.environ['http_proxy'], *sys.argv[1:]]))"
    (tmp_path / "browse.py").write_text(script)
    command = f"{sys.executable} {tmp_path}/browse.py {{url}}"
    ran = sojourn("networks", "open", "wlan0", "--socket", host, "--command", command)
    assert ran.code == 0
    proxy, url = seen.read_text().split()
    assert proxy.startswith("http://127.0.0.1:")
    assert url == FOUND["portal"]
    assert ran.out == "wlan0 is still captive.\n"
    assert ("probe", {"network": "wlan0"}) in asked


def test_names_are_looked_up_by_the_daemon_and_the_socket_may_be_named_before(
    host: str, tmp_path: Path, asked: list[tuple[str, dict[str, Any]]]
) -> None:
    program = (
        "import os, socket, sys; port = int(os.environ['http_proxy'].rpartition(':')[2]);"
        "s = socket.create_connection(('127.0.0.1', port));"
        "s.sendall(b'GET http://portal.example:9/ HTTP/1.1\\r\\n\\r\\n'); sys.exit(b' 502 ' not in s.recv(100))"
    )
    (tmp_path / "ask.py").write_text(program)
    command = f"{sys.executable} {tmp_path}/ask.py"
    assert sojourn("networks", "--socket", host, "open", "wlan0", "--command", command).code == 0
    assert ("resolve", {"network": "wlan0", "name": "portal.example"}) in asked


def test_the_commands_exit_code_is_ours_and_one_that_is_not_there_is_named(host: str) -> None:
    argv = ["networks", "open", "wlan0", "--socket", host, "--command"]
    assert sojourn(*argv, f"{sys.executable} -c 'raise SystemExit(7)' {{url}}").code == 7
    ran = sojourn(*argv, "/nowhere/browser {url}")
    assert ran.code == 1
    assert "/nowhere/browser cannot be run" in ran.err


def test_a_network_that_is_not_there_is_said_by_the_daemon(tmp_path: Path) -> None:
    path = str(tmp_path / "h.sock")
    error = ApiError("no network 'nix' is up", "Up now: wlan0.", ErrorKind.USAGE)
    with serving(path, {}, answers({"probe": error})):
        ran = sojourn("networks", "open", "nix", "--socket", path)
    assert ran.code == 2
    assert "Up now: wlan0." in ran.err


def test_without_any_page_it_asks_for_one(tmp_path: Path) -> None:
    path = str(tmp_path / "h.sock")
    with serving(path, {}, answers({"probe": {**FOUND, "portal": None, "url": ""}})):
        ran = sojourn("networks", "open", "wlan0", "--socket", path)
    assert ran.code == 1
    assert "--url" in ran.err
    assert os.environ.get("http_proxy") is None


@pytest.mark.parametrize(("command", "use"), [("pause", "paused"), ("exclude", "excluded"), ("resume", "on")])
def test_a_network_is_put_aside_and_used_again(tmp_path: Path, command: str, use: str) -> None:
    path, asked = str(tmp_path / "n.sock"), list[tuple[str, dict[str, Any]]]()
    told = {"version": 1, "network": "wlan0", "use": use, "before": use}
    with serving(path, {}, answers({"network_use": told}, asked)):
        ran = sojourn("networks", command, "wlan0", "--socket", path)
    assert (ran.code, ran.out) == (0, f"wlan0: {use} already\n")
    assert asked == [("network_use", {"network": "wlan0", "use": use})]
