"""`make bench` keeps what programs give, whatever becomes of the others."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import _run


def names(folder: Path) -> dict[str, int]:
    return {place.name: json.loads(place.read_text())["n"] for place in sorted(folder.iterdir())}


def test_the_runs_of_one_call_stand_side_by_side_and_replace_those_of_the_last(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        _run.keep(tmp_path, "core", {"n": number}, first=number == 1)
    _run.keep(tmp_path, "idle", {"n": 7}, first=True)
    assert names(tmp_path) == {"core-1.json": 1, "core-2.json": 2, "core-3.json": 3, "idle-1.json": 7}
    _run.keep(tmp_path, "core", {"n": 4}, first=True)
    assert names(tmp_path) == {"core-1.json": 4, "idle-1.json": 7}


def test_a_name_that_begins_like_another_s_is_another_s(tmp_path: Path) -> None:
    _run.keep(tmp_path, "socks_silence", {"n": 1}, first=True)
    _run.keep(tmp_path, "socks", {"n": 2}, first=True)
    assert names(tmp_path) == {"socks-1.json": 2, "socks_silence-1.json": 1}


def test_a_program_that_fails_loses_nothing_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def measured(name: str, _limit: float) -> dict[str, Any]:
        tried.append(name)
        if name == "core" or tried.count(name) == 1:
            raise RuntimeError("exit code 1, and no JSON")
        return {"took_s": 1.0, "n": len(tried)}

    _run.keep(tmp_path, "core", {"n": 0}, first=True)
    _run.keep(tmp_path, "idle", {"n": 0}, first=True)
    monkeypatch.setattr(_run, "measured", measured)
    failed: dict[str, str] = {}
    _run.all_of(["core", "idle"], 2, failed, tmp_path)
    assert tried == ["core", "idle"] * 2
    assert failed.keys() == {"core, run 1", "core, run 2", "idle, run 1"}
    assert names(tmp_path) == {"core-1.json": 0, "idle-1.json": 4}


def test_a_real_program_is_kept_with_its_machine_and_one_that_is_late_is_ended(tmp_path: Path) -> None:
    record = _run.measured("decide", 60.0)
    assert record["result"]["bench"] == "decide"
    assert record["machine"]["processors"] >= 1
    assert record["took_s"] > 0
    with pytest.raises(RuntimeError, match=r"not done within 0\.05 s"):
        _run.measured("decide", 0.05)
