"""`sojourn handover`: which flows, where to, what became of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from sojourn.api.messages import ApiError, ErrorKind
from tests.harness.control_socket import answers, serving, sojourn

RESULT = {"version": 1, "to": "eth0", "moved": 3, "unchanged": 1, "stale": 0}


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (["--flow", "a1b2"], {"flow": "a1b2"}),
        (["--app", "ssh"], {"app": "ssh"}),
        (["--match", "-p tcp --dport 22"], {"match": "-p tcp --dport 22"}),
        (["--all"], {"all": True}),
    ],
)
def test_each_way_to_name_flows_reaches_the_daemon(
    tmp_path: Path, options: list[str], arguments: dict[str, object]
) -> None:
    path, asked = str(tmp_path / "h.sock"), list[tuple[str, dict[str, Any]]]()
    with serving(path, {}, answers({"handover": RESULT}, asked)):
        ran = sojourn("handover", *options, "--to", "eth0", "--socket", path)
    assert (ran.code, ran.out) == (0, "3 flows moved to eth0 (1 unchanged)\n")
    assert asked == [("handover", {"to": "eth0", **arguments})]


def test_what_was_ordered_is_given_back_to_the_policies(tmp_path: Path) -> None:
    path = str(tmp_path / "h.sock")
    with serving(path, {}, answers({"handover": {"version": 1, "to": "policy", "moved": 2}})):
        ran = sojourn("handover", "--app", "zoom", "--to", "policy", "--socket", path)
    assert ran.out == "2 flows moved where the policies want them\n"


def test_json_is_the_daemon_s_answer(tmp_path: Path) -> None:
    path = str(tmp_path / "h.sock")
    with serving(path, {}, answers({"handover": RESULT})):
        assert json.loads(sojourn("handover", "--all", "--to", "eth0", "--json", "--socket", path).out) == RESULT


@pytest.mark.parametrize("options", [[], ["--all", "--app", "ssh"], ["--flow", "1", "--match", "-p tcp"]])
def test_flows_are_named_in_exactly_one_way(options: list[str]) -> None:
    ran = sojourn("handover", *options, "--to", "eth0")
    assert ran.code == 2
    assert "exactly one of" in ran.err


def test_a_match_without_sense_is_refused_before_the_daemon_is_asked(tmp_path: Path) -> None:
    ran = sojourn("handover", "--match", "-p nonsense", "--to", "eth0", "--socket", str(tmp_path / "none"))
    assert ran.code == 2
    assert "-p tcp --dport 22" in ran.err


def test_an_unknown_network_is_what_the_daemon_says(tmp_path: Path) -> None:
    path = str(tmp_path / "h.sock")
    refusal = ApiError("no network 'x' is up", "Up now: eth0.", ErrorKind.USAGE)
    with serving(path, {}, answers({"handover": refusal})):
        ran = sojourn("handover", "--all", "--to", "x", "--socket", path)
    assert (ran.code, ran.err) == (2, "sojourn: no network 'x' is up. Up now: eth0.\n")


@pytest.mark.parametrize(("word", "said"), [("hold", "3 flows held\n"), ("block", "3 flows blocked\n")])
def test_flows_may_wait_or_be_refused(tmp_path: Path, word: str, said: str) -> None:
    path = str(tmp_path / "h.sock")
    with serving(path, {}, answers({"handover": {"version": 1, "to": word, "moved": 3}})):
        assert sojourn("handover", "--app", "zoom", "--to", word, "--socket", path).out == said


def test_the_last_order_is_taken_back(tmp_path: Path) -> None:
    path = str(tmp_path / "h.sock")
    with serving(path, {}, answers({"undo": {"version": 1, "undone": "moved zoom to wlan0", "undo": None}})):
        assert sojourn("handover", "--undo", "--socket", path).out == "Taken back: moved zoom to wlan0.\n"
    ran = sojourn("handover", "--all")
    assert (ran.code, "--to NETWORK" in ran.err) == (2, True)
