"""Hostile senders: what each tries, and what it gets."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sojourn.i3.challenge import NONCE_LIFE, Address
from sojourn.i3.client import Wanted, public_trigger
from sojourn.i3.forwarding import forward
from sojourn.i3.identifier import Identifier, key_of, left, private, public, right
from sojourn.i3.node import RendezvousNode
from sojourn.i3.packet import (
    INSERT,
    REMOVE,
    Answer,
    Challenge,
    Data,
    Echo,
    Location,
    Message,
    Probe,
    Request,
    Right,
    Status,
    parse,
)
from sojourn.i3.proof import sign
from sojourn.i3.shares import Rates
from sojourn.i3.table import TRIGGER_LIFE, UNPROVED_TRIGGERS
from sojourn.model import Endpoint
from tests.i3.test_packet import MESSAGES
from tests.i3.world import NODE, identity, own

BOB, MALLORY = ("192.0.2.1", 4000), ("192.0.2.66", 6666)


class At:
    """One address that speaks to a node by hand."""

    def __init__(self, node: RendezvousNode, address: Address, now: float = 1000.0) -> None:
        self.node, self.address, self.now, self.number = node, address, now, 0
        self.nonce = bytes(16)

    def say(self, message: Message) -> list[tuple[Message, Address]]:
        sends = self.node.handle(bytes(message), self.address, self.now)
        return [(parse(data), to) for data, to in sends]

    def ask(self, request: Request) -> Status:
        """Send a request, with a nonce fetched if need be."""
        self.number += 1
        for _ in range(2):
            [(answer, to)] = self.say(replace(request, number=self.number, nonce=self.nonce))
            assert to == self.address
            if isinstance(answer, Answer):
                return answer.status
            assert isinstance(answer, Challenge)
            self.nonce = answer.nonce
        raise AssertionError("challenged twice")


def node(**options: int) -> RendezvousNode:
    return RendezvousNode(b"k" * 32, {NODE}, Rates(1e6, 1e6), **options)


def request(wanted: Wanted, kind: int = INSERT, old: Endpoint | None = None) -> Request:
    return Request(kind, wanted.right, 0, wanted.identifier, wanted.evidence, target=wanted.target, old=old)


BOBS = own("bob")


def test_a_forged_source_gets_a_challenge_that_the_forger_never_sees_and_no_packet() -> None:
    there, victim = node(), ("198.51.100.9", 53)
    mallory = At(there, victim)
    sent = mallory.say(replace(request(own("m")), number=1, nonce=b"x" * 16))
    assert [(type(message), to) for message, to in sent] == [(Challenge, victim)]
    assert mallory.say(Data((own("m").identifier,), b"flood")) == []
    assert len(there.table) == 0


def test_a_nonce_of_one_address_is_of_no_use_at_another() -> None:
    there = node()
    mallory = At(there, MALLORY)
    assert mallory.ask(request(own("m"))) is Status.INSERTED
    victim = At(there, ("198.51.100.9", 53))
    [(answer, _)] = victim.say(replace(request(own("m")), number=9, nonce=mallory.nonce))
    assert isinstance(answer, Challenge)
    assert there.done["inserted"] == 1


def test_whoever_knows_an_identifier_cannot_lead_it_to_himself() -> None:
    there = node()
    assert At(there, BOB).ask(request(BOBS)) is Status.INSERTED
    mallory, x = At(there, MALLORY), BOBS.identifier
    tries = [
        Wanted(x, Right.KEY, key_of(x)),
        Wanted(x, Right.LEFT, target=(own("m").identifier,)),
        Wanted(x, Right.RIGHT, target=(own("m").identifier,)),
        Wanted(x, Right.HOME4, bytes(4)),
        Wanted(x, Right.SIGNED, bytes(147)),
    ]
    assert [mallory.ask(request(each)) for each in tries] == [Status.WRONG] * len(tries)
    assert len(there.table) == 1


def test_the_right_rule_leads_a_copy_only_where_nobody_can_listen() -> None:
    there = node()
    At(there, BOB).ask(request(BOBS))
    mallory = At(there, MALLORY)
    blind = Identifier(bytes(8) + right(key_of(BOBS.identifier)) + bytes(8))
    assert mallory.ask(request(Wanted(BOBS.identifier, Right.RIGHT, target=(blind,)))) is Status.INSERTED
    for target, evidence in (((), key_of(BOBS.identifier)), ((own("m").identifier,), b"")):
        wanted = Wanted(blind, Right.LEFT if target else Right.KEY, evidence, target)
        assert mallory.ask(request(wanted)) is Status.WRONG
    sent = At(there, ("192.0.2.50", 1)).say(Data((BOBS.identifier,), b"secret"))
    assert [to for _, to in sent] == [BOB]


def test_nobody_removes_a_trigger_by_its_identifier_and_address_alone() -> None:
    there = node()
    At(there, BOB).ask(request(BOBS))
    mallory = At(there, MALLORY)
    stolen = replace(BOBS, evidence=key_of(BOBS.identifier))
    assert mallory.ask(request(stolen, REMOVE, Endpoint(*BOB))) is Status.WRONG
    assert len(there.table) == 1


def test_an_insert_and_a_remove_that_are_replayed_change_nothing() -> None:
    there = node()
    bob = At(there, BOB)
    bob.ask(request(BOBS))
    inserted = bytes(replace(request(BOBS), number=1, nonce=bob.nonce))
    assert bob.ask(request(BOBS, REMOVE)) is Status.REMOVED
    removed = bytes(replace(request(BOBS, REMOVE), number=2, nonce=bob.nonce))
    [(data, _)] = there.handle(inserted, BOB, 1001.0)
    assert parse(data).status is Status.STALE  # type: ignore[union-attr]
    assert len(there.table) == 0
    assert bob.ask(request(BOBS)) is Status.INSERTED
    [(data, _)] = there.handle(removed, BOB, 1002.0)
    assert parse(data).status is Status.STALE  # type: ignore[union-attr]
    assert len(there.table) == 1
    [(data, _)] = there.handle(inserted, BOB, 1000.0 + NONCE_LIFE + 5)
    assert isinstance(parse(data), Challenge)


def test_a_packet_that_is_replayed_goes_the_same_way_again_on_the_account_of_who_replays_it() -> None:
    """Nodes keep nothing of packets; those at the end drop copies (docs/guide/rendezvous.md)."""
    there = RendezvousNode(b"k" * 32, {NODE}, Rates(packets=5, requests=5))
    At(there, BOB).ask(request(BOBS))
    packet = bytes(Data((BOBS.identifier,), b"sealed"))
    sent = [there.handle(packet, MALLORY, 1000.0) for _ in range(100)]
    assert sum(map(len, sent)) == 10
    assert {to for sends in sent for _, to in sends} == {BOB}
    assert len(there.handle(packet, ("192.0.2.2", 1), 1000.0)) == 1


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "short"), (b"\x10\x01\x10\x40" + bytes(31), "short"), (b"\x10\x09" + bytes(9000), "flags"),
        (b"\x10\x01\x11\x40" + bytes(32), "budget"), (bytes(1200), "kind"), (b"\x11" + bytes(400), "right"),
        (b"\x11\1\0\0" + bytes(400), "length"), (b"\x16" + bytes(20), "length"), (b"\x16" + bytes(18) + b"x", "flags"),
    ],
)  # fmt: skip
def test_what_is_cut_off_too_long_or_senseless_is_counted_by_its_reason_and_not_answered(
    datagram: bytes, reason: str
) -> None:
    there = node()
    assert there.handle(datagram, MALLORY, 1000.0) == []
    assert dict(there.refused) == {reason: 1}


def test_a_copy_of_the_last_insert_is_answered_alike_and_lengthens_nothing() -> None:
    there = node()
    bob = At(there, BOB)
    bob.ask(request(BOBS))
    [(answer, _)] = there.handle(bytes(replace(request(BOBS), number=1, nonce=bob.nonce)), BOB, 1020.0)
    assert parse(answer).status is Status.INSERTED  # type: ignore[union-attr]
    assert there.table.match(BOBS.identifier, 1000.0 + TRIGGER_LIFE + 0.1) == []


def test_the_public_identifier_of_somebody_else_is_refused_and_of_an_ipv4_home_bounded() -> None:
    there = node()
    alice = identity("alice")
    wanted = public_trigger(alice)
    mallory = At(there, MALLORY)
    [(challenge, _)] = mallory.say(replace(request(wanted), evidence=bytes(147), number=1))
    assert isinstance(challenge, Challenge)
    forged = sign(replace(request(wanted), nonce=challenge.nonce, number=2), identity("mallory"), NODE)
    assert mallory.say(forged)[0][0].status is Status.WRONG  # type: ignore[union-attr]
    theirs = sign(replace(request(wanted), nonce=challenge.nonce, number=3), alice, Endpoint("192.0.2.66", 1801))
    assert mallory.say(theirs)[0][0].status is Status.ELSEWHERE  # type: ignore[union-attr]
    unproved = Wanted(public("192.0.2.1"), Right.HOME4, bytes((192, 0, 2, 1)))
    results = [At(there, ("192.0.2.66", port)).ask(request(unproved)) for port in range(1, 7)]
    assert results == [Status.INSERTED] * UNPROVED_TRIGGERS + [Status.QUOTA] * 2


def test_who_claims_an_ipv4_home_removes_only_his_own_trigger() -> None:
    there = node()
    unproved = Wanted(public("192.0.2.1"), Right.HOME4, bytes((192, 0, 2, 1)))
    assert At(there, BOB).ask(request(unproved)) is Status.INSERTED
    mallory = At(there, MALLORY)
    assert mallory.ask(request(unproved, REMOVE, Endpoint(*BOB))) is Status.WRONG
    assert mallory.ask(request(unproved, REMOVE)) is Status.REMOVED
    assert [to for _, to in mallory.say(Data((unproved.identifier,)))] == [BOB]


def chain(depth: int) -> list[Identifier]:
    """Return identifiers each of which may lead to the next by the left rule."""
    last = private(b"s" * 16, bytes(8))
    made = [last]
    for number in range(depth):
        made.insert(0, Identifier(bytes((number + 1,)) * 8 + left(key_of(made[0])) + bytes(8)))
    return made


def test_a_stack_whose_rest_leads_back_is_refused_when_it_is_inserted() -> None:
    there = node()
    bob = At(there, BOB)
    x, y, z = chain(2)
    assert bob.ask(request(Wanted(x, Right.LEFT, target=(y, x)))) is Status.LOOP
    assert bob.ask(request(Wanted(y, Right.LEFT, target=(z, x)))) is Status.INSERTED
    assert bob.ask(request(Wanted(x, Right.LEFT, target=(y,)))) is Status.LOOP


def test_a_chain_of_triggers_leads_to_its_end() -> None:
    there = node()
    bob, names = At(there, BOB), chain(5)
    for one, next_ in pairwise(names):
        assert bob.ask(request(Wanted(one, Right.LEFT, target=(next_,)))) is Status.INSERTED
    assert bob.ask(request(Wanted(names[-1], Right.KEY, b"s" * 16))) is Status.INSERTED
    assert [(message, to) for message, to in bob.say(Data((names[0],), b"p"))] == [(Data((names[-1],), b"p", 10), BOB)]


def test_somebody_elses_refresh_of_a_stack_gives_no_right_to_remove_it() -> None:
    there = node()
    bob, mallory = At(there, BOB), At(there, MALLORY)
    x, y = chain(1)
    wanted = Wanted(x, Right.LEFT, target=(y,))
    assert bob.ask(request(wanted)) is Status.INSERTED
    assert mallory.ask(request(wanted)) is Status.INSERTED
    assert mallory.ask(request(wanted, REMOVE)) is Status.WRONG
    assert len(there.table) == 1
    assert bob.ask(request(wanted, REMOVE)) is Status.REMOVED


def test_removing_what_is_not_there_keeps_nobody_else_from_inserting_it() -> None:
    there = node()
    bob, mallory = At(there, BOB), At(there, MALLORY)
    x, y = chain(1)
    mallory.number = 2**63
    assert mallory.ask(request(Wanted(x, Right.LEFT, target=(y,)), REMOVE)) is Status.REMOVED
    assert bob.ask(request(Wanted(x, Right.LEFT, target=(y,)))) is Status.INSERTED


def test_a_flood_of_triggers_from_one_place_leaves_room_for_others_and_ends_by_itself() -> None:
    there = node(max_triggers=1000)
    mallory = At(there, MALLORY)
    results = [mallory.ask(request(own(f"flood {number}"))) for number in range(1000)]
    assert results.count(Status.INSERTED) < 1000 / 8
    assert results[-1] is Status.QUOTA
    assert At(there, BOB).ask(request(BOBS)) is Status.INSERTED
    there.tick(1000.0 + TRIGGER_LIFE + 2)
    assert (len(there.table), there.shares.triggers) == (0, 0)


def test_inserting_and_removing_without_end_takes_no_more_memory_than_inserting() -> None:
    there = node(max_triggers=1000)
    mallory = At(there, MALLORY)
    for number in range(300):
        mallory.ask(request(own(str(number))))
        mallory.ask(request(own(str(number)), REMOVE))
    assert there.refused["quota"] > 100
    assert there.done["inserted"] < 1000 / 8


def test_a_flood_of_packets_or_requests_is_cut_to_its_senders_share() -> None:
    there = RendezvousNode(b"k" * 32, {NODE}, Rates(packets=50, requests=5))
    bob = At(there, BOB)
    bob.ask(request(BOBS))
    mallory = At(there, MALLORY)
    assert sum(len(mallory.say(Data((BOBS.identifier,)))) for _ in range(1000)) == 100
    assert there.refused["rate"] == 900
    mallory.now += 1.0
    answers = sum(len(mallory.say(replace(request(own("m")), number=n))) for n in range(40))
    assert answers == 10
    assert there.refused["request-rate"] == 30
    assert len(At(there, ("192.0.2.2", 1)).say(Data((BOBS.identifier,)))) == 1


def test_a_sender_is_told_where_to_send_only_with_a_nonce_of_its_own() -> None:
    there = node()
    victim = At(there, ("198.51.100.9", 53))
    assert [type(m) for m, _ in victim.say(Data((BOBS.identifier,), nonce=bytes(16)))] == [Challenge]
    [(challenge, _)] = victim.say(Data((BOBS.identifier,), nonce=bytes(16)))
    assert isinstance(challenge, Challenge)
    [(location, to)] = victim.say(Data((BOBS.identifier,), nonce=challenge.nonce))
    assert isinstance(location, Location)
    assert (location.found, to) == (False, victim.address)
    assert [type(m) for m, _ in At(there, MALLORY).say(Data((BOBS.identifier,), nonce=challenge.nonce))] == [Challenge]


def test_a_probe_is_echoed_at_its_own_length_and_within_its_senders_share() -> None:
    there = RendezvousNode(b"k" * 32, {NODE}, Rates(packets=50, requests=5))
    mallory = At(there, MALLORY)
    sent = [mallory.say(Probe(number)) for number in range(40)]
    assert sent[:10] == [[(Echo(number), MALLORY)] for number in range(10)]
    assert sent[10:] == [[]] * 30
    assert len(bytes(Echo(1))) == len(bytes(Probe(1)))


def test_what_only_nodes_say_is_never_answered() -> None:
    """So no two nodes can be made to talk to each other for ever."""
    there = At(node(), BOB)
    said: list[Message] = [Challenge(1, bytes(16)), Location(True, 1, BOBS.identifier, bytes(16), None), Echo(1)]
    for message in said:
        assert there.say(message) == []
    assert there.node.refused["kind"] == 3


@given(st.binary(max_size=200) | MESSAGES.map(bytes))
def test_no_bytes_upset_a_node_or_get_a_longer_answer(data: bytes) -> None:
    there = node()
    At(there, BOB).ask(request(BOBS))
    for answer, to in there.handle(data, MALLORY, 1001.0):
        assert to == MALLORY
        assert len(answer) <= len(data)


@settings(deadline=None)
@given(st.binary(max_size=50), st.integers(0, 20), st.integers(0, 80), st.integers(0, 40))
def test_the_fast_way_does_what_the_obvious_one_does(payload: bytes, hops: int, copies: int, later: int) -> None:
    there = node()
    At(there, BOB).ask(request(BOBS))
    datagram = b"\x10\x01" + bytes((hops, copies)) + BOBS.identifier + payload
    sent = there.handle(datagram, MALLORY, 1000.0 + later)
    if hops > 16 or not 1 <= copies <= 64:
        assert sent == []
        assert there.refused["budget"] == 1
    else:
        assert sent == forward(there.table, Data((BOBS.identifier,), payload, hops, copies), 1000.0 + later).sends


def test_who_listens_on_a_hosts_network_may_have_copies_and_takes_nothing_away() -> None:
    """The secret of a private identifier goes to the node in the clear (docs/guide/rendezvous.md)."""
    there = node()
    bob, mallory = At(there, BOB), At(there, MALLORY)
    bob.ask(request(BOBS))
    assert mallory.ask(request(BOBS)) is Status.INSERTED
    assert {to for _, to in bob.say(Data((BOBS.identifier,), b"sealed"))} == {BOB, MALLORY}
    there.tick(bob.now + TRIGGER_LIFE + 2)
    assert len(there.table) == 0


def test_who_listens_and_challenges_in_a_nodes_name_may_have_copies_for_a_public_identifier_too() -> None:
    there, alice = node(), identity("alice")
    mallory = At(there, MALLORY)
    [(challenge, _)] = mallory.say(replace(request(own("m")), number=1))
    assert isinstance(challenge, Challenge)
    misled = sign(replace(request(public_trigger(alice)), nonce=challenge.nonce, number=2), alice, NODE)
    assert [type(message) for message, _ in At(there, BOB).say(misled)] == [Challenge], "it isn't the host's nonce"
    [(answer, _)] = mallory.say(misled)
    assert isinstance(answer, Answer)
    assert answer.status is Status.INSERTED
