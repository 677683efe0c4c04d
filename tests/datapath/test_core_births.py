"""Flows that the core begins by itself: by the same rules as Python, in the same places, and told all the same.

Through real programs, and at ten thousand a second: tests/net/test_newflows.py.
"""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.bucket import Bucket
from sojourn.datapath._core import Core, siphash
from sojourn.datapath._core import Row as Twin
from sojourn.datapath.core_births import TO_PYTHON, chain_of, network, packed_rule, place_in_core
from sojourn.datapath.guard import ALWAYS_REFUSED, Guard
from sojourn.datapath.labels import RuleBook
from sojourn.datapath.rows import NEW_FLOWS_BURST, NEW_FLOWS_PER_SECOND
from sojourn.model import TCP, UDP, AssociationId, Endpoint, Flow, Origin, TunnelId
from sojourn.packet.ip import key_of, packed, udp_packet
from sojourn.paft import MAX_ROWS_PER_ASSOCIATION, Row
from sojourn.policy.rules import DEFAULT, Rule, Subject
from sojourn.upmt.commands import Placed, RemoveAssociation, Role, Setup
from sojourn.upmt.events import FlowEnded, FlowSeen
from tests.datapath import test_engine_receive as same
from tests.datapath.engine_pair import ME, TUNNEL, source_at_host
from tests.datapath.test_moves import FLOWS, MATCHES, NETWORKS
from tests.harness.core_ends import CoreReceiver
from tests.packet.build import HOST4, HOST6, PEER4, tcp_packet

ORIGINS = st.sampled_from([None, Origin(1, "/usr/bin/ssh", command="ssh", uid=1000), Origin(2, "/bin/x", uid=0)])
SUBJECTS = st.builds(
    Subject,
    applications=st.sampled_from([(), ("ssh",)]),
    users=st.sampled_from([(), (), (0,)]),
    match=st.lists(MATCHES, max_size=2).map(tuple),
    names=st.sampled_from([(), (), ("example.org",)]),
    destinations=st.lists(NETWORKS, max_size=2).map(tuple),
)
PLACED = st.builds(
    Placed,
    st.builds(Rule, st.sampled_from(["a", "b", "c", DEFAULT]), SUBJECTS),
    st.sampled_from([None, *map(TunnelId, (1, 2, 3))]),
    st.sampled_from([(), (), (TunnelId(4),)]),
    st.sampled_from([False, False, True]),
)


@pytest.mark.parametrize(
    ("size", "result"), [(0, 0x726FDB47DD0E0E31), (15, 0xA129CA6149BE45E5), (63, 0x958A324CEB064572)]
)
def test_the_hash_is_siphash_as_its_authors_publish_it(size: int, result: int) -> None:
    assert siphash(0x0706050403020100, 0x0F0E0D0C0B0A0908, bytes(range(size))) == result


@settings(deadline=None)
@given(st.lists(PLACED, max_size=5), FLOWS, ORIGINS, st.sampled_from([None, TunnelId(7)]))
def test_a_new_flow_goes_where_the_rules_in_python_say(
    placed: list[Placed], flow: Flow, origin: Origin | None, default: TunnelId | None
) -> None:
    book, core = RuleBook(), Core()
    book.set(tuple(placed))
    rules = [each.rule for each in placed]
    core.set_book(
        1,
        book.asks,
        place_in_core(book.place(DEFAULT), default),
        [packed_rule(rule, place_in_core(book.place(rule.label), default)) for rule in rules],
        chain_of(rules, None),
    )
    label = book.label(flow, origin)
    tunnel, which = core.place(key_of(flow), chain_of(rules, origin))
    assert (rules[which].label if which >= 0 else DEFAULT) == label
    there = book.place(label)
    if there is None:
        assert tunnel == (TO_PYTHON if default is None else default)
    elif there.block or there.copies or there.tunnel is None:
        assert tunnel == TO_PYTHON
    else:
        assert tunnel == there.tunnel


@settings(deadline=None)
@given(
    FLOWS, st.lists(NETWORKS, max_size=3), st.lists(NETWORKS, max_size=2), st.lists(st.integers(0, 65535), max_size=2)
)
def test_a_flow_begins_in_the_core_only_if_the_guard_in_python_lets_it(
    flow: Flow, refused: list[str], allowed: list[str], ports: list[int]
) -> None:
    inner = ("10.201.0.3", "2001:db8::1")
    setup = Setup(
        Role.ANCHOR, "x", 1400, inner_addresses=inner, refused=tuple(refused), allowed=tuple(allowed),
        inner_ports=tuple(ports),
    )  # fmt: skip
    core = Core()
    core.set_guard(
        5060, [network(one) for one in inner], ports,
        [network(one) for one in (*ALWAYS_REFUSED, *refused)], [network(one) for one in allowed],
    )  # fmt: skip
    passes, verdict = core.passes(key_of(flow)), Guard(setup).refuses(key_of(flow))
    if flow.protocol in (TCP, UDP) and not (flow.remote.address in inner and flow.remote.port == 5060):
        assert passes is (verdict is None)
    assert not (passes and verdict)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 200), st.integers(1, 400)), min_size=1, max_size=5))
def test_an_association_begins_as_many_flows_as_pythons_bucket_would_let_it(steps: list[tuple[float, int]]) -> None:
    core, now = Core(), 1000.0
    core.configure(True)
    core.set_holder(ME, packed(HOST4), b"")
    bucket = Bucket(NEW_FLOWS_PER_SECOND, NEW_FLOWS_BURST)
    for pause, wanted in ((0.0, int(NEW_FLOWS_BURST) - 200), *steps):
        now += pause
        may = sum(core.may_begin(ME, now) for _ in range(wanted))
        assert abs(may - sum(bucket.take(now) for _ in range(wanted))) <= 1, "parts of a flow are rounded"
    assert not core.may_begin(9, now)


# Through the receiver, beside a twin that goes Python's way.


@pytest.fixture(autouse=True, scope="module")
def _core() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(same, "Receiver", CoreReceiver)
        yield


def anchor_bench() -> tuple[same.Bench, CoreReceiver]:
    bench = same.Bench(inbound=False)
    assert isinstance(bench.receiver, CoreReceiver)
    return bench, bench.receiver


def new(port: int, remote: str = PEER4, source: str = HOST4) -> bytes:
    return udp_packet(Endpoint(source, port), Endpoint(remote, 443), b"first")


def begun(receiver: CoreReceiver) -> int:
    return receiver.forwarder.totals["core_flows_begun"]


def told(bench: same.Bench) -> list[FlowSeen]:
    return [event for event in bench.pair.anchor_told(FlowSeen) if event.flow.local.port < 3000]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 12), st.sampled_from([PEER4, "198.51.100.9", "127.0.0.1", "10.201.0.1"]),
            st.sampled_from([HOST4, HOST4, "10.201.0.77"]), st.booleans(),
        ),
        max_size=20,
    ),
    st.integers(1, 64),
)  # fmt: skip
def test_hosts_flows_begin_at_an_anchor_as_they_do_in_python(
    packets: list[tuple[int, str, str, bool]], most: int
) -> None:
    bench, _ = anchor_bench()
    segments = [
        tcp_packet(Endpoint(source, port), Endpoint(remote, 443), b"first") if tcp else new(port, remote, source)
        for port, remote, source, tcp in packets
    ]
    bench.take(bench.seal(segments, hints=False), most=most)
    mine, other = bench.pair.anchor.forwarder, bench.twin.anchor.forwarder
    assert mine.refused == other.refused
    assert {key: (row.tunnel, row.packets_in, row.bytes_in, row.label) for key, row in mine.paft.rows.items()} == {
        key: (row.tunnel, row.packets_in, row.bytes_in, row.label) for key, row in other.paft.rows.items()
    }
    assert sorted(map(str, bench.pair.anchor_told(FlowSeen))) == sorted(map(str, bench.twin.anchor_told(FlowSeen)))


def test_the_core_begins_them_itself_ipv6_too_and_answers_go_back_where_they_came_from() -> None:
    bench, receiver = anchor_bench()
    six = udp_packet(Endpoint(HOST6, 7), Endpoint("2001:db8::7", 443), b"first")
    bench.take(bench.seal([new(5), new(6), new(5), six], hints=False))
    bench.compare()
    assert begun(receiver) == 3
    assert [seen.tunnel for seen in told(bench)] == [TUNNEL] * 3
    row = receiver.forwarder.paft.rows[key_of(Flow(UDP, Endpoint(HOST4, 5), Endpoint(PEER4, 443)))]
    assert (row.packets_in, row.move, row.left, row.created) == (2, 0, None, bench.pair.now)


def test_what_a_host_may_not_begin_is_dropped_in_the_core_and_counted() -> None:
    bench, receiver = anchor_bench()
    while receiver.core.may_begin(ME, bench.pair.now):
        pass
    bench.take(bench.seal([new(5)], hints=False))
    assert receiver.forwarder.refused["flow-rate"] == 1
    assert (begun(receiver), told(bench), bench.writes) == (0, [], [])


def arrive(bench: same.Bench, receiver: CoreReceiver, packets: list[bytes]) -> None:
    """Let packets come in while Python is busy elsewhere."""
    source = source_at_host(receiver.forwarder.tunnels[TUNNEL])
    for datagram in bench.seal(packets, hints=False):
        receiver.core.drive_udp(
            receiver.fd, datagram, len(datagram), packed(source.address), source.port, b"", 0, bench.pair.now
        )


def test_a_row_that_python_gives_a_flow_meanwhile_has_its_place_and_what_was_counted() -> None:
    bench, receiver = anchor_bench()
    arrive(bench, receiver, [new(5), new(5)])
    key = key_of(Flow(UDP, Endpoint(HOST4, 5), Endpoint(PEER4, 443)))
    mine = Row(ME, TunnelId(0x11), bench.pair.now)
    receiver.forwarder.paft.add(key, mine)
    assert mine.packets_in == 2
    arrive(bench, receiver, [new(5)])
    assert mine.packets_in == 3
    assert not receiver.births.take_births(bench.pair.now)
    assert receiver.forwarder.paft.rows[key] is mine
    assert told(bench) == []


def test_flows_that_python_has_not_heard_of_are_bounded_and_leave_it_time_for_what_is_there() -> None:
    bench, receiver = anchor_bench()
    share = 32768 // 4
    arrive(bench, receiver, [new(port) for port in range(1, share + 100)])
    counts = receiver.core.counts()
    assert (counts["core_flows_begun"], counts["flows-full"]) == (share, 99)
    assert "core_slow_packets" not in counts
    taken = receiver.core.births(share + 1, Twin)
    assert len(taken) == share
    assert [birth[1] for birth in taken[:2]] == [
        key_of(Flow(UDP, Endpoint(HOST4, port), Endpoint(PEER4, 443))) for port in (1, 2)
    ]
    arrive(bench, receiver, [new(share + 100)])
    assert receiver.core.counts()["core_flows_begun"] == 1


def test_flows_of_a_host_that_went_a_moment_ago_leave_nothing() -> None:
    bench, receiver = anchor_bench()
    arrive(bench, receiver, [new(5)])
    removal = RemoveAssociation(AssociationId(1))
    receiver.forwarder.handle(removal, bench.pair.now)
    receiver.births.tell_core(removal)
    receiver.births.take_births(bench.pair.now)
    assert told(bench) == []
    assert not receiver.forwarder.paft.rows
    assert not receiver.core.may_begin(ME, bench.pair.now)


def test_a_host_at_its_limit_loses_its_stalest_flow_for_a_new_one() -> None:
    bench, receiver = anchor_bench()
    paft = receiver.forwarder.paft
    paft._max = len(paft.of(ME)) + 1
    bench.take(bench.seal([new(port) for port in (5, 6, 7)], hints=False))
    assert len(paft.of(ME)) == paft._max < MAX_ROWS_PER_ASSOCIATION
    assert len(bench.pair.anchor_told(FlowEnded)) == 2


def test_what_is_no_rule_and_no_network_is_refused() -> None:
    core = Core()
    with pytest.raises(ValueError, match="a network of 3 bytes"):
        core.set_guard(5060, [(b"abc", b"abc")], [], [], [])
    with pytest.raises(ValueError, match="16 bits"):
        core.set_book(1, False, 1, [], [70000])
    with pytest.raises(TypeError):
        core.set_book(1, False, 1, [(1, [(1,)], None)], [])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="user record"):
        core.know(b"short", 1, [])
    with pytest.raises(ValueError, match="addresses"):
        core.set_holder(1, b"abc", b"")
    with pytest.raises(ValueError, match="flow key"):
        core.passes(b"")
    with pytest.raises(ValueError, match="no rules"):
        core.place(bytes(13), [])
    assert core.births(1, Twin) == []
