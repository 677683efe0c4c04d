from sojourn.lab.stage import ASLEEP, GONE, HOST, LOSSY, SILENT, UP, Condition, outages


def conditions(*changes: tuple[float, str, str]) -> list[Condition]:
    return [Condition(0.0, "wifi", UP), Condition(0.0, "cellular", UP), *(Condition(*change) for change in changes)]


def test_one_dead_network_is_no_outage() -> None:
    assert outages(conditions((1.0, "wifi", GONE), (2.0, "wifi", UP), (3.0, "cellular", LOSSY)), 9.0) == []


def test_an_outage_lasts_while_no_network_works() -> None:
    changes = ((1.0, "wifi", GONE), (2.0, "cellular", SILENT), (5.0, "wifi", UP), (6.0, "wifi", GONE))
    assert outages(conditions(*changes), 9.0) == [(2.0, 5.0), (6.0, 9.0)]


def test_a_sleeping_host_is_an_outage() -> None:
    assert outages(conditions((3.0, HOST, ASLEEP), (4.0, HOST, UP)), 9.0) == [(3.0, 4.0)]
