from typing import Any

from sojourn.lab.places import HELD, Expected, Place, Places, judge, reasons


def flow(name: str, network: str | None, size: int, number: int = 1) -> dict[str, Any]:
    return {"id": number, "application": name, "network": network, "bytes_in": size, "bytes_out": 0}


def test_a_change_of_place_is_noted_once_and_bytes_count_where_they_were_seen() -> None:
    places = Places()
    places.take(1.0, [flow("call", "wifi", 100)])
    places.take(1.2, [flow("call", "wifi", 300)])
    places.take(1.4, [flow("call", "cellular", 350), {"id": 9, "application": None, "network": "wifi"}])
    places.take(1.6, [flow("call", None, 350)])
    assert [(place.at, place.networks) for place in places.history] == [
        (1.0, ("wifi",)), (1.4, ("cellular",)), (1.6, (HELD,)),
    ]  # fmt: skip
    assert places.used == {"call": {"wifi": 300, "cellular": 50, HELD: 0}}


def test_each_change_gets_the_newest_reason_shortly_before_it() -> None:
    places = Places()
    places.take(5.0, [flow("call", "wifi", 0)])
    places.take(9.0, [flow("call", "cellular", 0)])
    places.explain([(4.0, "wifi", "old"), (8.7, "cellular", "wifi: loss 4 %"), (9.5, "cellular", "later")])
    assert [place.why for place in places.history] == ["old", "wifi: loss 4 %"]


def test_where_an_application_begins_only_a_decision_for_that_network_is_its_reason() -> None:
    places = Places()
    places.take(5.0, [flow("call", "wifi", 0), flow("ssh", "ethernet", 0, 2)])
    places.explain([(4.8, "wifi", "wifi is preferred to ethernet")])
    assert [place.why for place in places.history] == ["wifi is preferred to ethernet", ""]


def test_one_decision_moves_an_application_to_its_network_and_lets_another_wait() -> None:
    places = Places()
    places.take(5.0, [flow("ssh", "wifi", 0), flow("backup", "wifi", 0, 2)])
    places.take(9.0, [flow("ssh", "cellular", 0), flow("backup", None, 0, 2)])
    places.explain([(8.9, "cellular", "wifi: no answer for 176 ms")])
    assert [place.why for place in places.history[2:]] == ["wifi: no answer for 176 ms"] * 2


def test_an_application_must_arrive_in_time_and_stay() -> None:
    history = [Place(0.0, "call", ("wifi",)), Place(5.6, "call", ("cellular",)), Place(9.0, "call", ("wifi",))]
    assert judge(Expected(0, "call", ("cellular",)), history, 5.0, 9.0).found == "after 600 ms"
    assert not judge(Expected(0, "call", ("cellular",), within=0.5), history, 5.0, 9.0).met
    assert judge(Expected(0, "call", ("cellular",)), history, 5.0, 9.5).found == "wifi"
    assert judge(Expected(0, "backup", ("wifi",)), history, 5.0, 9.0).found == "never seen"
    assert judge(Expected(0, "call", ("wifi",)), history, 2.0, 5.0).found == "all the time"


def test_reasons_are_read_from_the_roaming_logs_file() -> None:
    lines = [
        b'{"time": 1010.5, "event": "handover", "network": "cellular", "reason": "wifi: gone"}',
        b'{"time": 1010.75, "event": "handover", "network": null, "reason": "none is left"}',
        b'{"time": 1011, "event": "works"}',
        b'{"ti',
    ]
    assert reasons(lines, 1000.0) == [(10.5, "cellular", "wifi: gone"), (10.75, HELD, "none is left")]
