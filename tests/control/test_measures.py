"""What follows from packet counts: loss that is proved, loss that is likely, rate, trend; and how it is forgotten."""

import random

import pytest
from msgspec.structs import replace

from sojourn.control.loss import at_least
from sojourn.control.measures import Measures, PathMeasures
from tests.control.policies import Meter


def fed(meter: Meter, *steps: tuple[int, int], start: float = 100.0, every: float = 0.2) -> tuple[PathMeasures, float]:
    """Return measures after reports of (packets, lost) each."""
    measures, now = PathMeasures(), start
    measures.take(meter.report(0).measured, now)
    for packets, lost in steps:
        now += every
        measures.take(meter.report(packets, lost).measured, now)
    return measures, now


@pytest.mark.parametrize(
    ("lost", "sent", "proved"),
    [(0, 100, 0.0), (1, 10, 0.0), (1, 1, 0.0), (5, 50, 0.0379), (50, 500, 0.0735), (10, 10, 0.654), (3, 0, 0.0)],
)
def test_a_loss_is_proved_by_wilsons_interval_and_never_by_one_packet(lost: int, sent: int, proved: float) -> None:
    assert at_least(lost, sent) == pytest.approx(proved, abs=0.001)


def test_nothing_is_known_before_two_reports() -> None:
    measures, now = fed(Meter("wifi"))
    assert (measures.certain(now), measures.likely(now), measures.rate(now), measures.trend(now)) == (None,) * 4
    assert measures.loss(now) == (None, None)
    assert measures.rtt == 0.02


def test_ten_percent_of_fifty_packets_a_second_are_proved_within_a_second_nearly_always() -> None:
    chance = random.Random(1)
    found = 0
    for _ in range(200):
        steps = [(10, 0)] * 100 + [(10, sum(chance.random() < 0.1 for _ in range(10))) for _ in range(5)]
        meter = Meter("wifi")
        measures, now = fed(meter, *steps[:100])
        for packets, lost in steps[100:]:
            now += 0.2
            measures.take(meter.report(packets, lost).measured, now)
            if (measures.certain(now) or 0.0) > 0.02:
                found += 1
                break
    assert found >= 170, "one direction alone loses: 85 of 100 times; both nearly always"


def test_single_losses_prove_nothing_and_do_not_count_as_likely() -> None:
    measures, now = fed(Meter("wifi"), *[(10, 0)] * 20, (10, 1), *[(10, 0)] * 20)
    assert measures.certain(now) == 0.0
    assert measures.likely(now) == 0.0


def test_the_mean_is_that_of_the_worse_direction() -> None:
    meter, measures, now = Meter("wifi"), PathMeasures(), 100.0
    for _ in range(50):
        now += 0.2
        measures.take(meter.report(20, 1, 2).measured, now)
    assert measures.loss(now) == pytest.approx((0.05, 0.1), rel=0.1)
    likely = measures.likely(now)
    assert likely is not None
    assert 0.09 < likely < 0.11


def test_what_is_old_is_forgotten() -> None:
    measures, now = fed(Meter("wifi"), *[(10, 2)] * 50)
    assert (measures.certain(now) or 0.0) > 0.1
    assert (measures.certain(now + 15.0) or 0.0) > 0.1
    assert measures.certain(now + 35.0) is None
    assert measures.likely(now + 35.0) is None


def test_an_end_that_counts_anew_loses_nothing() -> None:
    meter = Meter("wifi")
    measures, now = fed(meter, *[(10, 0)] * 10)
    meter.counts = [1000, 5, 5, 1000]
    measures.take(meter.report(0).measured, now + 0.2)
    for later in (0.4, 0.6):
        measures.take(meter.report(10).measured, now + later)
    assert measures.certain(now + 0.6) == 0.0


@pytest.mark.parametrize("late", [4, -4])
def test_counters_that_are_read_early_or_late_lose_nothing(late: int) -> None:
    """A data path on a busy machine: what came after an answer is counted with it, or what came before is not, yet."""
    meter, measures, now = Meter("wifi"), PathMeasures(), 100.0
    for step in range(100):
        now += 0.2
        report = meter.report(10).measured
        assert report.counts is not None
        sent, arrived, they_sent, came = report.counts
        apart = late if step % 3 == 1 else 0
        measures.take(replace(report, counts=(sent, arrived + apart, they_sent, came + apart)), now)
        assert not measures.certain(now)
    for _ in range(10):
        now += 0.2
        measures.take(meter.report(10, 2).measured, now)
    assert (measures.certain(now) or 0.0) > 0.05, "real losses show all the same"


def test_the_trend_is_positive_while_it_gets_worse() -> None:
    worse, now = fed(Meter("wifi"), *[(20, 0)] * 25, *[(20, 4)] * 25)
    better, _ = fed(Meter("wifi"), *[(20, 4)] * 25, *[(20, 0)] * 25)
    assert (worse.trend(now) or 0.0) > 0.02
    assert (better.trend(now) or 0.0) < -0.02


def test_the_best_rate_of_the_last_minutes_is_believed_and_then_aged() -> None:
    meter, measures, now = Meter("wifi"), PathMeasures(), 100.0
    for size in (1000, 10, 10):
        for _ in range(50):
            now += 0.2
            measures.take(meter.report(100, size=size).measured, now)
    assert measures.rate(now) == pytest.approx(100 * 1000 * 8 / 0.2, rel=0.01)
    assert measures.rate(now + 3600) is None


def test_a_network_is_degraded_from_a_proved_loss_until_that_has_halved() -> None:
    meter = Meter("wifi")
    measures, now = fed(meter, *[(10, 0)] * 50, *[(10, 2)] * 10)
    assert measures.degraded
    for _ in range(40):
        now += 0.2
        measures.take(meter.report(10).measured, now)
    assert measures.degraded, "that was bad a moment ago"
    for _ in range(300):
        now += 0.2
        measures.take(meter.report(10).measured, now)
    assert not measures.degraded


def test_a_path_that_is_new_or_was_silent_starts_without_loss_and_a_new_one_without_a_rate() -> None:
    all_of_them = Measures()
    meter = Meter("wifi")
    now = 100.0
    for _ in range(20):
        now += 0.2
        all_of_them.take(meter.report(10, 5), now)
    assert all_of_them.of("wifi").degraded
    all_of_them.interrupted("wifi")
    assert all_of_them.of("wifi").certain(now) is None
    assert all_of_them.of("wifi").rate(now) is not None
    all_of_them.opened("wifi")
    assert all_of_them.of("wifi").rate(now) is None
    all_of_them.tested("wifi", 0.5)
    assert all_of_them.of("wifi").rtt == 0.5
    all_of_them.gone("wifi")
    assert all_of_them.of("wifi").rtt is None
