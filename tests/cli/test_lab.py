import json
from pathlib import Path

import pytest
from msgspec import json as msgjson

from sojourn.cli.lab import _write_picture
from sojourn.lab.report import Happened, Result, build
from sojourn.lab.scenarios import SCENARIOS, Limits, Scenario
from tests.harness.control_socket import sojourn


def result() -> Result:
    return build(
        Scenario("test", "a test", 4.0, (), Limits()), sojourn=True, start=0.0, end=4.0, streams=[],
        happened=[Happened(1.0, "first")], conditions=[], samples=[],
    )  # fmt: skip


def test_the_scenarios_are_listed_with_their_purpose() -> None:
    ran = sojourn("lab", "list", "--json")
    rows = json.loads(ran.out)
    assert [row["name"] for row in rows] == [*SCENARIOS, "copied", "roam"]
    assert all(row["purpose"] and row["seconds"] > 0 for row in rows)


def test_an_unknown_scenario_is_a_usage_error_that_names_the_known_ones() -> None:
    ran = sojourn("lab", "run", "teleport")
    assert ran.code == 2
    assert "silent-death" in ran.err


def test_a_time_is_refused_where_a_scenario_has_its_own() -> None:
    ran = sojourn("lab", "run", "planned", "--seconds", "60")
    assert ran.code == 2
    assert "both-lost-and-back" in ran.err


def test_the_picture_is_written_as_svg_and_png(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    vector, bitmap = _write_picture(result(), tmp_path / "demo")
    assert vector.read_text().startswith("<svg ")
    assert bitmap.read_bytes().startswith(b"\x89PNG")


def test_a_result_as_json_says_its_version() -> None:
    said = json.loads(msgjson.encode(result()))
    assert said["version"] == 1
    assert said["scenario"] == "test"
