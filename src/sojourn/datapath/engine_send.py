"""The engine's hot loop TUN -> UDP. Plain style yields to speed here, and in engine_receive.py.

One read gives a virtio header and up to 64 KiB. A super-packet is cut where it lies: each segment's header is
written over the end of the segment before it, which is sealed already, and each is sealed straight into
its place in one long message for UDP_SEGMENT. Checksums stay partial (hint P), headers are said once (hint C).

Only what is quite ordinary stays here: a row on a `fast` tunnel, TCP or UDP directly after a plain IP header,
no fragment, no SYN, FIN, RST or CWR. All else goes to `Forwarder.from_inner` one packet at a time,
cut by packet/gso.py, which is also the oracle that the tests hold this file against.

A message has room for fewer sealed segments than a super-packet holds, and every message costs both ends.
So it stays `pending` until it is full, ends with a shorter datagram, or nothing more is there to be read: what
is left of one super-packet travels with the next one. Nothing is sent out of order.
"""

from collections.abc import Callable, Mapping, Sequence
from struct import Struct as Layout
from typing import Final, NamedTuple

from sojourn.datapath.engine_flow import PSH, TCP, UDP, Lane, Way, ordinary
from sojourn.datapath.forwarder import Forwarder
from sojourn.errors import RemoteProtocolError
from sojourn.linux.udp import MAX_DATAGRAM, MAX_SEGMENTS
from sojourn.packet import gso, vnet
from sojourn.packet.checksum import checksum
from sojourn.packet.ip import REMOTE6
from sojourn.packet.seal import HEADER_BYTES, OVERHEAD_BYTES, PACKETS_PER_EPOCH, Hint, Sealer
from sojourn.paft import Mode, Row
from sojourn.upmt.peer_commands import PEERS

V: Final = vnet.HEADER_BYTES
READ_BYTES: Final = V + 65536
PARTIAL, CONTINUES = Hint.PARTIAL << 24, Hint.CONTINUES << 24
MAX_SHAPES: Final = 64
MAX_COUNT: Final = 1024
"""More segments than this (of under 64 bytes each) are left to the slow path."""
HEADER_LAYOUT: Final = Layout(">II")
WORD: Final = Layout(">H")
LONG: Final = Layout(">I")
NO_LANES: Final[Mapping[bytes, Lane]] = {}

Transmit = Callable[[Way, memoryview, int, int, int], None]
"""(tunnel, datagrams end to end, bytes of each but the last, how many, ECN)."""


class _Shape(NamedTuple):
    """Views that all super-packets with one header and segment length share."""

    width: int
    """Bytes of a full datagram."""
    most: int
    """Datagrams in one message."""
    heads: list[slice]
    """Where in the input each segment's header goes."""
    sequences: list[int]
    """Where its TCP sequence number stands."""
    texts: list[memoryview]
    """Each whole segment."""
    offsets: list[int]
    """Where in the output each datagram begins, and views of its header and the rest."""
    aads: list[memoryview]
    sealed: list[memoryview]


class Sender:
    """Takes what a TUN gives and has it sent."""

    def __init__(
        self, forwarder: Forwarder, transmit: Transmit, lanes: Mapping[bytes, Lane] = NO_LANES, *, inbound: bool
    ) -> None:
        """`inbound`: packets from this TUN travel to a mobile host (we are its anchor). `lanes`: by home address."""
        self._lanes = lanes
        self._forwarder = forwarder
        self._transmit = transmit
        self._inbound = inbound
        self._input = bytearray(READ_BYTES)
        self._in = memoryview(self._input)
        self.buffers: Sequence[memoryview] = [self._in]
        """Where the next read puts its bytes."""
        self._output = bytearray(65536)
        self._out = memoryview(self._output)
        self._shapes: dict[tuple[int, int, int], _Shape] = {}
        self._pending: Way | None = None
        self._count = self._width = self._end = self._ecn = 0

    def take(self, size: int, now: float) -> None:
        """Send what a read of `size` bytes has put into `buffers`; some of it may leave with the next `flush`."""
        if not self._fast(size, now):
            self._slow(size, now)

    def flush(self, now: float) -> None:
        """Send the datagrams that are waiting for more of their kind."""
        tunnel, count, end = self._pending, self._count, self._end
        if tunnel is not None:
            self._pending = None
            self._count = self._end = 0
            tunnel.sent(now, count, end)
            self._transmit(tunnel, self._out[:end], self._width, count, self._ecn)

    def _slow(self, size: int, now: float) -> None:
        self.flush(now)
        forwarder = self._forwarder
        try:
            for packet in gso.finish(self._input[V:size], vnet.parse(self._in[:size])):
                forwarder.from_inner(packet, now)
        except RemoteProtocolError as error:
            forwarder.refused[error.reason] += 1

    def _fast(self, size: int, now: float) -> bool:
        """Send it if it is ordinary; say whether it was."""
        data = self._input
        found = ordinary(data, V, size - V, self._inbound)
        if found is None:
            return False
        at, protocol, key = found
        row = self._forwarder.paft.rows.get(key)
        if row is None or row.tunnel is None or row.mode is not Mode.ONE:
            return False
        if not row.packets_out and row.packets_in and not self._inbound:
            return False  # the first answer to a correspondent tells who answers
        tunnel: Way | None = self._forwarder.tunnels.get(row.tunnel)
        if row.tunnel == PEERS and not row.blocked:
            tunnel = self._lanes.get(key[REMOTE6])
        if tunnel is None or not tunnel.fast or tunnel.may_fragment or tunnel.sealer is None:
            return False
        ecn = data[V + 1] & 3 if at == 20 else data[V + 1] >> 4 & 3
        if data[1]:
            return self._super(size, at, protocol, ecn, row, tunnel, tunnel.sealer, now)
        return self._single(size, at, protocol, ecn, row, tunnel, tunnel.sealer, now)

    def _single(
        self, size: int, at: int, protocol: int, ecn: int, row: Row, tunnel: Way, sealer: Sealer, now: float
    ) -> bool:
        flags, _, _, _, start, offset = vnet.LAYOUT.unpack_from(self._input)
        word = sealer.first_word
        if flags & vnet.NEEDS_CHECKSUM:
            if start != at or offset != gso.CHECKSUM_OFFSET[protocol]:
                return False
            word |= PARTIAL
        length = size - V
        if length > tunnel.inner_mtu or sealer.counter >= PACKETS_PER_EPOCH:
            return False
        width = length + OVERHEAD_BYTES
        if self._pending is not None and (
            self._pending is not tunnel
            or width > self._width
            or ecn != self._ecn
            or self._count == MAX_SEGMENTS
            or self._end + width > MAX_DATAGRAM
        ):
            self.flush(now)
        if self._pending is None:
            self._pending, self._width, self._ecn = tunnel, width, ecn
        begin, counter, cipher = self._end, sealer.counter, sealer.cipher
        self._end = end = begin + width
        self._count += 1
        sealer.counter = counter + 1
        HEADER_LAYOUT.pack_into(self._output, begin, word, counter)
        body = begin + HEADER_BYTES
        cipher.aead.encrypt_into(
            (cipher.iv ^ counter).to_bytes(12), self._in[V:size], self._out[begin:body], self._out[body:end]
        )
        _note(row, 1, length, now)
        if width < self._width:
            self.flush(now)  # UDP_SEGMENT: only the last datagram of a message may be shorter
        return True

    def _super(
        self, size: int, at: int, protocol: int, ecn: int, row: Row, tunnel: Way, sealer: Sealer, now: float
    ) -> bool:
        data = self._input
        flags, kind, _, segment, start, _ = vnet.LAYOUT.unpack_from(data)
        if protocol == TCP:
            head, wanted = at + (data[V + at + 12] >> 4) * 4, vnet.GSO_TCP4 if at == 20 else vnet.GSO_TCP6
        else:
            head, wanted = at + 8, vnet.GSO_UDP
        payload = size - V - head
        count = -(-payload // segment) if segment else 0
        if (
            kind != wanted
            or not flags & vnet.NEEDS_CHECKSUM
            or start != at
            or head < at + (20 if protocol == TCP else 8)
            or payload <= 0
            or not 0 < count <= MAX_COUNT
            or head + segment > tunnel.inner_mtu
            or (at == 20 and not data[V + 6] & 0x40)
            or sealer.counter + count > PACKETS_PER_EPOCH
        ):
            return False
        shape = self._shapes.get((head, segment, at)) or self._shape(head, segment, at)
        final = data[V : V + head]
        header = bytearray(final)
        _fit(final, at, protocol, head + payload - (count - 1) * segment)
        if count > 1:
            _fit(header, at, protocol, head + segment)
            if protocol == TCP:
                header[at + 13] &= ~PSH
        self._seal(shape, header, final, count, size, at if protocol == TCP else 0, sealer, tunnel, ecn, now)
        _note(row, count, payload + count * head, now)
        return True

    def _seal(
        self,
        shape: _Shape,
        header: bytearray,
        final: bytearray,
        count: int,
        size: int,
        tcp_at: int,
        sealer: Sealer,
        tunnel: Way,
        ecn: int,
        now: float,
    ) -> None:
        """Seal `count` segments, all but the last under `header`, and send each message that is full.

        `tcp_at` is where a TCP header begins, 0 for UDP.
        """
        data, output, width, most = self._input, self._output, shape.width, shape.most
        encrypt, iv, counter = sealer.cipher.aead.encrypt_into, sealer.cipher.iv, sealer.counter
        pack_header, pack_long = HEADER_LAYOUT.pack_into, LONG.pack_into
        word = sealer.first_word | PARTIAL
        step = len(shape.texts[0]) - len(header)
        sequence = LONG.unpack_from(header, tcp_at + 4)[0]
        done = 0
        while done < count:
            if self._pending is not tunnel or self._width != width or self._ecn != ecn or self._count >= most:
                self.flush(now)
                self._pending, self._width, self._ecn = tunnel, width, ecn
            slot = self._count
            many = min(count - done, most - slot)
            is_last = done + many == count
            whole = done + many - is_last
            for place, field, text, offset, aad, sealed in zip(
                shape.heads[done:whole], shape.sequences[done:whole], shape.texts[done:whole],
                shape.offsets[slot:], shape.aads[slot:], shape.sealed[slot:], strict=False,
            ):  # fmt: skip
                data[place] = header
                if tcp_at:
                    pack_long(data, field, sequence)
                    sequence = sequence + step & 0xFFFFFFFF
                pack_header(output, offset, word, counter)
                encrypt((iv ^ counter).to_bytes(12), text, aad, sealed)
                counter += 1
                word |= CONTINUES
            done += many
            self._count = slot + many
            self._end = self._count * width
            if is_last:
                place, offset = shape.heads[whole], self._end - width
                data[place] = final
                if tcp_at:
                    pack_long(data, shape.sequences[whole], sequence)
                pack_header(output, offset, word, counter)
                text = self._in[place.start : size]
                body, self._end = offset + HEADER_BYTES, offset + OVERHEAD_BYTES + len(text)
                encrypt((iv ^ counter).to_bytes(12), text, self._out[offset:body], self._out[body : self._end])
                counter += 1
            sealer.counter = counter
            if self._count == most or self._end < self._count * width:
                self.flush(now)

    def _shape(self, head: int, segment: int, at: int) -> _Shape:
        if len(self._shapes) >= MAX_SHAPES:
            self._shapes.clear()
        width, full = OVERHEAD_BYTES + head + segment, head + segment
        most = max(min(MAX_SEGMENTS, MAX_DATAGRAM // width), 1)
        begins = range(V, READ_BYTES - head, segment)[: MAX_COUNT + 1]
        offsets = [number * width for number in range(most)]
        shape = self._shapes[head, segment, at] = _Shape(
            width,
            most,
            [slice(begin, begin + head) for begin in begins],
            [begin + at + 4 for begin in begins],
            [self._in[begin : begin + full] for begin in begins],
            offsets,
            [self._out[offset : offset + HEADER_BYTES] for offset in offsets],
            [self._out[offset + HEADER_BYTES : offset + width] for offset in offsets],
        )
        return shape


def _note(row: Row, packets: int, size: int, now: float) -> None:
    row.last_used = now
    row.packets_out += packets
    row.bytes_out += size


def _fit(header: bytearray, at: int, protocol: int, length: int) -> None:
    """Make a header that of a segment of `length` bytes in all."""
    if at == 20:
        WORD.pack_into(header, 2, length)
        header[10:12] = b"\0\0"
        WORD.pack_into(header, 10, checksum(header[:20]))
    else:
        WORD.pack_into(header, 4, length - 40)
    if protocol == UDP:
        WORD.pack_into(header, at + 4, length - at)
