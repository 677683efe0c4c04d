"""Frames, messages and what becomes of bytes that are neither."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.datapath import wire
from sojourn.errors import LocalProtocolError, RemoteProtocolError
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.seal import Aead, Secret
from sojourn.paft import MoveResult
from sojourn.policy.match import parse
from sojourn.upmt import commands, events
from tests.harness.engine_double import flow_number

HOST = AssociationId(1)
TUNNEL = TunnelId(0xABCDEF)
ORDERS: list[wire.ToProcess] = [
    wire.Begin(),
    wire.TakeDescriptor("tun/sojourn0"),
    commands.Setup(commands.Role.ANCHOR, "sojourn0", 1400, listen=(Endpoint("0.0.0.0", 1800),)),
    commands.AddAssociation(HOST, "10.201.0.2", None, (TUNNEL,)),
    commands.InstallSecret(HOST, Secret(3, bytes(range(32)), 9, Aead.CHACHA20_POLY1305)),
    commands.OpenTunnel(HOST, TUNNEL, "eth0", Endpoint("192.0.2.2", 0), Endpoint("198.51.100.1", 1800)),
    commands.SetDefault(HOST, None),
    commands.MoveFlows(
        HOST,
        5,
        (
            commands.Move(commands.OnTunnel(TUNNEL), None),
            commands.Move(commands.Everything(), TUNNEL),
            commands.Move(commands.Exactly((flow_number(1),)), TUNNEL),
            commands.Move(commands.Matching(parse("-p tcp ! -d 192.0.2.0/24")), TUNNEL),
        ),
    ),
    commands.SendInner(TUNNEL, b"\x45\x00"),
    commands.SendOutside(Endpoint("203.0.113.1", 40000), b"\x45\x00"),
    commands.Restore((), {TUNNEL: Endpoint("203.0.113.1", 40000)}),
    commands.Resumed(600.0),
    wire.Replayed(),
    wire.Ping(1),
    wire.Shutdown(),
]
TOLD: list[wire.ToControl] = [
    wire.Hello("1", 77, epochs_void=True),
    wire.HoldDescriptor("listen/::/1800"),
    events.FlowSeen(HOST, flow_number(2), TUNNEL),
    events.FlowsMoved(HOST, 5, ({MoveResult.MOVED: 3, MoveResult.STALE: 1},), ((MoveResult.MOVED,),)),
    events.InnerReceived(HOST, TUNNEL, b"SIP", Endpoint("203.0.113.1", 40000)),
    events.StrangerReceived(HOST, b"SIP", Endpoint("203.0.113.1", 40000)),
    events.State(None, (), (), (), (), (), {TUNNEL: Endpoint("203.0.113.1", 40000)}),
    events.Counters({"in": 1}, {"forged": 2}, 3),
    wire.Said("warning", "text"),
    wire.Superseded(),
]


def body_of(messages: list[wire.ToProcess] | list[wire.ToControl]) -> bytes:
    return wire.frame([wire.encode(message) for message in messages])[wire.LENGTH_BYTES :]


def row(number: int) -> commands.RowState:
    return commands.RowState(HOST, flow_number(number), TUNNEL, 1, 2, 3, 4, 5, 6.0)


def test_every_message_comes_out_as_it_went_in() -> None:
    assert list(wire.to_process(body_of(ORDERS))) == ORDERS
    assert list(wire.to_control(body_of(TOLD))) == TOLD


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_frames_are_found_however_the_stream_is_cut(size: int) -> None:
    stream = b"".join(wire.frame([wire.encode(order)]) for order in ORDERS)
    frames = wire.Frames()
    found = [
        message
        for start in range(0, len(stream), size)
        for body in frames.feed(stream[start : start + size])
        for message in wire.to_process(body)
    ]
    assert found == ORDERS


def test_a_frame_that_is_too_long_is_refused_by_its_length_alone() -> None:
    with pytest.raises(RemoteProtocolError):
        wire.Frames(max_bytes=100).feed((101).to_bytes(4))
    with pytest.raises(LocalProtocolError):
        wire.frame([bytes(wire.MAX_FRAME_BYTES)])


@given(st.binary(max_size=400))
def test_bytes_are_messages_or_a_remote_protocol_error(data: bytes) -> None:
    for decode in (wire.to_process, wire.to_control):
        with contextlib.suppress(RemoteProtocolError):
            assert isinstance(decode(data), tuple)


@given(st.sampled_from([body_of(ORDERS), body_of(TOLD)]), st.data())
def test_spoiled_messages_are_messages_or_a_remote_protocol_error(body: bytes, data: st.DataObject) -> None:
    spoiled = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        spoiled[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    for decode in (wire.to_process, wire.to_control):
        with contextlib.suppress(RemoteProtocolError):
            assert isinstance(decode(bytes(spoiled)), tuple)


@given(st.binary(max_size=64))
def test_a_stream_of_anything_gives_bodies_or_a_remote_protocol_error(data: bytes) -> None:
    frames = wire.Frames(max_bytes=32)
    try:
        for byte in data:
            frames.feed(bytes((byte,)))
    except RemoteProtocolError:
        pass


def test_a_length_that_lies_makes_nobody_allocate() -> None:
    for body in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x91\xc6\xff\xff\xff\xff", b"\x91" * 100_000):
        with pytest.raises(RemoteProtocolError):
            wire.to_process(body)


def test_what_is_wrong_with_a_message_is_said_without_its_secret() -> None:
    order = msgspec.to_builtins(ORDERS[4])
    order["secret"]["key"] = "hunter2" * 8
    with pytest.raises(RemoteProtocolError) as refused:
        wire.to_process(msgspec.msgpack.encode([order]))
    assert "hunter2" not in str(refused.value)
    assert "secret.key" in str(refused.value)


@pytest.mark.parametrize("count", [0, 1, wire.ROWS_PER_FRAME, wire.ROWS_PER_FRAME + 1, 3 * wire.ROWS_PER_FRAME])
def test_a_state_is_whole_again_after_it_was_cut(count: int) -> None:
    state = events.State(None, (), (), (), (), tuple(row(number) for number in range(count)))
    parts = list(wire.pieces(state))
    assert all(len(part.rows) <= wire.ROWS_PER_FRAME for part in parts)
    joiner = wire.StateJoiner()
    assert [joiner.feed(part) for part in parts] == [None] * (len(parts) - 1) + [state]


def test_a_newer_state_takes_the_place_of_one_that_is_not_complete() -> None:
    joiner = wire.StateJoiner()
    joiner.feed(next(wire.pieces(events.State(None, (), (), (), (), (row(1),)))))
    newer = events.State(None, (), (), (), (), (row(2),))
    assert [joiner.feed(part) for part in wire.pieces(newer)][-1] == newer
    with pytest.raises(RemoteProtocolError):
        joiner.feed(wire.StateRows((), last=True))


def test_no_two_messages_share_a_tag() -> None:
    for union in (wire.ToProcess, wire.ToControl):
        tags = [kind.__struct_config__.tag for kind in union.__args__]
        assert len(tags) == len(set(tags))
