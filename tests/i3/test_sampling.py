"""A nearer node is found when the way to the one in use gets longer, after a move, now and then; and nothing flaps."""

from functools import partial

from sojourn.i3.packet import GROUP_BYTES, PROBE
from sojourn.i3.sampling import EVERY, HOLD
from sojourn.model import Endpoint
from tests.i3.roam_world import Roamer, RoamWorld
from tests.i3.test_roam_paths import stream

ONE, TWO, THREE = (Endpoint(f"203.0.113.{last}", 1801) for last in (1, 2, 3))


def together(*, alone: bool = False, **farther: float) -> tuple[RoamWorld, Roamer, Roamer]:
    """Return two hosts and three nodes that share their triggers (unless `alone`); both begin at the first."""
    world = RoamWorld(nodes=(ONE, TWO, THREE))
    for node in world.nodes.values():
        node.group = bytes(GROUP_BYTES) if alone else b"t" * GROUP_BYTES
        node.table = world.nodes[ONE].table
        node._challenger = world.nodes[ONE]._challenger
    world.farther = {{"one": ONE, "two": TWO, "three": THREE}[name]: by for name, by in farther.items()}
    a, b = world.pair()
    stream(world, a, b, 4, 0.1)
    world.run(1.0)
    return world, a, b


def talk(world: RoamWorld, a: Roamer, b: Roamer, seconds: float) -> None:
    """Both send ten packets a second; all arrive."""
    a.got(), b.got()
    packets = round(seconds * 10)
    stream(world, a, b, packets, 0.1)
    world.run(seconds + 1.0)
    assert len(a.got()) == len(b.got()) == packets


def test_after_a_move_the_nearest_node_is_taken_and_nothing_is_lost_by_it() -> None:
    world, a, b = together(one=0.05, three=0.02)
    talk(world, a, b, 8.0)
    assert (a.proxy.client.node, a.proxy.sampler.changes) == (TWO, 1)
    prober = a.proxy.prober("wifi")
    assert prober is not None
    assert prober.rtt.srtt is not None
    assert prober.rtt.srtt < 0.03, "measured to the new node"


def test_a_rise_of_the_round_trip_is_a_reason_to_look_and_a_small_or_short_one_is_none() -> None:
    world, a, b = together(two=0.01, three=0.01)
    talk(world, a, b, 20.0)
    assert a.proxy.client.node == ONE, "the nearest one stays"
    world.farther[ONE] = 0.004
    talk(world, a, b, 20.0)
    assert a.proxy.client.node == ONE, "a little longer"
    world.farther[ONE] = 0.1
    talk(world, a, b, 3.0)
    world.farther[ONE] = 0.0
    talk(world, a, b, 30.0)
    assert a.proxy.client.node == ONE, "a moment longer"
    world.farther[ONE] = 0.1
    talk(world, a, b, 30.0)
    assert a.proxy.client.node in (TWO, THREE)
    assert a.proxy.sampler.changes == 1


def test_every_ten_minutes_all_nodes_are_asked_and_a_nearer_one_is_found() -> None:
    world, a, b = together(two=0.02, three=0.02)
    talk(world, a, b, 10.0)
    assert a.proxy.client.node == ONE
    world.farther = {ONE: 0.02, TWO: 0.0, THREE: 0.02}
    a.proxy.sampler._least = None  # the way got longer so slowly that nothing rose
    world.run(EVERY + 10.0)
    assert a.proxy.client.node == TWO
    asked = [to for data, source, to in world.wire if data[0] == PROBE and to == THREE and source in a.outer.values()]
    assert 0 < len(asked) < 20


def test_two_nodes_that_take_turns_in_being_near_are_not_followed_to_and_fro() -> None:
    world, a, b = together(three=0.5)
    for second in range(0, 600, 20):
        near = second // 20 % 2
        world.at(float(second), partial(world.farther.update, {ONE: 0.08 * near, TWO: 0.08 * (1 - near)}))
    a.got(), b.got()
    stream(world, a, b, 6000, 0.1)
    world.run(602.0)
    assert a.proxy.sampler.changes <= 5, f"of 30 turns, with {HOLD:g} s between the first two changes"
    assert len(a.got()) == len(b.got()) == 6000


def test_nodes_that_share_no_triggers_are_not_changed_between() -> None:
    world, a, b = together(alone=True, one=0.05)
    talk(world, a, b, 30.0)
    assert a.proxy.client.node == ONE
    assert a.proxy.sampler.changes == 0


def test_a_host_with_one_node_samples_nothing() -> None:
    world = RoamWorld()
    a, _ = world.pair()
    assert a.proxy.sampler.deadline() is None


def test_a_rise_in_the_midst_of_a_sample_is_noticed() -> None:
    for begins in (0.0, 0.6, 1.1, 1.6, 2.1):
        world, a, b = together()
        world.run(1.0)
        talk(world, a, b, begins)
        world.farther[ONE] = 0.1
        talk(world, a, b, 15.0)
        assert a.proxy.client.node in (TWO, THREE), begins
