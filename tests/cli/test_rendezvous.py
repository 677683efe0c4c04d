"""`sojourn rendezvous`: what is told before anything starts, and what `status` says of a node."""

import json
from pathlib import Path

from tests.harness.control_socket import answers, serving, sojourn

NODE = {
    "version": 1, "state": "running", "role": "rendezvous", "listen": ["203.0.113.9:1801"], "triggers": 2,
    "triggers_max": 1000, "totals": {"forwarded": 7}, "refused": {"no-trigger": 3},
}  # fmt: skip


def test_without_configuration_the_one_line_that_is_missing_is_told(tmp_path: Path) -> None:
    ran = sojourn("rendezvous", "--config-dir", str(tmp_path))
    assert ran.code == 1
    assert 'listen = ["ADDRESS"]' in ran.err


def test_a_wildcard_alone_is_refused_on_the_command_line_too() -> None:
    ran = sojourn("rendezvous", "--listen", "0.0.0.0")
    assert ran.code == 1
    assert "--address" in ran.err
    assert sojourn("rendezvous", "--address", "192.0.2.1").code == 2


def test_status_shows_what_the_node_did_and_what_it_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "r.sock")
    with serving(path, {"role": "rendezvous"}, answers({"status": NODE})):
        text = sojourn("status", "--check", "--socket", path).out
        assert json.loads(sojourn("status", "--json", "--socket", path).out) == NODE
    assert text.startswith("running: rendezvous node at 203.0.113.9:1801, 2 of 1000 triggers\n")
    assert "refused: no-trigger      3" in text


def test_status_names_the_servers_of_the_store_and_why_one_is_down(tmp_path: Path) -> None:
    path = str(tmp_path / "r.sock")
    servers = [
        {"address": "10.0.0.1:6379", "state": "up", "reason": None},
        {"address": "10.0.0.2:6379", "state": "down", "reason": "no answer in 0.5 s"},
    ]
    store = {"servers": servers, "places_cached": 3, "nodes": ["203.0.113.9", "203.0.113.10"]}
    with serving(path, {"role": "rendezvous"}, answers({"status": {**NODE, "store": store}})):
        text = sojourn("status", "--socket", path).out
    assert "nodes that share them: 203.0.113.9, 203.0.113.10" in text
    assert "store 10.0.0.1:6379: up\n" in text
    assert "store 10.0.0.2:6379: down (no answer in 0.5 s)" in text
