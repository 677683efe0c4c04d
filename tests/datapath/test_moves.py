"""Handover orders on the table, and matches on packed keys."""

import time

from hypothesis import given
from hypothesis import strategies as st

from sojourn.datapath.moves import Mover, compile_match
from sojourn.model import TCP, UDP, AssociationId, Endpoint, Flow, TunnelId
from sojourn.packet.ip import flow_of, key_of
from sojourn.paft import MoveResult, Paft, Row
from sojourn.policy.match import Match, Term, covers, parse
from sojourn.upmt.commands import Everything, Exactly, Matching, Move, OnTunnel, Select

A, B, FOREIGN = TunnelId(1), TunnelId(2), TunnelId(3)
ONE, TWO = AssociationId(1), AssociationId(2)
V4 = st.sampled_from(["10.201.0.2", "10.201.0.3", "160.80.81.1", "160.80.81.2", "192.0.2.1"])
V6 = st.sampled_from(["fd00:201::2", "2001:db8::1", "2001:db8:1::1"])
PORTS = st.sampled_from([0, 22, 53, 80, 443, 5000, 5050, 5100, 65535])
FLOWS = st.one_of(
    *(
        st.builds(
            Flow,
            st.sampled_from([1, 6, 17, 50]),
            st.builds(Endpoint, family, PORTS),
            st.builds(Endpoint, family, PORTS),
        )
        for family in (V4, V6)
    )
)
NETWORKS = st.sampled_from(
    ["160.80.81.1/32", "160.80.80.0/23", "0.0.0.0/0", "10.201.0.0/16", "2001:db8::/32", "2001:db8::1/128", "::/0"]
)
RANGES = st.sampled_from(["80:80", "0:1023", "5000:5100", "0:65535", "65535:65535"])


def maybe(values: st.SearchStrategy[str]) -> st.SearchStrategy[Term | None]:
    return st.none() | st.builds(Term, values, st.booleans())


MATCHES = st.builds(
    Match, maybe(st.sampled_from(["6", "17", "1"])), maybe(NETWORKS), maybe(NETWORKS), maybe(RANGES), maybe(RANGES)
)


@given(MATCHES, FLOWS)
def test_a_compiled_match_says_what_the_slow_one_says(match: Match, flow: Flow) -> None:
    assert compile_match(match)(key_of(flow)) is covers(match, flow)


def flow(number: int, remote: str = "160.80.81.1", port: int = 80) -> Flow:
    return Flow(TCP, Endpoint("10.201.0.2", 1024 + number), Endpoint(remote, port))


def table(count: int = 4) -> Paft:
    paft = Paft()
    for number in range(count):
        paft.add(key_of(flow(number)), Row(ONE, A, 0.0))
    paft.add(key_of(Flow(UDP, Endpoint("10.201.0.9", 1), Endpoint("160.80.81.1", 80))), Row(TWO, A, 0.0))
    return paft


def order(
    paft: Paft, select: Select, tunnel: TunnelId | None = B, number: int = 1
) -> tuple[dict[MoveResult, int], tuple[MoveResult, ...]]:
    def add(new: Flow, place: TunnelId | None) -> Row:
        row = Row(ONE, place, 0.0)
        paft.add(key_of(new), row)
        return row

    return Mover(paft, ONE, frozenset((A, B))).move(Move(select, tunnel), number, 0.0, add)


def test_everything_is_all_rows_of_this_association() -> None:
    paft = table()
    assert order(paft, Everything()) == ({MoveResult.MOVED: 4}, ())
    assert [row.tunnel for row in paft.rows.values()] == [B, B, B, B, A]


def test_rows_on_a_tunnel_are_moved_or_sent_to_wait() -> None:
    paft = table()
    assert order(paft, OnTunnel(B)) == ({}, ())
    assert order(paft, OnTunnel(A), None, 2) == ({MoveResult.MOVED: 4}, ())


def test_a_match_moves_what_it_covers() -> None:
    paft = table()
    assert order(paft, Matching(parse("-p tcp --sport 1024:1025"))) == ({MoveResult.MOVED: 2}, ())


def test_exact_flows_get_results_in_their_order_and_rows_where_they_have_none() -> None:
    paft = table()
    order(paft, Exactly((flow(1),)), B, 5)
    counts, results = order(paft, Exactly((flow(0), flow(1), flow(99))), A, 4)
    assert results == (MoveResult.UNCHANGED, MoveResult.STALE, MoveResult.MOVED)
    assert counts == {MoveResult.UNCHANGED: 1, MoveResult.STALE: 1, MoveResult.MOVED: 1}
    assert paft.rows[key_of(flow(99))].move == 4


def test_another_hosts_flow_and_a_tunnel_that_is_not_ours_are_unknown() -> None:
    paft = table()
    theirs = Flow(UDP, Endpoint("10.201.0.9", 1), Endpoint("160.80.81.1", 80))
    assert order(paft, Exactly((theirs,)))[1] == (MoveResult.UNKNOWN,)
    assert order(paft, Exactly((flow(0),)), FOREIGN)[1] == (MoveResult.UNKNOWN,)
    assert order(paft, Everything(), FOREIGN) == ({MoveResult.UNKNOWN: 1}, ())
    assert {row.tunnel for row in paft.rows.values()} == {A}


def test_a_flow_whose_addresses_are_none_is_unknown() -> None:
    for broken in (Endpoint("nowhere", 1), Endpoint("10.201.0.2", 70000), Endpoint("10.201.0.2", -1)):
        assert order(table(), Exactly((Flow(TCP, broken, Endpoint("160.80.81.1", 80)),)))[1] == (MoveResult.UNKNOWN,)


def test_ten_thousand_rows_are_moved_by_match_in_under_50_ms_of_processor_time() -> None:
    paft = Paft()
    for number in range(10000):
        paft.add(key_of(flow(number)), Row(ONE, A, 0.0))
    took = []
    for attempt in range(5):
        before = time.process_time()
        counts, _ = order(paft, Matching(parse("-p tcp -d 160.80.81.1 --dport 80")), (B, A)[attempt % 2], attempt + 1)
        took.append(time.process_time() - before)
        assert counts == {MoveResult.MOVED: 10000}
    assert min(took) < 0.05


def test_keys_and_flows_are_the_same_thing() -> None:
    assert flow_of(key_of(flow(3))) == flow(3)
