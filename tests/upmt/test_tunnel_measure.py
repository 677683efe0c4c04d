"""Round trip, jitter, loss and the probes that are out."""

import pytest

from sojourn.upmt.constants import INITIAL_RTT, OUTSTANDING_MAX, PROBE_MEMORY
from sojourn.upmt.tunnel_measure import Jitter, LossWindow, Probes, Rtt


def test_the_first_sample_and_the_next_give_what_rfc_6298_says() -> None:
    rtt = Rtt()
    assert rtt.guess() == INITIAL_RTT
    rtt.sample(0.1, 1.0)
    assert (rtt.srtt, rtt.rttvar) == (0.1, 0.05)
    rtt.sample(0.2, 2.0)
    assert rtt.rttvar == pytest.approx(0.75 * 0.05 + 0.25 * 0.1)
    assert rtt.srtt == pytest.approx(0.875 * 0.1 + 0.125 * 0.2)
    assert rtt.late_after() == pytest.approx(0.1125 + 4 * 0.0625)


def test_a_cluster_of_samples_counts_once_but_a_late_one_always() -> None:
    rtt = Rtt()
    rtt.sample(0.1, 1.0)
    rtt.sample(0.11, 1.01)
    assert rtt.srtt == 0.1
    rtt.sample(0.5, 1.02)
    assert rtt.srtt == pytest.approx(0.15)


def test_jitter_follows_rfc_3550_and_needs_no_common_clock() -> None:
    jitter = Jitter()
    jitter.sample(1000.0)
    assert jitter.value is None
    jitter.sample(1000.016)
    assert jitter.value == pytest.approx(0.001)
    jitter.sample(1000.016)
    assert jitter.value == pytest.approx(0.001 * 15 / 16)


def test_loss_is_known_for_each_direction_from_two_answers_on() -> None:
    losses = LossWindow()
    losses.sample(0.0, 1, 10, 10, 10, 10)
    assert losses.loss() == (None, None)
    losses.sample(1.0, 2, 110, 100, 60, 50)
    assert losses.loss() == pytest.approx((0.1, 0.2))


def test_loss_is_that_of_the_last_seconds_only() -> None:
    losses = LossWindow()
    for second in range(30):
        sent = second * 100
        losses.sample(float(second), second, sent, sent // 2 if second < 10 else sent - 500, sent, sent)
    assert losses.loss() == (0.0, 0.0)


def test_answers_that_overtook_each_other_and_a_peer_that_counts_anew_do_not_look_like_loss() -> None:
    losses = LossWindow()
    losses.sample(0.0, 10, 100, 100, 100, 100)
    losses.sample(1.0, 30, 300, 300, 300, 300)
    losses.sample(1.1, 20, 200, 200, 200, 301)
    assert losses.loss() == (0.0, 0.0)
    losses.sample(2.0, 40, 400, 5, 5, 400)
    assert losses.loss() == (None, None)


def test_an_answer_finds_its_probe_once() -> None:
    probes = Probes()
    sequence = probes.new(1.0, 7)
    sent = probes.answered(sequence, 1.1, 0.3)
    assert sent is not None
    assert (sent.at, sent.packets_out, sent.tainted) == (1.0, 7, False)
    assert probes.answered(sequence, 1.2, 0.3) is None
    assert probes.answered(12345, 1.2, 0.3) is None


def test_more_witnesses_are_needed_where_more_probes_get_lost() -> None:
    probes = Probes()
    assert probes.witnesses() == 2
    now = 0.0
    for number in range(400):
        sequence = probes.new(now, 0)
        if number % 10:
            probes.answered(sequence, now + 0.02, 0.1)
        now += 0.2
    assert probes.miss == pytest.approx(0.1, abs=0.04)
    assert 5 <= probes.witnesses() <= 7


def test_an_outage_is_not_learned_as_loss() -> None:
    probes = Probes()
    for number in range(50):
        probes.new(number * 0.05, 0)
    probes.forgive()
    probes.answered(probes.new(5.0, 0), 5.02, 0.1)
    assert probes.miss == 0.0


def test_what_is_remembered_is_bounded_in_time_and_number() -> None:
    probes = Probes()
    for number in range(2 * OUTSTANDING_MAX):
        probes.new(number * 0.001, 0)
    assert len(probes.out) == OUTSTANDING_MAX
    probes.new(100.0 + PROBE_MEMORY, 0)
    assert len(probes.out) == 1


def test_probes_that_wait_are_counted_from_a_time_on_and_without_those_of_the_path_mtu() -> None:
    probes = Probes()
    for at, size in ((1.0, 0), (2.0, 0), (2.5, 1472), (3.0, 0)):
        probes.new(at, 0, size)
    assert probes.waiting(2.0) == 2
