"""A host's half over wires that lose: what stands, what is asked again, and what is given up."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.errors import LocalProtocolError
from sojourn.i3.client import (
    CACHE_REFRESH,
    FIRST_WAIT,
    LONGEST_WAIT,
    TRIES,
    NodeSilent,
    RendezvousClient,
    Transmit,
    TriggerGone,
    TriggerRefused,
)
from sojourn.i3.packet import REMOVE, Data, Location, Request, Status, parse
from sojourn.i3.table import REFRESH
from sojourn.model import Endpoint
from tests.i3.world import NODE, Host, World, own, seeded


class Lossy(World):
    """Loses every datagram whose turn in `fate` says so."""

    def __init__(self, fate: list[bool]) -> None:
        super().__init__()
        self.fate = fate

    def put(self, data: bytes, source: Endpoint, destination: Endpoint) -> None:
        lost = self.fate.pop() if self.fate else False
        if not lost:
            super().put(data, source, destination)


def asked(host: Host) -> list[Request]:
    """Return the requests that were sent since the last call."""
    messages = [parse(data) for data, source, _ in host.world.wire if source in host.paths.values()]
    host.world.wire.clear()
    return [message for message in messages if isinstance(message, Request)]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.booleans(), max_size=8))
def test_whatever_of_the_first_datagrams_is_lost_the_trigger_stands_in_the_end(fate: list[bool]) -> None:
    world = Lossy(fate)
    a = world.host("a", wifi="198.51.100.1")
    a.insert(own("a"), "wifi")
    world.run(30)
    assert (own("a").identifier, "wifi") in a.standing()
    world.fate.clear()
    a.send(own("a").identifier, b"to myself", "wifi")
    assert a.got() == [b"to myself"]
    assert a.client.stands(own("a").identifier) == ["wifi"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.booleans(), max_size=TRIES - 1))
def test_a_remove_is_repeated_until_it_is_answered_and_then_forgotten(fate: list[bool]) -> None:
    world = Lossy([])
    a = world.host("a", wifi="198.51.100.1")
    a.insert(own("a"), "wifi")
    world.fate = fate
    a.remove(own("a"), "wifi")
    world.run(20)
    assert TriggerGone(own("a").identifier, "wifi") in a.told
    assert len(world.node.table) == 0
    assert a.client.deadline() is None


def test_without_an_answer_it_asks_six_times_slower_and_slower_and_says_so() -> None:
    client = RendezvousClient([NODE], seeded("x"))
    commands, times, now = client.insert(own("x"), "wifi", 1000.0), [1000.0], 1000.0
    while not any(isinstance(command, NodeSilent) for command in commands):
        due = client.deadline()
        assert due is not None
        assert client.tick(due - 0.01) == []
        commands, now = client.tick(due), due
        times.append(now)
    waits = [round(later - before, 3) for before, later in pairwise(times)]
    assert waits == [min(FIRST_WAIT * 2**n, LONGEST_WAIT) for n in range(TRIES)]
    assert isinstance(commands[-1], Transmit), "and begins anew"


def test_numbers_grow_and_cannot_be_foreseen() -> None:
    one, other = (RendezvousClient([NODE], seeded(name)) for name in ("one", "other"))
    numbers: list[list[int]] = [[], []]
    for of, client in zip(numbers, (one, other), strict=True):
        for name in "abcdef":
            (sent,) = client.insert(own(name), "wifi", 1000.0)
            assert isinstance(sent, Transmit)
            message = parse(sent.data)
            assert isinstance(message, Request)
            of.append(message.number)
    assert numbers[0] == sorted(set(numbers[0]))
    assert not set(numbers[0]) & set(numbers[1])


def test_a_refusal_that_may_pass_is_asked_again_and_one_for_good_is_not() -> None:
    world = World(max_triggers=16)
    crowd = [world.host(str(number), wifi=f"198.51.100.{number}") for number in range(1, 17)]
    for host in crowd:
        host.insert(own(host.name), "wifi")
    late = world.host("late", wifi="192.0.2.1")
    late.insert(own("late"), "wifi")
    assert late.told == [TriggerRefused(own("late").identifier, "wifi", Status.FULL)]
    crowd[0].remove(own("1"), "wifi")
    world.run(2 * REFRESH + 12)
    assert (own("late").identifier, "wifi") in late.standing()
    late.insert(own("late"), "wifi")
    forged = own("late")
    late.insert(type(forged)(own("other").identifier, forged.right, forged.evidence), "wifi")
    assert late.told[-1] == TriggerRefused(own("other").identifier, "wifi", Status.WRONG)
    asked(late)
    world.run(REFRESH + 1)
    assert {request.identifier for request in asked(late)} == {own("late").identifier}


def test_where_packets_go_is_asked_again_after_ten_seconds_of_sending() -> None:
    world = World()
    a, b = world.host("a", wifi="198.51.100.1"), world.host("b", wifi="192.0.2.1")
    b.insert(own("b"), "wifi")
    for _ in range(60):
        a.send(own("b").identifier, b"x", "wifi")
        world.run(0.5)
    sent = [parse(data) for data, source, _ in world.wire if source == a.paths["wifi"]]
    asks = [one for one in sent if isinstance(one, Data) and one.nonce is not None]
    told = [one for one in (parse(data) for data, source, _ in world.wire if source == NODE) if type(one) is Location]
    assert len(asks) == 1 + 30 / CACHE_REFRESH
    assert len(told) == 30 / CACHE_REFRESH
    assert len(b.got()) == 60


def test_a_removal_by_way_of_another_path_names_the_address_that_was_seen() -> None:
    world = World()
    a = world.host("a", wifi="198.51.100.1", cellular="198.51.100.2")
    a.insert(own("a"), "wifi")
    asked(a)
    a.remove(own("a"), "wifi", via="cellular")
    assert {(one.kind, one.old) for one in asked(a)} == {(REMOVE, a.paths["wifi"])}
    assert len(world.node.table) == 0


def test_measuring_nodes_tells_the_nearest_and_preferring_one_takes_the_triggers_there() -> None:
    far, near = Endpoint("203.0.113.1", 1801), Endpoint("203.0.113.2", 1801)
    world = World(far, near)
    for node in world.nodes.values():
        node.group = b"together"
    a, b = world.host("a", wifi="198.51.100.1"), world.host("b", wifi="192.0.2.1")
    b.insert(own("b"), "wifi")
    for command in b.client.measure("wifi", world.now):
        assert isinstance(command, Transmit)
        [(echo, _)] = world.nodes[command.node].handle(command.data, ("192.0.2.1", 4000), world.now)
        b.client.received("wifi", echo, command.node, world.now + (0.01 if command.node == near else 0.05))
    measured = b.client.measured("wifi", 0.0, world.now)
    assert min(measured, key=measured.__getitem__) == near
    b.do(b.client.prefer(near, world.now))
    world.settle()
    assert b.client.node == near
    assert b.client.stands(own("b").identifier) == ["wifi"]
    a.do(a.client.prefer(near, world.now))
    a.send(own("b").identifier, b"by the near one", "wifi")
    assert b.got() == [b"by the near one"]
    assert not any(isinstance(one, NodeSilent) for one in b.told)


def test_a_node_that_shares_its_triggers_with_nobody_has_no_nearer_one() -> None:
    alone, near = Endpoint("203.0.113.1", 1801), Endpoint("203.0.113.2", 1801)
    world = World(alone, near)
    a = world.host("a", wifi="198.51.100.1")
    a.do(a.client.measure("wifi", world.now))
    world.settle()
    assert a.client.round_trip("wifi", near, 0.0, world.now) is not None
    assert list(a.client.measured("wifi", 0.0, world.now)) == [alone]
    with pytest.raises(LocalProtocolError):
        a.client.prefer(Endpoint("192.0.2.66", 1801), world.now)


def test_a_late_answer_to_a_removal_that_another_one_has_replaced_changes_nothing() -> None:
    world = World()
    a = world.host("a", wifi="198.51.100.1")
    a.insert(own("a"), "wifi")
    (standing,) = a.client._standing.values()
    for address in ("198.51.100.8", "198.51.100.9"):  # two nodes before this one had seen us there
        a.do(a.client._leave(standing, Endpoint(address, 4000), world.now))
    world.settle()
    assert a.client.stands(own("a").identifier) == ["wifi"]
    assert list(a.client._standing.values()) == [standing]
