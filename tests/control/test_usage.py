"""What a network carried in this month: over months, restarts, crashes and other data paths."""

from datetime import date, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.control.usage import MAX_NETWORKS, Usage, UsageState, month_of
from sojourn.model import TunnelId
from sojourn.upmt.events import TunnelMeasured

TODAY = date(2026, 3, 10)


def measured(size: int, packets: int = 0, tunnel: int = 7) -> TunnelMeasured:
    return TunnelMeasured(
        TunnelId(tunnel), None, None, None, None, None, 1400, size // 2, size - size // 2, packets // 2,
        packets - packets // 2,
    )  # fmt: skip


def started(state: UsageState | None = None, days: dict[str, int] | None = None) -> Usage:
    usage = Usage(state or UsageState(), days or {})
    if state is None:
        usage.source(100, adopted=False)
    return usage


def test_what_is_counted_is_what_the_counters_grew_by_with_the_outer_headers() -> None:
    usage = started()
    assert usage.count("wwan0", False, measured(1000, 10), TODAY) == 1000 + 10 * 28
    assert usage.count("wwan0", False, measured(1000, 10), TODAY) == 0
    assert usage.count("wwan0", False, measured(1500, 12), TODAY) == 500 + 2 * 28
    assert usage.used(TODAY) == {"wwan0": 1500 + 12 * 28}
    assert started().count("wwan0-6", True, measured(100, 1), TODAY) == 148


def test_a_new_month_begins_at_zero_and_counts_only_what_comes_then() -> None:
    usage = started(days={"wwan0": 15})
    usage.count("wwan0", False, measured(1000), date(2026, 3, 14))
    assert usage.used(date(2026, 3, 15)) == {"wwan0": 0}
    usage.count("wwan0", False, measured(1300), date(2026, 3, 15))
    assert usage.used(date(2026, 4, 14)) == {"wwan0": 300}


def test_a_restarted_control_counts_on_where_the_last_one_stopped() -> None:
    usage = started()
    usage.count("wwan0", False, measured(1000), TODAY)
    stored = msgspec.json.decode(msgspec.json.encode(usage.remembered()), type=UsageState)
    heir = Usage(stored, {})
    heir.source(100, adopted=True)
    heir.count("wwan0", False, measured(1700), TODAY)
    assert heir.used(TODAY) == {"wwan0": 1700}


@pytest.mark.parametrize(("process", "adopted"), [(101, True), (101, False), (100, False)])
def test_another_data_path_counts_from_zero(process: int, adopted: bool) -> None:
    usage = started()
    usage.count("wwan0", False, measured(1000), TODAY)
    heir = Usage(usage.remembered(), {})
    heir.source(process, adopted=adopted)
    heir.count("wwan0", False, measured(1700), TODAY)
    assert heir.used(TODAY) == {"wwan0": 2700}


def test_a_tunnel_that_was_closed_counts_from_zero_when_it_is_opened_again() -> None:
    usage = started()
    usage.count("wwan0", False, measured(1000), TODAY)
    usage.count("wlan0", False, measured(50, tunnel=8), TODAY)
    usage.closed("wwan0")
    usage.count("wwan0", False, measured(1700), TODAY)
    usage.count("wlan0", False, measured(60, tunnel=8), TODAY)
    assert usage.used(TODAY) == {"wwan0": 2700, "wlan0": 60}


def test_counters_that_shrank_began_anew() -> None:
    usage = started()
    usage.count("wwan0", False, measured(1000, 10), TODAY)
    assert usage.count("wwan0", False, measured(300, 3), TODAY) == 300 + 3 * 28


def test_a_clock_that_goes_back_loses_nothing() -> None:
    usage = started()
    usage.count("wwan0", False, measured(1000), TODAY)
    usage.count("wwan0", False, measured(1500), TODAY - timedelta(days=40))
    assert usage.used(TODAY) == {"wwan0": 1500}


def test_only_so_many_networks_are_remembered() -> None:
    usage = started()
    for number in range(MAX_NETWORKS + 5):
        usage.count(f"net{number}", False, measured(10, tunnel=number), TODAY)
    assert len(usage.used(TODAY)) == MAX_NETWORKS
    assert "net0" not in usage.used(TODAY)


def test_it_says_whether_there_is_anything_to_store() -> None:
    usage = started()
    assert not usage.changed
    usage.count("wwan0", False, measured(10), TODAY)
    assert usage.changed
    usage.remembered()
    usage.count("wwan0", False, measured(10), TODAY)
    assert not usage.changed


@pytest.mark.parametrize(
    ("today", "day", "begins"),
    [
        (date(2026, 3, 10), 1, date(2026, 3, 1)),
        (date(2026, 3, 10), 10, date(2026, 3, 10)),
        (date(2026, 1, 10), 11, date(2025, 12, 11)),
        (date(2026, 3, 10), 31, date(2026, 2, 28)),
        (date(2026, 2, 28), 31, date(2026, 2, 28)),
        (date(2024, 3, 1), 30, date(2024, 2, 29)),
    ],
)
def test_a_month_begins_on_its_day_or_on_the_last_one_it_has(today: date, day: int, begins: date) -> None:
    assert month_of(today, day) == begins


@given(st.dates(min_value=date(2, 1, 1)), st.integers(1, 31))
def test_every_day_is_in_the_month_that_began_last(today: date, day: int) -> None:
    begins = month_of(today, day)
    assert begins <= today
    assert (today - begins).days <= 31
    assert month_of(begins, day) == begins


@given(st.lists(st.integers(0, 10**12)))
def test_the_sum_is_that_of_all_growth_whatever_the_counters_do(sizes: list[int]) -> None:
    usage, total = started(), 0
    for size in sizes:
        total += usage.count("wwan0", False, measured(size), TODAY)
    assert usage.used(TODAY).get("wwan0", 0) == total
