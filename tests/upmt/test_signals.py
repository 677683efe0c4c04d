import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint, Flow, TunnelId
from sojourn.paft import MoveResult
from sojourn.policy.match import parse
from sojourn.upmt.commands import Everything, Exactly, Labelled, Matching, Move, OnTunnel, Select
from sojourn.upmt.signals import (
    AnySignal,
    Failure,
    HandoverRequest,
    HandoverResponse,
    KeepAlive,
    RowResult,
    TunnelRequest,
    TunnelResponse,
    WireMatch,
    WireRow,
    choices,
    decode,
    encode,
    result_of,
    row_of,
    selector,
)

FIG_9 = b"""{"mType":"HandoverRequest",
"match":{"syntax":"IPtables", "match":"-p tcp -destination 160.80.81.1 -destination-port 80"},
"tunnelID":["13673865","any"]}"""
FLOW = Flow(17, Endpoint("1.2.3.4", 2000), Endpoint("86.0.0.1", 3000))


def test_the_body_of_fig_9_is_a_handover_request() -> None:
    (request,) = decode(FIG_9)
    assert isinstance(request, HandoverRequest)
    (row,) = request.all_rows()
    assert choices(row.tunnel_ids) == [13673865, None]
    assert selector(row) == Matching(parse("-p tcp -d 160.80.81.1 --dport 80"))


def test_a_tunnel_choice_is_a_number_or_any() -> None:
    assert choices((7, "8", "any")) == [7, 8, None]
    with pytest.raises(RemoteProtocolError):
        choices(("best",))


@pytest.mark.parametrize(
    "signals",
    [
        [TunnelRequest()],
        [TunnelResponse(7, "160.80.100.1", 1500)],
        [KeepAlive(3), TunnelRequest()],
        [HandoverRequest(5, (WireRow(all=True), WireRow(on=3, tunnel_ids=(4, "any"))))],
        [HandoverResponse(5, (RowResult(4, {"moved": 3}, (1,), ()),))],
        [HandoverRequest(5, (WireRow(match=WireMatch("IPtables", "-p tcp")),))],
        [Failure("no")],
    ],
)
def test_a_body_reads_back_as_it_was_written(signals: list[AnySignal]) -> None:
    assert decode(encode(signals)) == signals


def test_unknown_fields_are_ignored_and_an_unknown_signal_is_answered_in_its_place() -> None:
    keep_alive, unknown = decode(b'[{"mType":"KeepAlive","sequence":1,"new":[]},{"mType":"Telepathy"}]')
    assert keep_alive == KeepAlive(1)
    assert isinstance(unknown, Failure)


@pytest.mark.parametrize(
    "select", [Exactly((FLOW,)), OnTunnel(TunnelId(9)), Everything(), Matching(parse("-p udp")), Labelled("call")]
)
def test_a_row_selects_what_it_was_written_for(select: Select) -> None:
    assert selector(row_of(Move(select, None))) == select


def test_the_tunnel_that_a_row_is_told_in_is_not_named_and_copies_always_are() -> None:
    here, other = TunnelId(5), TunnelId(6)
    assert row_of(Move(Everything(), here), here) == WireRow(all=True)
    assert row_of(Move(Everything(), other), here) == WireRow(all=True, tunnel_ids=(other,))
    copied = row_of(Move(Exactly((FLOW,)), here, (other,), label="call"), here)
    assert (copied.tunnel_ids, copied.copies, copied.application) == ((), (other,), "call")
    assert encode([HandoverRequest(3, (row_of(Move(Everything(), here, (other,)), here),))]) == (
        b'{"mType":"HandoverRequest","move":3,"rows":[{"all":true,"copies":[6]}]}'
    )


def test_a_row_that_selects_nothing_or_two_things_is_refused() -> None:
    for row in (WireRow(), WireRow(all=True, on=3), WireRow(match=WireMatch("nft", "ip")), WireRow(on=1 << 70)):
        with pytest.raises(RemoteProtocolError):
            selector(row)


@pytest.mark.parametrize(
    "flow",
    [
        (6, "10.201.0.2", 1, "2001:db8::1", 2),
        (6, "everything", 1, "192.0.2.1", 2),
        (6, "10.201.0.2", 65536, "192.0.2.1", 2),
        (-1, "10.201.0.2", 1, "192.0.2.1", 2),
        (256, "10.201.0.2", 1, "192.0.2.1", 2),
        (6, "10.201.0.2", 1, "1" * 1000, 2),
    ],
)
def test_what_is_no_flow_is_refused_before_anybody_looks_for_it(flow: tuple[int, str, int, str, int]) -> None:
    with pytest.raises(RemoteProtocolError, match="no flow"):
        selector(WireRow(flows=(flow,)))


def test_a_flow_is_the_same_one_however_its_addresses_are_written() -> None:
    written = WireRow(flows=((6, "FD00:201:0:0::2", 1, "2001:0db8::1", 2),))
    assert selector(written) == Exactly((Flow(6, Endpoint("fd00:201::2", 1), Endpoint("2001:db8::1", 2)),))


def test_results_name_the_places_that_did_not_move() -> None:
    results = (MoveResult.MOVED, MoveResult.STALE, MoveResult.UNKNOWN)
    counts = {MoveResult.MOVED: 1, MoveResult.STALE: 1, MoveResult.UNKNOWN: 1}
    assert result_of(counts, results, TunnelId(2)) == RowResult(2, {"moved": 1, "stale": 1, "unknown": 1}, (1,), (2,))


@given(st.binary())
def test_any_body_is_signals_or_a_protocol_error(body: bytes) -> None:
    try:
        decode(body)
    except RemoteProtocolError:
        return


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@given(st.sampled_from(["HandoverRequest", "TunnelResponse", "KeepAlive"]), st.dictionaries(
    st.sampled_from(["move", "rows", "match", "tunnelID", "sequence"]), json_values))  # fmt: skip
def test_any_json_of_a_known_signal_is_signals_or_a_protocol_error(name: str, fields: dict[str, object]) -> None:
    import msgspec

    for signal in decode(msgspec.json.encode({"mType": name, **fields})):
        if isinstance(signal, HandoverRequest):
            for row in signal.all_rows():
                try:
                    selector(row)
                    choices(row.tunnel_ids)
                except RemoteProtocolError:
                    pass
