"""When the other end is asked, and when its silence means something."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.upmt.constants import AWAY_AFTER, BLOCKED_AFTER, BLOCKED_SPACING, SILENCE_FLOOR
from sojourn.upmt.tunnel_alive import AnchorLiveness, HostLiveness, Life
from sojourn.upmt.tunnel_measure import Probes, Rtt


def host(rtt: float | None = 0.02) -> HostLiveness:
    estimate, probes = Rtt(), Probes()
    live = HostLiveness(estimate, probes, 25.0)
    live.begin(0.0)
    if rtt is not None:
        live.tick(0.0)
        for number in range(20):
            estimate.sample(rtt, number * 0.001 - 1 + number)
        live.answered(0.0)
        live.tick(0.0)
    return live


def life(live: HostLiveness | AnchorLiveness) -> Life:
    return live.life


def ticks(live: HostLiveness | AnchorLiveness, until: float) -> list[float]:
    """Return when probes are wanted."""
    asked = []
    while live.due <= until:
        now = live.due
        while live.tick(now) is not None:
            asked.append(now)
        assert live.due > now
    return asked


def test_a_fresh_tunnel_is_tested_at_once_then_ever_more_slowly_and_called_blocked_after_three_seconds() -> None:
    live = host(rtt=None)
    asked = ticks(live, BLOCKED_AFTER - 0.01)
    assert asked[:4] == pytest.approx([0.0, 0.05, 0.15, 0.35])
    assert life(live) is Life.TESTING
    ticks(live, BLOCKED_AFTER)
    assert life(live) is Life.BLOCKED
    later = ticks(live, 60.0)
    assert max(after - before for before, after in pairwise(later[1:])) == BLOCKED_SPACING


def test_an_idle_tunnel_asks_once_a_keep_alive() -> None:
    live = host()
    assert ticks(live, 24.9) == []
    assert ticks(live, 25.0) == [25.0]
    live.answered(25.02)
    assert ticks(live, 49.9) == []


def test_data_that_is_answered_in_time_costs_no_probe_but_the_regular_measurement() -> None:
    live = host()
    live.data_out(1.0)
    live.data_in(1.02)
    assert len(ticks(live, 1.9)) <= 6  # Some five measurements a second.


def test_data_without_an_answer_is_asked_about_after_30_ms_and_silence_told_within_200_ms() -> None:
    live = host()
    live.data_out(5.0)
    asked = ticks(live, 5.06)
    assert asked[:2] == pytest.approx([5.03, 5.045])
    ticks(live, 5.0 + SILENCE_FLOOR - 0.01)
    assert life(live) is Life.UP
    ticks(live, 5.2001)
    assert life(live) is Life.SILENT


def test_a_keep_alive_without_an_answer_takes_three_witnesses() -> None:
    live = host()
    asked = ticks(live, 25.6)
    assert asked[:3] == pytest.approx([25.0, 25.0 + SILENCE_FLOOR, 25.05 + SILENCE_FLOOR])
    assert life(live) is Life.SILENT


def test_whatever_comes_puts_the_verdict_off() -> None:
    live = host()
    for step in range(5):
        live.data_out(5.0 + step * 0.18)
        ticks(live, 5.17 + step * 0.18)
        live.frame_in(5.17 + step * 0.18)
    assert life(live) is Life.UP


def test_data_that_comes_in_does_not_hide_that_no_probe_is_answered() -> None:
    live = host()
    now = 5.0
    while life(live) is Life.UP and now < 10:
        live.data_in(now)
        ticks(live, now)
        live.data_out(now)
        ticks(live, now + 0.08)
        now += 0.09
    assert 6.0 <= now <= 8.0


def test_a_long_round_trip_is_waited_for() -> None:
    live = host(rtt=0.8)
    live.data_out(5.0)
    ticks(live, 5.8)
    assert life(live) is Life.UP
    live.answered(5.81)
    assert live.silent_at() == float("inf")


def test_time_in_which_the_process_did_not_run_is_not_counted_as_silence() -> None:
    live = host()
    live.data_out(5.0)
    ticks(live, 5.06)
    live.shift(10.0)
    ticks(live, 15.15)
    assert life(live) is Life.UP
    ticks(live, 15.3)
    assert life(live) is Life.SILENT


def test_a_silent_tunnel_is_asked_at_least_twice_a_second_at_first_and_an_answer_revives_it() -> None:
    live = host()
    live.data_out(5.0)
    ticks(live, 5.3)
    asked = ticks(live, 65.0)
    assert max(after - before for before, after in pairwise(asked)) < 0.501
    assert live.answered(65.1) is Life.SILENT
    assert life(live) is Life.UP


def test_the_systems_refusal_is_believed() -> None:
    live = host()
    live.fail(5.0)
    assert life(live) is Life.SILENT


def test_an_anchor_calls_a_host_away_after_three_seconds_without_a_word_and_not_before() -> None:
    live = AnchorLiveness(Rtt(), Probes())
    now = 0.0
    while now < AWAY_AFTER - 0.05:
        live.data_out(now)
        ticks(live, now)
        now += 0.02
    assert life(live) is Life.UP
    live.data_out(AWAY_AFTER)
    ticks(live, AWAY_AFTER + 0.01)
    assert life(live) is Life.SILENT
    assert live.answered(100.0) is Life.SILENT
    assert life(live) is Life.UP


def test_an_anchor_asks_a_host_that_is_away_ever_more_rarely_and_only_while_there_is_data() -> None:
    live = AnchorLiveness(Rtt(), Probes())
    asked = []
    now = 0.0
    while now < 300.0:
        live.data_out(now)
        asked += ticks(live, now)
        now += 0.5
    later = [at for at in asked if at > 120]
    assert 4 <= len(later) <= 8
    quiet = ticks(live, 1000.0)
    assert len(quiet) <= 2


def test_an_anchor_does_not_probe_idle_hosts() -> None:
    live = AnchorLiveness(Rtt(), Probes())
    live.data_out(0.0)
    live.data_in(0.02)
    assert len(ticks(live, 1000.0)) <= 2


@given(st.lists(st.tuples(st.floats(0.0, 0.3), st.sampled_from(("in", "out", "frame", "answered"))), max_size=40))
def test_a_deadline_that_is_put_off_changes_nothing_but_how_often_one_looks(happens: list[tuple[float, str]]) -> None:
    often, seldom, now = host(), host(), 0.0
    for after, what in happens:
        now += after
        assert ticks(often, now) == ticks(seldom, now)
        for live in (often, seldom):
            {"in": live.data_in, "out": live.data_out, "frame": live.frame_in, "answered": live.answered}[what](now)
        seldom.settle(now)
        assert seldom.due >= often.due
        assert seldom.life is often.life


def test_an_answer_puts_the_next_question_off() -> None:
    live = host()
    live.data_out(0.0)
    ticks(live, 0.04)
    live.answered(0.04)
    live.tick(0.04)
    live.data_out(0.05)
    asks = live.due
    live.data_in(0.055)
    live.data_out(0.06)
    assert live.due == asks
    live.settle(0.06)
    assert live.due == pytest.approx(asks + 0.015)
