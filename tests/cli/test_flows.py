"""`sojourn flows` and `sojourn apps`."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.control_socket import answers, serving, sojourn

FLOW = {
    "id": "a1b2c3d4",
    "protocol": "tcp",
    "local": "10.201.0.2:40000",
    "remote": "[2001:db8::1]:443",
    "application": None,
    "network": "wlan0",
    "bytes_in": 2_500_000_000,
    "bytes_out": 12,
    "age_s": 93784.5,
}
APP = {"application": "ssh", "flows": 2, "networks": ["wlan0", "eth0"], "bytes_in": 1, "bytes_out": 2}


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "h.sock")
    with serving(path, {}, answers({"flows": [FLOW], "apps": [APP]})):
        yield path


def test_json_is_a_list_as_the_daemon_gave_it(path: str) -> None:
    assert json.loads(sojourn("flows", "--json", "--socket", path).out) == [FLOW]
    assert json.loads(sojourn("apps", "--json", "--socket", path).out) == [APP]


def test_people_get_units(path: str) -> None:
    heading, row = sojourn("flows", "--socket", path).out.splitlines()
    assert heading.split()[4:7] == ["APPLICATION", "POLICY", "NETWORK"]
    assert row.split()[:7] == ["a1b2c3d4", "tcp", "10.201.0.2:40000", "[2001:db8::1]:443", "-", "-", "wlan0"]
    assert row.split()[7:] == ["2.5", "GB", "12", "B", "1d", "2h"]
    assert "wlan0, eth0" in sojourn("apps", "--socket", path).out


def test_no_flow_is_a_heading_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "e.sock")
    with serving(path, {}, answers({"flows": []})):
        ran = sojourn("flows", "--socket", path)
        assert ran.out.startswith("ID")
        assert len(ran.out.splitlines()) == 1
        assert json.loads(sojourn("flows", "--json", "--socket", path).out) == []
