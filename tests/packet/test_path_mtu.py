"""The search for the path MTU, against paths that carry what they carry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.packet.path_mtu import MTU_CONFIRM_EVERY, MTU_PROBES, MTU_RAISE_AFTER, MtuSearch, Phase

ROUND = 0.05


def run(
    search: MtuSearch, mtu: int, now: float, seconds: float, *, alive: bool = True, active: bool = True
) -> list[int]:
    """Let a path of `mtu` answer what it carries; return the sizes of the outer packets that were asked about."""
    end, heard, asked = now + seconds, now, []
    while search.due <= end:
        now = max(now, search.due)
        sizes = search.tick(now, 2 * ROUND, heard, active)
        asked += [size + 28 for size in sizes if size]
        for size in sizes:
            if size + 28 <= mtu and alive:
                heard = now + ROUND
                if size:
                    search.passed(size, now + ROUND)
        if not sizes and search.due <= now:
            raise AssertionError("a timer that does not move")
    return asked


def started(inner: int = 1448) -> MtuSearch:
    search = MtuSearch(inner, 28, 24)
    search.start(0.0)
    return search


def test_the_usual_path_takes_one_probe() -> None:
    search = started()
    assert search.may_fragment()
    assert run(search, 1500, 0.0, 1.0) == [1500]
    assert (search.inner_mtu(), search.may_fragment()) == (1448, False)


@pytest.mark.parametrize(
    ("mtu", "inner"), [(1492, 1440), (1480, 1428), (1420, 1368), (1400, 1348), (1340, 1288), (1332, 1280)]
)
def test_sizes_that_real_paths_have_are_found_exactly(mtu: int, inner: int) -> None:
    search = started()
    run(search, mtu, 0.0, 3.0)
    assert (search.inner_mtu(), search.may_fragment()) == (mtu - 52, False)


@given(st.integers(576, 1600))
def test_what_is_found_always_passes_or_goes_in_fragments(mtu: int) -> None:
    search = started()
    run(search, mtu, 0.0, 4.0)
    assert search.phase is Phase.DONE
    if search.may_fragment():
        assert mtu < 1332
        assert search.inner_mtu() == 1280
    else:
        assert mtu - 25 < search.inner_mtu() + 52 <= mtu or search.inner_mtu() == 1448


def test_large_packets_are_let_through_in_fragments_while_the_search_is_on() -> None:
    search = started()
    search.tick(0.0, 0.1, 0.0, True)
    assert (search.inner_mtu(), search.may_fragment()) == (1448, True)


def test_a_dead_path_says_nothing_about_sizes() -> None:
    search = started()
    run(search, 1500, 0.0, 5.0, alive=False)
    assert search.phase is Phase.CEILING
    run(search, 1500, 5.0, 5.0)
    assert search.inner_mtu() == 1448


def test_a_black_hole_is_found_by_lost_confirmations_while_small_packets_pass() -> None:
    search = started()
    run(search, 1500, 0.0, 1.0)
    asked = run(search, 1400, 1.0, MTU_CONFIRM_EVERY + 3)
    assert asked[:MTU_PROBES] == [1500] * MTU_PROBES
    assert search.inner_mtu() == 1348


def test_an_idle_path_is_not_asked_and_needs_no_timer_until_data_flows() -> None:
    search = started()
    run(search, 1500, 0.0, 1.0)
    assert run(search, 1400, 1.0, 60.0, active=False) == []
    assert search.due == float("inf")
    search.resume(61.0)
    assert run(search, 1400, 61.0, 10.0)[0] == 1500


def test_a_search_that_nobody_answers_asks_ever_more_seldom() -> None:
    search = started()
    assert len(run(search, 1500, 0.0, 3600.0, alive=False)) < 30


def test_a_smaller_path_is_asked_again_for_more_after_ten_minutes() -> None:
    search = started()
    run(search, 1400, 0.0, 2.0)
    assert 1500 not in run(search, 1500, 2.0, MTU_RAISE_AFTER - 10)
    run(search, 1500, MTU_RAISE_AFTER - 8, 20.0)
    assert search.inner_mtu() == 1448


def test_a_tun_that_brings_little_needs_no_search_beyond_it() -> None:
    search = started(1280)
    assert run(search, 1500, 0.0, 1.0) == [1332]
    assert search.inner_mtu() == 1280
