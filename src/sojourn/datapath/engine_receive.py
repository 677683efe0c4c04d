"""The engine's hot loop UDP -> TUN. Plain style yields to speed here, and in engine_send.py.

One call gives a batch of datagrams of equal length, but for the last (UDP_GRO). All are opened side by side
into `slots`, and each run of packets that continue one another (hint C) is written as one super-packet,
straight from there. What a hint claims is never trusted further than it can be checked: lengths are
looked at, and only the first header of a run is used.

A super-packet of 64 KiB does not fit into one message once it is sealed, and GRO may cut anywhere. So the last
run of a batch is `held` if the next batch may go on with it: `flush` when nothing more is there. Each write that
this saves saves an acknowledgement, too, all the way back.

A batch stays here when all of it is ordinary: one epoch, the current one, of a `fast` tunnel, from its outer
address, every counter new, every tag right, every packet TCP or UDP of a flow that is known on this tunnel,
no SYN, FIN, RST or CWR. Until that is certain nothing has been changed and nothing written;
else the whole batch goes to `Forwarder.from_outer`, datagram by datagram, which is the oracle, too.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice, pairwise, repeat
from struct import Struct as Layout
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag

from sojourn.datapath.engine_flow import PSH, TCP, UNUSUAL_FLAGS, Lane, Way, ordinary
from sojourn.datapath.engine_send import CONTINUES, LONG, PARTIAL, WORD, V
from sojourn.datapath.forwarder import Forwarder
from sojourn.model import Endpoint, TunnelId
from sojourn.packet import vnet
from sojourn.packet.checksum import Buffer, checksum, fold
from sojourn.packet.gso import CHECKSUM_OFFSET, MAX_PACKET
from sojourn.packet.ip import REMOTE6
from sojourn.packet.seal import HEADER_BYTES, OVERHEAD_BYTES, REPLAY_WINDOW, SEALED, VERSION, ReceiveEpoch, Window
from sojourn.paft import Mode, Row

RECEIVE_BYTES: Final = 65536
MAX_SHAPES: Final = 256
MAX_COUNT: Final = 512
"""A batch of more datagrams than this is left to the slow path; the kernel makes batches of 64."""
SMALLEST: Final = OVERHEAD_BYTES + 1
_KIND: Final = (SEALED | VERSION << 5) >> 5
_HINTS: Final = PARTIAL | CONTINUES
_COMPLETE: Final = bytes(V)
_NO_SLOTS: Final = bytearray()
_PARTIAL: Final = {
    (at, protocol): vnet.LAYOUT.pack(vnet.NEEDS_CHECKSUM, vnet.NO_GSO, 0, 0, at, offset)
    for at in (20, 40)
    for protocol, offset in CHECKSUM_OFFSET.items()
}
"""The virtio header of a single packet with an open checksum."""
_WINDOW_MASK: Final = (1 << REPLAY_WINDOW) - 1

Write = Callable[[Sequence[Buffer]], None]


class _Shape(NamedTuple):
    """Views that all batches with the same datagram length share."""

    aads: list[memoryview]
    sealed: list[memoryview]
    opened: list[memoryview]
    headers: dict[int, Layout]
    """By number of datagrams: the layout of all their first words and counters."""
    payloads: dict[int, list[memoryview]]
    """By bytes of IP and transport header: what follows it in each slot."""


class _Run:
    """Packets of one flow that leave by one write."""

    __slots__ = ("at", "begin", "head", "next", "packets", "parts", "payload", "push", "row", "size", "slots", "total")

    def __init__(self, row: Row, packets: int, size: int, parts: list[Buffer]) -> None:
        """`size`: bytes of all packets; `parts`: what to write after the header, which is made from what follows."""
        self.row = row
        self.packets = packets
        self.size = size
        self.parts = parts
        self.head = 0
        """Bytes of IP and transport header; 0: `parts` are complete, and nothing can be joined to them."""
        self.at = 0
        """Bytes of IP header."""
        self.total = 0
        """Bytes of the packet that is written."""
        self.payload = 0
        """Bytes of each packet's payload but the last one's."""
        self.push = 0
        self.begin = 0
        """Where in `slots` its first header is."""
        self.slots = _NO_SLOTS
        self.next = -1
        """The counter of the packet that may go on with it; -1: none may."""


class _Slots:
    """Where the datagrams of one batch are opened to."""

    def __init__(self) -> None:
        self.data = bytearray(RECEIVE_BYTES)
        self.view = memoryview(self.data)
        self.shapes: dict[int, _Shape] = {}


class Receiver:
    """Takes what a UDP socket gives and has it written to a TUN."""

    def __init__(self, forwarder: Forwarder, write: Write, *, inbound: bool) -> None:
        """`inbound`: packets from tunnels travel to a mobile host (we are the host)."""
        self._forwarder = forwarder
        self._write = write
        self._inbound = inbound
        self._input = bytearray(RECEIVE_BYTES)
        self._in = memoryview(self._input)
        self.buffers: Sequence[memoryview] = [self._in]
        """Where the next receive puts its bytes."""
        self._slots, self._others = _Slots(), _Slots()
        """Two, because a run that is held stays where it is."""
        self._held: _Run | None = None
        self._held_in: tuple[ReceiveEpoch, int] | None = None
        """Its epoch and the length of its datagrams."""

    def tunnel_id(self) -> TunnelId | None:
        """Return the tunnel index that the datagram in `buffers` claims, None where it is not sealed."""
        first = self._input[0]
        return TunnelId(int.from_bytes(self._input[1:4])) if first >> 5 == _KIND else None

    def take(
        self, size: int, segment: int, source: Endpoint, ecn: int, now: float, tunnel: TunnelId | None = None
    ) -> None:
        """Take in `size` bytes of datagrams of `segment` bytes each; `tunnel` = whose socket they came on (host)."""
        if not size or self.fast(size, segment, source, ecn, now, tunnel, self._forwarder.tunnels):
            return
        self.flush()
        for at in range(0, size, segment):
            datagram = bytes(self._in[at : min(at + segment, size)])
            self._forwarder.from_outer(datagram, source, now, tunnel, ecn)

    def flush(self) -> None:
        """Write what was held for more: nothing more is there for now."""
        run = self._held
        if run is not None:
            self._held = self._held_in = None
            self._emit(run)

    def fast(
        self, size: int, segment: int, source: Endpoint, ecn: int, now: float, expected: TunnelId | None,
        ways: Mapping[TunnelId, Way],
    ) -> bool:  # fmt: skip
        """Take it in if it is ordinary; say whether it was. Else nothing has changed, and it is still in `buffers`."""
        full, rest = divmod(size, segment)
        count = full + 1 if rest else full
        if segment < SMALLEST or 0 < rest < SMALLEST or count > MAX_COUNT or ecn & 1:
            return False  # ECN: ECT(1) and CE may change the inner header (RFC 6040 §4.2), the others do not
        word = LONG.unpack_from(self._input)[0]
        tunnel = ways.get(TunnelId(word & 0xFFFFFF))
        if word >> 29 != _KIND or tunnel is None or not tunnel.fast or tunnel.outer != source or tunnel.opener is None:
            return False
        if expected is not None and expected != tunnel.id:
            return False
        for epoch in tunnel.opener.epochs[word >> 24 & 7]:
            if epoch.epoch == tunnel.opener.current:
                break
        else:
            return False
        shape = self._slots.shapes.get(segment)
        if shape is None or len(shape.opened) < count:
            shape = self._shape(segment, count)
        fields = (shape.headers.get(count) or _headers(shape, segment, count)).unpack_from(self._input)
        words, counters = fields[::2], fields[1::2]
        if any(other & ~_HINTS != word & ~_HINTS for other in set(words)):
            return False
        consecutive = counters[0] > epoch.window.top and counters == tuple(range(counters[0], counters[0] + count))
        if not consecutive and (len(set(counters)) != count or not all(map(epoch.window.fresh, counters))):
            return False
        if not self._open(shape, epoch, counters, size, segment):
            return False
        last_length = size - (count - 1) * segment - OVERHEAD_BYTES
        runs = self._runs(shape, tunnel, words, _begins(words, counters, consecutive), segment, last_length)
        if runs is None:
            return False
        _mark(epoch.window, counters, consecutive)
        tunnel.heard(now, count, size)
        for run in runs:
            _note(run.row, run.packets, run.size, now)
        if last_length == segment - OVERHEAD_BYTES and runs[-1].head:
            runs[-1].next = counters[-1] + 1
        self._leave(runs, (epoch, segment), counters[0] if words[0] & CONTINUES else -2)
        if not self._inbound:
            association = self._forwarder.associations.get(tunnel.association)
            if association is not None:
                association.last_heard = tunnel.id
        return True

    def _open(self, shape: _Shape, epoch: ReceiveEpoch, counters: tuple[int, ...], size: int, segment: int) -> bool:
        """Open all datagrams into their slots; say whether all were authentic."""
        decrypt, iv = epoch.cipher.aead.decrypt_into, epoch.cipher.iv
        nonces = map(int.to_bytes, map(iv.__xor__, counters), repeat(12))
        full, rest = divmod(size, segment)
        try:
            deque(map(decrypt, islice(nonces, full), shape.sealed, shape.aads, shape.opened), 0)
            if rest:
                at = full * segment
                body, end = at + HEADER_BYTES, at + rest - OVERHEAD_BYTES
                decrypt(next(nonces), self._in[body:size], self._in[at:body], self._slots.view[at:end])
        except InvalidTag:
            return False
        return True

    def _runs(
        self,
        shape: _Shape,
        tunnel: Way,
        words: tuple[int, ...],
        begins: list[int],
        segment: int,
        last_length: int,
    ) -> list[_Run] | None:
        """Return what is to be written, from `begins`; None if there is anything among it that is not ordinary."""
        runs: list[_Run] = []
        count, length = len(words), segment - OVERHEAD_BYTES
        for begin, end in zip(begins, (*begins[1:], count), strict=True):
            first = length if begin < count - 1 else last_length
            tail = length if end < count else last_length
            run = self._run(shape, tunnel, segment, begin, end, first, tail, bool(words[begin] & PARTIAL))
            if run is None:
                return None
            runs.append(run)
        return runs

    def _run(
        self,
        shape: _Shape,
        tunnel: Way,
        segment: int,
        begin: int,
        end: int,
        length: int,
        tail: int,
        partial: bool,
    ) -> _Run | None:
        """Return the packets in slots `begin` to `end` as one; all are `length` bytes long, the last one `tail`."""
        slots, o = self._slots.data, begin * segment
        found = ordinary(slots, o, length, self._inbound)
        if found is None:
            return None
        at, protocol, key = found
        row = self._forwarder.paft.rows.get(key)
        if row is None or row.association != tunnel.association or row.mode is not Mode.ONE or row.blocked:
            return None
        if row.tunnel != tunnel.id and not self._inbound:
            return None  # the anchor learns from it (paft.py)
        if isinstance(tunnel, Lane) and key[REMOTE6] != tunnel.home:
            return None  # it says to be another peer
        packets, flags, head = end - begin, 0, at + 8
        if protocol == TCP:
            head = at + (slots[o + at + 12] >> 4) * 4
            flags = slots[(end - 1) * segment + at + 13]
            if flags & UNUSUAL_FLAGS or head < at + 20:
                return None
        total = (length - head) * (packets - 1) + tail
        if head > length or total > MAX_PACKET or (packets > 1 and not head < tail <= length):
            return None
        if packets == 1 and (not partial or head == length):
            virtio = _COMPLETE
            if partial:
                virtio = _PARTIAL[at, protocol]
                WORD.pack_into(slots, o + at + CHECKSUM_OFFSET[protocol], _pseudo(slots, o, at, protocol, length))
            return _Run(row, 1, length, [virtio, self._slots.view[o : o + length]])
        parts: list[Buffer] = []
        if packets > 1:
            parts += (shape.payloads.get(head) or self._payloads(shape, segment, head))[begin : end - 1]
        last = (end - 1) * segment
        parts.append(self._slots.view[last + head : last + tail])
        run = _Run(row, packets, total + (packets - 1) * head, parts)
        run.head, run.at, run.total, run.payload = head, at, total, length - head
        run.push, run.begin, run.slots = flags & PSH, o, slots
        return run

    def _leave(self, runs: list[_Run], kind: tuple[ReceiveEpoch, int], continues: int) -> None:
        """Write the runs of one batch, but for the last if the next batch may go on with it.

        `continues`: the counter of the first packet, if that claims to go on with the packet before it.
        """
        held, first = self._held, runs[0]
        if held is not None:
            joins = (
                held.next == continues
                and self._held_in == kind
                and held.row is first.row
                and held.head == first.head
                and held.total + first.total - first.head <= MAX_PACKET
            )
            if joins:
                held.parts += first.parts
                held.packets += first.packets
                held.total += first.total - first.head
                held.push = first.push
                del runs[0]  # and the joined run leaves now: there is no third place for another batch
            self.flush()
        last = runs[-1] if runs else None
        if last is not None and last.next >= 0:
            runs.pop()
            self._held, self._held_in = last, kind
            self._slots, self._others = self._others, self._slots
        for run in runs:
            self._emit(run)

    def _emit(self, run: _Run) -> None:
        self._write([_header(run), *run.parts] if run.head else run.parts)

    def _shape(self, segment: int, count: int) -> _Shape:
        """Make a shape for `count` datagrams at least, but not for all that there is room for: lengths vary."""
        slots = self._slots
        if len(slots.shapes) >= MAX_SHAPES:
            slots.shapes.clear()
        begins = [number * segment for number in range(1 << (count - 1).bit_length())]
        text = segment - OVERHEAD_BYTES
        shape = slots.shapes[segment] = _Shape(
            [self._in[at : at + HEADER_BYTES] for at in begins],
            [self._in[at + HEADER_BYTES : at + segment] for at in begins],
            [slots.view[at : at + text] for at in begins],
            {},
            {},
        )
        return shape

    def _payloads(self, shape: _Shape, segment: int, head: int) -> list[memoryview]:
        text = segment - OVERHEAD_BYTES
        views = [self._slots.view[at * segment + head : at * segment + text] for at in range(len(shape.opened))]
        shape.payloads[head] = views
        return views


def _header(run: _Run) -> bytearray:
    """Return virtio, IP and transport header for a run."""
    at, head, total, begin = run.at, run.head, run.total, run.begin
    header = bytearray(V) + run.slots[begin : begin + head]
    if at == 20:
        protocol, kind = header[V + 9], vnet.GSO_TCP4
        WORD.pack_into(header, V + 2, total)
        header[V + 10 : V + 12] = b"\0\0"
        WORD.pack_into(header, V + 10, checksum(header[V : V + 20]))
    else:
        protocol, kind = header[V + 6], vnet.GSO_TCP6
        WORD.pack_into(header, V + 4, total - 40)
    field = CHECKSUM_OFFSET[protocol]
    WORD.pack_into(header, V + at + field, _pseudo(header, V, at, protocol, total))
    if protocol == TCP:
        header[V + at + 13] |= run.push
    else:
        kind = vnet.GSO_UDP
        WORD.pack_into(header, V + at + 4, total - at)
    if run.packets > 1:
        vnet.LAYOUT.pack_into(header, 0, vnet.NEEDS_CHECKSUM, kind, head, run.payload, at, field)
    else:
        vnet.LAYOUT.pack_into(header, 0, vnet.NEEDS_CHECKSUM, vnet.NO_GSO, head, 0, at, field)
    return header


def _pseudo(data: bytearray, o: int, at: int, protocol: int, length: int) -> int:
    """Return what an open checksum field holds in a packet of `length` bytes at `o`."""
    addresses = data[o + 12 : o + 20] if at == 20 else data[o + 8 : o + 40]
    return fold(int.from_bytes(addresses) + protocol + length - at)


def _note(row: Row, packets: int, size: int, now: float) -> None:
    row.last_used = now
    row.packets_in += packets
    row.bytes_in += size


def _headers(shape: _Shape, segment: int, count: int) -> Layout:
    """Return the layout that reads first word and counter of `count` datagrams at once."""
    layout = shape.headers[count] = Layout(">" + f"II{segment - 8}x" * (count - 1) + "II")
    return layout


def _begins(words: tuple[int, ...], counters: tuple[int, ...], consecutive: bool) -> list[int]:
    """Return which packets do not continue the one before them in this batch."""
    if consecutive:
        begins = [at for at, word in enumerate(words) if not word & CONTINUES]
        return begins if begins and not begins[0] else [0, *begins]
    gaps = (before + 1 != after for before, after in pairwise(counters))
    return [0, *(at for at, gap in enumerate(gaps, 1) if gap or not words[at] & CONTINUES)]


def _mark(window: Window, counters: tuple[int, ...], consecutive: bool) -> None:
    """Note authenticated counters, all of them new."""
    if not consecutive:
        for counter in counters:
            window.mark(counter)
        return
    shift = counters[-1] - window.top
    window.top = counters[-1]
    window.bitmap = ((window.bitmap << shift if shift < REPLAY_WINDOW else 0) | (1 << len(counters)) - 1) & _WINDOW_MASK
