"""A node that dies while packets flow, one that is only idle, and a path that is dead with all its nodes."""

from math import inf

from sojourn.i3.client import NodeSilent, Wanted
from sojourn.i3.packet import PROBE, Data, Echo
from sojourn.i3.pulse import ACTIVE, AVOIDED, BUSY, IDLE, PROVED, SHORTEST, TRIES, Pulse, Silent
from sojourn.model import Endpoint
from tests.i3.world import Host, World, own, seeded

ONE, TWO, THREE = (Endpoint(f"203.0.113.{last}", 1801) for last in (1, 2, 3))


def talk(world: World, a: Host, b: Host, to: Wanted, seconds: float, every: float = 0.02) -> float:
    """Send from a to b all the time; return the longest time for which nothing came."""
    longest, last, end = 0.0, world.now, world.now + seconds
    while world.now < end:
        a.send(to.identifier, b"x", "wifi")
        world.run(every, every)
        if b.got():
            longest, last = max(longest, world.now - last), world.now
    return max(longest, world.now - last)


def pair(world: World) -> tuple[Host, Host]:
    a, b = world.host("a", wifi="198.51.100.1"), world.host("b", wifi="192.0.2.1")
    b.insert(own("b"), "wifi")
    assert talk(world, a, b, own("b"), 1.0) < 0.1
    return a, b


def probes(host: Host) -> int:
    return sum(data[0] == PROBE for data, source, _ in host.world.wire if source == host.paths["wifi"])


def answer(pulse: Pulse, path: str, node: Endpoint, probe: bytes, now: float, group: bytes = bytes(8)) -> None:
    pulse.heard(path, node, now)
    pulse.echoed(path, node, Echo(int.from_bytes(probe[4:12]), group), now)


def test_a_node_that_dies_under_traffic_is_replaced_within_a_second_by_both_ends() -> None:
    world = World(ONE, TWO, THREE)
    a, b = pair(world)
    world.cut.add(ONE)
    assert talk(world, a, b, own("b"), 3.0) < 1.0
    assert (a.client.node, b.client.node) == (TWO, TWO)
    assert NodeSilent(ONE) in b.told
    world.cut.add(TWO)
    assert talk(world, a, b, own("b"), 3.0) < 1.0
    assert (a.client.node, b.client.node) == (THREE, THREE)


def test_a_node_that_dies_while_nobody_speaks_is_replaced_in_seconds() -> None:
    world = World(ONE, TWO)
    _, b = pair(world)
    world.run(10)
    world.cut.add(ONE)
    world.run(IDLE + 1.5, 0.05)
    assert b.client.node == TWO
    assert len(world.nodes[TWO].table) == 1


def test_where_all_nodes_are_silent_it_is_the_path_and_none_is_given_up() -> None:
    world = World(ONE, TWO)
    a, b = pair(world)
    world.cut.add(b.paths["wifi"])
    for _ in range(100):
        b.send(own("b").identifier, b"x", "wifi")
        world.run(0.05, 0.05)
    assert b.client.node == ONE
    world.cut.clear()
    assert talk(world, a, b, own("b"), 1.0) < 0.5


def test_a_node_that_is_heard_is_hardly_ever_probed_and_one_that_is_idle_rarely() -> None:
    world = World(ONE, TWO)
    _, b = pair(world)
    world.wire.clear()
    for _ in range(100):
        b.send(own("b").identifier, b"to myself", "wifi")
        world.run(0.05, 0.05)
    assert probes(b) <= 5 / PROVED + 1
    world.run(ACTIVE + 0.5, 0.05)
    world.wire.clear()
    world.run(30, 0.05)
    assert probes(b) <= 30 / IDLE


def test_a_host_with_one_node_probes_nobody() -> None:
    world = World(ONE)
    a, b = pair(world)
    world.cut.add(ONE)
    talk(world, a, b, own("b"), 3.0)
    assert probes(b) == 0


def test_two_lost_probes_of_three_do_not_make_a_node_silent() -> None:
    pulse = Pulse(seeded("p"), lambda path, node: True)
    now, asked = 1000.0, 0
    while now < 1020.0:
        now += 0.01
        pulse.use("wifi", ONE, now)
        sent, silent = pulse.tick([ONE, TWO], now)
        assert silent == []
        for path, node, probe in sent:
            asked += node == ONE
            if node == TWO or asked % TRIES == 0:
                answer(pulse, path, node, probe, now)
    assert asked > 2 * TRIES


def test_the_verdict_names_the_nearest_of_those_that_share_the_triggers() -> None:
    pulse = Pulse(seeded("p"), lambda path, node: False)
    now, ours = 1000.0, b"sameone!"
    takes = {ONE: 0.02, TWO: 0.08, THREE: 0.01}
    for path, node, probe in pulse.measure("wifi", list(takes), now):
        pulse.heard(path, node, now + takes[node])
        pulse.echoed(path, node, Echo(int.from_bytes(probe[4:12]), ours), now + takes[node])
    assert [round(pulse.newest("wifi", node, 0.0) or 0.0, 6) for node in takes] == list(takes.values())
    pulse.use("wifi", ONE, now)
    verdicts: list[Silent] = []
    due = now
    while not verdicts:
        due = pulse.deadline() or inf
        assert due < now + BUSY + TRIES * SHORTEST + 0.1
        sent, verdicts = pulse.tick(list(takes), due)
        for path, node, probe in sent:
            if node != ONE:
                answer(pulse, path, node, probe, due + takes[node], ours)
    assert verdicts == [Silent("wifi", ONE, THREE)]
    assert pulse.avoided(ONE, due)
    assert not pulse.avoided(ONE, due + AVOIDED)


def test_an_echo_that_was_not_asked_for_tells_nothing() -> None:
    pulse = Pulse(seeded("p"), lambda path, node: False)
    pulse.measure("wifi", [ONE], 1000.0)
    pulse.echoed("wifi", ONE, Echo(1, b"somebody"), 1000.1)
    pulse.echoed("wifi", TWO, Echo(1, b"somebody"), 1000.1)
    assert pulse.newest("wifi", ONE, 0.0) is None
    assert pulse.group(ONE) == bytes(8)
    assert (pulse.deadline() or inf) == inf


def test_packets_forged_in_a_dead_nodes_name_hold_nobody_there_for_long() -> None:
    """Their source may be forged; the number of an echo cannot be guessed."""
    world = World(ONE, TWO)
    _, b = pair(world)
    world.cut.add(ONE)
    forged, since = bytes(Data((own("b").identifier,), b"from nobody")), world.now
    while b.client.node == ONE:
        b.do(b.client.received("wifi", forged, ONE, world.now))
        b.do(b.client.received("wifi", bytes(Echo(7)), ONE, world.now))
        world.run(0.05, 0.05)
        assert world.now - since < PROVED + 1.5
    assert b.client.node == TWO
