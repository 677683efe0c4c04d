"""The engine with a C core: threads without Python move what is ordinary, this decides and does the rest.

    core/*.c          threads: TUN -> UDP (core_queues.py) and UDP -> TUN, by rows, paths and keys that stand ready
    core_rows.py      rows shared with the core          core_keys.py    keys given to it
    core_births.py    flows that it begins by itself     core_peers.py   flows with peers on direct paths
    core_books.py     what tunnels did without us
    core_engine.py    this: the same loop, forwarder and machines as in engine.py, fed by what the core hands up

Whatever the core finds no answer for comes up in one of three bounded queues: reads of the TUN, what authentic peers
sent, and what strangers sent. What tunnels did without us is taken over (core_books.py) every few milliseconds while
packets pass, and before any timer is judged, so that silence, keys and measurement are what they always were.
"""

import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

from sojourn.datapath._core import Core
from sojourn.datapath.classify import Classifier
from sojourn.datapath.core_activity import Notice
from sojourn.datapath.core_births import CoreForwarder
from sojourn.datapath.core_books import Books
from sojourn.datapath.core_keys import CoreOpener, CoreSealer
from sojourn.datapath.core_peers import CorePeers
from sojourn.datapath.core_queues import Queues
from sojourn.datapath.engine import Engine
from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.forwarder import Forwarder
from sojourn.datapath.loop import LATE, Timed
from sojourn.datapath.outlets import Outlet
from sojourn.errors import RemoteProtocolError
from sojourn.linux.threads import threads_each_way
from sojourn.linux.tun import Tun
from sojourn.linux.udp import IP_PKTINFO, IPV6_PKTINFO, Ancillary, UdpSocket
from sojourn.model import Endpoint, TunnelId
from sojourn.packet import gso, vnet
from sojourn.packet.ip import flow_of, packed, text
from sojourn.packet.seal import SEALED, TAG_BYTES, VERSION, Hint, Opened
from sojourn.paft import LEARN_HOLD
from sojourn.upmt.commands import AnyCommand, MoveFlows, Report, Role, SendInner, SendOutside, Setup, Snapshot
from sojourn.upmt.events import AnyEvent, FlowMoved
from sojourn.upmt.tunnel import Tunnel
from sojourn.upmt.tunnel_keys import Ends

FROM_TUN, FROM_PEERS, FROM_STRANGERS = range(3)
READ, DATAGRAM, OPENED, ADVANCED, LEARNED, FAILED, TUN_GONE, STEP = range(8)
PER_TURN: Final = {FROM_PEERS: 256, FROM_TUN: 256, FROM_STRANGERS: 64}
"""Notices of each queue that one turn works on."""
FIRST_PACKET: Final = 0x10
"""Plaintexts that begin lower are control frames (docs/wire.md)."""
TURNS: Final = 4
"""The receiving thread counts the beginning and the end of each turn: so many later it has read what waited before."""
PATIENCE: Final = 0.2
"""Seconds for which timers wait for a receiving thread that does not get to run; then its lateness is forgiven."""
REFUSED: Final = frozenset(("forged", "replayed", "wrong-tunnel", "flow-rate", "flows-full"))


class CoreEngine(Engine):
    """A `DataPath`; all methods but `stop` in one thread, beside which those of the core run."""

    NAME = "core"

    # Set up before Engine.__init__ asks for its parts.

    def _forwarder(self, emit: Callable[[AnyEvent], None], epochs: EpochStore) -> Forwarder:
        threads = threads_each_way()
        self._core = core = Core(threads)
        self._queues = Queues(core, self.descriptors, self.features, threads)
        self._births = forwarder = CoreForwarder(core, self, emit, epochs)
        forwarder.on_gone = self._tunnel_gone
        forwarder.ends = Ends(
            lambda keys, tunnel, direction, epoch: CoreSealer(core, keys, tunnel, direction, epoch),
            lambda keys, tunnel, direction, epoch, seen: CoreOpener(core, keys, tunnel, direction, epoch, seen),
            self._tunnel_changed,
        )
        self._peers = CorePeers(core, forwarder, lambda: self._rendezvous, gso=self.features.gso)
        self._books = Books(core, forwarder, self._peers, lambda: self._clock())
        forwarder.table.peers = forwarder.peer_core = self._peers
        self._sockets: dict[int, UdpSocket] = {}
        self._tunnel_of: dict[int, TunnelId] = {}
        """Host: whose socket it is."""
        self._paths: dict[TunnelId, tuple[object, ...]] = {}
        self._holds: dict[TunnelId, float] = {}
        self._more = False
        """A queue may hold more than the last turn took."""
        self._late_since, self._late_turn = 0.0, 0
        """Since when timers wait for the receiving thread, and the turn that it was in."""
        self._look_again_at = 0.0
        """When they are judged again; 0 = they do not wait."""
        return forwarder

    def _timed(self) -> Timed:
        return self

    def run(self) -> None:
        """Move packets until stopped."""
        self._loop.watch(self._core.fileno(), self._on_core)
        self._core.start()
        super().run()

    def close(self) -> None:
        """End the threads, and close every descriptor."""
        self._core.stop()
        self._queues.close()
        super().close()

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Carry out orders, now."""
        for command in commands:
            if isinstance(command, Setup):
                self._core.configure(command.role is Role.ANCHOR)
            elif isinstance(command, MoveFlows | Report | Snapshot):
                self._books.catch_up(self._clock())
                self._books.take_quiet(self._clock())
                self._take_counts()
            if not isinstance(command, SendInner | SendOutside):
                self._births.take_all_births(self._clock())
            super().submit((command,))
            self._births.tell_core(command)

    def ask(self, owners: Classifier) -> None:
        """Ask `owners` who made each new flow; the core asks the same map."""
        super().ask(owners)
        self._births.owners = owners
        owners.on_maps = self._core.set_owners

    # Time (loop.Timed).

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        if self._more or self.forwarder.busy:
            return 0.0
        due = self.forwarder.deadline()
        if due is not None:
            due = max(due, self._look_again_at)
        soon = self._books.deadline()
        return soon if due is None else min(due, soon)

    def tick(self, now: float) -> None:
        """Do what is due, once all that had come before is known. Orders do not wait for that."""
        self._on_core()
        self.forwarder.go_on()
        due = self.forwarder.deadline()
        if due is not None and due <= now and self._all_heard(now):
            if not self.forwarder.is_anchor:
                self._books.catch_up(now)  # a probe says how many packets went before it
            self._books.take_quiet(now)
            self.forwarder.tick(now)

    def clock_jumped(self, gap: float, now: float) -> None:
        """Forgive `gap` seconds in which the process did not run."""
        self.forwarder.clock_jumped(gap, now)

    def _all_heard(self, now: float) -> bool:
        """Say whether the receiving thread has seen what had come when timers were first to be judged."""
        turn = self._core.behind()
        if turn >= 0 and not self._look_again_at:
            self._late_since, self._late_turn = now, turn
        waited = now - self._late_since
        if turn >= 0 and turn < self._late_turn + TURNS and waited < PATIENCE:
            self._look_again_at = now + 0.001
            return False
        if self._look_again_at and waited > LATE:
            self.forwarder.clock_jumped(waited, now)
        self._look_again_at = 0.0
        return True

    # Descriptors.

    def _watch_tun(self, tun: Tun) -> None:
        self._core.watch_tun(tun.fd, tun.uso)
        self._queues.add(tun)

    def _drop_tun(self) -> None:
        self._queues.drop()
        super()._drop_tun()

    def _watch_socket(self, sock: UdpSocket, tunnel: TunnelId | None) -> None:
        self._sockets[sock.fd] = sock
        if tunnel is not None:
            self._tunnel_of[sock.fd] = tunnel
        self._core.watch_socket(sock.fd, -1 if tunnel is None else tunnel, sock.gso, self.features.gro)

    def _unwatch(self, fd: int) -> None:
        if self._sockets.pop(fd, None) is not None:
            self._tunnel_of.pop(fd, None)
            for number in [number for number, path in self._paths.items() if path[1] == fd]:
                self._set_path(number, None)
        self._core.unwatch(fd)

    # What the core knows of tunnels.

    def _tunnel_changed(self, number: TunnelId) -> None:
        tunnel = self.forwarder.tunnels.get(number)
        if tunnel is None or not tunnel.sealed:
            return
        self._set_path(number, self._path_of(tunnel))
        hold = max(LEARN_HOLD, 2 * tunnel.rtt.guess())
        if abs(hold - self._holds.get(number, 0.0)) > hold / 16:
            self._holds[number] = hold
            self._core.set_hold(number, hold)

    def _path_of(self, tunnel: Tunnel) -> tuple[object, ...] | None:
        if not tunnel.fast or tunnel.outer is None or tunnel.sealer is None:
            return None
        outlet = self.outlets.find(tunnel.id, tunnel.outer)
        if outlet is None or outlet.socket.fd not in self._sockets:
            return None
        scope = outlet.address[3] if len(outlet.address) == 4 else 0
        via = outlet.via[2] if outlet.via is not None else b""
        address = packed(tunnel.outer.address)
        return (
            tunnel.association, outlet.socket.fd, address, tunnel.outer.port, scope, via, tunnel.inner_mtu,
            not tunnel.may_fragment,
        )  # fmt: skip

    def _set_path(self, number: TunnelId, path: tuple[object, ...] | None) -> None:
        """One store in the core's memory: every packet sees the old path or the new one."""
        if path == self._paths.get(number):
            return
        if path is None:
            del self._paths[number]
            self._core.clear_path(number)
        else:
            self._paths[number] = path
            self._core.set_path(number, *path)  # type: ignore[arg-type]

    def _tunnel_gone(self, number: TunnelId) -> None:
        self._paths.pop(number, None)
        self._holds.pop(number, None)
        self._core.forget(number)

    # What the core did.

    def _on_core(self) -> None:
        now = self._clock()
        self._core.rest()
        self._books.look(now)
        queues = [self._core.take(queue, most) for queue, most in PER_TURN.items()]
        # What has begun is taken after what is handed up, and worked on before: the first packet of a flow comes first.
        self._more = self._births.take_births(now)
        for notices, most in zip(queues, PER_TURN.values(), strict=True):
            self._more = self._more or len(notices) == most
            for notice in notices:
                _HANDLERS[notice[0]](self, notice)
        self._core.done()

    def _take_counts(self) -> None:
        for name, count in self._core.counts().items():
            (self.forwarder.refused if name in REFUSED else self.forwarder.totals)[name] += count

    # What the core hands up.

    def _on_read(self, notice: Notice) -> None:
        data, forwarder, now = notice[-1], self.forwarder, self._clock()
        try:
            for packet in gso.finish(data[vnet.HEADER_BYTES :], vnet.parse(data)):
                forwarder.from_inner(packet, now)
        except RemoteProtocolError as error:
            forwarder.refused[error.reason] += 1

    def _on_datagram(self, notice: Notice) -> None:
        self._from_outer(notice, notice[-1], None)

    def _on_opened(self, notice: Notice) -> None:
        _, number, epoch, counter, hint, highest, before, *_, plaintext = notice
        tunnel = self.forwarder.tunnels.get(TunnelId(number))
        if tunnel is None or not isinstance(tunnel.opener, CoreOpener):
            self._peers.opened(notice, self._clock())
            return
        stale = epoch < tunnel.opener.current
        opened = Opened(plaintext, epoch, counter, Hint(hint), highest, stale)
        first = (SEALED | VERSION << 5 | hint | epoch & 7) << 24 | number
        since = self._books.counted_since(tunnel, before) if plaintext[0] < FIRST_PACKET else 0
        tunnel.packets_in -= since
        tunnel.opener.give(opened)
        self._from_outer(notice, first.to_bytes(4) + counter.to_bytes(4) + plaintext + bytes(TAG_BYTES), tunnel)
        tunnel.opener.give(None)
        tunnel.packets_in += since
        if plaintext[0] < FIRST_PACKET:
            self._books.tell(tunnel, epoch, counter)

    def _from_outer(self, notice: Notice, datagram: bytes, tunnel: Tunnel | None) -> None:
        """Do with one datagram what `_on_udp` does with a batch."""
        *_, ecn, fd, _, _, address, port, scope, via, _ = notice
        sock = self._sockets.get(fd)
        if tunnel is None and sock is None and address:
            self._peers.datagram(fd, datagram, Endpoint(text(address), port), self._clock())
        if sock is None or not datagram or not address:
            return
        host = text(address)
        where = (host, port, 0, scope) if sock.six else (host, port)
        source = Endpoint(host, port)
        outlet = Outlet(sock, where, _way_back(sock, via))
        forwarder, outlets = self.forwarder, self.outlets
        outlets.current = source, outlet
        on = self._tunnel_of.get(fd)
        if tunnel is None and on is None:
            index = TunnelId(int.from_bytes(datagram[1:4])) if datagram[0] & SEALED else None
            tunnel = self._claimed(index, source)
        heard = tunnel.packets_in if tunnel is not None else 0
        forwarder.from_outer(datagram, source, self._clock(), on, ecn)
        if on is None and tunnel is None and datagram[0] & SEALED:
            tunnel, heard = self._claimed(TunnelId(int.from_bytes(datagram[1:4])), source), 0
        # Anybody can write any source on a datagram: only an authentic one shows the way back.
        if on is None and tunnel is not None and tunnel.outer == source and tunnel.packets_in != heard:
            outlets.remember(tunnel.id, source, outlet)
            self._tunnel_changed(tunnel.id)
        outlets.current = None

    def _on_advanced(self, notice: Notice) -> None:
        tunnel = self.forwarder.tunnels.get(TunnelId(notice[1]))
        if tunnel is not None and tunnel.opener is not None:
            tunnel.opener.advance(notice[2])
            now = self._clock()
            self.forwarder.note_secret(tunnel, Opened(b"", notice[2], 0, Hint.NONE, True, False), now)
            tunnel.advanced(now)

    def _on_learned(self, notice: Notice) -> None:
        key, number = notice[-1], TunnelId(notice[1])
        row = self.forwarder.paft.rows.get(key)
        if row is not None and row.tunnel == number:
            self.forwarder.emit(FlowMoved(row.association, flow_of(key), number))
            self.forwarder.resend(key, row, self._clock())

    def _on_failed(self, notice: Notice) -> None:
        number = TunnelId(notice[1])
        if number not in self._peers.sessions:  # checks without an answer say that of peers
            self._failing.discard(number)
            self._gone(number, os.strerror(notice[2]))

    def _on_tun_gone(self, notice: Notice) -> None:
        if self.tun is not None:
            self._say("error", f"device {self.tun.name} has gone: {os.strerror(notice[2])}")
            self._drop_tun()

    def _on_step(self, notice: Notice) -> None:
        self._peers.step(TunnelId(notice[1]))
        tunnel = self.forwarder.tunnels.get(TunnelId(notice[1]))
        if tunnel is not None:
            tunnel.frame_sent(0, self._clock(), counts=False)  # that looks whether it is time to step


def _way_back(sock: UdpSocket, via: bytes) -> Ancillary | None:
    if not via:
        return None
    return (socket.IPPROTO_IPV6, IPV6_PKTINFO, via) if sock.six else (socket.IPPROTO_IP, IP_PKTINFO, via)


_HANDLERS: Final[dict[int, Callable[[CoreEngine, Notice], None]]] = {
    READ: CoreEngine._on_read,
    DATAGRAM: CoreEngine._on_datagram,
    OPENED: CoreEngine._on_opened,
    ADVANCED: CoreEngine._on_advanced,
    LEARNED: CoreEngine._on_learned,
    FAILED: CoreEngine._on_failed,
    TUN_GONE: CoreEngine._on_tun_gone,
    STEP: CoreEngine._on_step,
}
