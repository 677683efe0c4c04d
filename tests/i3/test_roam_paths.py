"""Moves: soft ones lose nothing, hard ones are over in two round trips, and what is taken out is the old network's."""

from functools import partial

from sojourn.i3.identifier import public
from sojourn.i3.packet import REMOVE, Request, parse
from sojourn.i3.proxy_header import ProxyHeader
from sojourn.i3.roam_commands import Moved, MoveFailed, PathBlocked, PathSilent, PathWorks, SendAgain
from sojourn.i3.roam_paths import network_of
from sojourn.model import Endpoint
from tests.i3.roam_world import Roamer, RoamWorld
from tests.i3.world import NODE


def talking(delay: float = 0.01) -> tuple[RoamWorld, Roamer, Roamer]:
    """Return two hosts that know each other's private identifiers."""
    world = RoamWorld(delay=delay)
    a, b = world.pair()
    for text in ("one", "two"):
        a.send(b, text)
        b.send(a, text)
        world.run(0.5)
    a.got(), b.got()
    return world, a, b


def stream(world: RoamWorld, a: Roamer, b: Roamer, packets: int, every: float = 0.005) -> None:
    """Let both send for a while."""
    for number in range(packets):
        world.at(number * every, partial(a.send, b, f"{number}"))
        world.at(number * every, partial(b.send, a, f"{number}"))


def test_a_soft_move_of_both_at_once_loses_nothing_and_delivers_nothing_twice() -> None:
    world, a, b = talking()
    for host, address in ((a, "203.0.113.101"), (b, "203.0.113.102")):
        host.up("cellular", address, use=False)
    world.run(0.2)
    stream(world, a, b, 200)
    for host in (a, b):
        world.at(0.3, partial(host.use, "cellular"))
    world.run(3.0)
    assert [int(text) for text in a.got()] == list(range(200))
    assert [int(text) for text in b.got()] == list(range(200))
    for host in (a, b):
        (moved,) = [one for one in host.of(Moved) if isinstance(one, Moved) and one.path == "cellular"]
        assert moved.soft
        assert host.proxy.soft is None
        assert [network_of(path) for path in host.proxy.client.stands(public(host.home))] == ["cellular"], (
            "the old triggers are out"
        )
    assert len(world.nodes[NODE].table) == 4


def test_duplicates_show_that_the_new_network_works_long_before_the_window_ends() -> None:
    world, a, b = talking()
    a.up("cellular", "203.0.113.101", use=False)
    world.run(0.2)
    stream(world, a, b, 60)
    a.use("cellular")
    began = world.now
    world.run(0.001)
    while a.proxy.network != "cellular":
        world.run(0.005)
    assert a.proxy.soft is not None
    while a.proxy.soft is not None:
        world.run(0.005)
    assert world.now - began < 0.25


def test_after_a_hard_move_the_old_address_gets_nothing_more() -> None:
    world, a, b = talking()
    old = a.outer["wifi"]
    a.down("wifi")
    a.up("cellular", "203.0.113.101")
    world.run(0.2)
    since = len(world.wire)
    stream(world, a, b, 20)
    world.run(0.5)
    assert not [one for one in world.wire[since:] if one[2] == old]
    assert len(a.got()) == 20


def test_flows_go_on_within_two_round_trips_and_100_ms_of_the_later_address() -> None:
    for delay in (0.001, 0.02, 0.1):
        world, a, b = talking(delay)
        stream(world, a, b, 400)
        at = world.now
        for host, lost, found in ((a, 0.1, 0.2), (b, 0.15, 0.4)):
            world.at(lost, partial(host.down, "wifi"))
            world.at(found, partial(host.up, "cellular", f"203.0.113.{101 if host is a else 102}"))
        b.delivered_at.clear()
        world.run(2.5)
        after = [when for when in b.delivered_at if when > at + 0.4]
        assert after[0] - (at + 0.4) <= 2 * 4 * delay + 0.1, delay


def test_both_ask_for_what_may_have_been_lost() -> None:
    world, a, b = talking()
    a.down("wifi")
    a.up("cellular", "203.0.113.101")
    world.run(0.5)
    assert SendAgain(b.home) in a.told
    assert SendAgain(a.home) in b.told


def test_a_network_that_dies_silently_is_told_and_the_move_from_it_is_hard() -> None:
    world, a, b = talking()
    a.up("cellular", "203.0.113.101", use=False)
    world.run(0.2)
    world.dead.add(a.outer["wifi"])
    stream(world, a, b, 200)
    began = world.now
    while not a.of(PathSilent):
        world.run(0.01)
        assert world.now - began < 0.8
    a.use("cellular")
    assert a.proxy.network == "cellular", "at once"
    b.got()
    world.run(0.2)
    assert b.got()
    world.run(1.0)
    world.dead.clear()
    world.run(3.0)
    again = a.of(PathWorks)[-1]
    assert isinstance(again, PathWorks)
    assert (again.path, again.again) == ("wifi", True)


def test_a_soft_move_to_a_network_whose_node_does_not_answer_is_given_up() -> None:
    world, a, b = talking()
    a.up("cellular", "203.0.113.101", use=False)
    world.run(0.2)
    world.dead.add(a.outer["cellular"])
    a.use("cellular")
    for _ in range(8):
        a.send(b, "still")
        world.run(1.0)
    assert MoveFailed("cellular") in a.told
    assert a.proxy.network == "wifi"
    assert b.got() == ["still"] * 8


def test_a_network_without_any_answer_is_blocked() -> None:
    world = RoamWorld()
    a = world.roamer("a")
    a.up("wifi", "198.51.100.1")
    world.dead.add(a.outer["wifi"])
    world.run(4.0)
    assert a.of(PathBlocked) == [PathBlocked("wifi", "no rendezvous node answers")]


def test_losing_the_new_network_in_the_middle_of_a_soft_move_leaves_the_old_one_in_use() -> None:
    world, a, b = talking()
    a.up("cellular", "203.0.113.101", use=False)
    world.run(0.2)
    a.use("cellular")
    world.run(0.05)
    a.down("cellular")
    world.run(0.5)
    b.send(a, "there?")
    world.run(0.5)
    assert a.got() == ["there?"]
    assert a.proxy.network == "wifi"


def test_without_any_network_packets_wait_and_leave_with_the_next_one() -> None:
    world, a, b = talking()
    a.down("wifi")
    a.send(b, "later")
    world.run(60.0)
    assert not b.got()
    a.up("cellular", "203.0.113.101")
    world.run(1.0)
    assert b.got() == ["later"]


def test_a_trigger_is_never_removed_without_saying_which_address() -> None:
    """Zeros would mean the sender's own: a removal sent over the new network would undo the move."""
    world, a, _ = talking()
    since = len(world.wire)
    a.down("wifi")
    a.up("cellular", "203.0.113.101")
    world.run(1.0)
    removals = [
        message for data, _, to in world.wire[since:] if to == NODE and isinstance(message := parse(data), Request)
        and message.kind == REMOVE
    ]  # fmt: skip
    assert removals
    assert all(one.old is not None and one.old.address == "198.51.100.1" for one in removals)


def test_a_network_that_goes_and_comes_at_once_is_another_one_with_another_port() -> None:
    """The triggers of its old socket stand still, and lead nowhere: they must not be taken for the new one's."""
    world, a, b = talking()
    a.down("wifi")
    a.outer["wifi"] = Endpoint("198.51.100.1", 4001)
    a.do(a.proxy.open_path("wifi", world.now))
    a.use("wifi")
    world.run(0.3)
    b.send(a, "found?")
    world.run(0.3)
    assert a.got() == ["found?"]
    assert len(world.nodes[NODE].table) == 4, "and the old ones are out"


def test_a_nat_that_gives_another_port_is_noticed_within_seconds_not_at_the_next_refresh() -> None:
    world, a, b = talking()
    world.run(2.0)
    a.outer["wifi"] = Endpoint("198.51.100.1", 4444)
    for number in range(120):
        world.at(number * 0.1, partial(a.send, b, f"{number}"))
        world.at(number * 0.1, partial(b.send, a, f"{number}"))
    world.run(9.0)
    a.got()
    world.run(1.0)
    assert a.got()


def test_what_both_ask_for_after_a_move_is_asked_for_again_until_something_is_heard() -> None:
    world, a, b = talking()
    for host, address in ((a, "203.0.113.101"), (b, "203.0.113.102")):
        host.told.clear()
        host.down("wifi")
        host.up("cellular", address)
    while not (a.of(Moved) and b.of(Moved)):
        world.run(0.005)
    world.loss = 1.0
    world.run(0.05)
    world.loss = 0.0
    assert not [peer for host in (a, b) for peer in host.proxy.by_home.values() if peer.ask_at is None]
    for host in (a, b):
        host.told.clear()
    world.run(0.2)
    assert a.of(SendAgain)
    assert b.of(SendAgain)
    assert not [peer for host in (a, b) for peer in host.proxy.by_home.values() if peer.ask_at is not None]


def test_who_asks_too_soon_for_what_was_sent_last_waits_for_it() -> None:
    world, a, b = talking()
    (peer,) = b.proxy.by_home.values()
    for _ in range(3):
        a.do(a.proxy.say(next(iter(a.proxy.by_home.values())), bytes(ProxyHeader(again=True)), world.now))
        world.run(0.03)
    assert len(b.of(SendAgain)) == 1
    world.run(0.1)
    assert len(b.of(SendAgain)) == 2
    assert peer.again_due is None
