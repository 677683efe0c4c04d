"""A laptop moves, and nothing breaks: the path of src/sojourn/__init__.py as its transcript.

Mobile host and anchor are the real ones, control and data path both; the net between them is
`tests.harness.fakenet`, and its time is virtual: minutes pass in milliseconds. Wi-Fi has a round
trip of 20 ms, cellular one of 60 ms.
"""

import pytest

from tests.harness.call import SPACING, Fate
from tests.harness.pair import World
from tests.harness.scene import (
    CELLULAR_RTT,
    WIFI_RTT,
    associated,
    calls,
    cellular,
    nothing_was_refused,
    told,
    upkeep,
    wifi,
)

# The path.


def test_a_laptop_associates_and_moves_from_wifi_to_cellular() -> None:
    world = World()
    laptop = world.laptop(wifi(), cellular())

    laptop.plug("wifi")
    world.run(1.0)
    assert world.transcript.take() == [
        "laptop over wifi: REGISTER",
        "anchor over wifi: 401 Unauthorized",
        "laptop over wifi: REGISTER",
        "anchor: laptop associated as 10.201.0.2",
        "anchor over wifi: 200 OK",
        "laptop: network wifi: wifi has 192.168.1.2",
        "laptop: handover wifi: a network is there",
        "laptop in wifi: MESSAGE HandoverRequest 1: everything to wifi",
        "anchor in wifi: 200 HandoverResponse 1: nothing",
        "laptop: works wifi: the anchor answers",
        "laptop: confirmed wifi: move 1",
    ]

    laptop.plug("cellular")
    world.run(1.0)
    assert world.transcript.take() == [
        "laptop: network cellular: cellular has 10.64.0.7",
        "laptop: works cellular: the anchor answers",
    ], "make before break: the second network is ready, and nothing has moved"

    out, in_ = calls(world, laptop, 3.0)
    assert out.place() == in_.place() == ("wifi", "wifi")
    laptop.order("cellular")
    world.run(3.0)
    assert world.transcript.take() == [
        "laptop: handover cellular: ordered by the user",
        "laptop in cellular: MESSAGE HandoverRequest 2: everything to cellular",
        "anchor in cellular: 200 HandoverResponse 2: 2 moved",
        "laptop: confirmed cellular: move 2",
    ]
    assert out.place() == in_.place() == ("cellular", "cellular")
    for call in (out, in_):
        assert (call.fate(up=True).lost, call.fate(up=False).lost) == (0, 0)
        assert (call.fate(up=True).doubled, call.fate(up=False).doubled) == (0, 0)
        difference = (CELLULAR_RTT - WIFI_RTT) / 2
        assert call.fate(up=True).gap <= SPACING + difference + 0.001
        assert call.fate(up=False).gap <= SPACING + 2 * difference + 0.021
    assert nothing_was_refused(world)


def test_a_link_that_is_pulled_costs_a_moment() -> None:
    world, laptop = associated("wifi", "cellular")
    out, in_ = calls(world, laptop, 3.0)
    laptop.unplug("wifi")
    world.run(3.0)
    assert told(world) == [
        "laptop: gone wifi: no carrier",
        "laptop: handover cellular: wifi: no carrier",
        "laptop in cellular: MESSAGE HandoverRequest 2: everything to cellular",
        "anchor in cellular: 200 HandoverResponse 2: 2 moved",
        "laptop: confirmed cellular: move 2",
    ]
    for call in (out, in_):
        assert call.place() == ("cellular", "cellular")
        assert call.fate(up=True).gap <= SPACING + CELLULAR_RTT
        assert call.fate(up=False).gap <= SPACING + CELLULAR_RTT
        assert call.fate(up=True).lost <= 1
        assert call.fate(up=False).lost * SPACING <= CELLULAR_RTT / 2 + WIFI_RTT


def test_the_association_follows_the_laptop_to_the_network_that_works() -> None:
    world, laptop = associated("wifi", "cellular")
    laptop.unplug("wifi")
    world.run(3.0)
    assert upkeep(world) == [
        "laptop over cellular: REGISTER",
        "anchor over cellular: 401 Unauthorized",
        "laptop over cellular: REGISTER",
        "anchor: laptop refreshed as 10.201.0.2",
        "anchor over cellular: 200 OK",
    ]
    world.run(300.0)
    assert world.transcript.take() == [], "and stays there: nobody ends the connection of a stranger"


def test_a_network_that_dies_silently_is_left_as_soon_as_it_owes_an_answer() -> None:
    world, laptop = associated("wifi", "cellular")
    out, in_ = calls(world, laptop, 3.0)
    laptop.wires["wifi"].dead = True
    world.run(3.0)
    said = told(world)
    assert said[0].startswith("laptop: silent wifi: no answer for ")
    assert said[1].startswith("laptop: handover cellular: wifi: no answer for ")
    assert said[2:] == [
        "laptop in cellular: MESSAGE HandoverRequest 2: everything to cellular",
        "anchor in cellular: 200 HandoverResponse 2: 2 moved",
        "laptop: confirmed cellular: move 2",
    ]
    for call in (out, in_):
        assert call.place() == ("cellular", "cellular")
        assert call.fate(up=True).gap <= 0.2 + SPACING + CELLULAR_RTT
        assert call.fate(up=False).gap <= 0.2 + SPACING + CELLULAR_RTT


def test_the_better_network_is_returned_to_after_it_worked_for_five_seconds() -> None:
    world, laptop = associated("wifi", "cellular")
    out, in_ = calls(world, laptop, 30.0)
    laptop.wires["wifi"].dead = True
    world.run(5.0)
    world.transcript.take()
    laptop.wires["wifi"].dead = False
    world.run(20.0)
    assert told(world) == [
        "laptop: recovered wifi: answers again",
        "laptop: handover wifi: wifi is preferred to cellular",
        "laptop in wifi: MESSAGE HandoverRequest 3: everything to wifi",
        "anchor in wifi: 200 HandoverResponse 3: 2 moved",
        "laptop: confirmed wifi: move 3",
    ]
    (recovered, _), (back, _) = laptop.entries("recovered")[-1], laptop.entries("handover")[-1]
    assert back - recovered == pytest.approx(5.0, abs=0.01)
    for call in (out, in_):
        assert call.place() == ("wifi", "wifi")
        assert call.fate(up=True).doubled == call.fate(up=False).doubled == 0


# Ten minutes.


def test_flows_wait_ten_minutes_without_any_network_and_go_on_at_once() -> None:
    world, laptop = associated("wifi", "cellular")
    out, in_ = calls(world, laptop, 3.0)
    laptop.unplug("cellular")
    world.run(5.0)
    laptop.unplug("wifi")
    world.run(600.0)
    for call in (out, in_):
        call.mark()
        call.say(up=True)
        call.say(up=False)
    world.transcript.take()
    back = world.net.now
    laptop.plug("wifi")
    world.run(1.0)
    assert told(world) == [
        "laptop: network wifi: wifi has 192.168.1.2",
        "laptop: handover wifi: wifi: no carrier",
        "laptop in wifi: MESSAGE HandoverRequest 2: everything to wifi",
        "anchor in wifi: 200 HandoverResponse 2: 2 unchanged",
        "laptop: works wifi: the anchor answers",
        "laptop: confirmed wifi: move 2",
    ]
    for call in (out, in_):
        assert (call.fate(up=True).lost, call.fate(up=False).lost) == (0, 0), "the newest packet waited at each end"
        assert call.last(up=True) - back <= WIFI_RTT
        assert call.last(up=False) - back <= 1.5 * WIFI_RTT


def test_a_laptop_that_slept_ten_minutes_goes_on_behind_a_nat_that_forgot_it() -> None:
    world, laptop = associated("wifi", "cellular", forgets_after=30.0)
    out, in_ = calls(world, laptop, 2.0)
    world.run(2.0)
    for call in (out, in_):
        call.talk(599.0, spacing=1.0, up=False)
    world.transcript.take()
    laptop.sleep(600.0)
    assert told(world) == []
    for call in (out, in_):
        call.mark()
        call.talk(5.0)
    awake = world.net.now
    world.run(6.0)
    assert told(world) == [
        "laptop: works wifi: the anchor answers",
        "laptop: works cellular: the anchor answers",
    ]
    for call in (out, in_):
        assert (call.fate(up=True).lost, call.fate(up=False).lost) == (0, 0)
        assert call.heard_after(awake, up=False) - awake <= 1.5 * WIFI_RTT, "the newest packet waited at the anchor"
        assert call.place() == ("wifi", "wifi")


def test_both_networks_silent_and_the_worse_one_back_after_ten_minutes() -> None:
    world, laptop = associated("wifi", "cellular")
    out, in_ = calls(world, laptop, 1.0)
    for call in (out, in_):
        call.talk(700.0, spacing=1.0)
    laptop.wires["wifi"].dead = laptop.wires["cellular"].dead = True
    world.run(600.0)
    for call in (out, in_):
        call.mark()
    back = world.net.now
    laptop.wires["cellular"].dead = False
    world.run(10.0)
    (recovered, _), (confirmed, _) = laptop.entries("recovered")[-1], laptop.entries("confirmed")[-1]
    assert recovered - back <= 1.0 + 2 * CELLULAR_RTT, "silent for minutes: asked every second"
    assert confirmed - recovered <= 2 * CELLULAR_RTT, "the signal that was pending did not wait for its timer"
    for call in (out, in_):
        assert call.heard_after(back, up=True) - recovered <= CELLULAR_RTT
        assert call.heard_after(back, up=False) - recovered <= 2 * CELLULAR_RTT
        assert call.fate(up=True).lost <= 1, "one packet a second: of two that wait the newer one is kept"
        assert call.fate(up=False).lost <= 1
        assert call.place() == ("cellular", "cellular")


# Restarts.


def test_the_anchors_control_restarts_from_its_records_and_no_flow_notices() -> None:
    world, laptop = associated("wifi", "cellular")
    out, in_ = calls(world, laptop, 7.0)
    world.anchor.restart_control()
    world.run(5.0)
    assert upkeep(world) == [
        "anchor: control restarted",
        "laptop over cellular: REGISTER",
        "anchor over cellular: 401 Unauthorized",
        "laptop over cellular: REGISTER",
        "anchor: laptop refreshed as 10.201.0.2",
        "anchor over cellular: 200 OK",
    ]
    laptop.unplug("wifi")
    world.run(2.0)
    assert told(world)[-2:] == [
        "anchor in cellular: 200 HandoverResponse 2: 2 moved",
        "laptop: confirmed cellular: move 2",
    ]
    for call in (out, in_):
        assert call.fate(up=True).gap <= SPACING + CELLULAR_RTT
        assert call.fate(up=False).gap <= SPACING + CELLULAR_RTT
        assert call.fate(up=True).lost <= 1


def test_a_laptops_control_restarts_adopts_its_data_path_and_uses_higher_move_numbers() -> None:
    world, laptop = associated("wifi", "cellular")
    out, in_ = calls(world, laptop, 6.0)
    assert laptop.state.move == 1000, "numbers are stored by the thousand, before the first of them is used"
    laptop.restart_control()
    world.run(1.0)
    assert told(world) == [
        "laptop: control restarted",
        "laptop: network wifi: wifi has 192.168.1.2",
        "laptop: handover wifi: a network is there",
        "laptop in wifi: MESSAGE HandoverRequest 1001: everything to wifi",
        "laptop: network cellular: cellular has 10.64.0.7",
        "laptop: works wifi: the anchor answers",
        "laptop: works cellular: the anchor answers",
        "anchor in wifi: 200 HandoverResponse 1001: 2 unchanged",
        "laptop: confirmed wifi: move 1001",
    ]
    world.run(6.0)
    for call in (out, in_):
        assert call.fate(up=True) == call.fate(up=False) == Fate(lost=0, doubled=0, gap=SPACING)
