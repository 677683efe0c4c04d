"""What else must hold between hosts and their anchor, whole: leases, secrets, refusals, isolation."""

from msgspec.structs import replace

from sojourn.model import Endpoint
from sojourn.packet.ip import udp_packet
from sojourn.sip.registrar import Limits
from sojourn.upmt.anchor import LINGER, SubscriberChanged, SubscriberRemoved
from sojourn.upmt.association import RefreshWanted
from sojourn.upmt.commands import SendInner
from tests.harness.call import CORRESPONDENT, SPACING, Call, Fate
from tests.harness.fakenet import Wire
from tests.harness.pair import Laptop, World

NOTHING_LOST = (Fate(0, 0, SPACING), Fate(0, 0, SPACING))


def wires(host: int = 0) -> tuple[Wire, Wire]:
    return (
        Wire("wifi", delay=0.01, public=f"198.51.100.{10 + host}"),
        Wire("cellular", address="10.64.0.7", delay=0.03, public=f"198.51.100.{100 + host}"),
    )


def on_wifi(world: World, name: str = "laptop") -> Laptop:
    laptop = world.laptop(*wires(len(world.laptops)), name=name)
    laptop.plug("wifi")
    world.run(2.0)
    world.transcript.take()
    return laptop


def fates(call: Call) -> tuple[Fate, Fate]:
    return call.fate(up=True), call.fate(up=False)


def call_of(world: World, laptop: Laptop, seconds: float, port: int = 4000) -> Call:
    call = Call(world, laptop, port)
    call.talk(seconds)
    world.run(0.5)
    call.mark()
    return call


# Secrets.


def test_a_refresh_gives_a_new_secret_and_the_old_one_is_erased_when_the_new_one_is_used() -> None:
    world = World()
    laptop = on_wifi(world)
    call = call_of(world, laptop, 4.0)
    world.run(395.0)
    call.mark()
    call.talk(10.0)
    world.run(20.0)
    assert "anchor: laptop refreshed as 10.201.0.2" in world.transcript.take()
    assert [secret.generation for secret in world.anchor.records["laptop"].secrets] == [2]
    assert (call.fate(up=True).lost, call.fate(up=False).lost) == (0, 0)
    assert not world.anchor.data_path.forwarder.refused


def test_answers_that_get_lost_cost_no_packet() -> None:
    """The anchor has two secrets more than the host then."""
    world = World()
    laptop = on_wifi(world)
    call = call_of(world, laptop, 12.0)
    for _ in range(3):
        laptop.tell(RefreshWanted())
        world.run(0.035)
        for pipe in list(laptop.pipes.values()):
            pipe.break_off("lost")
        world.run(2.0)
    world.run(10.0)
    assert fates(call) == NOTHING_LOST
    assert not world.anchor.data_path.forwarder.refused


def test_ten_hours_of_refreshes_leave_no_connection_and_no_secret_behind() -> None:
    world = World()
    laptop = on_wifi(world)
    laptop.plug("cellular")
    for hour in range(10):
        network = ("wifi", "cellular")[hour % 2]
        laptop.unplug(network)
        world.run(1800.0)
        laptop.plug(network)
        world.run(1800.0)
    assert len(laptop.pipes) == len(world.anchor.pipes) == 1
    assert len(laptop.host.association._channels) == 1
    assert len(world.anchor.records["laptop"].secrets) == 1


# Refusals.


def test_a_wrong_secret_is_one_clear_line_and_nothing_is_tried_again() -> None:
    world = World()
    world.anchor.token("laptop")
    laptop = world.laptop(*wires(), secret="not the token's")
    laptop.plug("wifi")
    world.run(600.0)
    assert world.transcript.take() == [
        "laptop over wifi: REGISTER",
        "anchor over wifi: 401 Unauthorized",
        "laptop over wifi: REGISTER",
        "anchor over wifi: 403 Unknown user or wrong secret",
        "laptop: refused -: the anchor answered 403, Unknown user or wrong secret: join again with a token that the "
        "anchor still knows, or make a token for this host on the anchor: sojourn anchor token --name NAME",
    ]
    assert laptop.host.refused
    assert world.anchor.machine.refused["secret"] == 1


def test_a_token_that_another_terminal_has_used_is_refused_with_the_remedy() -> None:
    world = World()
    secret = world.anchor.token("laptop")
    first = world.laptop(*wires(0), secret=secret)
    first.plug("wifi")
    world.run(1.0)
    thief = world.laptop(*wires(1), secret=secret)
    thief.tid = "another-tid"
    thief.restart_control()
    thief.plug("wifi")
    world.run(1.0)
    assert "This token belongs to another terminal" in (thief.host.problem or "")
    assert "sojourn anchor token" in (thief.host.problem or "")


def test_a_revoked_host_is_cut_off_at_once_and_told_why() -> None:
    world = World()
    laptop = on_wifi(world)
    call = call_of(world, laptop, 60.0)
    record = world.anchor.records["laptop"]
    world.anchor.tell(SubscriberChanged(replace(record, revoked=True)))
    world.run(0.1)
    call.mark()
    world.run(30.0)
    assert call.fate(up=True).lost > 1000
    assert call.fate(up=False).lost > 1000
    assert world.anchor.records["laptop"].vipa is None
    assert world.anchor.records["laptop"].revoked
    assert "Unknown user or wrong secret" in (laptop.host.problem or "")


def test_a_revoked_host_that_is_idle_is_told_at_once_in_every_tunnel_and_asks_once() -> None:
    world = World()
    laptop = on_wifi(world)
    laptop.plug("cellular")
    world.run(20.0)
    world.transcript.take()
    world.anchor.tell(SubscriberChanged(replace(world.anchor.records["laptop"], revoked=True)))
    world.run(0.5)
    assert "Unknown user or wrong secret" in (laptop.host.problem or "")
    assert laptop.host.refused
    assert {held.state for held in laptop.host.networks.values()} == {"blocked"}
    told = world.transcript.take()
    world.run(300.0)
    assert sum(": REGISTER" in line for line in told) == 1
    assert not [line for line in world.transcript.take() if "REGISTER" in line or "refused" in line]


def test_a_host_that_was_removed_gives_its_address_back() -> None:
    world = World(pool="10.201.0.0/30")
    on_wifi(world, "one")
    world.anchor.tell(SubscriberRemoved("one"))
    two = on_wifi(world, "two")
    assert two.vipa == "10.201.0.2"


# Leases.


def test_a_host_that_leaves_gives_its_address_back() -> None:
    world = World(pool="10.201.0.0/30")
    one = on_wifi(world, "one")
    one.leave()
    world.run(1.0)
    assert one.left
    assert world.transcript.take() == [
        "one over wifi: REGISTER to leave",
        "anchor: one left as 10.201.0.2",
        "anchor over wifi: 200 OK",
    ]
    assert on_wifi(world, "two").vipa == "10.201.0.2"


def test_an_exhausted_pool_is_said_clearly_and_asked_again_later() -> None:
    world = World(pool="10.201.0.0/30")
    one = on_wifi(world, "one")
    two = world.laptop(*wires(1), name="two")
    two.plug("wifi")
    world.run(5.0)
    assert world.transcript.take()[-1] == (
        "two: refused -: the anchor answered 503, No free address: all 1 addresses of 10.201.0.0/30 are lent: "
        "enlarge `pool` in anchor.toml, or revoke hosts"
    )
    assert not two.host.refused
    one.leave()
    world.run(130.0)
    assert two.vipa == "10.201.0.2"


def test_a_lease_that_ran_out_stays_for_its_host_who_may_be_asleep() -> None:
    world = World()
    laptop = on_wifi(world)
    laptop.sleep(3600.0)
    world.run(5.0)
    assert laptop.vipa == "10.201.0.2"
    call = call_of(world, laptop, 2.0)
    world.run(3.0)
    assert fates(call) == NOTHING_LOST


def test_a_lease_that_ran_out_a_day_ago_ends() -> None:
    world = World(limits=Limits(60, 600, 3600))
    laptop = on_wifi(world)
    laptop.unplug("wifi")
    world.run(600.0 + LINGER - 10.0)
    assert world.anchor.records["laptop"].vipa == "10.201.0.2"
    world.run(20.0)
    assert world.anchor.records["laptop"].vipa is None
    assert not world.anchor.data_path.forwarder.associations
    laptop.plug("wifi")
    world.run(1.0)
    assert laptop.vipa == "10.201.0.2", "asked for again by its name, and still free"
    call = call_of(world, laptop, 2.0)
    world.run(3.0)
    assert fates(call) == NOTHING_LOST


def test_an_exhausted_pool_takes_back_what_ran_out_and_nothing_of_its_last_host_is_left() -> None:
    world = World(pool="10.201.0.0/30")
    one = on_wifi(world, "one")
    before = call_of(world, one, 1.0)
    world.run(2.0)
    one.unplug("wifi")
    world.run(700.0)
    two = on_wifi(world, "two")
    assert two.vipa == before.flow.local.address == "10.201.0.2"
    assert world.anchor.records["one"].vipa is None
    rows = world.anchor.data_path.forwarder.state(0.0).rows
    assert before.flow not in [row.flow for row in rows]
    call = call_of(world, two, 3.0, port=4002)
    world.run(1.0)
    one.plug("wifi")
    world.run(3.0)
    assert fates(call) == NOTHING_LOST
    assert "No free address" in (one.host.problem or "")


def test_a_host_whose_lease_went_to_another_gets_a_new_one_and_new_flows_pass() -> None:
    world = World(pool="10.201.0.0/29")
    laptop = on_wifi(world)
    world.anchor.tell(SubscriberChanged(world.anchor.records["laptop"]))
    record = world.anchor.records["laptop"]
    world.anchor.tell(SubscriberChanged(replace(record, revoked=True)))
    world.anchor.tell(SubscriberChanged(replace(world.anchor.records["laptop"], revoked=False)))
    other = on_wifi(world, "other")
    assert other.vipa != laptop.vipa
    world.run(30.0)
    call = call_of(world, laptop, 2.0)
    world.run(3.0)
    assert fates(call) == NOTHING_LOST


# Two hosts.


def test_a_second_host_is_kept_apart_from_the_first() -> None:
    world = World()
    one, two = on_wifi(world, "one"), on_wifi(world, "two")
    mine, theirs = call_of(world, one, 5.0), call_of(world, two, 5.0)
    one.plug("cellular")
    world.run(1.0)
    one.order("cellular")
    world.run(5.0)
    assert (mine.place(), theirs.place()) == (("cellular", "cellular"), ("wifi", "wifi"))
    for call in (mine, theirs):
        assert (call.fate(up=True).lost, call.fate(up=False).lost) == (0, 0)

    forged = udp_packet(Endpoint(one.vipa, 4000), CORRESPONDENT, b"not mine")
    two.data_path.submit([SendInner(two.tunnel("wifi"), forged)])
    two.order("wifi", flows=(mine.flow,))
    world.run(1.0)
    assert mine.place() == ("cellular", "cellular")
    refused = world.anchor.data_path.forwarder.refused
    assert refused == {"inner-vipa": 1}
    assert "1 unknown" in world.transcript.take()[-2]


def test_one_host_does_not_reach_another_by_its_virtual_address() -> None:
    world = World()
    one, two = on_wifi(world, "one"), on_wifi(world, "two")
    one.call(Endpoint(one.vipa, 4000), Endpoint(two.vipa, 22), b"hello")
    world.run(1.0)
    assert two.arrived == []
    assert world.anchor.arrived == []
    assert world.anchor.data_path.forwarder.refused == {"inner-destination": 1}
