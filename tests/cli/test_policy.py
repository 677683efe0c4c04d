"""`sojourn policy`: list, show, test, explain, reload."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.control_socket import answers, serving, sojourn

RULE = {
    "place": 1, "name": "calls", "from": "user", "line": 7, "covers": "application zoom", "preset": None,
    "networks": ["ethernet", "wifi"], "otherwise": "any", "via": "anchor", "copies": 1, "state": "carried",
    "network": "wlan0", "reason": "a network is there", "flows": 3, "flows_on": {"wlan0": 2, "eth0": 1},
}  # fmt: skip
HELD = {**RULE, "place": 2, "name": "", "from": "default", "state": "held", "network": None, "flows": 0, "flows_on": {}}
FLOW = {"id": "a1b2c3d4", "remote": "192.0.2.1:22", "application": "ssh"}
PROBLEM = {"line": 6, "key": "policy[0].x", "why": "w", "fix": "f", "text": "host.toml:6: policy[0].x: w. f"}
SHOWN = {
    "version": 1, "file": "/etc/sojourn/host.toml", "in_force": "an older version of the file: it has mistakes now",
    "errors": [PROBLEM], "warnings": [{**PROBLEM, "text": "careful"}], "policies": [],
    "toml": '[[policy]]   # line 7\nname = "calls"\n', "accept": ["costs"],
    "push": {"version": 7, "costs_used": {"cellular": "metered"}, "errors": [{"text": "the push: bad"}]},
}  # fmt: skip
EXPLAINED = {
    "flow": FLOW, "policy": "calls", "came_from": "anchor", "line": 7, "covers": "application zoom", "network": "wwan0",
    "state": "carried", "reason": "wlan0: its loss is 10%, above 2%", "since_s": 75.0, "copies": ["eth0"],
    "ordered": None, "to_move": ["to wlan0: this would have to change: its loss is 10%, above 2%"],
    "networks": [
        {"network": "wwan0", "in_use": True, "fits": True, "why": [], "score": 1.5},
        {"network": "wlan0", "in_use": False, "fits": False, "why": ["its loss is 10%, above 2%"], "score": None},
    ],
}  # fmt: skip
MOVE = {"flow": FLOW, "policy": "calls", "from": "eth0", "to": None, "why": "it waits"}


def explained(*explanations: dict[str, Any]) -> dict[str, Any]:
    return {"version": 1, "what": "ssh", "flows": len(explanations), "explanations": list(explanations)}


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "h.sock")
    results = {
        "policy_list": [RULE, HELD], "policy_show": SHOWN, "policy_explain": explained(EXPLAINED),
        "policy_test": {"version": 1, "errors": [], "warnings": [], "policies": 1, "moves": [MOVE], "flows": 4},
        "policy_reload": {"version": 1, "ok": False, "errors": [PROBLEM], "policies": 1},
    }  # fmt: skip
    with serving(path, {}, answers(results)):
        yield path


def test_json_is_what_the_daemon_gave(path: str) -> None:
    assert json.loads(sojourn("policy", "list", "--json", "--socket", path).out) == [RULE, HELD]
    assert json.loads(sojourn("policy", "show", "--json", "--socket", path).out) == SHOWN
    assert json.loads(sojourn("policy", "explain", "ssh", "--json", "--socket", path).out) == explained(EXPLAINED)


def test_the_list_says_how_many_flows_each_rule_has_and_where_they_are(path: str) -> None:
    _, calls, default = sojourn("policy", "list", "--socket", path).out.splitlines()
    assert calls.split("  ")[-1] == "wlan0 (1 on eth0)"
    assert "application zoom" in calls
    assert default.split()[1] == "(default)"
    assert default.split()[-1] == "held"


def test_show_prints_toml_with_mistakes_as_comments(path: str) -> None:
    out = sojourn("policy", "show", "--socket", path).out
    assert "# MISTAKE  host.toml:6: policy[0].x: w. f" in out
    assert "# warning  careful" in out
    assert "# the anchor offers policies, costs or an order; accepted: costs" in out
    assert "# from the anchor: cellular is metered" in out
    assert "# left out  the push: bad" in out
    assert out.endswith('[[policy]]   # line 7\nname = "calls"\n')


def test_explain_names_rule_reason_networks_and_what_would_move_it(path: str) -> None:
    assert sojourn("policy", "explain", "ssh", "--socket", path).out == (
        "ssh to 192.0.2.1:22 (a1b2c3d4)\n"
        "  policy    calls (pushed by the anchor, line 7): application zoom\n"
        "  network   wwan0, copies over eth0, for 1m 15s\n"
        "  because   wlan0: its loss is 10%, above 2%\n"
        "  networks  1. wwan0 [score 1.5]: in use\n"
        "            2. wlan0: its loss is 10%, above 2%\n"
        "  to move   to wlan0: this would have to change: its loss is 10%, above 2%\n"
    )


def test_flows_that_are_alike_are_explained_once(tmp_path: Path) -> None:
    many = [{**EXPLAINED, "flow": {**FLOW, "id": f"{number:08x}"}} for number in range(12)]
    path = str(tmp_path / "m.sock")
    with serving(path, {}, answers({"policy_explain": explained(*many, {**EXPLAINED, "flow": None, "state": "held"})})):
        out = sojourn("policy", "explain", "ssh", "--socket", path).out
    assert out.count("  policy  ") == 2
    assert "and 2 more flows, alike" in out
    assert "ssh: no flow now; new ones would be treated like this" in out
    assert "  network   held: no network fits\n" in out


# test


def test_a_file_s_mistakes_are_all_told_without_a_daemon_and_the_exit_code_is_1(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('[[policy]]\naplication = "x"\nrequire = { rtt = "5" }\n')
    ran = sojourn("policy", "test", str(file), "--socket", str(tmp_path / "none.sock"))
    assert ran.code == 1
    assert ran.out.splitlines() == [
        f"{file}:2: policy[0].aplication: there is no such key. Did you mean 'application'?",
        f"{file}:3: policy[0].require.rtt: '5' is no time. "
        'Write a number and one of us, ms, s, min, h, like "150ms".',
    ]  # fmt: skip
    ran = sojourn("policy", "test", str(file), "--json", "--socket", str(tmp_path / "none.sock"))
    assert [one["line"] for one in json.loads(ran.out)["errors"]] == [2, 3]


def test_a_right_file_is_said_to_be_right_and_without_a_daemon_no_more(tmp_path: Path) -> None:
    file = tmp_path / "host.toml"
    file.write_text('[[policy]]\napplication = "x"\n[[policy]]\napplication = "x"\nport = 5\n[[policy]]\nport = 5\n')
    ran = sojourn("policy", "test", "--config-dir", str(tmp_path), "--socket", str(tmp_path / "none.sock"))
    assert (ran.code, ran.out.splitlines()) == (
        0,
        [f"{file}: 3 policies, no mistakes", "No daemon could be asked: which flows would move is not known."],
    )


def test_with_a_daemon_the_flows_that_would_move_are_named(path: str, tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text("[[policy]]\nport = 22\n")
    out = sojourn("policy", "test", str(file), "--socket", path).out.splitlines()
    assert out[:2] == [f"{file}: 1 policy, no mistakes", "This flow would move (of 4):"]
    assert out[3].split() == ["a1b2c3d4", "ssh", "192.0.2.1:22", "eth0", "-", "it", "waits"]
    told = json.loads(sojourn("policy", "test", str(file), "--json", "--socket", path).out)
    assert (told["daemon"], told["moves"]) == (True, [MOVE])


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    ran = sojourn("policy", "test", str(tmp_path / "no.toml"))
    assert ran.code == 1
    assert "does not exist" in ran.err
    (tmp_path / "b.toml").write_bytes(b"\xff")
    assert sojourn("policy", "test", str(tmp_path / "b.toml")).code == 2


def test_a_reload_that_fails_says_why_and_that_the_old_policies_stay(path: str) -> None:
    ran = sojourn("policy", "reload", "--socket", path)
    assert (ran.code, ran.out) == (1, "host.toml:6: policy[0].x: w. f\nThe old policies stay.\n")
