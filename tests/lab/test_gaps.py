from sojourn.lab.gaps import Gap, Packet, Tally, gaps, longest, tally


def test_a_gap_lies_between_two_arrivals() -> None:
    assert gaps([1.0, 1.02, 1.5, 1.52], 1.0, 1.53) == [Gap(1.5 - 1.02, 1.02)]


def test_a_gap_that_began_before_the_window_counts_in_full() -> None:
    assert longest([1.0, 3.0, 3.1], 2.5, 3.2) == Gap(2.0, 1.0)


def test_silence_that_never_ends_is_a_gap_up_to_the_end_of_the_window() -> None:
    assert longest([1.0, 1.1], 1.0, 5.0) == Gap(5.0 - 1.1, 1.1)


def test_a_window_without_any_arrival_is_one_gap() -> None:
    assert longest([], 1.0, 4.0) == Gap(3.0, 1.0)
    assert gaps([0.5, 9.0], 1.0, 4.0) == [Gap(3.5, 0.5)]


def test_packets_are_judged_by_the_time_at_which_they_were_sent() -> None:
    sent = [(0, 1.0), (1, 1.02), (2, 1.04), (3, 1.06)]
    packets = [Packet(0, 1.0, 1.01), Packet(2, 1.04, 1.05), Packet(1, 1.02, 1.055), Packet(2, 1.04, 1.06)]
    assert tally(sent, packets, 0.0, 9.0) == Tally(sent=4, lost=1, doubled=1, disordered=1)
    assert tally(sent, packets, 1.03, 1.05) == Tally(sent=1, lost=0, doubled=1, disordered=0)
