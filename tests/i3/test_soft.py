"""The stop rule: both triggers stand until the packets themselves show that the new one works."""

import pytest

from sojourn.i3.soft import AT_LEAST, NOT_WORKING, WINDOW, SoftHandover


def test_it_ends_as_soon_as_the_same_packets_come_over_both() -> None:
    soft = SoftHandover("old", "new", 100.0)
    for number in range(AT_LEAST):
        assert soft.loser(100.1) is None
        soft.came("old", duplicate=False)
        soft.came("new", duplicate=True)
        assert number == AT_LEAST - 1 or soft.loser(100.1) is None
    assert soft.loser(100.1) == "old"


def test_different_packets_over_both_do_not_end_it_early() -> None:
    soft = SoftHandover("old", "new", 100.0)
    for _ in range(50):
        soft.came("old", duplicate=False)
        soft.came("new", duplicate=False)
    assert soft.loser(100.5) is None
    assert soft.loser(100.0 + WINDOW) == "old"


@pytest.mark.parametrize(("packets", "loser"), [(NOT_WORKING, "new"), (NOT_WORKING - 1, "old"), (0, "old")])
def test_a_new_network_over_which_nothing_comes_is_given_up(packets: int, loser: str) -> None:
    soft = SoftHandover("old", "new", 100.0)
    for _ in range(packets):
        soft.came("old", duplicate=False)
    soft.came("a third", duplicate=False)
    assert soft.loser(100.0 + WINDOW) == loser
    assert soft.due == 100.0 + WINDOW
