"""Which addresses are checked, in what order, and when the one in use is given up."""

import pytest

from sojourn.i3.direct_checks import (
    CONSENT,
    PEER_REFLEXIVE_PREFERENCE,
    PREFERENCE,
    Pair,
    State,
    may_be_anywhere,
    may_check,
    pair_priority,
    priority_of,
)
from sojourn.i3.direct_message import Candidate, Kind
from sojourn.model import Endpoint

SEEN = Endpoint("198.51.100.7", 40000)
THERE = Endpoint("198.51.100.8", 40000)


def reflexive(address: str) -> tuple[Candidate, ...]:
    return (Candidate(Kind.REFLEXIVE, 1, Endpoint(address, 5000)),)


def test_priorities_are_those_of_rfc_8445() -> None:
    """§5.1.2.1 with the type preferences of §5.1.2.2, and the examples that RFC 8839 §4.1 prints."""
    assert priority_of(PREFERENCE[Kind.HOST]) == 2130706431
    assert priority_of(PREFERENCE[Kind.REFLEXIVE], 65535) == 1694498815
    assert PREFERENCE[Kind.HOST] > PEER_REFLEXIVE_PREFERENCE > PREFERENCE[Kind.REFLEXIVE]


def test_both_ends_give_a_pair_the_same_priority() -> None:
    host, other = priority_of(126), priority_of(100)
    for mine, theirs in ((host, other), (other, host), (host, host)):
        here = pair_priority(mine, theirs, controlling=True)
        assert here == pair_priority(theirs, mine, controlling=False)
    assert pair_priority(host, host, controlling=True) > pair_priority(host, other, controlling=True)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "127.0.0.1", "169.254.169.254", "224.0.0.1", "239.1.2.3", "255.255.255.255", "240.0.0.1",
        "::", "::1", "ff02::1", "fe80::1", "::ffff:10.0.0.1", "fd53:6f6a::1",
    ],
)  # fmt: skip
def test_addresses_that_are_nobodys_or_everybodys_are_never_checked(address: str) -> None:
    assert not may_be_anywhere(Endpoint(address, 5000))
    seen = Endpoint("2001:db8::1", 4000) if ":" in address else SEEN
    assert not may_check(Endpoint(address, 5000), seen, reflexive(seen.address))


@pytest.mark.parametrize("port", [0, 22, 53, 123, 1023])
def test_ports_that_no_data_path_has_are_never_checked(port: int) -> None:
    assert not may_check(Endpoint(THERE.address, port), SEEN, ())


@pytest.mark.parametrize("address", ["10.0.0.1", "172.16.3.4", "192.168.1.1", "100.64.0.9"])
def test_private_addresses_are_checked_only_from_the_same_network(address: str) -> None:
    private = Endpoint(address, 5000)
    assert not may_check(private, SEEN, reflexive(THERE.address))
    assert may_check(private, SEEN, reflexive(SEEN.address)), "both are behind one NAT"
    assert may_check(private, Endpoint("10.9.0.3", 4000), reflexive("10.9.0.4")), "the node is in there, too"


def test_public_addresses_of_the_same_family_are_checked() -> None:
    assert may_check(THERE, SEEN, ())
    assert not may_check(Endpoint("2001:db8::8", 5000), SEEN, ())
    assert may_check(Endpoint("2001:db8::8", 5000), Endpoint("2001:db8::7", 4000), ())


def valid(now: float, rtt: float = 0.02) -> Pair:
    pair = Pair("wifi", THERE, 1, now - rtt)
    pair.asked(now - rtt)
    pair.answer(now - rtt, now)
    assert pair.state is State.VALID
    return pair


def test_an_idle_pair_is_asked_every_five_seconds_and_one_in_use_far_more_often() -> None:
    pair = valid(100.0)
    assert pair.consent_due() == 100.0 + CONSENT
    pair.used = 101.0
    assert pair.consent_due() == pytest.approx(101.1), "nothing comes back: it is asked"
    pair.heard = 101.05
    assert pair.consent_due() == pytest.approx(100.5), "packets come back, but an answer is due"


def test_four_checks_without_an_answer_and_some_patience_end_a_pair() -> None:
    pair = valid(100.0)
    for at in (100.5, 100.56, 100.62, 100.68):
        assert not pair.is_dead(at)
        pair.asked(at)
    assert not pair.is_dead(100.7)
    assert pair.is_dead(100.76)
    pair.answer(100.68, 100.75)
    assert not pair.is_dead(100.76)


def test_a_pair_over_which_packets_come_has_a_second_and_a_silent_one_a_quarter() -> None:
    for comes, dead in ((True, 1.0), (False, 0.25)):
        pair = Pair("wifi", Endpoint("198.51.100.2", 4000), 1, 0.0)
        pair.answer(0.0, 0.02)
        for number in range(4):
            pair.asked(1.0 + number * 0.06)
        pair.heard = 1.1 if comes else 0.9
        assert pair.is_suspect() is not comes
        assert not pair.is_dead(1.0 + dead - 0.01)
        assert pair.is_dead(1.0 + dead)
