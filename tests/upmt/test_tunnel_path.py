"""The outer address of a host, at its anchor: credit, proof, and the way back."""

from sojourn.model import Endpoint
from sojourn.packet.path_mtu import BASE_DATAGRAM
from sojourn.upmt.tunnel_path import Ask, OuterPath

OLD, NEW, THIRD = Endpoint("192.0.2.1", 1), Endpoint("192.0.2.2", 2), Endpoint("192.0.2.3", 3)
RTT = 0.1


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(size)


def proved() -> OuterPath:
    path = OuterPath(Counter())
    path.set(OLD)
    return path


def test_a_first_address_is_used_at_once_challenged_and_proved_by_its_answer() -> None:
    path = OuterPath(Counter())
    (ask,) = path.came(NEW, 1200, True, 0.0, RTT)
    assert (ask.destination, ask.pad_to) == (NEW, BASE_DATAGRAM)
    assert (path.current, path.proved, path.credit) == (NEW, None, 3600 - 1200)
    assert path.response(NEW, ask.data, 0.1) == 0.1
    assert (path.current, path.proved, path.credit) == (NEW, NEW, None)


def test_a_new_address_and_the_old_one_are_both_challenged() -> None:
    path = proved()
    asks = path.came(NEW, 100, True, 0.0, RTT)
    assert [(ask.destination, ask.pad_to) for ask in asks] == [(NEW, 300), (OLD, BASE_DATAGRAM)]
    assert asks[0].data != asks[1].data


def test_a_packet_that_is_not_the_newest_moves_nothing() -> None:
    path = proved()
    assert path.came(NEW, 100, False, 0.0, RTT) == []
    assert (path.current, path.credit) == (OLD, None)


def test_an_unproved_address_gets_three_times_what_came_from_it_and_no_more() -> None:
    path = OuterPath(Counter())
    path.came(NEW, 100, True, 0.0, RTT)
    assert path.credit == 0  # All of it went into the challenge.
    path.came(NEW, 50, False, 0.01, RTT)
    assert path.spend(100)
    assert not path.spend(51)
    assert path.spend(50)
    assert path.credit == 0


def test_never_more_than_three_times_goes_out_however_the_challenge_is_repeated() -> None:
    path = OuterPath(Counter())
    sent = sum(max(ask.pad_to, 38) for ask in path.came(NEW, 44, True, 0.0, RTT))
    for tick in range(1, 40):
        sent += sum(max(ask.pad_to, 38) for ask in path.tick(tick * 0.01, RTT))
    assert sent <= 3 * 44


def test_without_an_answer_in_three_round_trips_the_last_proved_address_is_used_again() -> None:
    path = proved()
    path.came(NEW, 1000, True, 0.0, RTT)
    asked: list[Ask] = []
    now = 0.0
    while path.current == NEW:
        now += 0.01
        asked += path.tick(now, RTT)
    assert 0.29 <= now <= 0.32
    assert (path.current, path.credit) == (OLD, None)
    assert [ask.pad_to for ask in asked] == [0, 0]


def test_an_address_that_never_proved_itself_and_had_none_before_is_forgotten() -> None:
    path = OuterPath(Counter())
    path.came(NEW, 1000, True, 0.0, RTT)
    path.tick(1.0, RTT)
    assert path.current is None


def test_a_wrong_answer_or_one_from_elsewhere_proves_nothing() -> None:
    path = proved()
    ask, other = path.came(NEW, 1000, True, 0.0, RTT)
    assert path.response(NEW, bytes(8), 0.1) is None
    assert path.response(NEW, other.data, 0.1) is None
    assert path.response(THIRD, ask.data, 0.1) is None
    assert path.credit is not None
    assert path.response(NEW, ask.data, 0.1) is not None


def test_a_newer_packet_from_the_proved_address_takes_it_back_at_once() -> None:
    path = proved()
    ask, _ = path.came(NEW, 1000, True, 0.0, RTT)
    assert path.came(OLD, 100, True, 0.05, RTT) == []
    assert (path.current, path.credit) == (OLD, None)
    assert path.response(NEW, ask.data, 0.1) is None


def test_a_third_address_meanwhile_starts_its_own_proof_and_keeps_the_proved_one_to_fall_back_on() -> None:
    path = proved()
    path.came(NEW, 1000, True, 0.0, RTT)
    asks = path.came(THIRD, 1000, True, 0.05, RTT)
    assert [ask.destination for ask in asks] == [THIRD]
    path.tick(1.0, RTT)
    assert path.current == OLD
