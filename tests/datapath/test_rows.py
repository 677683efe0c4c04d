"""Where new flows go: by rule, by program, by who began them; and how many a host may begin."""

from sojourn.bucket import Bucket
from sojourn.datapath.labels import PATIENCE
from sojourn.datapath.rows import NEW_FLOWS_BURST
from sojourn.model import TCP, UDP, AssociationId, Endpoint, Flow, Origin, TunnelId
from sojourn.packet.ip import flow_of, key_of, udp_packet
from sojourn.paft import Mode, Row
from sojourn.policy.match import parse
from sojourn.policy.rules import Rule, Subject
from sojourn.upmt.commands import DescribeOrigin, Labelled, Move, MoveFlows, Placed, Role, SetDefault, SetRules
from sojourn.upmt.events import FlowMoved, FlowSeen, OriginUnknown
from tests.harness.fakenet import VIPA, Pair, Wire
from tests.harness.voice import CORRESPONDENT, Voice
from tests.packet.build import tcp_packet

A, B = TunnelId(0x10), TunnelId(0x11)
HOST = AssociationId(1)
ZOOM = Origin(7, "/opt/zoom/zoom", cgroup="/user.slice")
HALF = Origin(8, command="backup", pid=99)
WHOLE = Origin(8, "/usr/bin/restic", command="backup", cgroup="/system.slice/backup.service")


def program(label: str, tunnel: TunnelId | None, *copies: TunnelId, block: bool = False) -> Placed:
    return Placed(Rule(label, Subject(applications=(label,))), tunnel, copies, block)


def pair_with(*placed: Placed, makers: dict[int, Origin] | None = None) -> Pair:
    """Return a pair with two networks at work, these rules, and programs by local port."""
    pair = Pair(Wire("wifi"), Wire("cellular", address="10.64.0.7", public="198.51.100.99"))
    pair.open()
    made = makers if makers is not None else {}
    pair.host.forwarder.classify = lambda key: made.get(int.from_bytes(key[-4:-2]))
    pair.host.submit([SetRules(HOST, placed)])
    pair.run(2)
    return pair


def rows(pair: Pair) -> dict[Flow, Row]:
    return {flow_of(key): row for key, row in pair.host.forwarder.paft.rows.items()}


def test_a_new_flow_goes_where_the_first_rule_that_covers_it_says_and_that_is_told() -> None:
    pair = pair_with(program("zoom", B, A), makers={4000: ZOOM})
    call, other = Voice(pair), Voice(pair, 4002)
    call.say()
    other.say()
    assert pair.host_told(FlowSeen) == [
        FlowSeen(HOST, Flow(UDP, Endpoint(VIPA, 4000), CORRESPONDENT), B, ZOOM, "zoom", (A,)),
        FlowSeen(HOST, Flow(UDP, Endpoint(VIPA, 4002), CORRESPONDENT), A),
    ]
    assert [(row.label, row.mode) for row in rows(pair).values()] == [("zoom", Mode.COPIES), ("", Mode.ONE)]
    pair.run(1)
    assert (call.heard_up(), other.heard_up()) == ([0], [0])


def test_a_flow_that_its_correspondent_began_has_a_label_too_and_is_answered_where_that_says() -> None:
    pair = pair_with(Placed(Rule("web", Subject(match=(parse("-p udp --sport 4000"),))), B))
    voice = Voice(pair)
    voice.listen()
    pair.run(1)
    (seen,) = pair.host_told(FlowSeen)
    assert (seen.tunnel, seen.label) == (B, "web")
    voice.say()
    pair.run(1)
    (row,) = pair.anchor.forwarder.paft.rows.values()
    assert row.tunnel == B


def test_who_answers_a_correspondent_is_known_with_the_first_answer() -> None:
    makers: dict[int, Origin] = {}
    pair = pair_with(program("zoom", B), makers=makers)
    voice = Voice(pair)
    voice.listen()
    pair.run(1)
    makers[4000] = ZOOM
    voice.say()
    assert [(seen.tunnel, seen.label, seen.origin) for seen in pair.host_told(FlowSeen)] == [
        (A, "", None), (B, "zoom", ZOOM)]  # fmt: skip
    makers[4000] = HALF
    voice.say()
    assert len(pair.host_told(FlowSeen)) == 2


def test_a_flow_whose_socket_another_program_has_taken_over_follows_that_programs_rule() -> None:
    makers = {4000: Origin(9, "/usr/sbin/inetd", cgroup="/")}
    pair = pair_with(program("zoom", B), makers=makers)
    Voice(pair).say()
    makers[4000] = ZOOM
    (key,) = pair.host.forwarder.paft.rows
    pair.host.forwarder.passed(key, pair.now)
    pair.host.forwarder.passed(b"nobody's", pair.now)
    assert [(seen.tunnel, seen.label) for seen in pair.host_told(FlowSeen)] == [(A, ""), (B, "zoom")]


def test_a_flow_of_a_program_that_is_half_known_waits_until_somebody_has_looked() -> None:
    pair = pair_with(program("restic", B), makers={4000: HALF, 4002: HALF})
    first, second = Voice(pair), Voice(pair, 4002)
    first.say()
    first.say()
    second.say()
    assert pair.host_told(OriginUnknown) == [OriginUnknown(HALF)]
    assert not pair.host_told(FlowSeen)
    pair.run(PATIENCE / 2)
    pair.host.submit([DescribeOrigin(WHOLE)])
    assert [(seen.tunnel, seen.label, seen.origin) for seen in pair.host_told(FlowSeen)] == [(B, "restic", WHOLE)] * 2
    pair.run(1)
    assert (first.heard_up(), second.heard_up()) == ([1], [0])
    third = Voice(pair, 4000)
    third.say()
    assert len(pair.host_told(OriginUnknown)) == 1


def test_where_no_rule_asks_for_programs_nothing_waits_and_the_name_comes_later() -> None:
    pair = pair_with(Placed(Rule("web", Subject(match=(parse("-p udp --sport 4000"),))), B), makers={4000: HALF})
    voice = Voice(pair)
    voice.say()
    assert [(seen.tunnel, seen.label, seen.origin) for seen in pair.host_told(FlowSeen)] == [(B, "web", HALF)]
    assert pair.host_told(OriginUnknown) == [OriginUnknown(HALF)]
    pair.host.submit([DescribeOrigin(WHOLE)])
    assert [seen.origin for seen in pair.host_told(FlowSeen)] == [HALF, WHOLE]
    assert [row.origin for row in rows(pair).values()] == [WHOLE]


def test_without_an_answer_it_goes_by_what_is_known_and_a_late_answer_still_counts() -> None:
    pair = pair_with(program("restic", B), makers={4000: HALF})
    voice = Voice(pair)
    voice.say()
    pair.run(PATIENCE + 0.1)
    assert [(seen.tunnel, seen.label, seen.origin) for seen in pair.host_told(FlowSeen)] == [(A, "", HALF)]
    assert voice.heard_up() == [0]
    pair.host.submit([DescribeOrigin(WHOLE)])
    assert [(seen.tunnel, seen.label) for seen in pair.host_told(FlowSeen)][1:] == [(B, "restic")]
    voice.say()
    pair.run(1)
    assert voice.heard_up() == [0, 1]


def test_a_flow_that_its_correspondent_began_goes_on_while_its_program_is_looked_at() -> None:
    makers: dict[int, Origin] = {}
    pair = pair_with(program("restic", B), makers=makers)
    voice = Voice(pair)
    voice.listen()
    pair.run(1)
    makers[4000] = HALF
    voice.say()
    voice.say()
    assert pair.host_told(OriginUnknown) == [OriginUnknown(HALF)]
    pair.run(1)
    assert voice.heard_up() == [0, 1]
    pair.host.submit([DescribeOrigin(WHOLE)])
    (row,) = rows(pair).values()
    assert (row.label, row.tunnel, row.origin) == ("restic", B, WHOLE)


def test_a_guess_at_who_listens_gives_way_to_who_answers() -> None:
    makers = {4000: Origin(-77, exact=False)}
    pair = pair_with(program("zoom", B), makers=makers)
    voice = Voice(pair)
    voice.listen()
    pair.run(1)
    makers[4000] = ZOOM
    voice.say()
    (row,) = rows(pair).values()
    assert (row.label, row.origin) == ("zoom", ZOOM)


def test_a_flow_that_changes_hands_follows_the_rule_of_its_new_program() -> None:
    makers = {4000: HALF}
    pair = pair_with(program("zoom", B), makers=makers)
    voice = Voice(pair)
    voice.say()
    pair.run(PATIENCE + 0.1)
    (key,) = pair.host.forwarder.paft.rows
    seen = len(pair.host_told(FlowSeen))
    pair.host.forwarder.passed(key, pair.now)
    assert len(pair.host_told(FlowSeen)) == seen  # still the same program's
    makers[4000] = ZOOM
    pair.host.forwarder.passed(key, pair.now)
    pair.host.forwarder.passed(b"nobody's", pair.now)
    (row,) = rows(pair).values()
    assert (row.label, row.tunnel, row.origin) == ("zoom", B, ZOOM)


def test_new_rules_label_rows_anew_and_move_none_and_labels_are_moved_by_order() -> None:
    pair = pair_with(makers={4000: ZOOM})
    voice = Voice(pair)
    voice.say()
    pair.host.submit([SetRules(HOST, (program("zoom", B),))])
    (row,) = rows(pair).values()
    assert (row.label, row.tunnel) == ("zoom", A)
    pair.host.submit([MoveFlows(HOST, 3, (Move(Labelled("zoom"), B),))])
    assert row.tunnel == B


def test_a_held_flow_waits_without_an_error_and_goes_when_its_rule_finds_a_network() -> None:
    pair = pair_with(program("zoom", None), makers={4000: ZOOM})
    voice = Voice(pair)
    written = len(pair.to_host)
    voice.say()
    voice.say()
    pair.run(100)
    assert (voice.heard_up(), len(pair.to_host)) == ([], written)
    pair.host.submit([SetDefault(HOST, B)])
    assert not pair.host_told(FlowMoved)
    pair.host.submit([SetRules(HOST, (program("zoom", B, A),))])
    assert [(moved.tunnel, moved.copies) for moved in pair.host_told(FlowMoved)] == [(B, (A,))]
    pair.run(1)
    assert voice.heard_up() == [1]


def test_labels_programs_copies_and_rules_survive_the_data_path() -> None:
    pair = pair_with(
        program("zoom", B, A),
        program("evil", None, block=True),
        makers={4000: ZOOM, 4002: Origin(9, "/evil", cgroup="/")},
    )
    Voice(pair).say()
    Voice(pair, 4002).say()
    before = {flow: (row.tunnel, row.copies, row.label, row.origin, row.blocked) for flow, row in rows(pair).items()}
    assert [place[4] for place in before.values()] == [False, True]
    pair.restart(Role.HOST)
    after = {flow: (row.tunnel, row.copies, row.label, row.origin, row.blocked) for flow, row in rows(pair).items()}
    assert after == before
    pair.host.forwarder.classify = lambda _key: ZOOM
    Voice(pair, 4004).say()
    assert [row.label for row in rows(pair).values()][-1] == "zoom"


def test_a_host_that_begins_too_many_flows_has_the_newest_refused_and_others_begin_theirs() -> None:
    pair = pair_with()
    anchor = pair.anchor.forwarder
    Voice(pair).say()
    pair.run(1)
    association = anchor.associations[HOST]
    association.fresh = Bucket(10.0, 2.0)
    voices = [Voice(pair, 5000 + number) for number in range(5)]
    for voice in voices:
        voice.say()
    pair.run(0.05)
    assert [len(voice.heard_up()) for voice in voices] == [1, 1, 0, 0, 0]
    assert anchor.refused["flow-rate"] == 3
    pair.run(1)
    voices[4].say()
    pair.run(1)
    assert voices[4].heard_up() == [1]
    assert NEW_FLOWS_BURST >= 10000


def test_a_segment_of_a_flow_that_waits_for_a_look_is_the_newest_one() -> None:
    pair = pair_with(program("restic", B), makers={4000: HALF})
    ends = Endpoint(VIPA, 4000), Endpoint("93.184.216.34", 80)
    pair.host.forwarder.from_inner(tcp_packet(*ends, b"", flags=2), pair.now)
    pair.host.forwarder.from_inner(udp_packet(*ends, b"other flow"), pair.now)
    assert len(pair.host_told(OriginUnknown)) == 1
    pair.run(PATIENCE + 0.1)
    assert {key[0] for key in pair.anchor.forwarder.paft.rows} == {TCP, UDP}
    assert key_of(Flow(TCP, *ends)) in pair.anchor.forwarder.paft.rows
