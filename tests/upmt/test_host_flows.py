"""Flows by rule, from the decision to both tables: host and anchor whole, but for the kernel."""

from sojourn.model import AssociationId, Endpoint, Origin
from sojourn.paft import Mode
from sojourn.policy.match import parse
from sojourn.policy.rules import DEFAULT, Rule, Subject
from sojourn.upmt import events
from sojourn.upmt.commands import Labelled, Move, MoveFlows, Placed, RowState, SetRules
from sojourn.upmt.events_network import NetworkDown, NetworkUp
from sojourn.upmt.host_events import Handover, PlanRow, RuleRow
from tests.harness.call import Call
from tests.harness.one_host import FLOW, PHONE, WIFI, Host, everything, let_work
from tests.harness.pair import World
from tests.harness.scene import associated, cellular, told, wifi

ME = AssociationId(1)
CALL = Rule("call", Subject(match=(parse("-p udp --sport 4000"),)))
WEB = Rule("web", Subject(match=(parse("-p tcp"),)))


def by_rule(*rows: RuleRow) -> Handover:
    return Handover((), "policies", None, rows)


def rules(commands: object) -> list[SetRules]:
    return [command for command in commands if isinstance(command, SetRules)]  # type: ignore[attr-defined]


def test_rules_are_told_by_tunnel_and_again_when_tunnels_come_and_go() -> None:
    host = Host()
    host.associate(WIFI)
    wanted = (RuleRow(CALL, "wifi", ("phone",)), RuleRow(WEB, "phone"), RuleRow(Rule("no", Subject()), None, (), True))
    (first,) = rules(host.tell(by_rule(*wanted)))
    assert first.rules == (
        Placed(CALL, host.tunnel(0)), Placed(WEB, None), Placed(Rule("no", Subject()), None, (), True))  # fmt: skip
    assert rules(host.tell(by_rule(*wanted))) == [], "nothing is new"
    (second,) = rules(host.tell(NetworkUp(PHONE)))
    assert [(row.tunnel, row.copies) for row in second.rules] == [
        (host.tunnel(0), (host.tunnel(1),)), (host.tunnel(1), ()), (None, ())]  # fmt: skip
    assert rules(host.tell(NetworkDown("wifi", "no carrier"))) == [], "the decision has its say first"
    (third,) = rules(host.tell(events.TunnelMeasured(host.tunnel(1), 0.1, None, None, None, None, 1400, 0, 0, 0, 0)))
    assert [(row.tunnel, row.copies) for row in third.rules][:2] == [(host.tunnel(1), ()), (host.tunnel(1), ())]


def test_a_plan_by_label_with_copies_and_blocks_is_an_order_by_tunnel() -> None:
    host = Host()
    host.associate(WIFI, PHONE)
    let_work(host, 0, 1)
    plan = (PlanRow(Labelled("call"), "wifi", ("phone", "elsewhere")), PlanRow(Labelled("no"), None, (), True))
    commands = host.tell(Handover(plan, "policies", None, (RuleRow(CALL, "wifi", ("phone",)),)))
    kinds = [type(command).__name__ for command in commands]
    assert kinds.index("SetRules") < kinds.index("MoveFlows")
    (order,) = [command for command in commands if isinstance(command, MoveFlows)]
    assert order.moves == (
        Move(Labelled("call"), host.tunnel(0), (host.tunnel(1),)), Move(Labelled("no"), None, (), True))  # fmt: skip


def test_a_control_that_takes_over_knows_the_flows_and_tells_the_anchor_of_the_copied_ones_again() -> None:
    host = Host()
    host.associate(WIFI, PHONE)
    let_work(host, 0, 1)
    a, b = host.tunnel(0), host.tunnel(1)
    row = RowState(ME, FLOW, a, 3, 0, 0, 0, 0, 1.0, None, "web", (b,))
    told_before = SetRules(ME, (Placed(WEB, a, (b,)),))
    state = events.State(None, (), (), (), (), (row,), {}, (told_before,))
    assert [type(command).__name__ for command in host.tell(state)] == ["Remember", "SendInner"]
    assert host.machine.flows.flows[FLOW].copies == (b,)
    assert rules(host.tell(by_rule(RuleRow(WEB, "wifi", ("phone",))))) == []


def test_a_state_that_an_order_has_overtaken_takes_nothing_back_and_tells_nothing_twice() -> None:
    host = Host()
    host.associate(WIFI, PHONE)
    let_work(host, 0, 1)
    a, b = host.tunnel(0), host.tunnel(1)
    host.tell(events.FlowSeen(ME, FLOW, a, None, "web", (b,)))
    pending = host.machine.sender.pending()
    as_told = RowState(ME, FLOW, a, 0, 0, 0, 0, 0, 1.0, None, "web", (b,))
    assert host.tell(events.State(None, (), (), (), (), (as_told,))) == []
    host.tell(Handover((PlanRow(Labelled("web"), "phone"),), "a reason"))
    host.tell(events.State(None, (), (), (), (), (as_told,)))
    place = host.machine.flows.flows[FLOW]
    assert (place.tunnel, place.copies) == (b, ())
    assert host.machine.sender.pending() == pending + 1
    host.tell(events.State(None, (), (), (), (), ()))
    assert not host.machine.flows.flows, "it has ended"


def test_a_tunnel_that_closes_leaves_the_flows_after_the_handover_that_follows() -> None:
    host = Host()
    host.associate(WIFI, PHONE)
    let_work(host, 0, 1)
    host.tell(events.FlowSeen(ME, FLOW, host.tunnel(0), None, "web"))
    host.tell(NetworkDown("wifi", "no carrier"))
    host.tell(Handover((PlanRow(Labelled("web"), "phone"),), "wifi has gone"))
    assert host.machine.flows.flows[FLOW].tunnel == host.tunnel(1)
    host.tell(events.FlowEnded(ME, FLOW))
    assert not host.machine.flows.flows


def test_a_flow_without_copies_is_not_told_of_in_sealed_tunnels() -> None:
    host = Host()
    host.associate(WIFI, PHONE)
    let_work(host, 0, 1)
    host.tell(everything("wifi"))
    assert host.tell(events.FlowSeen(ME, FLOW, host.tunnel(1), Origin(1), "web")) == []
    commands = host.tell(events.FlowSeen(ME, FLOW, host.tunnel(1), Origin(1), "web", (host.tunnel(0),)))
    assert commands == [], "it waits for the answer to the one before"
    assert host.machine.sender.pending() == 2


def copying(world: World | None = None) -> tuple[World, Call]:
    """Return a world where calls are copied, and a call that has begun."""
    world, laptop = associated("wifi", "cellular", world=world)
    laptop.tell(by_rule(RuleRow(CALL, "wifi", ("cellular",)), RuleRow(Rule(DEFAULT, Subject()), "wifi")))
    call = Call(world, laptop)
    call.say(up=True)
    world.run(1.0)
    return world, call


def modes(world: World) -> list[Mode]:
    laptop = world.laptops["laptop"]
    return [
        row.mode for node in (laptop.data_path, world.anchor.data_path) for row in node.forwarder.paft.rows.values()
    ]


def test_a_new_call_that_is_to_be_copied_is_copied_both_ways_after_a_round_trip() -> None:
    world, call = copying()
    assert told(world) == [
        "laptop in wifi: MESSAGE HandoverRequest 2: 1 flow to wifi and cellular",
        "anchor in wifi: 200 HandoverResponse 2: 1 moved",
        "laptop: confirmed wifi: move 2",
    ]
    assert modes(world) == [Mode.COPIES] * 2
    call.talk(20.0)
    world.run(5.0)
    call.mark()
    world.laptops["laptop"].wires["wifi"].dead = True
    world.run(18.0)
    for up in (True, False):
        fate = call.fate(up=up)
        assert (fate.lost, fate.doubled) == (0, 0)
        assert fate.gap <= 0.06 + 0.02


def test_a_handover_by_label_moves_the_known_flows_at_the_anchor_too() -> None:
    world, call = copying()
    laptop = world.laptops["laptop"]
    other = Call(world, laptop, 4002)
    other.say(up=True)
    world.run(1.0)
    world.transcript.take()
    plan = (PlanRow(Labelled("call"), "cellular"), PlanRow(Labelled(DEFAULT), "wifi"))
    laptop.tell(Handover(plan, "the call suffers", "wifi", (RuleRow(CALL, "cellular"),)))
    world.run(1.0)
    assert told(world) == [
        "laptop in cellular: MESSAGE HandoverRequest 3: 1 flow to cellular",
        "anchor in cellular: 200 HandoverResponse 3: 1 moved",
        "laptop: confirmed cellular: move 3",
    ]
    assert (call.place(), other.place()) == (("cellular", "cellular"), ("wifi", "wifi"))
    assert modes(world) == [Mode.ONE] * 4


def test_an_inbound_call_is_copied_as_well() -> None:
    world, laptop = associated("wifi", "cellular")
    laptop.tell(by_rule(RuleRow(CALL, "wifi", ("cellular",))))
    call = Call(world, laptop, 4000, begun_by_correspondent=True)
    call.say(up=False)
    world.run(1.0)
    assert modes(world) == [Mode.COPIES] * 2
    assert call.fate(up=False).lost == 0


def test_copies_survive_either_data_path_and_control() -> None:
    world, call = copying()
    laptop = world.laptops["laptop"]
    laptop.restart_control()
    world.run(3.0)
    call.mark()
    call.talk(5.0)
    world.run(6.0)
    assert [(call.fate(up=up).lost, call.fate(up=up).doubled) for up in (True, False)] == [(0, 0)] * 2


def test_in_plain_tunnels_the_anchor_is_told_of_every_flow_that_a_rule_places() -> None:
    world = World(plain=True)
    laptop = world.laptop(wifi(), cellular())
    for name in ("wifi", "cellular"):
        laptop.plug(name)
    world.run(3.0)
    laptop.tell(by_rule(RuleRow(CALL, "cellular"), RuleRow(Rule(DEFAULT, Subject()), "wifi")))
    call = Call(world, laptop, 4000, begun_by_correspondent=True)
    call.say(up=False)
    world.run(1.0)
    assert call.place() == ("cellular", "cellular")


def test_ten_thousand_flows_of_a_rule_are_moved_by_a_few_words() -> None:
    world, laptop = associated("wifi", "cellular")
    laptop.tell(by_rule(RuleRow(CALL, "wifi"), RuleRow(Rule("bulk", Subject()), "wifi")))
    remote = Endpoint("93.184.216.34", 80)
    for port in range(10000, 12000):
        laptop.call(Endpoint(laptop.vipa, port), remote, b"hello")
    call = Call(world, laptop)
    call.say(up=True)
    world.run(1.0)
    world.transcript.take()
    laptop.tell(Handover((PlanRow(Labelled("bulk"), "cellular"),), "cheaper", "wifi"))
    world.run(1.0)
    assert told(world)[:2] == [
        "laptop in cellular: MESSAGE HandoverRequest 2: all on wifi to cellular; 1 flow to wifi",
        "anchor in cellular: 200 HandoverResponse 2: 2000 moved; 1 unchanged",
    ]
    assert call.place() == ("wifi", "wifi")
