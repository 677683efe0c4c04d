"""What applications have used, counted from counters that grow, end and begin again."""

from sojourn.control.app_usage import MAX_ROWS, AppUsage, Carried, Used
from sojourn.model import TCP, Endpoint, Flow

NOVEMBER, DECEMBER = "2026-11", "2026-12"


def flow(port: int = 40000) -> Flow:
    return Flow(TCP, Endpoint("10.201.0.2", port), Endpoint("192.0.2.1", 80))


def carried(came: int, went: int, network: str = "wifi", name: str = "curl", port: int = 40000) -> Carried:
    return Carried(flow(port), name, network, came, went)


def test_what_grew_between_two_looks_is_added_to_where_the_flow_was() -> None:
    usage = AppUsage()
    usage.fresh()
    usage.look([carried(100, 10)], NOVEMBER)
    usage.look([carried(150, 20)], NOVEMBER)
    usage.look([carried(160, 20, "cell")], NOVEMBER)
    usage.look([carried(350, 30, "cell")], DECEMBER)
    assert usage.rows() == [Used(DECEMBER, "curl", "cell", 190, 10), Used(NOVEMBER, "curl", "wifi", 160, 20)]
    assert usage.rows(months=1) == usage.rows()[:1]


def test_the_end_of_a_flow_adds_the_rest_also_of_one_that_nobody_looked_at() -> None:
    usage = AppUsage()
    usage.fresh()
    usage.look([carried(100, 10)], NOVEMBER)
    usage.ended(flow(), 120, 15, "curl", "wifi", NOVEMBER)
    usage.ended(flow(40001), 5, 6, "ssh", "cell", NOVEMBER)
    usage.look([], NOVEMBER)
    assert set(usage.rows()) == {Used(NOVEMBER, "curl", "wifi", 120, 15), Used(NOVEMBER, "ssh", "cell", 5, 6)}


def test_another_flow_between_the_same_ends_counts_from_zero() -> None:
    usage = AppUsage()
    usage.fresh()
    usage.look([carried(100, 10)], NOVEMBER)
    usage.look([carried(30, 3)], NOVEMBER)
    assert usage.rows() == [Used(NOVEMBER, "curl", "wifi", 130, 13)]


def test_flows_of_a_data_path_that_ran_before_are_counted_from_the_first_look_on() -> None:
    usage = AppUsage([Used(NOVEMBER, "curl", "wifi", 1000, 100)])
    usage.ended(flow(40002), 7, 7, "curl", "wifi", NOVEMBER)
    usage.look([carried(500, 50)], NOVEMBER)
    usage.look([carried(501, 52)], NOVEMBER)
    assert usage.rows() == [Used(NOVEMBER, "curl", "wifi", 1001, 102)]
    assert usage.changed
    assert AppUsage(usage.remembered()).rows() == usage.rows()
    assert not usage.changed


def test_the_oldest_month_s_smallest_sums_make_room() -> None:
    usage = AppUsage([Used("2026-01", "old", "wifi", 1, 1), Used("2026-01", "older", "wifi", 9, 9)])
    usage.fresh()
    usage.look((carried(1, 1, name=f"a{number}", port=1 + number) for number in range(MAX_ROWS - 1)), NOVEMBER)
    assert len(usage.rows()) == MAX_ROWS
    assert [one.application for one in usage.rows() if one.month == "2026-01"] == ["older"]
