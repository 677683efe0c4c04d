"""One tunnel's machine, as a dialogue: what happens, and the whole list of what it does about it."""

import pytest

from sojourn.datapath.epochs import EpochStore
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.frame import Answer, Challenge, Close, EpochFrame, Probe, Response
from sojourn.packet.seal import Hint, KeySchedule, Opened, Secret
from sojourn.upmt.commands import Role
from sojourn.upmt.constants import SILENCE_FLOOR
from sojourn.upmt.events import (
    TunnelBlocked,
    TunnelClosed,
    TunnelFailed,
    TunnelMoved,
    TunnelRecovered,
    TunnelSilent,
    TunnelTested,
)
from sojourn.upmt.tunnel import Ready, SendFrame, Tell, Tunnel, TunnelCommand
from sojourn.upmt.tunnel_state import TunnelState

T, HOST = TunnelId(7), AssociationId(1)
ANCHOR, PUBLIC, OTHER = Endpoint("203.0.113.1", 1800), Endpoint("198.51.100.1", 4000), Endpoint("198.51.100.2", 4)
SECRET = Secret(1, bytes(32), 1)


def tunnel(role: Role, woken: list[float] | None = None) -> Tunnel:
    made = Tunnel(
        T, HOST, role,
        sealed=True, mtu=1448, random=bytes, wake=lambda _id, at: woken.append(at) if woken is not None else None,
    )  # fmt: skip
    made.install(KeySchedule(SECRET), EpochStore(), 0.0)
    return made


def opened(counter: int, *, highest: bool = True) -> Opened:
    return Opened(b"E", 1, counter, Hint.NONE, highest, False)


def answer_to(command: TunnelCommand, now: float) -> Answer:
    assert isinstance(command, SendFrame)
    assert isinstance(command.frame, Probe)
    us = int(now * 1e6)
    return Answer(1, command.frame.sequence, command.frame.sent_us, us, us, 1, 1, PUBLIC)


def working_host() -> Tunnel:
    host = tunnel(Role.HOST)
    host.open(ANCHOR, 0.0)
    probe = host.tick(0.0)[-1]
    host.on_frame(answer_to(probe, 0.01), ANCHOR, opened(0), 100, 0.02)
    host.tick(0.02)
    return host


def test_a_host_tests_a_tunnel_the_moment_it_is_opened() -> None:
    woken: list[float] = []
    host = tunnel(Role.HOST, woken)
    assert not host.usable
    host.open(ANCHOR, 5.0)
    assert woken[-1] <= 5.0
    assert host.tick(5.0) == [Ready(), SendFrame(Probe(1, 1, 5_000_000), ANCHOR, 1200)]
    assert (host.usable, host.fast, host.outer) == (True, True, ANCHOR)


def test_the_answer_proves_the_tunnel_and_says_how_our_nat_maps_us() -> None:
    host = tunnel(Role.HOST)
    host.open(ANCHOR, 5.0)
    probe = host.tick(5.0)[-1]
    commands = host.on_frame(answer_to(probe, 5.01), ANCHOR, opened(0), 100, 5.02)
    assert host.rtt.srtt is not None
    assert commands == [Tell(TunnelTested(T, PUBLIC, host.rtt.srtt))]
    assert host.rtt.srtt == pytest.approx(0.02)
    # Next comes the largest packet that the TUN could bring, in a packet that must not be fragmented.
    sizes = [(frame.pad_to, frame.fragment) for frame in host.tick(5.02) if isinstance(frame, SendFrame)]
    assert sizes == [(1472, False), (0, True)]


def test_without_an_answer_it_is_told_as_blocked_once() -> None:
    host = tunnel(Role.HOST)
    host.open(ANCHOR, 0.0)
    commands = [command for step in range(200) for command in host.tick(step * 0.1)]
    assert [command for command in commands if isinstance(command, Tell)] == [
        Tell(TunnelBlocked(T, "no answer from the anchor: UDP seems to be blocked"))
    ]
    assert not host.usable


def test_silence_and_recovery_are_told_and_waiting_packets_are_called_for() -> None:
    host = working_host()
    host.sent(10.0, 1, 100)
    silent: list[TunnelSilent] = []
    now = 10.0
    while not silent:
        now += 0.005
        told = [command.event for command in host.tick(now) if isinstance(command, Tell)]
        silent = [event for event in told if isinstance(event, TunnelSilent)]
    assert 10.0 + SILENCE_FLOOR <= now <= 10.205
    assert not host.usable
    probe = next(frame for frame in host.tick(now + 0.06) if isinstance(frame, SendFrame))
    commands = host.on_frame(answer_to(probe, now + 0.07), ANCHOR, opened(1), 100, now + 0.08)
    assert commands == [Tell(TunnelRecovered(T))]
    assert Ready() in host.tick(now + 0.08)
    assert host.usable


def test_a_systems_refusal_is_told_once_until_an_answer_comes() -> None:
    host = working_host()
    assert host.failed("Network is unreachable", 5.0) == [Tell(TunnelFailed(T, "Network is unreachable"))]
    assert host.failed("Network is unreachable", 5.1) == []
    assert not host.usable


def test_a_host_never_follows_its_anchors_address() -> None:
    host = working_host()
    assert host.on_source(OTHER, opened(9), 100, 1.0) == []
    assert host.outer == ANCHOR


def test_an_anchor_answers_a_probe_from_nowhere_challenges_it_and_tells_only_the_proved_address() -> None:
    anchor = tunnel(Role.ANCHOR)
    assert anchor.on_source(PUBLIC, opened(0), 1200, 0.0) == [SendFrame(Challenge(1, bytes(8)), PUBLIC, 1200)]
    assert (anchor.outer, anchor.usable, anchor.fast, anchor.credit) == (PUBLIC, True, False, 2400)
    (answer,) = anchor.on_frame(Probe(0, 3, 4), PUBLIC, opened(0), 1200, 0.0)
    assert answer == SendFrame(Answer(1, 3, 4, 0, 0, 1, 1, PUBLIC), PUBLIC)
    commands = anchor.on_frame(Response(0, bytes(8)), PUBLIC, opened(1), 38, 0.1)
    assert commands == [Tell(TunnelMoved(T, PUBLIC))]
    assert (anchor.fast, anchor.credit, anchor.rtt.srtt) == (True, None, 0.1)


def test_an_unproved_address_is_given_up_for_the_last_proved_one() -> None:
    anchor = tunnel(Role.ANCHOR)
    anchor.restore(PUBLIC, 0.0)
    anchor.on_source(OTHER, opened(5), 100, 1.0)
    assert anchor.outer == OTHER
    anchor.tick(1.1)
    anchor.tick(3.0)
    assert (anchor.outer, anchor.fast) == (PUBLIC, True)


def test_an_old_epoch_is_answered_by_the_new_one_but_never_by_more_than_came() -> None:
    anchor = tunnel(Role.ANCHOR)
    anchor.restore(PUBLIC, 0.0)
    assert anchor.on_stale(OTHER, 29, 1.0) == []
    assert anchor.on_stale(OTHER, 44, 1.0) == [SendFrame(EpochFrame(1), OTHER)]
    assert anchor.on_stale(OTHER, 44, 1.5) == []
    assert anchor.on_stale(OTHER, 44, 2.1) == [SendFrame(EpochFrame(1), OTHER)]


def test_a_closed_tunnel_is_told_and_a_newer_packet_opens_it_again() -> None:
    anchor = tunnel(Role.ANCHOR)
    anchor.restore(PUBLIC, 0.0)
    assert anchor.on_frame(Close(0), PUBLIC, opened(5), 30, 1.0) == [Tell(TunnelClosed(T))]
    assert (anchor.usable, anchor.outer) == (False, None)
    anchor.on_source(PUBLIC, opened(4, highest=False), 100, 1.1)
    assert not anchor.usable
    anchor.on_source(PUBLIC, opened(6), 1200, 1.2)
    assert (anchor.usable, anchor.outer, anchor.credit is not None) == (True, PUBLIC, True)


def test_a_host_closes_with_a_word_to_its_peer() -> None:
    host = working_host()
    assert host.close() == [SendFrame(Close(1), ANCHOR)]
    assert host.tick(100.0) == []


def test_without_keys_there_is_no_timer_and_nothing_is_sent() -> None:
    woken: list[float] = []
    bare = Tunnel(T, HOST, Role.HOST, sealed=True, mtu=1448, random=bytes, wake=lambda _id, at: woken.append(at))
    bare.open(ANCHOR, 0.0)
    assert isinstance(bare, TunnelState)
    assert (bare.usable, woken) == (False, [])
    assert bare.tick(1.0) == []
    bare.install(KeySchedule(SECRET), EpochStore(), 2.0)
    assert bare.usable
    assert [type(command) for command in bare.tick(2.0)] == [Ready, SendFrame]
