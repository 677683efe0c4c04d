"""The figures' page: what it says of runs, of a peer that is missing, and of what was not measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import _page
from bench._figure import Figure, at, both
from bench._figures import PEERS, TABLES
from bench._pictures import bars, panels_of

NEWEST = "wireguard-go-named"
BESIDE = {name: both("peers", name, key="gbit_s") for name in (NEWEST, "bare")}
FLOW = Figure("one flow", both("peers", "sojourn", key="gbit_s"), "Gbit/s", least=2.0, by=NEWEST, beside=BESIDE)
TRIP = Figure("round trip", at("ours"), "µs", most=80.0, beyond="bare", beside={"bare": at("bare")})
LOST = Figure("packets lost", at("lost"), most=0.0)


def peer(up: float, down: float) -> dict[str, dict[str, float]]:
    return {"up": {"gbit_s": up}, "down": {"gbit_s": down}}


def run(ours: float, theirs: float | None) -> dict[str, Any]:
    missing = {"peer missing": "wireguard-go is not installed"}
    return {
        "peers": {
            "sojourn": peer(ours, ours),
            "bare": peer(20, 22),
            NEWEST: peer(theirs, theirs) if theirs else missing,
        }
    }


def record(result: dict[str, Any], day: int = 22, load: float = 0.5) -> dict[str, Any]:
    machine = {
        "processor": "Intel(R) Xeon(R)", "processors": 2, "kernel": "6.1.0", "flags": ["aes", "vaes"],
        "system": "Debian 12", "python": "3.11.2", "openssl": "3.0.19",
        "peers": {"openvpn": "2.6.14", "dante": "1.4"}, "load": load,
    }  # fmt: skip
    return {
        "bench": "sealed",
        "began": f"2026-11-{day}T19:00:00+0000",
        "machine": machine,
        "stolen_percent": 1.5,
        "result": result,
    }


def cells(figure: Figure, *founds: dict[str, Any]) -> list[str]:
    return [cell.strip() for cell in _page.table([figure], founds).splitlines()[-1].strip("|").split("|")]


def test_a_row_has_the_ratio_of_each_run_and_what_it_is_made_of() -> None:
    assert cells(FLOW, run(4, 2), run(6, 2)) == [
        "one flow", "≥ 2", "**2, 3**", "met", "4, 6 Gbit/s; newest wireguard-go 2, 2; bare forwarding 21, 21",
    ]  # fmt: skip


def test_a_missed_target_is_said_to_be_missed() -> None:
    assert cells(FLOW, run(3, 2))[2:4] == ["**1.5**", "**missed**"]
    assert cells(LOST, {"lost": 1})[1:4] == ["0", "**1**", "**missed**"]


def test_a_target_that_some_runs_reach_says_how_many() -> None:
    assert cells(FLOW, run(4, 2), run(3, 2), run(5, 2))[3] == "met in 2 of 3"


def test_a_target_is_judged_before_the_value_is_rounded() -> None:
    assert cells(FLOW, run(3.999, 2))[2:4] == ["**2**", "**missed**"]


def test_a_peer_that_is_missing_leaves_no_ratio_and_is_named() -> None:
    found = cells(FLOW, run(4, None))
    assert found[2:4] == ["", "peer missing"]
    assert "newest wireguard-go: peer missing" in found[4]


def test_a_run_without_the_peer_is_no_run_that_met() -> None:
    assert cells(FLOW, run(4, 2), run(4, None))[2:4] == ["**2, –**", "met"]
    assert cells(FLOW, run(3, 2), run(4, None))[3] == "**missed**"


def test_what_was_not_measured_is_not_judged() -> None:
    assert cells(FLOW, {"peers": {}})[2:4] == ["", "not measured"]
    assert cells(LOST, {})[2:4] == ["", "not measured"]


def test_beyond_a_peer_means_the_difference() -> None:
    assert cells(TRIP, {"ours": 110.0, "bare": 30.0})[1:4] == ["≤ 80 µs", "**80** µs", "met"]


def test_the_block_says_when_how_often_and_on_what_it_was_measured() -> None:
    said = _page.dated([record({}, 22, 0.5), record({}, 23, 2.0)], {"openvpn"})
    assert said.startswith(
        "2 runs, 22 November 2026 and 23 November 2026, load before them 0.5 to 2, 1.5 % of busy time"
    )
    assert "2 x Intel Xeon (aes, vaes), Debian 12, Linux 6.1.0, Python 3.11.2, OpenSSL 3.0.19, OpenVPN 2.6.14." in said
    assert "dante" not in said


PAGE = """# Page
By hand.
<!-- figures: idle -->
old
<!-- end -->
<!-- figures: core -->
of another day
<!-- end -->
By hand, too.
"""


def folder_of(place: Path, **results: list[dict[str, Any]]) -> Path:
    place.mkdir()
    for name, each in results.items():
        for number, result in enumerate(each, 1):
            (place / f"{name}-{number}.json").write_text(json.dumps(record(result)))
    return place


@pytest.fixture
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library that draws is installed by `make bench` alone."""
    monkeypatch.setattr(_page, "draw", lambda panels, place: None)


@pytest.mark.usefixtures("_undrawn")
def test_a_block_without_runs_and_all_that_is_written_by_hand_stay(tmp_path: Path) -> None:
    page, runs = tmp_path / "page.md", folder_of(tmp_path / "out", idle=[{"host": {"percent": 0.13}}])
    page.write_text(PAGE)
    _page.write(runs, page, tmp_path)
    text = page.read_text()
    assert "| ≤ 0.5 % | **0.13** % | met |" in text
    assert "old" not in text
    assert "<!-- figures: core -->\nof another day\n<!-- end -->\nBy hand, too.\n" in text
    assert text.startswith("# Page\nBy hand.\n<!-- figures: idle -->\n`bench/idle.py`: one run")


@pytest.mark.usefixtures("_undrawn")
def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    page, runs = tmp_path / "page.md", folder_of(tmp_path / "out", idle=[{"host": {"percent": 0.1}}] * 11)
    page.write_text(PAGE)
    _page.write(runs, page, tmp_path)
    once = page.read_bytes()
    _page.write(runs, page, tmp_path)
    assert page.read_bytes() == once
    assert b"11 runs" in once


def test_runs_come_in_their_order(tmp_path: Path) -> None:
    runs = folder_of(tmp_path / "out", socks_silence=[{"n": n} for n in range(12)])
    assert [one["result"]["n"] for one in _page.kept(runs)["socks_silence"]] == list(range(12))


def test_no_program_s_figures_fail_on_a_result_that_has_nothing() -> None:
    for name, figures in TABLES.items():
        assert "not measured" in _page.table(figures, [{}])
        assert panels_of(name, [{}]) == []


def test_a_target_is_a_line_in_the_unit_of_the_bars() -> None:
    panel, plain = bars(FLOW, [run(4, 2), run(6, 3)]), bars(TRIP, [{"ours": 110.0, "bare": 30.0}])
    assert panel is not None
    assert plain is not None
    assert (panel.target, plain.target) == (5.0, 110.0)
    assert panel.values == {"sojourn": [4, 6], PEERS[NEWEST]: [2, 3], PEERS["bare"]: [21, 21]}


def test_the_page_has_a_block_for_each_program_with_targets() -> None:
    there = {found[2] for found in _page.BLOCK.finditer(_page.PAGE.read_text())}
    assert there >= TABLES.keys()
