"""Plain tunnels, both ends and everything between: set-up, handover, and what a network or an attacker does to them.

Mobile host and anchor are the real ones; the net is `tests.harness.fakenet`. Wi-Fi has a round trip of 20 ms,
cellular one of 60 ms.
"""

import pytest

from sojourn.model import Endpoint
from sojourn.packet.ip import udp_packet, udp_parts
from sojourn.upmt.commands import OpenTunnel
from tests.harness.call import CORRESPONDENT, SPACING, Call
from tests.harness.pair import Laptop, World
from tests.harness.scene import CELLULAR_RTT, WIFI_RTT, calls, cellular, told, wifi

SET_UP = 2 * WIFI_RTT
"""Challenge and proof."""
ELSEWHERE = Endpoint("192.0.2.66", 1900)


def associated(*networks: str, forgets_after: float = float("inf")) -> tuple[World, Laptop]:
    """Return a world of plain tunnels, with a laptop that is on these networks since some seconds."""
    world = World(plain=True)
    laptop = world.laptop(wifi(forgets_after=forgets_after), cellular(forgets_after=forgets_after))
    for name in networks:
        laptop.plug(name)
    world.run(3.0)
    world.transcript.take()
    return world, laptop


def refused(world: World) -> dict[str, int]:
    """Return what the anchor's data path refused, by reason."""
    return dict(world.anchor.data_path.forwarder.refused)


def test_a_plain_tunnel_is_set_up_by_challenge_and_proof_and_flows_move_by_request() -> None:
    world = World(plain=True)
    laptop = world.laptop(wifi(), cellular())
    laptop.plug("wifi")
    world.run(1.0)
    assert told(world)[:8] == [
        "laptop in wifi: MESSAGE TunnelRequest",
        "laptop: network wifi: wifi has 192.168.1.2",
        "laptop: handover wifi: a network is there",
        "anchor outside: 401 Unauthorized",
        "laptop in wifi: MESSAGE TunnelRequest, HandoverRequest 1: everything to wifi",
        "anchor in wifi: 200 TunnelResponse, HandoverResponse 1: nothing",
        "laptop: confirmed wifi: move 1",
        "laptop: works wifi: the anchor answers",
    ]
    assert laptop.host.lease is not None
    assert laptop.host.lease.secret is None, "nothing is sealed"
    laptop.plug("cellular")
    world.run(1.0)
    assert told(world)[-2:] == ["anchor in cellular: 200 TunnelResponse", "laptop: works cellular: the anchor answers"]
    out, in_ = calls(world, laptop, 3.0)
    laptop.order("cellular")
    world.run(3.0)
    assert told(world) == [
        "laptop: handover cellular: ordered by the user",
        "laptop in cellular: MESSAGE TunnelRequest, HandoverRequest 2: everything to cellular",
        "anchor in cellular: 200 TunnelResponse, HandoverResponse 2: 2 moved",
        "laptop: confirmed cellular: move 2",
    ]
    difference = (CELLULAR_RTT - WIFI_RTT) / 2
    for call in (out, in_):
        assert call.place() == ("cellular", "cellular")
        for up in (True, False):
            fate = call.fate(up=up)
            assert (fate.lost, fate.doubled) == (0, 0)
            assert fate.gap <= SPACING + difference + 0.001
    assert not any(node.forwarder.refused for node in world.net.nodes)


def test_data_alone_moves_nothing_at_the_anchor() -> None:
    world, laptop = associated("wifi", "cellular")
    call = Call(world, laptop)
    call.say(up=True)
    world.run(0.1)
    world.lose = 1000
    laptop.order("cellular")
    for _ in range(5):
        call.say(up=True)
        world.run(0.1)
    assert call.place() == ("cellular", "wifi"), "the request was lost, and packets prove nothing"
    world.lose = 0
    world.run(2.0)
    assert call.place() == ("cellular", "cellular")


def test_a_pulled_link_costs_a_moment_and_no_challenge() -> None:
    world, laptop = associated("wifi", "cellular")
    out, in_ = calls(world, laptop, 3.0)
    laptop.unplug("wifi")
    world.run(3.0)
    assert told(world)[2:] == [
        "laptop in cellular: MESSAGE TunnelRequest, HandoverRequest 2: everything to cellular",
        "anchor in cellular: 200 TunnelResponse, HandoverResponse 2: 2 moved",
        "laptop: confirmed cellular: move 2",
    ]
    for call in (out, in_):
        assert call.fate(up=True).gap <= SPACING + CELLULAR_RTT
        assert call.fate(up=False).gap <= SPACING + CELLULAR_RTT


def test_a_nat_that_rebinds_costs_the_silence_and_a_set_up() -> None:
    world, laptop = associated("wifi")
    out, in_ = calls(world, laptop, 5.0)
    laptop.wires["wifi"].rebind()
    world.run(4.0)
    assert [line for line in told(world) if "in wifi" in line or "outside" in line] == [
        "laptop in wifi: MESSAGE TunnelRequest",
        "anchor outside: 401 Unauthorized",
        "laptop in wifi: MESSAGE TunnelRequest",
        "anchor in wifi: 200 TunnelResponse",
    ]
    for call in (out, in_):
        assert call.place() == ("wifi", "wifi")
        for up in (True, False):
            assert call.fate(up=up).gap <= 0.2 + SET_UP + 2 * SPACING
    assert refused(world)["no-tunnel"] >= 5, "what came from the new address before it was proved"


def test_a_new_address_of_the_host_is_set_up_at_once() -> None:
    world, laptop = associated("wifi")
    out, in_ = calls(world, laptop, 5.0)
    laptop.readdress("wifi", "192.168.7.7", "198.51.100.44")
    world.run(4.0)
    for call in (out, in_):
        for up in (True, False):
            assert call.fate(up=up).gap <= SET_UP + 2 * SPACING
    assert refused(world) == {}


def test_a_silent_network_is_left_and_asked_again_and_again() -> None:
    world, laptop = associated("wifi", "cellular")
    out, in_ = calls(world, laptop, 60.0)
    laptop.wires["wifi"].dead = True
    world.run(10.0)
    for call in (out, in_):
        assert call.place() == ("cellular", "cellular")
        assert call.fate(up=False).gap <= 0.2 + SPACING + CELLULAR_RTT
    laptop.wires["wifi"].rebind()
    laptop.wires["wifi"].dead = False
    world.transcript.take()
    world.run(20.0)
    assert "anchor outside: 401 Unauthorized" in world.transcript.take()
    for call in (out, in_):
        assert call.place() == ("wifi", "wifi")
        assert call.fate(up=True).doubled == call.fate(up=False).doubled == 0


def test_flows_wait_ten_minutes_without_any_network_and_go_on_after_the_set_up() -> None:
    world, laptop = associated("wifi")
    out, in_ = calls(world, laptop, 3.0)
    world.run(5.0)
    laptop.unplug("wifi")
    for call in (out, in_):
        call.talk(590.0, spacing=1.0)
    world.run(600.0)
    for call in (out, in_):
        call.mark()
        call.say(up=True)
        call.say(up=False)
    laptop.wires["wifi"].rebind()
    back = world.net.now
    laptop.plug("wifi")
    world.run(1.0)
    for call in (out, in_):
        assert (call.fate(up=True).lost, call.fate(up=False).lost) == (0, 0), "the newest packet waited at each end"
        assert call.last(up=True) - back <= SET_UP + WIFI_RTT
        assert call.last(up=False) - back <= SET_UP + WIFI_RTT


def test_a_laptop_that_slept_behind_a_nat_that_forgot_it_goes_on_after_the_set_up() -> None:
    world, laptop = associated("wifi", "cellular", forgets_after=30.0)
    out, in_ = calls(world, laptop, 2.0)
    world.run(2.0)
    for call in (out, in_):
        call.talk(599.0, spacing=1.0, up=False)
    laptop.sleep(600.0)
    for call in (out, in_):
        call.mark()
        call.talk(5.0)
    awake = world.net.now
    world.run(6.0)
    for call in (out, in_):
        for up in (True, False):
            assert call.heard_after(awake, up=up) - awake <= SET_UP + WIFI_RTT
        assert call.place() == ("wifi", "wifi")


def test_set_up_and_handover_survive_the_loss_of_each_of_their_messages() -> None:
    for lost in range(1, 4):
        world = World(plain=True)
        laptop = world.laptop(wifi(), cellular())
        laptop.plug("wifi")
        while len(world.lost) < 1 and world.net.now < 1010:
            world.lose = int(sum(" in wifi" in line for _, line in world.transcript.lines) + 1 == lost)
            world.run(0.001)
        world.lose = 0
        world.run(3.0)
        assert len(world.lost) == 1
        assert [entry.reason for _, entry in laptop.entries("confirmed")] == ["move 1"], f"message {lost}"
        assert laptop.host.networks["wifi"].state == "works"


def test_a_network_that_appears_gets_tunnel_and_flows_by_one_message_after_the_challenge() -> None:
    world, laptop = associated("wifi")
    out, in_ = calls(world, laptop, 10.0)
    laptop.unplug("wifi")
    world.run(3.0)
    world.transcript.take()
    plugged = world.net.now
    laptop.plug("cellular")
    world.run(3.0)
    assert [line for line in told(world) if "cellular: MESSAGE" in line or "cellular: 200" in line] == [
        "laptop in cellular: MESSAGE TunnelRequest",
        "laptop in cellular: MESSAGE TunnelRequest, HandoverRequest 2: everything to cellular",
        "anchor in cellular: 200 TunnelResponse, HandoverResponse 2: 2 moved",
    ]
    ((confirmed, _),) = laptop.entries("confirmed")[-1:]
    assert confirmed - plugged <= 2 * CELLULAR_RTT + 0.01
    for call in (out, in_):
        assert call.place() == ("cellular", "cellular")


def test_a_network_where_no_answer_comes_is_blocked_and_works_later() -> None:
    world = World(plain=True)
    laptop = world.laptop(wifi(), cellular())
    laptop.plug("cellular")
    world.run(1.0)
    laptop.wires["wifi"].dead_down = True
    laptop.plug("wifi")
    world.run(5.0)
    ((_, blocked),) = laptop.entries("blocked")
    assert (blocked.network, blocked.reason) == ("wifi", "no answer from the anchor: UDP seems to be blocked")
    laptop.wires["wifi"].dead_down = False
    world.run(5.0)
    assert laptop.host.networks["wifi"].state == "works"


# Who is not the host.


def signed_requests(world: World) -> list[bytes]:
    """Note every proved TunnelRequest that reaches the anchor from now on."""
    seen: list[bytes] = []
    deliver = world.anchor.data_path.forwarder.from_outer

    def listen(datagram: bytes, source: Endpoint, now: float, *more: object) -> None:
        if b"Authorization: Digest" in datagram:
            seen.append(datagram)
        deliver(datagram, source, now, *more)  # type: ignore[arg-type]

    world.anchor.data_path.forwarder.from_outer = listen  # type: ignore[method-assign,assignment]
    return seen


def test_a_signed_request_is_worth_nothing_from_another_address() -> None:
    world, laptop = associated("wifi")
    seen = signed_requests(world)
    laptop.plug("cellular")
    world.run(2.0)
    here = world.anchor.data_path.forwarder.tunnels[laptop.tunnel("cellular")].outer
    world.transcript.take()
    for source in (ELSEWHERE, Endpoint(here.address if here else "", 1)):
        world.anchor.data_path.forwarder.from_outer(seen[0], source, world.net.now)
        world.run(1.0)
        assert world.transcript.take() == ["anchor outside: 401 Unauthorized"], "asked to prove itself there"
    assert world.anchor.data_path.forwarder.tunnels[laptop.tunnel("cellular")].outer == here
    assert world.anchor.machine.refused["stale"] == 2


def test_a_forged_packet_from_another_address_changes_nothing() -> None:
    world, laptop = associated("wifi", "cellular")
    call = Call(world, laptop)
    call.say(up=True)
    world.run(0.1)
    arrived, state = len(world.anchor.arrived), world.anchor.data_path.forwarder.state(0.0)
    forged = udp_packet(call.flow.local, CORRESPONDENT, b"forged")
    world.anchor.data_path.forwarder.from_outer(forged, ELSEWHERE, world.net.now)
    world.run(1.0)
    assert len(world.anchor.arrived) == arrived
    assert world.anchor.data_path.forwarder.state(0.0).rows == state.rows
    assert refused(world) == {"no-tunnel": 1}


def test_an_answer_that_nobody_proved_is_ignored() -> None:
    world, laptop = associated("wifi", "cellular")
    world.lose = 1
    laptop.order("cellular")
    (request,) = world.lost
    vipa, anchor, sent = udp_parts(request.packet)
    head, _, _ = sent.partition(b"\r\nMax-Forwards")
    _, _, rest = head.partition(b"\r\n")
    lines = [line for line in sent.split(b"\r\n") if line.startswith((b"From", b"To", b"Call-ID", b"CSeq"))]
    body = b'{"mType":"HandoverResponse","move":2,"results":[{"counts":{"moved":1}}]}'
    length = b"Content-Length: %d" % len(body)
    answer = b"\r\n".join([b"SIP/2.0 200 OK", rest, *lines, length, b"", body])
    for _ in range(3):
        laptop.data_path.forwarder.from_outer(
            udp_packet(anchor, vipa, answer), Endpoint("203.0.113.1", 1800), world.net.now, request.tunnel
        )
        world.run(0.01)
    assert laptop.host.sender.pending() == 1
    assert [entry.reason for _, entry in laptop.entries("confirmed")] == ["move 1"]
    world.run(1.0)
    assert [entry.reason for _, entry in laptop.entries("confirmed")] == ["move 1", "move 2"], "the true answer came"


def test_an_anchor_without_plain_tunnels_says_so_and_what_to_do() -> None:
    world = World(plain=True)
    world.anchor.machine.plain.allowed = False
    laptop = world.laptop(wifi())
    laptop.plug("wifi")
    world.run(5.0)
    assert laptop.host.problem == (
        "This anchor has no plain tunnels: set plain_tunnels = true in anchor.toml, or tunnels = 'sealed' in host.toml"
    )
    assert laptop.host.refused
    assert not laptop.data_path.sockets


# Restarts.


@pytest.mark.parametrize("who", ["anchor", "laptop"])
def test_a_control_that_restarts_interrupts_no_plain_tunnel(who: str) -> None:
    world, laptop = associated("wifi", "cellular")
    out, in_ = calls(world, laptop, 9.0)
    if who == "anchor":
        world.anchor.restart_control()
    else:
        laptop.restart_control()
    world.run(4.0)
    laptop.order("cellular")
    world.run(6.0)
    for call in (out, in_):
        assert call.place() == ("cellular", "cellular")
        for up in (True, False):
            assert (call.fate(up=up).lost, call.fate(up=up).doubled) == (0, 0)


def test_an_anchor_that_lost_its_tunnels_gets_them_back() -> None:
    world, laptop = associated("wifi")
    out, in_ = calls(world, laptop, 9.0)
    forwarder = world.anchor.data_path.forwarder
    (order,) = [order for order in forwarder.state(0.0).tunnels if isinstance(order, OpenTunnel)]
    forwarder.handle(OpenTunnel(order.association, order.tunnel, "", order.local, ELSEWHERE, sealed=False), 0.0)
    world.run(5.0)
    for call in (out, in_):
        assert call.fate(up=True).gap <= 0.3 + SET_UP
    assert forwarder.tunnels[order.tunnel].outer == order.remote


def test_path_mtu_is_found_in_a_plain_tunnel_too() -> None:
    world = World(plain=True)
    wire = wifi()
    wire.mtu = 1400
    laptop = world.laptop(wire)
    laptop.plug("wifi")
    world.run(20.0)
    for node in (laptop.data_path, world.anchor.data_path):
        assert node.forwarder.tunnels[laptop.tunnel("wifi")].inner_mtu == 1400 - 28
