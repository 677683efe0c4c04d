"""`sojourn log`."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.api.log_stream import stream_log
from sojourn.control.roaming_log import RoamingLog
from tests.harness.control_socket import serving, sojourn


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    log = RoamingLog()
    log.add(1_700_000_000.25, "network_up", network="eth0")
    log.add(
        1_700_000_001.0, "silent", network="wlan0", decision="from eth0", reason="no answer", gap_ms=231.44, flows=3,
        known={"eth0": "silent", "wlan0": "works, loss 0%"},
    )  # fmt: skip
    path = str(tmp_path / "h.sock")
    with serving(path, {}, lambda server: server.register_stream("log", lambda given, _: stream_log(log, given))):
        yield path


def test_an_entry_is_one_line_with_the_reason(path: str) -> None:
    first, second = sojourn("log", "--socket", path).out.splitlines()
    assert first.endswith("network_up     eth0")
    assert second.endswith(
        "silent         wlan0      from eth0 3 flows [gap 231 ms] (no answer) [eth0: silent; wlan0: works, loss 0%]"
    )
    assert ".250 " in first


def test_the_limit_keeps_the_newest(path: str) -> None:
    assert len(sojourn("log", "-n", "1", "--socket", path).out.splitlines()) == 1


def test_json_is_a_list_with_the_log_s_own_keys(path: str) -> None:
    entries = json.loads(sojourn("log", "--json", "--socket", path).out)
    assert [entry["event"] for entry in entries] == ["network_up", "silent"]
    keys = {"number", "time", "event", "network", "decision", "reason", "gap_ms", "flows", "known"}
    assert set(entries[0]) == keys
