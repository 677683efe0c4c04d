"""Loss from packet counts: proved by enough packets, more of them where some are always lost; never by one."""

import random

import pytest

from sojourn.control.loss import CLEAN, Loss, at_least


class Path:
    """Counts packets as both ends would, each 0.2 s."""

    def __init__(self) -> None:
        self.loss = Loss()
        self.counts = [5000, 5003, 70, 60]
        self.now = 100.0

    def pass_by(self, *lost: int, packets: int = 10) -> None:
        """Let reports come, each with so many packets lost on the way out."""
        for count in lost:
            self.now += 0.2
            for place, more in enumerate((packets, packets - count, packets, packets)):
                self.counts[place] += more
            self.loss.take((self.counts[0], self.counts[1], self.counts[2], self.counts[3]), self.now)


@pytest.mark.parametrize(
    ("lost", "sent", "proved"),
    [(0, 100, 0.0), (1, 1, 0.0), (2, 20, 0.0), (5, 50, 0.0379), (50, 500, 0.0735), (10, 10, 0.654), (3, 0, 0.0)],
)
def test_a_loss_is_proved_by_wilsons_interval(lost: int, sent: int, proved: float) -> None:
    assert at_least(lost, sent) == pytest.approx(proved, abs=0.001)


def test_two_packets_prove_a_loss_on_a_clean_path_only() -> None:
    clean, other = Path(), Path()
    clean.pass_by(*[0] * 50)
    other.pass_by(*[0] * 10, 1, *[0] * 40)
    for path in (clean, other):
        path.pass_by(1, 1, 0)
    assert (clean.loss.certain(clean.now) or 0.0) > 0.02
    assert (other.loss.certain(other.now) or 0.0) < 0.005
    assert clean.counts[0] - 5000 > CLEAN


def test_what_is_found_again_was_not_lost() -> None:
    path = Path()
    path.pass_by(*[0] * 50)
    for _ in range(20):
        path.pass_by(5, -5, 0)
    assert path.loss.certain(path.now) == 0.0
    found = path.loss.lost(10.0, 0.0, path.now)
    assert found is not None
    assert found[0][0] == 0


def test_of_what_is_missing_in_the_first_reports_nothing_follows() -> None:
    path = Path()
    path.pass_by(4, 0, -4, 4, *[0] * 20)
    assert path.loss.certain(path.now) == 0.0


def test_a_path_that_loses_one_in_five_hundred_raises_no_alarm_in_ten_minutes() -> None:
    chance = random.Random(3)
    path = Path()
    for _ in range(3000):
        path.pass_by(sum(chance.random() < 0.002 for _ in range(11)), packets=11)
        assert (path.loss.certain(path.now) or 0.0) < 0.02


def test_a_time_of_which_nothing_is_known_has_no_loss() -> None:
    path = Path()
    assert path.loss.lost(10.0, 0.0, path.now) is None
    path.pass_by(0, 0, 0, 0)
    assert path.loss.mean(10.0, 0.0, path.now) == 0.0
    assert path.loss.mean(10.0, 0.0, path.now + 60.0) is None
    path.loss.clear()
    assert path.loss.certain(path.now) is None
