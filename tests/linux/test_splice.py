"""When two connections cannot be spliced, and that they are as they were then."""

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from sojourn.linux import bpf_pin, tcp_repair, tcp_state
from sojourn.linux.splice import Kept, NotSpliced, Spliced, check, ends, mss_for
from sojourn.linux.splice_tables import LOOPBACK, SpliceTables
from sojourn.linux.tcp_repair import OPTION_ECN, OPTION_TIMESTAMPS, Terms
from sojourn.msocks.splice_pair import CLIENT, CORRESPONDENT, HalfFlag, Pair, State

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF programs, TCP_REPAIR")


@pytest.fixture
def two() -> Iterator[list[socket.socket]]:
    """Return two connections of this machine with itself: ours, theirs, ours, theirs."""
    found = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            found.append(socket.create_connection(listening.getsockname()))
            found.append(listening.accept()[0])
    yield found
    for sock in found:
        sock.close()


@pytest.fixture
def tables() -> Iterator[SpliceTables]:
    made = SpliceTables(bpf_pin.place() / f"sojourn-unit-{os.getpid()}" / "one", 1)
    yield made
    made.close(clean=True)


def test_what_does_not_fit_together_is_relayed_and_why_is_said(two: list[socket.socket]) -> None:
    leg, near = two[0], two[2]
    agreed = tcp_repair.terms(near)
    check(leg, near, agreed, ours=True)
    for option, ours, reason in ((OPTION_ECN, True, "ecn"), (OPTION_TIMESTAMPS, False, "timestamps")):
        other = Terms(agreed.options ^ option, 7, 7, 1460, 1460)
        with pytest.raises(NotSpliced, match=reason):
            check(leg, near, other, ours=ours)
    check(leg, near, Terms(agreed.options & ~OPTION_TIMESTAMPS, 7, 7, 1460, 1460), ours=True)
    two[3].close()
    with pytest.raises(NotSpliced, match="closing"):
        check(leg, near, agreed, ours=True)
    with socket.socket(socket.AF_INET6) as six, pytest.raises(NotSpliced, match="families"):
        check(leg, six, agreed, ours=True)
    with socket.socket() as unconnected, pytest.raises(NotSpliced, match="gone"):
        ends(unconnected)


def test_connections_of_this_machine_stay_as_they_are(two: list[socket.socket], tables: SpliceTables) -> None:
    leg, near = two[0], two[2]
    two[3].sendall(b"waits")
    with pytest.raises(NotSpliced, match="local"):
        Spliced.begin(tables, near, leg, b"ok", b"", returns=False, before=lambda _: None)
    assert (tables.room, tables.entries()) == (1, 0)
    assert near.recv(9) == b"waits"
    two[1].sendall(b"hear me")
    assert leg.recv(9) == b"hear me"


def test_a_map_that_is_full_leaves_both_to_the_relay(two: list[socket.socket], tables: SpliceTables) -> None:
    assert tables.take() is not None
    with pytest.raises(NotSpliced, match="map full"):
        Spliced.begin(tables, two[2], two[0], b"ok", b"", returns=False, before=lambda _: None)


def test_a_map_that_the_kernel_takes_no_more_for_leaves_both_to_the_relay(
    two: list[socket.socket], tables: SpliceTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        tables.enter(bytes(11) + bytes((number,)), 0, CLIENT)
    with pytest.raises(OSError) as full:
        tables.enter(bytes(11) + b"x", 0, CLIENT)
    assert full.value.errno == errno.E2BIG
    monkeypatch.setattr(Spliced, "_way", lambda *_: LOOPBACK)  # these two are of this machine
    tables.attached.add(LOOPBACK)
    with pytest.raises(NotSpliced, match="map full"):
        Spliced.begin(tables, two[2], two[0], b"ok", b"", returns=False, before=lambda _: None)
    assert (tables.room, tables.entries()) == (1, 2), "nothing of it is left"
    for number in range(2):
        tables.forget(bytes(11) + bytes((number,)))
    tables.enter(bytes(11) + b"x", 0, CLIENT)


def test_segments_that_no_option_can_name_are_not_asked_for(two: list[socket.socket]) -> None:
    mss = mss_for(two[0])
    assert mss is None or mss <= 32767


def test_a_peer_that_never_took_the_proxy_s_own_words_is_lost_with_its_socket(
    two: list[socket.socket], tables: SpliceTables
) -> None:
    place, pair = tables.take(), Pair(State.SPLICED)
    assert place is not None
    joint = Spliced(tables, two[2], Kept(place, tables.serial(place), 0, 0), returns=True)
    joint.leg = two[0]
    pair.halves[CLIENT].flags = HalfFlag.OWN | HalfFlag.SACK
    tables.write(place, pair)
    assert (tables.owes(place, CLIENT), tables.owes(place, CORRESPONDENT)) == (True, False)
    assert not joint.is_lost(CLIENT)
    for ours, theirs in ((two[0], two[1]), (two[2], two[3])):
        tcp_state.reset(theirs)
        with pytest.raises(ConnectionResetError):
            ours.recv(1)
    assert (joint.is_lost(CLIENT), joint.is_lost(CORRESPONDENT)) == (True, False)


def test_a_leg_whose_client_was_never_told_that_it_may_go_on_is_not_adopted(
    two: list[socket.socket], tables: SpliceTables
) -> None:
    place, pair = tables.take(), Pair(State.SPLICED)
    assert place is not None
    pair.halves[CLIENT].flags = pair.halves[CORRESPONDENT].flags = HalfFlag.OWN
    tables.write(place, pair)
    joint = Spliced(tables, two[2], Kept(place, tables.serial(place), 0, 0), returns=True)
    joint.adopt(two[0])
    assert (joint.leg, tables.state(place)) == (None, State.LEGLESS)
    with pytest.raises(ConnectionResetError):
        two[1].recv(1)


def test_a_leg_s_number_goes_on_when_its_place_is_another_session_s(tables: SpliceTables) -> None:
    turns = []
    for _ in range(3):
        place = tables.take()
        assert place is not None
        turns.append(tables.turn(place))
        tables.write(place, Pair(State.SPLICED))
        tables.end_turn(place)
        assert (tables.state(place), tables.turn(place)) == (State.LEGLESS, turns[-1] + 1)
        tables.write_leg(place, Pair(State.SPLICED))
        assert (tables.state(place), tables.read(place).turn) == (State.SPLICED, turns[-1] + 1)
        tables.give_back(place)
    assert turns == [1, 4, 7]
