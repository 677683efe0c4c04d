"""When to start again: at once, then more and more slowly, then without the flows."""

from sojourn.datapath.restarts import MAX_PAUSE, Restarts


def test_a_death_after_a_long_life_costs_no_pause() -> None:
    restarts = Restarts()
    for start in (0.0, 100.0, 200.0):
        restarts.began(start)
        assert restarts.died(start + 50.0) == 0.0
    assert restarts.count == 3
    assert restarts.with_rows()


def test_quick_deaths_cost_a_doubling_pause_up_to_a_limit() -> None:
    restarts = Restarts()
    pauses = []
    for start in range(10):
        restarts.began(float(start))
        pauses.append(restarts.died(start + 0.5))
    assert pauses[:5] == [0.0, 0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == MAX_PAUSE


def test_flows_are_left_out_after_three_quick_deaths_until_one_lives() -> None:
    restarts = Restarts()
    kept = []
    for start in range(4):
        restarts.began(float(start))
        restarts.died(start + 0.5)
        kept.append(restarts.with_rows())
    assert kept == [True, True, False, False]
    restarts.began(10.0)
    restarts.died(20.0)
    assert restarts.with_rows()
