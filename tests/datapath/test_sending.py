"""Packets that may not go: refused at once, and not too often."""

import pytest

from sojourn.datapath.sending import REFUSALS_BURST
from sojourn.model import ICMP, TCP, UDP, AssociationId, Endpoint, Flow, TunnelId
from sojourn.packet.ip import parse, udp_packet
from sojourn.policy.match import parse as match
from sojourn.policy.rules import Rule, Subject
from sojourn.upmt.commands import Everything, Exactly, Labelled, Move, MoveFlows, Placed, SetRules
from sojourn.upmt.events import FlowSeen
from tests.harness.fakenet import VIPA, Pair, Wire
from tests.harness.voice import CORRESPONDENT, Voice
from tests.packet.build import tcp_packet

A = TunnelId(0x10)
HOST = AssociationId(1)
WEB = Endpoint("93.184.216.34", 80)


def blocking(*matches: str) -> Pair:
    pair = Pair(Wire("wifi"))
    pair.open()
    pair.run(1)
    subject = Subject(match=tuple(match(text) for text in matches))
    pair.host.submit([SetRules(HOST, (Placed(Rule("no", subject), None, (), True),))])
    return pair


def test_a_blocked_connection_is_reset_and_a_blocked_datagram_answered_and_nothing_goes_out() -> None:
    pair = blocking("-p tcp --dport 80", "-p udp --dport 5004")
    before = pair.anchor.forwarder.tunnels[A].packets_in
    pair.host.forwarder.from_inner(tcp_packet(Endpoint(VIPA, 4000), WEB, b"", flags=2), pair.now)
    voice = Voice(pair)
    voice.say()
    answers = [parse(packet) for _, packet in pair.to_host]
    assert [answer.protocol for answer in answers] == [TCP, ICMP]
    assert pair.to_host[0][1][33] & 4
    assert pair.to_host[1][1][20:22] == b"\x03\x0d"
    pair.run(0.05)
    assert pair.host.forwarder.refused["blocked"] == 2
    assert (voice.heard_up(), pair.anchor.forwarder.paft.rows) == ([], {})
    assert pair.anchor.forwarder.tunnels[A].packets_in - before <= 2


def test_what_a_correspondent_sends_to_a_blocked_flow_does_not_arrive() -> None:
    pair = blocking("-p udp")
    voice = Voice(pair)
    voice.listen()
    pair.run(0.5)
    assert voice.heard_down() == []
    assert pair.host.forwarder.refused["blocked"] == 1


def test_a_running_flow_that_comes_to_be_blocked_is_told_with_its_next_packet_and_goes_on_when_it_may() -> None:
    pair = blocking("-p tcp")
    voice = Voice(pair)
    voice.say()
    pair.run(1)
    pair.host.submit([MoveFlows(HOST, 1, (Move(Labelled(""), None, block=True),))])
    voice.say()
    assert parse(pair.to_host[-1][1]).protocol == ICMP
    pair.host.submit([MoveFlows(HOST, 2, (Move(Everything(), A),))])
    voice.say()
    pair.run(1)
    assert voice.heard_up() == [0, 2]


def test_a_flow_that_is_blocked_by_name_before_it_begins_never_begins() -> None:
    pair = blocking("-p tcp")
    voice = Voice(pair)
    flow = Flow(UDP, voice.local, CORRESPONDENT)
    pair.host.submit([MoveFlows(HOST, 1, (Move(Exactly((flow,)), None, block=True),))])
    assert [seen.blocked for seen in pair.host_told(FlowSeen)] == [True]
    voice.say()
    pair.run(1)
    assert voice.heard_up() == []
    assert parse(pair.to_host[-1][1]).protocol == ICMP


def test_no_more_answers_are_given_than_a_router_would_give() -> None:
    pair = blocking("-p udp")
    for number in range(1000):
        packet = udp_packet(Endpoint(VIPA, 4000), CORRESPONDENT, number.to_bytes(4))
        pair.host.forwarder.from_inner(packet, pair.now)
    assert len(pair.to_host) == pytest.approx(REFUSALS_BURST, abs=1)
    assert pair.host.forwarder.refused["blocked"] == 1000
