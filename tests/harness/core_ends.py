"""The C core in the place of engine_send.Sender and engine_receive.Receiver: the same tests, another engine.

A forwarder that stands is given to a core: its rows get twins, its tunnel a sealer and an opener of the core's. The
core runs without threads and descriptors (`drive_tun`, `drive_udp`); what it hands up goes to the forwarder.
"""

import os
import weakref
from collections.abc import Callable, Sequence
from typing import cast

from sojourn.datapath._core import Core
from sojourn.datapath.core_births import CoreForwarder
from sojourn.datapath.core_books import Books
from sojourn.datapath.core_engine import FIRST_PACKET, FROM_PEERS, FROM_STRANGERS, FROM_TUN, LEARNED, OPENED, REFUSED
from sojourn.datapath.core_keys import CoreOpener, CoreSealer
from sojourn.datapath.core_peers import CorePeers
from sojourn.datapath.forwarder import Forwarder
from sojourn.datapath.rendezvous_sockets import RendezvousSockets
from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint, TunnelId
from sojourn.packet import gso, vnet
from sojourn.packet.checksum import Buffer
from sojourn.packet.ip import flow_of, packed
from sojourn.packet.seal import TAG_BYTES, Hint, Opened, Sealer
from sojourn.upmt.events import FlowMoved
from sojourn.upmt.tunnel import Tunnel

Transmit = Callable[[Tunnel, memoryview, int, int, int], None]
Write = Callable[[Sequence[Buffer]], None]


class CoreEnd:
    """A forwarder whose packets a core moves."""

    def __init__(self, forwarder: Forwarder, *, anchor: bool) -> None:
        self.core = Core()
        self.core.configure(anchor)
        self.forwarder = forwarder
        self.births = self._with_core(forwarder)
        self.fd = os.eventfd(0)  # stands for a socket: nothing is ever sent on it
        weakref.finalize(self, os.close, self.fd)
        self.core.watch_socket(self.fd, -1, True, True)
        self.core.use_uso(True)
        self._paths: dict[TunnelId, tuple[bool, Endpoint | None]] = {}
        nobody = CorePeers(self.core, forwarder, lambda: cast(RendezvousSockets, None), gso=True)
        self.books = Books(self.core, forwarder, nobody, lambda: self._now)
        self._now = 0.0
        for tunnel in forwarder.tunnels.values():
            self._take_over(tunnel)
        self.core.poll(True)

    def _with_core(self, forwarder: Forwarder) -> CoreForwarder:
        """Make a forwarder one that has a core, as it stands."""
        forwarder.__class__ = CoreForwarder
        assert isinstance(forwarder, CoreForwarder)
        forwarder.on_gone, forwarder.owners = (lambda _number: None), None
        forwarder.use(self.core)
        for key, row in list(forwarder.paft.rows.items()):
            forwarder.table.added(key, row)
        if forwarder.setup is not None:
            forwarder.tell_core(forwarder.setup)
        for association in forwarder.associations.values():
            forwarder.tell_core(association.added)
        return forwarder

    def _take_over(self, tunnel: Tunnel) -> None:
        keys, opener, sealer = tunnel.keys, tunnel.opener, tunnel.sealer
        assert keys is not None
        assert opener is not None
        assert sealer is not None
        epoch = self.forwarder.epochs.next(tunnel.id)
        ours: Sealer = CoreSealer(self.core, keys.schedule, tunnel.id, sealer.direction, epoch)
        tunnel.sealer = keys.sealer = ours
        tunnel.opener = keys.opener = CoreOpener(
            self.core, keys.schedule, tunnel.id, opener.direction, opener.current, opener.top()
        )
        keys.opener.on_new_epoch = opener.on_new_epoch
        self.core.set_hold(tunnel.id, 3.0)
        self.set_path(tunnel)

    def set_path(self, tunnel: Tunnel) -> None:
        may = tunnel.fast and not tunnel.may_fragment
        path = may, tunnel.outer
        if path == self._paths.get(tunnel.id):
            return
        self._paths[tunnel.id] = path
        if not may:
            self.core.clear_path(tunnel.id)
            return
        assert tunnel.outer is not None
        self.core.set_path(
            tunnel.id, tunnel.association, self.fd, packed(tunnel.outer.address), tunnel.outer.port, 0,
            b"", tunnel.inner_mtu, True,
        )  # fmt: skip

    def catch_up(self, now: float) -> None:
        """Let the tunnels know what they did."""
        self._now = now
        self.books.catch_up(now)
        self.books.take_quiet(now)
        for name, count in self.core.counts().items():
            (self.forwarder.refused if name in REFUSED else self.forwarder.totals)[name] += count


class CoreSender(CoreEnd):
    """What engine_send.Sender does."""

    def __init__(self, forwarder: Forwarder, transmit: Transmit, *, inbound: bool) -> None:
        super().__init__(forwarder, anchor=inbound)
        self._transmit = transmit
        self.buffers = [memoryview(bytearray(vnet.HEADER_BYTES + 65536))]

    def take(self, size: int, now: float) -> None:
        for tunnel in self.forwarder.tunnels.values():
            self.set_path(tunnel)
        self._send(self.core.drive_tun(bytes(self.buffers[0][:size]), now))
        for *_, data in self.core.take(FROM_TUN, 1000):
            try:
                for packet in gso.finish(data[vnet.HEADER_BYTES :], vnet.parse(data)):
                    self.forwarder.from_inner(packet, now)
            except RemoteProtocolError as error:
                self.forwarder.refused[error.reason] += 1
        self.core.done()
        self.catch_up(now)

    def flush(self, now: float) -> None:
        self._send(self.core.drive_tun(None, now))
        self.catch_up(now)

    def _send(self, messages: list[tuple[int, bytes, int, int, int]]) -> None:
        for number, data, width, count, ecn in messages:
            self._transmit(self.forwarder.tunnels[TunnelId(number)], memoryview(data), width, count, ecn)


class CoreReceiver(CoreEnd):
    """What engine_receive.Receiver does."""

    def __init__(self, forwarder: Forwarder, write: Write, *, inbound: bool) -> None:
        super().__init__(forwarder, anchor=not inbound)
        self._write = write
        self.answers: list[bytes] = []
        """What the core has answered by itself."""
        self.buffers = [memoryview(bytearray(65536))]

    def take(
        self, size: int, segment: int, source: Endpoint, ecn: int, now: float, tunnel: TunnelId | None = None
    ) -> None:
        self._now = now
        data = bytes(self.buffers[0][:size])
        for whole in self.core.drive_udp(self.fd, data, segment, packed(source.address), source.port, b"", ecn, now):
            self._write((whole,))
        self.answers += [datagram for _, datagram in self.core.drive_answers()]
        queues = [self.core.take(ring, 10000) for ring in (FROM_PEERS, FROM_STRANGERS)]
        self.births.take_all_births(now)
        for notice in (notice for queue in queues for notice in queue):
            self._up(notice[0], notice, source, tunnel)
        self.core.done()
        self.catch_up(now)
        for each in self.forwarder.tunnels.values():
            self.set_path(each)

    def _up(self, kind: int, notice: tuple[object, ...], source: Endpoint, on: TunnelId | None) -> None:
        _, number, epoch, counter, hint, highest, before, ecn, *_, data = notice
        assert isinstance(data, bytes)
        assert isinstance(before, int)
        assert isinstance(number, int)
        assert isinstance(ecn, int)
        if kind == OPENED:
            tunnel = self.forwarder.tunnels[TunnelId(number)]
            assert isinstance(epoch, int)
            assert isinstance(counter, int)
            assert isinstance(hint, int)
            assert isinstance(tunnel.opener, CoreOpener)
            stale = epoch < tunnel.opener.current
            tunnel.opener.give(Opened(data, epoch, counter, Hint(hint), bool(highest), stale))
            first = (0x80 | hint | epoch & 7) << 24 | number
            is_frame = data[0] < FIRST_PACKET
            data = first.to_bytes(4) + counter.to_bytes(4) + data + bytes(TAG_BYTES)
            since = self.books.counted_since(tunnel, before) if is_frame else 0
            tunnel.packets_in -= since
            self.forwarder.from_outer(data, source, self._now, on, ecn)
            tunnel.packets_in += since
            if is_frame:
                self.books.tell(tunnel, epoch, counter)
            return
        elif kind == LEARNED:
            row = self.forwarder.paft.rows[data]
            self.forwarder.emit(FlowMoved(row.association, flow_of(data), TunnelId(number)))
            return
        self.forwarder.from_outer(data, source, self._now, on, ecn)

    def flush(self) -> None:
        for whole in self.core.drive_udp(self.fd, None, 0, b"", 0, b"", 0, self._now):
            self._write((whole,))
