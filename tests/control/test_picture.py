"""What is told to those who look: all of it once, then what changed, and never what is outdated."""

from typing import Any

from sojourn.control.picture import KEPT_GONE, KEPT_LOG, Picture


def flow(name: str, network: str = "wifi") -> dict[str, Any]:
    return {"id": name, "network": network, "bytes_in": 0, "bytes_out": 0}


def shown(name: str, network: str = "wifi", *counted: int) -> dict[str, Any]:
    counts = counted or (0, 0, 0, 0)
    return flow(name, network) | dict(zip(("bytes_in", "bytes_out", "in_bps", "out_bps"), counts, strict=True))


def test_a_snapshot_has_everything_and_a_delta_what_came_after() -> None:
    picture = Picture(("networks", "flows"))
    picture.set("status", {"state": "associated"})
    picture.tables["networks"].put("wifi", {"name": "wifi"})
    picture.tables["flows"].put("a", flow("a"))
    assert picture.snapshot() == {
        "status": {"state": "associated"}, "networks": [{"name": "wifi"}], "flows": [shown("a")], "log": [],
    }  # fmt: skip
    seen = picture.number
    assert picture.delta(seen) == {}
    picture.tables["flows"].put("b", flow("b"))
    picture.log({"number": 1})
    assert picture.delta(seen) == {"flows": [shown("b")], "log": [{"number": 1}]}


def test_what_did_not_change_is_no_news() -> None:
    picture = Picture(("flows",))
    picture.tables["flows"].put("a", flow("a"))
    picture.set("undo", None)
    picture.rates.put("a", (1, 2, 3, 4))
    seen = picture.number
    assert not picture.tables["flows"].put("a", flow("a"))
    picture.set("undo", None)
    picture.rates.put("a", (1, 2, 3, 4))
    assert picture.delta(seen) == {}


def test_somebody_slow_is_told_the_newest_state_once() -> None:
    picture = Picture(("flows",))
    picture.tables["flows"].put("a", flow("a"))
    seen = picture.number
    for count in range(1000):
        picture.rates.put("a", (count, 0, 0, 0))
        picture.tables["flows"].put("a", flow("a", f"n{count % 2}"))
    assert picture.delta(seen) == {"flows": [shown("a", "n1", 999, 0, 0, 0)], "rates": [["a", 999, 0, 0, 0]]}


def test_what_went_is_told_by_key_and_what_came_back_as_a_row() -> None:
    picture = Picture(("flows",))
    for name in ("a", "b"):
        picture.tables["flows"].put(name, flow(name))
    seen = picture.number
    picture.drop_flow("a")
    picture.drop_flow("b")
    picture.tables["flows"].put("b", flow("b"))
    assert picture.delta(seen) == {"flows": [shown("b")], "flows_gone": ["a"]}
    picture.tables["flows"].keep_only(())
    assert picture.snapshot()["flows"] == []


def test_whoever_missed_more_than_is_kept_must_take_a_snapshot() -> None:
    picture = Picture(("flows",))
    seen = picture.number
    for count in range(KEPT_GONE + 1):
        picture.tables["flows"].put(str(count), flow(str(count)))
        picture.drop_flow(str(count))
    assert picture.delta(seen) is None
    assert picture.delta(picture.number) == {}


def test_a_move_is_told_with_its_row_and_only_while_the_flow_lives() -> None:
    picture = Picture(("flows",))
    picture.tables["flows"].put("a", flow("a"))
    seen = picture.number
    picture.tables["flows"].put("a", flow("a", "cell"))
    move = {"flow": "a", "from": "wifi", "to": "cell", "why": "wifi: no answer for 250 ms"}
    picture.moved("a", move)
    assert picture.delta(seen) == {"flows": [shown("a", "cell")], "moves": [move]}
    picture.drop_flow("a")
    assert picture.delta(seen) == {"flows_gone": ["a"]}


def test_memory_is_bounded_by_what_stands() -> None:
    picture = Picture(("flows",))
    for count in range(3 * KEPT_GONE):
        picture.tables["flows"].put(str(count), flow(str(count)))
        picture.moved(str(count), {"flow": str(count)})
        picture.rates.put(str(count), (1, 1, 1, 1))
        picture.drop_flow(str(count))
        picture.log({"number": count})
    assert len(picture.tables["flows"]) == 0
    assert len(picture.snapshot()["log"]) == KEPT_LOG
    assert len(picture.tables["flows"].gone_since(0)) == KEPT_GONE
    assert picture.delta(picture.number - 1) == {"log": [{"number": 3 * KEPT_GONE - 1}]}
