"""Handover signals on their way: lost, late, pending on a tunnel that died, and ten thousand flows in one.

Host and anchor whole, as in test_handover.py.
"""

import pytest

from sojourn.model import UDP, Endpoint, Flow
from sojourn.policy.match import parse
from tests.harness.call import Call
from tests.harness.scene import CELLULAR_RTT, WIFI_RTT, associated, calls, told


def test_a_signal_that_gets_lost_is_sent_again_and_carried_out_once() -> None:
    world, laptop = associated("wifi", "cellular")
    call = Call(world, laptop)
    call.say(up=True)
    world.run(1.0)
    world.lose = 1
    laptop.order("cellular")
    world.run(0.13)
    world.lose = 1
    world.run(1.0)
    assert told(world) == [
        "laptop: handover cellular: ordered by the user",
        "laptop in cellular: MESSAGE HandoverRequest 2: everything to cellular (lost)",
        "laptop in cellular: MESSAGE HandoverRequest 2: everything to cellular",
        "anchor in cellular: 200 HandoverResponse 2: 1 moved (lost)",
        "laptop in cellular: MESSAGE HandoverRequest 2: everything to cellular",
        "anchor in cellular: 200 HandoverResponse 2: 1 moved",
        "laptop: confirmed cellular: move 2",
    ]
    assert call.place() == ("cellular", "cellular")
    first, second = 2 * CELLULAR_RTT, 4 * CELLULAR_RTT
    (ordered, _), (confirmed, _) = laptop.entries("handover")[-1], laptop.entries("confirmed")[-1]
    assert confirmed - ordered == pytest.approx(first + second + CELLULAR_RTT, abs=0.01)


def test_a_signal_that_is_pending_on_a_dead_tunnel_goes_again_on_the_new_one_with_its_number() -> None:
    world, laptop = associated("wifi", "cellular")
    out, in_ = calls(world, laptop, 5.0)
    laptop.wires["wifi"].dead = True
    laptop.order("wifi", flows=(out.flow,))
    world.run(5.0)
    said = [line for line in told(world) if "in cellular" in line]
    assert said == [
        "laptop in cellular: MESSAGE HandoverRequest 3: everything to cellular",
        "anchor in cellular: 200 HandoverResponse 3: 2 moved",
    ]
    laptop.order("wifi", match=parse("-p udp --sport 4002"))
    world.run(1.0)
    laptop.wires["wifi"].dead, laptop.wires["cellular"].dead = True, False
    world.run(1.0)
    assert in_.place() == ("cellular", "cellular")


def test_an_old_move_number_is_stale() -> None:
    world, laptop = associated("wifi", "cellular")
    call = Call(world, laptop)
    call.say(up=True)
    world.run(1.0)
    world.lose = 1
    laptop.order("cellular")
    laptop.order("wifi")
    world.run(1.0)
    assert call.place() == ("wifi", "wifi")
    world.transcript.take()
    laptop.data_path.submit(world.lost)
    world.run(1.0)
    assert told(world) == ["anchor in cellular: 200 HandoverResponse 2: 1 stale"]
    assert call.place() == ("wifi", "wifi")


@pytest.mark.parametrize("as_list", [False, True])
def test_ten_thousand_flows_move_by_one_request(as_list: bool) -> None:
    world, laptop = associated("wifi", "cellular")
    remote = Endpoint("93.184.216.34", 80)
    flows = tuple(Flow(UDP, Endpoint(laptop.vipa, port), remote) for port in range(10000, 20000))
    for flow in flows:
        laptop.call(flow.local, remote, b"hello")
    other = Call(world, laptop)
    other.say(up=True)
    world.run(1.0)
    ordered = world.net.now
    if as_list:
        laptop.order("cellular", flows=flows)
    else:
        laptop.order("cellular", match=parse("-p udp -d 93.184.216.34 --dport 80"))
    world.run(5.0)
    what = "10000 flows" if as_list else "-p 17 -d 93.184.216.34/32 --dport 80:80"
    way = "over wifi" if as_list else "in cellular"
    assert [line for line in world.transcript.take() if "Handover" in line] == [
        f"laptop {way}: MESSAGE HandoverRequest 2: {what} to cellular",
        f"anchor {way}: 200 HandoverResponse 2: 10000 moved",
    ]
    confirmed, entry = laptop.entries("confirmed")[-1]
    assert confirmed - ordered <= (WIFI_RTT if as_list else CELLULAR_RTT) + 0.002
    assert entry.details["moved"] == 10000
    assert other.place() == ("wifi", "wifi")
    cellular_id = laptop.tunnel("cellular")
    for data_path in (laptop.data_path, world.anchor.data_path):
        rows = data_path.forwarder.state(0.0).rows
        assert {row.flow for row in rows if row.tunnel == cellular_id} == set(flows)


def test_a_list_of_flows_waits_for_a_connection_that_the_anchor_knows() -> None:
    world, laptop = associated("wifi", "cellular")
    remote = Endpoint("93.184.216.34", 80)
    flows = tuple(Flow(UDP, Endpoint(laptop.vipa, port), remote) for port in range(10000, 10100))
    for flow in flows:
        laptop.call(flow.local, remote, b"hello")
    for pipe in list(laptop.pipes.values()):
        pipe.break_off("the anchor closed the connection")
    laptop.order("cellular", flows=flows)
    world.run(5.0)
    said = [line for line in world.transcript.take() if " over " in line]
    assert said[-4:] == [
        "laptop over cellular: REGISTER",
        "anchor over cellular: 200 OK",
        "laptop over cellular: MESSAGE HandoverRequest 2: 100 flows to cellular",
        "anchor over cellular: 200 HandoverResponse 2: 100 moved",
    ]


def test_a_call_that_comes_in_while_the_request_is_on_its_way_does_not_stay_behind() -> None:
    world, laptop = associated("wifi", "cellular")
    laptop.order("cellular")
    call = Call(world, laptop, 4002, begun_by_correspondent=True)
    call.say(up=False)
    world.run(1.0)
    call.say(up=True)
    world.run(1.0)
    assert call.place() == ("cellular", "cellular")
    laptop.wires["wifi"].dead = True
    call.talk(5.0)
    world.run(6.0)
    assert (call.fate(up=True).lost, call.fate(up=False).lost) == (0, 0)
