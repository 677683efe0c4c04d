"""One spliced session as the kernel's program has it (bpf/splice.h): two halves, two streams, their place in memory.

A *half* is for the packets of one peer: what they are translated to. A *stream* is one direction of bytes. Sequence
numbers of streams are those of the correspondent's connection, which stays when the leg changes; they are extended to
64 bits, and what stands in packets is the low half.
"""

import ipaddress
import struct
from enum import IntEnum, IntFlag
from typing import Final

from msgspec import Struct, field

from sojourn.errors import RemoteProtocolError

CLIENT, CORRESPONDENT = 0, 1
"""Whose packets; and the index of the half, and of the stream that these packets carry."""

_HALF = struct.Struct("=16s16s2s2sIIIIIBBBBIQIIQ6s6sIQ")
_STREAM = struct.Struct("=QQQII")
_HEAD = struct.Struct("=IIII")
_TAIL = struct.Struct("=QQ")
STATE_BITS: Final = 2
"""The first word is turn << STATE_BITS | state."""
TURN_MASK: Final = 0x7FFF
"""Bits of a turn that stand in a tuple's value."""
_TUPLE_TURN_AT: Final = 17
PAIR_BYTES: Final = _HEAD.size + 2 * _HALF.size + 2 * _STREAM.size + _TAIL.size
SERIAL_AT, FLAGS_AT, QUIET_AT = 4, 8, 12
LEG_SENT_AT: Final = PAIR_BYTES - _TAIL.size
HALVES: Final = slice(_HEAD.size, _HEAD.size + 2 * _HALF.size)
HALF_AT: Final = tuple(_HEAD.size + index * _HALF.size for index in range(2))
STREAM_AT: Final = tuple(_HEAD.size + 2 * _HALF.size + index * _STREAM.size for index in range(2))
HALF_FLAGS_AT: Final = struct.calcsize("=16s16s2s2sIIIIIBB")
HEARD_AT: Final = 104
"""Where in a half the time of its peer's last packet stands (CLOCK_MONOTONIC, nanoseconds)."""
NOTICE = struct.Struct("=IIII")
FIRST: Final = 1 << 32
"""What extended numbers begin with, so that none is below zero."""


class State(IntEnum):
    """Of a pair."""

    FREE = 0
    HOLD = 1
    """The proxy's sockets have the connections still; data are dropped, and come again."""
    SPLICED = 2
    LEGLESS = 3
    """The correspondent is told to wait."""


class PairFlag(IntFlag):
    """Of a pair."""

    RETURNS = 1
    """The session can get another leg: a reset of the client's ends its leg and nothing else."""
    RESET_SEEN = 4
    DONE_SEEN = 8


class HalfFlag(IntFlag):
    """Of a half."""

    OWN = 1
    """This peer has not acknowledged yet what the proxy itself has sent to it."""
    TIMESTAMPS = 2
    SACK = 4


class StreamFlag(IntFlag):
    """Of a stream."""

    FINISHED = 1
    FIN_ACKED = 2


class NoticeKind(IntEnum):
    """What the program tells the proxy."""

    OWN_ACKED = 1
    LEG_RESET = 2
    RESET = 3
    DONE = 4


COUNTS: Final = (
    "forwarded", "zero window", "too big", "translated", "held", "stray", "doubted", "malformed", "lost",
)  # fmt: skip
"""What was done with packets, in the order of the counters (bpf/splice.h, enum count)."""


class Half(Struct):
    """What becomes of the packets that come from one peer."""

    to: tuple[str, int] = ("0.0.0.0", 0)
    """Where they go: the other peer."""
    source: tuple[str, int] = ("0.0.0.0", 0)
    """Our address that the other peer knows."""
    interface: int = 0
    seq_delta: int = 0
    ack_delta: int = 0
    """Added to acknowledgements and SACK edges."""
    ts_base: int = 0
    """The first TSval to send."""
    most: int = 0
    """Bytes of IP packet that the other peer is willing to take; 0: as the path."""
    in_scale: int = 0
    out_scale: int = 0
    flags: int = 0
    own: int = 0
    """With OWN: the acknowledgement with which this peer has all that the proxy itself has sent."""
    ts: int = 0
    """turn << 32 | what is added to TSval, once the first one of this leg was seen."""
    ts_last: int = 0
    path_mtu: int = 0
    fresh_until: int = 0
    macs: tuple[bytes, bytes] = (bytes(6), bytes(6))
    fresh_turn: int = 0
    heard: int = 0


class Stream(Struct):
    """How far one direction has come."""

    sent: int = 0
    acked: int = 0
    limit: int = 0
    """The right edge of the receiver's window."""
    fin_end: int = 0
    flags: int = 0


class Pair(Struct):
    """One session."""

    state: int = State.FREE
    serial: int = 0
    flags: int = 0
    leg_sent: int = 0
    """The end of what the present leg has sent; no acknowledgement and no SACK block goes beyond it."""
    halves: tuple[Half, Half] = field(default_factory=lambda: (Half(), Half()))
    streams: tuple[Stream, Stream] = field(default_factory=lambda: (Stream(), Stream()))
    turn: int = 1
    """Which leg this is: what the program notes of one counts for no other."""
    quiet: bool = False
    """Nothing was heard of the client for a while: the correspondent is told to wait, too."""
    leg_limit: int = 0
    """The right edge of the window that the client has told on the present leg; new bytes go no further."""


class Notice(Struct, frozen=True):
    """What the program has seen."""

    place: int
    serial: int
    kind: int
    whose: int


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def _port(port: int) -> bytes:
    return port.to_bytes(2)


def tuple_key(remote: tuple[str, int], local: tuple[str, int]) -> bytes:
    """Return the key under which a connection's packets are found; 12 bytes, or 36 for IPv6."""
    return _packed(remote[0]) + _packed(local[0]) + _port(remote[1]) + _port(local[1])


def tuple_value(place: int, whose: int, turn: int) -> int:
    """Return what stands under that key."""
    return (turn & TURN_MASK) << _TUPLE_TURN_AT | place << 1 | whose


def place_of(value: int) -> int:
    """Return the place that a tuple's value names."""
    return (value & ((1 << _TUPLE_TURN_AT) - 1)) >> 1


def pack_half(half: Half, turn: int) -> bytes:
    """Return a half as it lies in memory."""
    return _HALF.pack(
        _packed(half.to[0]), _packed(half.source[0]), _port(half.to[1]), _port(half.source[1]), half.interface,
        half.seq_delta, half.ack_delta, half.ts_base, half.most, half.in_scale, half.out_scale, half.flags,
        turn & 0xFF, half.own, half.ts, half.ts_last, half.path_mtu, half.fresh_until, *half.macs, half.fresh_turn,
        half.heard,
    )  # fmt: skip


def pack(pair: Pair) -> bytes:
    """Return a pair as it lies in memory."""
    streams = b"".join(
        _STREAM.pack(one.sent, one.acked, one.limit, one.fin_end, one.flags) for one in pair.streams
    )  # fmt: skip
    head = _HEAD.pack(pair.turn << STATE_BITS | pair.state, pair.serial, pair.flags, pair.quiet)
    tail = _TAIL.pack(pair.turn << 32 | pair.leg_sent, pair.turn << 32 | pair.leg_limit)
    return head + b"".join(pack_half(half, pair.turn) for half in pair.halves) + streams + tail


def unpack(data: bytes | memoryview, *, six: bool = False) -> Pair:
    """Read a pair. RemoteProtocolError where it is cut."""
    if len(data) != PAIR_BYTES:
        raise RemoteProtocolError("a pair of another size", reason="pair")
    halves = (_half(data, HALF_AT[0], six), _half(data, HALF_AT[1], six))
    streams = (Stream(*_STREAM.unpack_from(data, STREAM_AT[0])), Stream(*_STREAM.unpack_from(data, STREAM_AT[1])))
    word, serial, flags, quiet = _HEAD.unpack_from(data)
    leg_sent, leg_limit = (number & 0xFFFFFFFF for number in _TAIL.unpack_from(data, LEG_SENT_AT))
    turn, state = divmod(word, 1 << STATE_BITS)
    return Pair(state, serial, flags, leg_sent, halves, streams, turn, bool(quiet), leg_limit)


def _half(data: bytes | memoryview, at: int, six: bool) -> Half:
    to, source, to_port, from_port, *numbers = _HALF.unpack_from(data, at)
    size = 16 if six else 4
    ends = [
        (str(ipaddress.ip_address(address[:size])), int.from_bytes(port))
        for address, port in ((to, to_port), (source, from_port))
    ]
    del numbers[8]  # the turn's lowest bits, for the program alone
    half = Half(ends[0], ends[1], *numbers[:13])
    half.macs, half.fresh_turn, half.heard = (numbers[13], numbers[14]), numbers[15], numbers[16]
    return half


def read_streams(data: memoryview) -> tuple[Stream, Stream]:
    """Read the streams alone."""
    return (Stream(*_STREAM.unpack_from(data, STREAM_AT[0])), Stream(*_STREAM.unpack_from(data, STREAM_AT[1])))


def parse_notice(data: bytes) -> Notice:
    """Read what the program tells. RemoteProtocolError where it is nothing of this version."""
    if len(data) != NOTICE.size:
        raise RemoteProtocolError("a notice of another size", reason="notice")
    return Notice(*NOTICE.unpack(data))
