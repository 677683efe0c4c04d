"""The splice's program against the plain words of it (msocks/splice_rules.py): byte for byte, and number for number."""

import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sojourn.linux import bpf_pin
from sojourn.linux.bpf import BpfObject
from sojourn.linux.splice_tables import OBJECT, SpliceTables
from sojourn.msocks.splice_pair import (
    CLIENT,
    CORRESPONDENT,
    FIRST,
    HalfFlag,
    PairFlag,
    State,
    StreamFlag,
    tuple_key,
)
from sojourn.msocks.splice_rules import ACK, FIN, RST, SYN, Segment, Verdict, parse
from sojourn.packet.checksum import checksum, pseudo_header
from sojourn.packet.ip import packed
from tests.harness.bpf_ran import PASSED, SENT_ON
from tests.harness.splice_ground import DOWN, ENDS, LEG_DOWN, LEG_UP, UP, Ground, compare, fresh, packet, stamped

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF programs")
families = pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    made = Ground()
    try:
        yield made
    finally:
        made.tables.close(clean=True)


@families
def test_a_session_s_first_segments_are_carried(ground: Ground, six: bool) -> None:
    request = Segment(LEG_UP, LEG_DOWN + 50, ACK | 8, 500, 0, stamped(123, 5001), b"GET / HTTP/1.0\r\n\r\n")
    answer = Segment(DOWN, UP + 18, ACK, 600, 0, stamped(99, 0xFFFFFFF0), bytes(1400))
    thanks = Segment(LEG_UP + 18 & 0xFFFFFFFF, LEG_DOWN + 1400, ACK, 400, 0, stamped(130, 5000), b"")
    pair = fresh(ground, six)
    told = compare(ground, six, pair, [
        (CLIENT, packet(six, CLIENT, request)), (CORRESPONDENT, packet(six, CORRESPONDENT, answer)),
        (CLIENT, packet(six, CLIENT, thanks)),
    ])  # fmt: skip
    assert told == [Verdict.FORWARD] * 3
    after = ground.tables.read(ground.places[six], six=six)
    assert [stream.acked - FIRST for stream in after.streams] == [UP + 18, DOWN + 1400]
    assert after.halves[CLIENT].ts_last == 0xFFFFFFF7, "the base, and seven ticks"


@families
def test_sack_edges_are_the_other_direction_s_numbers(ground: Ground, six: bool) -> None:
    blocks = struct.pack("!IIII", LEG_DOWN + 2000, LEG_DOWN + 3000, LEG_DOWN + 4000, LEG_DOWN + 4500)
    options = stamped(1, 0) + b"\1\1\5\x12" + blocks
    segment = Segment(LEG_UP, LEG_DOWN, ACK, 500, 0, options, b"")
    compare(ground, six, fresh(ground, six), [(CLIENT, packet(six, CLIENT, segment))])
    _, left = ground.run(packet(six, CLIENT, segment))
    edges = struct.unpack("!IIII", parse(left).options[16:32])
    assert edges == (DOWN + 2000, DOWN + 3000, DOWN + 4000, DOWN + 4500)


@families
def test_no_sack_block_goes_beyond_what_the_present_leg_has_sent(ground: Ground, six: bool) -> None:
    client = Segment(LEG_UP, LEG_DOWN, ACK, 500, 0, b"", bytes(1000))
    blocks = struct.pack("!6I", UP + 900, UP + 1500, UP + 1000, UP + 1500, UP + 100, UP + 1000)
    some = packet(six, CORRESPONDENT, Segment(DOWN, UP, ACK, 500, 0, stamped(1, 0) + b"\1\1\5\x1a" + blocks, b""))
    compare(ground, six, fresh(ground, six), [(CLIENT, packet(six, CLIENT, client)), (CORRESPONDENT, some)])
    _, left = ground.run(some)
    edges = [(LEG_UP + edge) & 0xFFFFFFFF for edge in (900, 1000, 100, 1000)]
    assert parse(left).options[12:] == b"\1\1\5\x12" + struct.pack("!4I", *edges) + b"\1" * 8


@families
def test_nothing_new_goes_beyond_the_present_leg_s_window(ground: Ground, six: bool) -> None:
    at = [
        Segment(DOWN + start, UP, ACK | more, 500, 0, b"", bytes(size))
        for start, size, more in (
            (1400, 600, 0),
            (2000, 1, 0),
            (2000, 0, FIN),
            (0, 2500, 0),
            (1400, 602, 0),
            (2500, 100, 0),
            (3000, 0, FIN),
        )
    ]
    opens = packet(six, CLIENT, Segment(LEG_UP, LEG_DOWN, ACK, 21, 0, b"", b""))
    packets = [(CORRESPONDENT, packet(six, CORRESPONDENT, one)) for one in at]
    pair = fresh(ground, six, window=2000)
    pair.halves[CLIENT].flags &= ~HalfFlag.OWN
    forward, drop = Verdict.FORWARD, Verdict.DROP
    assert compare(ground, six, pair, packets) == 4 * [forward] + 3 * [drop]
    assert compare(ground, six, pair, [(CLIENT, opens), *packets]) == 7 * [forward] + [drop]
    mere = packet(six, CORRESPONDENT, Segment(DOWN + 2500, UP, ACK, 500, 0, b"", b""))
    compare(ground, six, pair, [(CORRESPONDENT, mere)])
    assert parse(ground.run(mere)[1]).seq == LEG_DOWN + 2000


@families
def test_what_only_one_leg_has_agreed_on_becomes_nops(ground: Ground, six: bool) -> None:
    options = stamped(1, 2) + b"\5\x0a" + bytes(8) + b"\1\1"
    segment = Segment(LEG_UP, LEG_DOWN, ACK, 500, 0, options, b"x")
    pair = fresh(ground, six, half_flags=0)
    compare(ground, six, pair, [(CLIENT, packet(six, CLIENT, segment))])
    _, left = ground.run(packet(six, CLIENT, segment))
    assert parse(left).options == b"\1" * 24


@families
def test_windows_are_shifted_and_clamped(ground: Ground, six: bool) -> None:
    pair = fresh(ground, six, client_scale=10, near_scale=2)
    segment = Segment(LEG_UP, LEG_DOWN, ACK, 5000, 0, b"", b"")
    compare(ground, six, pair, [(CLIENT, packet(six, CLIENT, segment))])
    _, left = ground.run(packet(six, CLIENT, segment))
    assert parse(left).window == 0xFFFF


@families
def test_a_reset_is_believed_only_where_the_stream_is(ground: Ground, six: bool) -> None:
    for returns in (0, PairFlag.RETURNS):
        pair = fresh(ground, six, flags=returns)
        beside = Segment(LEG_UP + 5, LEG_DOWN, RST | ACK, 0, 0, b"", b"")
        exact = Segment(LEG_UP, LEG_DOWN, RST | ACK, 0, 0, b"", b"")
        verdicts = compare(
            ground, six, pair, [(CLIENT, packet(six, CLIENT, beside)), (CLIENT, packet(six, CLIENT, exact))]
        )
        assert verdicts == [Verdict.DROP if returns else Verdict.FORWARD] * 2
        state = ground.tables.read(ground.places[six], six=six)
        assert (state.state == State.LEGLESS) is bool(returns)


@families
def test_without_a_leg_the_correspondent_is_told_to_wait(ground: Ground, six: bool) -> None:
    pair = fresh(ground, six, state=State.LEGLESS, flags=PairFlag.RETURNS)
    data = Segment(DOWN - 10, UP, ACK, 500, 0, stamped(4242, 0), b"0123456789more")
    probe = Segment(DOWN - 1, UP, ACK, 500, 0, b"", b"")
    pure = Segment(DOWN, UP - 5, ACK, 500, 0, b"", b"")
    fin = Segment(DOWN, UP, ACK | FIN, 500, 0, stamped(4243, 0), b"")
    verdicts = compare(ground, six, pair, [
        (CORRESPONDENT, packet(six, CORRESPONDENT, one)) for one in (data, probe, pure, fin)
    ])  # fmt: skip
    assert verdicts == [Verdict.ANSWER, Verdict.ANSWER, Verdict.DROP, Verdict.ANSWER]
    said, left = ground.run(packet(six, CORRESPONDENT, data))
    answer = parse(left)
    assert (said, answer.window, answer.ack, answer.flags) == (SENT_ON, 0, DOWN, ACK)
    assert answer.options == stamped(0xFFFFFFF0, 4242)


@families
def test_bytes_from_before_the_splice_are_not_taken_for_the_proxy_s_own(ground: Ground, six: bool) -> None:
    old = Segment(DOWN - 30, UP, ACK, 500, 0, b"", b"sent again, and long known")
    all_there = Segment(LEG_UP, LEG_DOWN + 50, ACK, 500, 0, b"", b"")
    pair = fresh(ground, six)
    verdicts = compare(ground, six, pair, [
        (CORRESPONDENT, packet(six, CORRESPONDENT, old)), (CLIENT, packet(six, CLIENT, all_there)),
        (CORRESPONDENT, packet(six, CORRESPONDENT, old)),
    ])  # fmt: skip
    assert verdicts == [Verdict.DROP, Verdict.FORWARD, Verdict.FORWARD]


@families
def test_both_ends_of_both_streams_are_told_once(ground: Ground, six: bool) -> None:
    fin = Segment(LEG_UP, LEG_DOWN + 50, ACK | FIN, 500, 0, b"", b"")
    theirs = Segment(DOWN, UP + 1, ACK | FIN, 500, 0, b"", b"")
    last = Segment(LEG_UP + 1, LEG_DOWN + 1, ACK, 500, 0, b"", b"")
    packets = [(CLIENT, packet(six, CLIENT, fin)), (CORRESPONDENT, packet(six, CORRESPONDENT, theirs))]
    compare(ground, six, fresh(ground, six), packets + 2 * [(CLIENT, packet(six, CLIENT, last))])
    after = ground.tables.read(ground.places[six], six=six)
    assert after.flags & PairFlag.DONE_SEEN
    assert all(stream.flags == StreamFlag.FINISHED | StreamFlag.FIN_ACKED for stream in after.streams)


@families
def test_what_is_too_large_for_the_other_side_is_answered_with_the_size_that_fits(ground: Ground, six: bool) -> None:
    pair = fresh(ground, six, most=1300)
    ground.tables.write(ground.places[six], pair)
    large = packet(six, CLIENT, Segment(LEG_UP, LEG_DOWN, ACK, 500, 0, b"", bytes(1300)))
    said, left = ground.run(large)
    assert said == SENT_ON
    if six:
        assert (left[6], left[40], int.from_bytes(left[44:48])) == (58, 2, 1300)
        assert left[48 : 48 + 40] == large[:40]
        assert checksum(left[40:], pseudo_header(left[8:24], left[24:40], 58, len(left) - 40)) == 0
        assert (left[8:24], left[24:40]) == (large[24:40], large[8:24])
    else:
        assert (left[9], left[20], left[21], int.from_bytes(left[26:28])) == (1, 3, 4, 1300)
        assert left[28:56] == large[:28]
        assert checksum(left[20:]) == 0
        assert checksum(left[:20]) == 0
        assert (left[12:16], left[16:20]) == (large[16:20], large[12:16])


@families
def test_too_big_from_a_router_is_handed_on_to_who_had_sent_the_packet(ground: Ground, six: bool) -> None:
    ground.tables.write(ground.places[six], fresh(ground, six))
    original = packet(six, CLIENT, Segment(LEG_UP, LEG_DOWN, ACK, 500, 0, b"", bytes(1200)))
    _, sent = ground.run(original)
    client, ours, out, _ = (packed(end[0]) for end in ENDS[six])
    router = packed("2001:db8:ff::1" if six else "203.0.113.254")
    if six:
        body = struct.pack("!BBHI", 2, 0, 0, 1280) + sent[:100]
        body = body[:2] + checksum(body, pseudo_header(router, out, 58, len(body))).to_bytes(2) + body[4:]
        error = struct.pack("!IHBB", 6 << 28, len(body), 58, 64) + router + out + body
    else:
        body = struct.pack("!BBHHH", 3, 4, 0, 0, 1280) + sent[:28]
        body = body[:2] + checksum(body).to_bytes(2) + body[4:]
        error = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 1, 0) + router + out
        error = error[:10] + checksum(error).to_bytes(2) + error[12:] + body
    said, left = ground.run(error)
    assert said == SENT_ON
    at, quoted = (40, 48) if six else (20, 28)
    source, to = (left[8:24], left[24:40]) if six else (left[12:16], left[16:20])
    assert (source, to) == (ours, client)
    assert checksum(left[at:], pseudo_header(source, to, 58, len(left) - at) if six else 0) == 0
    inner = left[quoted:]
    size = 40 if six else 20
    assert (inner[8:24], inner[24:40]) == (client, ours) if six else (inner[12:16], inner[16:20]) == (client, ours)
    assert inner[size : size + 8] == original[size : size + 8], "ports and sequence number as the client knows them"
    stale = bytearray(error)
    stale[quoted + size + 4] ^= 0x40
    assert ground.run(bytes(stale)) == (PASSED, bytes(stale)), "nothing of that number is under way"


numbers = st.sampled_from((-70001, -1460, -20, -1, 0, 1, 18, 1460, 65000, 200000))
option_lists = st.one_of(
    st.builds(stamped, st.sampled_from((0, 1, 0x80000000, 0xFFFFFFFF)), st.sampled_from((0, 4999, 5001, 0xFFFFFFF5))),
    st.just(b""),
    st.lists(st.sampled_from((
        b"\1", b"\0", b"\2\4\5\xb4", b"\3\3\7", b"\4\2", b"\x08\x0a" + bytes(8), b"\5\x0a" + bytes(range(8)),
        b"\5\x12" + struct.pack("!4I", UP + 18, UP + 1460, UP - 5, UP), b"\5\x0a" + struct.pack("!2I", UP, UP + 18),
        b"\5\x12" + bytes(range(16)), b"\x1e\5abc", b"\x08\2", b"\5\1", b"\xfe",
    )), max_size=6).map(lambda parts: b"".join(parts)[:40]).map(lambda data: data + b"\0" * (-len(data) % 4)),
)  # fmt: skip
segments = st.tuples(
    st.sampled_from((CLIENT, CORRESPONDENT)), numbers, numbers,
    st.sampled_from((ACK, ACK, ACK, ACK | FIN, RST, ACK | RST, SYN, 0, ACK | 0x20, ACK | 8 | FIN)),
    st.sampled_from((0, 1, 500, 0xFFFF)), option_lists, st.sampled_from((0, 0, 1, 18, 1460)),
    st.sampled_from((60, 60, 1)),
)  # fmt: skip


@example(  # a timestamp before an option that is cut off
    six=False, state=State.SPLICED, flags=PairFlag.RETURNS, scales=(14, 7, 7, 14),
    half_flags=HalfFlag.TIMESTAMPS | HalfFlag.SACK,
    steps=[(CORRESPONDENT, 0, 0, ACK, 0xFFFF, b"\x08\x0a" + bytes(8) + b"\5\1", 0, 60)],
)  # fmt: skip
@settings(max_examples=500, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip
@given(
    six=st.booleans(), state=st.sampled_from((State.SPLICED, State.SPLICED, State.LEGLESS, State.HOLD, State.FREE)),
    flags=st.sampled_from((0, PairFlag.RETURNS)), scales=st.tuples(*[st.sampled_from((0, 7, 14))] * 4),
    half_flags=st.sampled_from((HalfFlag.TIMESTAMPS | HalfFlag.SACK, HalfFlag.SACK, HalfFlag(0))),
    steps=st.lists(segments, min_size=1, max_size=8),
)  # fmt: skip
def test_whatever_comes_becomes_what_the_rules_say(
    ground: Ground, six: bool, state: State, flags: PairFlag, scales: tuple[int, ...], half_flags: HalfFlag,
    steps: list[tuple[int, int, int, int, int, bytes, int, int]],
) -> None:  # fmt: skip
    client_scale, near_scale, far_scale, leg_scale = scales
    pair = fresh(ground, six, state=state, flags=flags, client_scale=client_scale, near_scale=near_scale,
                 far_scale=far_scale, leg_scale=leg_scale, half_flags=half_flags)  # fmt: skip
    packets = []
    for whose, seq, ack, bits, window, options, size, hops in steps:
        own, other = (LEG_UP, LEG_DOWN) if whose == CLIENT else (DOWN, UP)
        segment = Segment((own + seq) & 0xFFFFFFFF, (other + ack) & 0xFFFFFFFF, bits, window, 7, options, bytes(size))
        packets.append((whose, packet(six, whose, segment, hops)))
    compare(ground, six, pair, packets)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=40, max_size=120), first=st.sampled_from((0x45, 0x46, 0x60)))
def test_bytes_that_are_no_spliced_packet_pass_untouched(ground: Ground, data: bytes, first: int) -> None:
    whole = bytes([first]) + data[1:]
    assert ground.run(whole) == (PASSED, whole)


def test_the_object_says_how_large_its_maps_may_be(ground: Ground) -> None:
    with BpfObject(OBJECT, {"pairs": 16}):
        pass
    assert ground.tables.room == 6
    assert ground.tables.entries() == 4


def test_what_is_pinned_is_found_again_and_can_be_removed() -> None:
    folder = bpf_pin.place() / f"sojourn-again-{os.getpid()}" / "one"
    first = SpliceTables(folder, 8)
    place = first.take()
    assert place is not None
    first.set_state(place, State.SPLICED)
    key = tuple_key(("192.0.2.1", 1), ("192.0.2.2", 2))
    first.enter(key, place, CLIENT)
    first.close(clean=False)
    second = SpliceTables(folder, 8)
    assert (second.room, second.state(place), second.entries()) == (7, State.SPLICED, 1)
    assert second.sweep({place}) == 0
    assert second.sweep(set()) == 1
    assert (second.room, second.entries()) == (8, 0)
    second.close(clean=False)
    assert bpf_pin.remove(folder.parent)
    assert not folder.parent.exists()
