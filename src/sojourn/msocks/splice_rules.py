"""What the splice does with a packet, slowly and in the plainest words: the kernel's program is held to this.

One IP packet in, one IP packet (or none) out, checksums from the beginning. bpf/splice.bpf.c says the same in C.
"""

import struct
from enum import Enum
from typing import Final

from msgspec import Struct

from sojourn.msocks.splice_pair import CLIENT, CORRESPONDENT, HalfFlag, NoticeKind, Pair, PairFlag, State, Stream
from sojourn.msocks.splice_pair import Half as Half
from sojourn.msocks.splice_pair import StreamFlag as Of
from sojourn.packet.checksum import checksum, pseudo_header
from sojourn.packet.ip import packed

FIN, SYN, RST, ACK = 1, 2, 4, 16
TCP: Final = 6
_NOP, _END, _SACK, _TIMESTAMPS = 1, 0, 5, 8
_USUAL: Final = b"\1\1\x08\x0a"
"""How timestamps stand in nearly every segment."""


class Verdict(Enum):
    """What is done with a packet."""

    FORWARD = "forward"
    UP = "up"
    """To the proxy's own socket, as if nobody had looked."""
    DROP = "drop"
    ANSWER = "answer"
    """The packet becomes an answer to its sender."""
    FORWARD_AND_ANSWER = "both"


class Segment(Struct):
    """One TCP segment, taken apart."""

    seq: int
    ack: int
    flags: int
    window: int
    urgent: int
    options: bytes
    payload: bytes

    @property
    def taken(self) -> int:
        """How many sequence numbers it takes."""
        return len(self.payload) + bool(self.flags & FIN) + bool(self.flags & SYN)


def _u32(value: int) -> int:
    return value & 0xFFFFFFFF


def _ahead(value: int, of: int) -> int:
    """Return how far a 32-bit number is ahead of another (below zero: behind)."""
    return (value - of + 0x80000000) % 0x100000000 - 0x80000000


def extended(known: int, number: int) -> int:
    """Return the 64-bit number that `number` is the low half of, next to one that is known."""
    return known + _ahead(number, _u32(known))


def parse(packet: bytes) -> Segment:
    """Take a whole, sound TCP packet apart (without IP options or extension headers)."""
    at = 40 if packet[0] >> 4 == 6 else 20
    _, _, seq, ack, offset, flags, window, _, urgent = struct.unpack_from("!HHIIBBHHH", packet, at)
    header = (offset >> 4) * 4
    return Segment(seq, ack, flags, window, urgent, packet[at + 20 : at + header], packet[at + header :])


def build(head: bytes, half: Half, segment: Segment) -> bytes:
    """Put a packet together that goes where `half` says; of `head` (an IP header) the rest is kept."""
    source, to = packed(half.source[0]), packed(half.to[0])
    body = struct.pack(
        "!HHIIBBHHH", half.source[1], half.to[1], segment.seq, segment.ack, (20 + len(segment.options)) * 4,
        segment.flags, segment.window, 0, segment.urgent,
    ) + segment.options + segment.payload  # fmt: skip
    check = checksum(body, pseudo_header(source, to, TCP, len(body)))
    body = body[:16] + check.to_bytes(2) + body[18:]
    if len(source) == 16:
        return head[:4] + len(body).to_bytes(2) + head[6:8] + source + to + body
    ip = head[:2] + (20 + len(body)).to_bytes(2) + head[4:10] + b"\0\0" + source + to
    return ip[:10] + checksum(ip).to_bytes(2) + ip[12:] + body


class Splice:
    """One session's rules, over its pair."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.told: list[tuple[NoticeKind, int]] = []
        """What the proxy was told, and of whom."""

    def carry(self, whose: int, packet: bytes) -> tuple[Verdict, list[bytes]]:
        """Take one packet of a peer; return what becomes of it, and the packets that leave."""
        segment = parse(packet)
        value = int.from_bytes(segment.options[4:8]) if self._usual(segment, whose) else 0
        verdict = self.judge(whose, segment)
        left = []
        if verdict in (Verdict.FORWARD, Verdict.FORWARD_AND_ANSWER):
            forwarded = self.translate(whose, packet, segment)
            if forwarded is None:
                return Verdict.DROP, []
            left.append(forwarded)
        if verdict in (Verdict.ANSWER, Verdict.FORWARD_AND_ANSWER):
            left.append(self.wait(value))
        return verdict, left

    def _usual(self, segment: Segment, whose: int) -> bool:
        right = len(segment.options) == 12 and segment.options[:4] == _USUAL
        return right and bool(self.pair.halves[whose].flags & HalfFlag.TIMESTAMPS)

    # -- following

    def judge(self, whose: int, segment: Segment) -> Verdict:
        """Note a segment, and say what is to be done with it."""
        pair = self.pair
        if pair.state == State.HOLD:
            return Verdict.DROP if segment.taken else Verdict.UP
        if pair.state == State.FREE or (pair.state == State.LEGLESS and whose == CLIENT):
            return Verdict.DROP
        half = pair.halves[whose]
        seq, ack = segment.seq, segment.ack
        if whose == CLIENT:
            seq, ack = _u32(seq + half.seq_delta), _u32(ack + half.ack_delta)
        if segment.flags & RST:
            return self._judge_reset(whose, seq)
        carried = pair.streams[whose]
        if self._note_data(whose, carried, seq, segment) and segment.flags & ACK:
            window = 0 if segment.flags & SYN else segment.window << half.in_scale
            if self._note_ack(pair.streams[1 - whose], ack, window) and whose == CLIENT:
                edge = _u32(ack + window)
                pair.leg_limit = edge if _ahead(edge, pair.leg_limit) > 0 else pair.leg_limit
            if half.flags & HalfFlag.OWN and _ahead(segment.ack, half.own) >= 0:
                half.flags &= ~HalfFlag.OWN
                self.told.append((NoticeKind.OWN_ACKED, whose))
            self._note_end()
        # Bytes from before the splice point would stand where the proxy's own stand, and be taken for them.
        other = pair.halves[1 - whose]
        own = bool(segment.taken and other.flags & HalfFlag.OWN)
        before = own and _ahead(_u32(segment.seq + half.seq_delta), other.own) < 0
        if whose == CLIENT:
            pair.quiet = False
            return Verdict.DROP if before else Verdict.FORWARD
        asks = bool(segment.taken) or seq == _u32(carried.acked - 1)
        if pair.state == State.LEGLESS:
            return Verdict.ANSWER if asks else Verdict.DROP
        if before or (_ahead(seq, _u32(carried.acked)) > 0 and self._exceeds(seq, segment)):
            return Verdict.DROP
        return Verdict.FORWARD_AND_ANSWER if asks and pair.quiet else Verdict.FORWARD

    def _exceeds(self, seq: int, segment: Segment) -> bool:
        """Say whether bytes go beyond the window of the present leg (one beyond it is a probe, or a FIN).

        A correspondent that has known another leg's sends them, and Linux does not believe a smaller window until its
        first byte is acknowledged: that one always passes. A client would discard the rest, but Linux's nf_conntrack
        before it passes it, notes it as sent, and then takes the client's acknowledgements, far behind, for old ones:
        it no longer notes what the client sends, and drops whatever acknowledges that.
        """
        return bool(segment.taken) and _ahead(_u32(seq + segment.taken), self.pair.leg_limit) > 1

    def _judge_reset(self, whose: int, seq: int) -> Verdict:
        """RFC 5961 §3."""
        pair, stream = self.pair, self.pair.streams[whose]
        leg = whose == CLIENT and bool(pair.flags & PairFlag.RETURNS)
        legless = pair.state == State.LEGLESS
        if seq not in (_u32(stream.acked), _u32(stream.sent)):
            return Verdict.DROP if leg or legless else Verdict.FORWARD
        if leg:
            pair.state = State.LEGLESS
            self.told.append((NoticeKind.LEG_RESET, whose))
            return Verdict.DROP
        if not pair.flags & PairFlag.RESET_SEEN:
            pair.flags |= PairFlag.RESET_SEEN
            self.told.append((NoticeKind.RESET, whose))
        return Verdict.DROP if legless else Verdict.FORWARD

    def _note_data(self, whose: int, stream: Stream, seq: int, segment: Segment) -> bool:
        end = _u32(seq + segment.taken)
        start, to = extended(stream.sent, seq), extended(stream.sent, end)
        if to > stream.limit + 1:
            return False
        stream.sent = max(stream.sent, to)
        if whose == CLIENT and _ahead(end, self.pair.leg_sent) > 0:
            self.pair.leg_sent = end
        if segment.flags & FIN and start >= stream.acked:
            stream.fin_end, stream.flags = end, stream.flags | Of.FINISHED
        return True

    @staticmethod
    def _note_ack(stream: Stream, ack: int, window: int) -> bool:
        to = extended(stream.acked, ack)
        if not stream.acked <= to <= stream.sent:
            return False
        stream.acked = to
        stream.limit = max(stream.limit, to + window)
        if stream.flags & Of.FINISHED and _ahead(_u32(to), stream.fin_end) >= 0:
            stream.flags |= Of.FIN_ACKED
        return True

    def _note_end(self) -> None:
        both = all(stream.flags & Of.FIN_ACKED for stream in self.pair.streams)
        if both and not self.pair.flags & PairFlag.DONE_SEEN:
            self.pair.flags |= PairFlag.DONE_SEEN
            self.told.append((NoticeKind.DONE, 0))

    # -- translating

    def translate(self, whose: int, packet: bytes, segment: Segment) -> bytes | None:
        """Return the packet as it leaves towards the other peer; None where it makes no sense."""
        half = self.pair.halves[whose]
        options = self._options(whose, segment.options)
        hops = 7 if packet[0] >> 4 == 6 else 8
        if options is None or packet[hops] <= 1:
            return None
        seq, ack = segment.seq, segment.ack
        # A mere acknowledgement stands where its sender is; Linux's nf_conntrack notes that as sent, too.
        if whose == CORRESPONDENT and not segment.taken and not segment.flags & RST:
            seq = self.pair.leg_limit if _ahead(seq, self.pair.leg_limit) > 0 else seq
        if segment.flags & ACK:
            if whose == CORRESPONDENT and _ahead(ack, self.pair.leg_sent) > 0:
                ack = self.pair.leg_sent
            ack = _u32(ack + half.ack_delta)
        window = segment.window
        if half.in_scale != half.out_scale and not segment.flags & SYN:
            window = min(window << half.in_scale >> half.out_scale, 0xFFFF)
        head = packet[:hops] + bytes([packet[hops] - 1]) + packet[hops + 1 : 40]
        out = Segment(_u32(seq + half.seq_delta), ack, segment.flags, window, segment.urgent, options, segment.payload)
        return build(head, half, out)

    def _options(self, whose: int, options: bytes) -> bytes | None:
        """Translate the timestamps (once) and SACK blocks; all other options become NOPs."""
        half, out, at, stamps = self.pair.halves[whose], bytearray(options), 0, 0
        while at < len(options) and options[at] != _END:
            if options[at] == _NOP:
                at += 1
                continue
            size = options[at + 1] if at + 1 < len(options) else 0
            if size < 2 or at + size > len(options):
                return None
            kind, kept = options[at], b""
            if kind == _TIMESTAMPS and size == 10 and half.flags & HalfFlag.TIMESTAMPS and not stamps:
                stamps, kept = at + 2, options[at : at + size]
            elif kind == _SACK and half.flags & HalfFlag.SACK:
                kept = self._sack(whose, options[at + 2 : at + size])
            out[at : at + size] = kept.ljust(size, bytes([_NOP]))
            at += size
        if stamps:  # last: nothing is noted of options that make no sense
            value, echo = struct.unpack_from("!II", options, stamps)
            struct.pack_into("!II", out, stamps, self._value(half, value), self._echo(whose, echo))
        return bytes(out)

    def _sack(self, whose: int, blocks: bytes) -> bytes:
        """Translate a SACK option; empty: nothing is left of it.

        What an earlier leg has sent may have come in behind a gap. A client would discard a block beyond what it has
        sent, but a stateful firewall before it drops the segment with all that it carries (Linux's nf_conntrack does,
        as most home routers), each time, and the session stands still.
        """
        half, bound, kept = self.pair.halves[whose], self.pair.leg_sent, b""
        for left, right in struct.iter_unpack("!II", blocks[: min(len(blocks) // 8, 4) * 8]):
            if whose == CORRESPONDENT:
                if _ahead(left, bound) >= 0:
                    continue
                right = bound if _ahead(right, bound) > 0 else right
            kept += struct.pack("!II", _u32(left + half.ack_delta), _u32(right + half.ack_delta))
        return bytes([_SACK, 2 + len(kept)]) + kept if kept else b""

    def _value(self, half: Half, value: int) -> int:
        if half.ts >> 32 != self.pair.turn:
            half.ts = self.pair.turn << 32 | _u32(half.ts_base - value)
        sent = _u32(value + half.ts)
        if _ahead(sent, half.ts_last) > 0:
            half.ts_last = sent
        return sent

    def _echo(self, whose: int, echo: int) -> int:
        """Return the TSecr to send: none for a TSval that the other peer has never sent on this connection."""
        other = self.pair.halves[1 - whose]
        if not echo or other.ts >> 32 != self.pair.turn or _ahead(echo, other.ts_base) < 0:
            return 0
        return _u32(echo - other.ts)

    # -- answering

    def wait(self, value: int) -> bytes:
        """Return an acknowledgement of what the client has, with a window of zero; `value` is the TSval echoed."""
        client = self.pair.halves[CLIENT]
        options = b""
        if client.flags & HalfFlag.TIMESTAMPS:
            options = _USUAL + struct.pack("!II", client.ts_last, value)
        acked = [_u32(stream.acked) for stream in self.pair.streams]
        answer = Segment(acked[CLIENT], acked[CORRESPONDENT], ACK, 0, 0, options, b"")
        if ":" in client.to[0]:
            head = struct.pack("!IHBB", 6 << 28, 0, TCP, 64)
        else:
            head = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0x4000, 64, TCP, 0)
        return build(head, client, answer)
