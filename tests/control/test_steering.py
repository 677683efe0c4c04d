"""Sessions placed by host.toml's policies, with lines for tunnels: events in, placements out."""

from sojourn.control.decide_paths import Preferences
from sojourn.control.entries import Entry
from sojourn.control.measures import PathMeasured
from sojourn.control.network_facts import NetworkFacts
from sojourn.control.questions import AnswerGiven
from sojourn.control.steering import UNKNOWN_ADDRESS, Placement, Steering, left_out, named
from sojourn.model import TCP, Endpoint, Flow, Network, TunnelId
from sojourn.policy.rules import Otherwise, Policy, Require, Subject, Via
from sojourn.policy.spans import LocalTime
from sojourn.upmt.events import TunnelMeasured
from sojourn.upmt.host_events import HandoverWanted, PathGone, PathOpened, PathSilent, PathTested

WIFI = Network("wifi", "wlan0", "192.0.2.1", kind="wifi")
CELLULAR = Network("cellular", "wwan0", "192.0.2.2", kind="cellular", metered=True)


def steering(*policies: Policy, notes: list[Entry] | None = None) -> Steering:
    made = Steering(
        Preferences(("wifi", "cellular")), policies,
        describe=lambda network: NetworkFacts(network.name, network.interface, network.kind, metered=network.metered),
        note=(notes if notes is not None else []).append,
    )  # fmt: skip
    for at, network in enumerate((WIFI, CELLULAR)):
        made.handle(PathOpened(network), float(at))
        made.handle(PathTested(network.name, 0.02), at + 0.1)
    made.tick(4.0)  # what was placed when there was one network only has settled
    return made


def flow(port: int, remote: str = "198.51.100.1", to: int = 443) -> Flow:
    return Flow(TCP, Endpoint("127.0.0.1", port), Endpoint(remote, to))


def measured(name: str, rtt: float) -> PathMeasured:
    return PathMeasured(name, TunnelMeasured(TunnelId(0), rtt, 0.001, None, None, None, 0, 0, 0, 0, 0))


def test_the_name_that_an_application_gives_decides() -> None:
    backup = Policy("backup", Subject(applications=("backup",)), ("wifi",), otherwise=Otherwise.HOLD)
    call = Policy("call", Subject(applications=("zoom*",)), ("cellular", "wifi"))
    one = steering(backup, call)
    assert one.opened(flow(1), named("zoom.us"), (), 5.0).placement == Placement("cellular")
    assert one.opened(flow(2), named("backup"), (), 5.0).placement == Placement("wifi")
    assert one.opened(flow(3), named(""), (), 5.0).placement == Placement("wifi")
    moved = one.handle(PathSilent("wifi", 0.2), 6.0)
    assert set(moved) == {flow(2), flow(3)}
    assert one[flow(2)].placement == Placement(None), "never over the cellular network"
    assert one[flow(3)].placement == Placement("cellular")
    one.handle(PathTested("wifi", 0.02), 7.0)
    assert one[flow(2)].placement == Placement("wifi"), "it was waiting"
    assert one[flow(3)].placement == Placement("cellular"), "not back at once"
    one.tick(13.0)
    assert one[flow(3)].placement == Placement("wifi")


def test_a_destination_is_known_by_the_name_that_the_proxy_resolves() -> None:
    one = steering(Policy("video", Subject(names=("*.video.example",)), ("cellular",)))
    to = flow(1, UNKNOWN_ADDRESS)
    assert one.opened(to, None, ("a.video.example",), 5.0).placement == Placement("cellular")
    assert one.opened(flow(2, UNKNOWN_ADDRESS), None, ("other.example",), 5.0).placement == Placement("wifi")
    assert one.opened(flow(3), None, (), 5.0).placement == Placement("wifi")


def test_blocked_and_direct_are_told_when_it_is_opened() -> None:
    one = steering(
        Policy("no", Subject(applications=("spy",)), blocked=True),
        Policy("lan", Subject(destinations=("198.51.100.0/24",)), via=Via.DIRECT),
    )
    assert one.opened(flow(1), named("spy"), (), 5.0).placement == Placement(None, blocked=True)
    assert one.opened(flow(2), named("any"), (), 5.0).placement.direct
    assert not one.opened(flow(3, "203.0.113.1"), named("any"), (), 5.0).placement.direct


def test_a_round_trip_that_gets_too_long_moves_what_minds_it() -> None:
    notes: list[Entry] = []
    call = Policy("call", Subject(applications=("call",)), ("wifi", "cellular"), Require(rtt=0.1))
    one = steering(call, notes=notes)
    for port, name in ((1, "call"), (2, "backup")):
        one.opened(flow(port), named(name), (), 5.0)
    assert one.measured
    one.handle(measured("cellular", 0.05), 5.5)
    assert one.handle(measured("wifi", 0.3), 6.0) == [flow(1)]
    assert one[flow(1)].placement == Placement("cellular")
    assert one[flow(2)].placement == Placement("wifi")
    assert "RTT" in notes[-1].reason


def test_metered_networks_are_left_to_those_who_may_use_them() -> None:
    free = Policy("free", Subject(applications=("updates",)), require=Require(metered=False), otherwise=Otherwise.HOLD)
    one = steering(free)
    one.opened(flow(1), named("updates"), (), 5.0)
    assert one.handle(PathGone("wifi", "out of reach"), 6.0) == [flow(1)]
    assert one[flow(1)].placement == Placement(None)


def test_other_policies_hold_for_what_runs_already() -> None:
    one = steering()
    for port in (1, 2):
        one.opened(flow(port, UNKNOWN_ADDRESS), named("a"), ("host.example",) if port == 1 else (), 5.0)
    moved = one.replace((Policy("named", Subject(names=("host.example",)), ("cellular",)),), 6.0)
    assert moved == [flow(1, UNKNOWN_ADDRESS)]
    assert one[flow(1, UNKNOWN_ADDRESS)].label == "named"


def test_orders_go_before_policies_until_they_are_released() -> None:
    one = steering()
    for port, name in ((1, "a"), (2, "b")):
        one.opened(flow(port), named(name), (), 5.0)
    assert one.handle(HandoverWanted("cellular", application="a"), 6.0) == [flow(1)]
    assert one.handle(HandoverWanted("cellular", (flow(2),)), 6.0) == [flow(2)]
    assert set(one.handle(PathSilent("cellular", 0.2), 7.0)) == {flow(1), flow(2)}
    one.handle(PathTested("cellular", 0.02), 8.0)
    assert one[flow(1)].placement == Placement("cellular")
    one.handle(HandoverWanted(None), 30.0)
    assert one[flow(1)].placement == Placement("wifi")


def test_an_ended_session_is_forgotten() -> None:
    one = steering()
    one.opened(flow(1), None, (), 5.0)
    one.ended(flow(1), 6.0)
    assert one.handle(PathGone("wifi", "gone"), 7.0) == []
    assert len(one.decide.flows) == 0


def lost(name: str, sent: int, lost: int) -> PathMeasured:
    counts = (sent, sent - lost, 0, 0)
    return PathMeasured(name, TunnelMeasured(TunnelId(0), 0.02, 0.001, None, None, None, 0, 0, 0, 0, 0, counts=counts))


def test_what_tcp_has_to_send_again_moves_what_minds_loss() -> None:
    call = Policy("call", Subject(applications=("call",)), ("wifi", "cellular"), Require(loss=0.02))
    one = steering(call)
    for number, name in enumerate(("call", "web"), 1):
        assert one.opened(flow(number), named(name), (), 5.0).placement == Placement("wifi")
    moved, sent, gone = set(), 0, 0
    for step in range(40):
        sent, gone = sent + 40, gone + (4 if step > 10 else 0)
        moved |= set(one.handle(lost("wifi", sent, gone), 6.0 + step * 0.2))
    assert moved == {flow(1)}
    assert one[flow(1)].placement == Placement("cellular")


def test_a_question_holds_a_session_until_it_is_answered() -> None:
    call = Policy("call", Subject(applications=("call",)), ("cellular",), otherwise=Otherwise.ASK)
    one = steering(call)
    one.opened(flow(1), named("call"), (), 5.0)
    assert set(one.handle(PathGone("cellular", "test"), 6.0)) == {flow(1)}
    assert one[flow(1)].placement == Placement(None)
    (question,) = one.decide.questions.open
    assert one.handle(AnswerGiven(question.id, "wifi"), 7.0) == [flow(1)]
    assert one[flow(1)].placement == Placement("wifi")


def test_what_a_stream_cannot_have_is_said_with_its_line() -> None:
    told = left_out(
        (Policy("call", copies=2, line=7), Policy("web", require=Require(jitter=0.03), line=12)), "host.toml"
    )
    assert [str(one).partition(" is ignored")[0] for one in told] == [
        "host.toml:7: policy 'call': copies:", "host.toml:12: policy 'web': require.jitter:",
    ]  # fmt: skip
    assert left_out((Policy("call"),), "host.toml") == []


def test_a_rehearsal_knows_the_names_that_the_proxy_resolves() -> None:
    one = steering()
    one.opened(flow(1, UNKNOWN_ADDRESS), None, ("a.video.example",), 5.0)
    one.opened(flow(2, UNKNOWN_ADDRESS), None, ("other.example",), 5.0)
    default = one.decide.policies[-1]
    video = Policy("video", Subject(names=("*.video.example",)), ("cellular",))
    (moving,) = one.rehearsed((video, default), (default,), 6.0, LocalTime(0, 0))
    assert (moving.flow, moving.came_from, moving.to) == (flow(1, UNKNOWN_ADDRESS), "wifi", "cellular")
    assert one[moving.flow].placement == Placement("wifi"), "nothing is applied"
