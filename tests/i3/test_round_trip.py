"""The estimator of RFC 6298 §2."""

import pytest

from sojourn.i3.round_trip import UNKNOWN, RoundTrip


def test_the_first_answer_is_the_estimate_and_each_later_one_moves_it_by_an_eighth() -> None:
    rtt = RoundTrip()
    assert rtt.late_after() == UNKNOWN
    rtt.sample(0.08)
    assert (rtt.srtt, rtt.rttvar) == (0.08, 0.04)
    rtt.sample(0.16)
    assert (rtt.srtt, rtt.rttvar) == pytest.approx((0.09, 0.05))
    assert rtt.late_after() == pytest.approx(0.29)
