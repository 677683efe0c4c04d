"""The Python engine: a TUN and UDP sockets, one loop, batches everywhere.

Layers, from the kernel inwards:

    loop.py             descriptors, then timers
    engine.py           this: which descriptors there are, and what the system's errors mean
    engine_send.py      the hot loop TUN -> UDP: segments of a super-packet sealed in place
    engine_receive.py   the hot loop UDP -> TUN: batches opened, runs written as super-packets
    forwarder.py        everything else, one packet at a time; all state lives there

A full queue loses packets, as a router's would, and is counted; a network that has gone is told to
the forwarder once, until a packet goes out again.
"""

import errno
import functools
import os
from collections.abc import Callable, Sequence
from typing import Final

from sojourn.datapath.classify import Classifier
from sojourn.datapath.engine_flow import Lane, Way
from sojourn.datapath.engine_peers import EnginePeers
from sojourn.datapath.engine_receive import Receiver
from sojourn.datapath.engine_send import Sender
from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.features import Features, from_environment
from sojourn.datapath.forwarder import Forwarder
from sojourn.datapath.loop import Loop, Timed, boot_time
from sojourn.datapath.outlets import Outlet, Outlets
from sojourn.datapath.rendezvous_sockets import RendezvousIo, RendezvousSockets
from sojourn.linux.descriptors import Descriptors, listen_name, tun_name, tunnel_name
from sojourn.linux.tun import Tun
from sojourn.linux.udp import NOT_SENT_FULL, NOT_SENT_GONE, UdpSocket, segment_control
from sojourn.model import Endpoint, TunnelId
from sojourn.packet import vnet
from sojourn.packet.checksum import Buffer
from sojourn.upmt.commands import AnyCommand, OpenTunnel, Role, Setup
from sojourn.upmt.events import AnyEvent
from sojourn.upmt.tunnel import Tunnel

READS_PER_TURN: Final = 64
TIME_PER_TURN: Final = 0.002
"""Reads of one descriptor, and seconds spent on it, before the others have their turn."""
_COMPLETE: Final = bytes(vnet.HEADER_BYTES)

Say = Callable[[str, str], None]


class Engine(RendezvousIo):
    """A `DataPath` on real packets, and the `Io` of its forwarder. All methods but `stop` in one thread."""

    NAME = "python"

    def __init__(
        self,
        emit: Callable[[AnyEvent], None],
        epochs: EpochStore,
        *,
        features: Features | None = None,
        descriptors: Descriptors | None = None,
        say: Say | None = None,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        """`features` come from the environment where not given; `say(level, text)` takes a line for the log."""
        self.features = from_environment(os.environ) if features is None else features
        self.descriptors = Descriptors() if descriptors is None else descriptors
        self.forwarder = self._forwarder(emit, epochs)
        self.forwarder.served_by["engine"] = self.NAME
        self.tun: Tun | None = None
        self.outlets = Outlets()
        self._say = say or (lambda _level, _text: None)
        self._clock = clock
        self._loop = Loop(self._timed(), clock)
        self._listening: dict[Endpoint, UdpSocket] = {}
        self._names: dict[TunnelId, str] = {}
        self._failing: set[TunnelId] = set()
        self._rendezvous = RendezvousSockets(
            self.forwarder, self.descriptors, self._loop.watch, self._loop.unwatch, clock
        )
        peers = EnginePeers(
            self.forwarder, lambda: self._rendezvous, lambda: self._receiver, self._loop.watch,
            self._loop.unwatch, clock, gso=self.features.gso,
        )  # fmt: skip
        self._lanes = peers.lanes
        if self.forwarder.peer_core is None:  # else the C core serves them
            self.forwarder.peer_core = peers
        self._sender = Sender(self.forwarder, self._transmit, self._lanes, inbound=False)
        self._receiver = Receiver(self.forwarder, self._write, inbound=True)

    # What another engine does otherwise (core_engine.py).

    def _forwarder(self, emit: Callable[[AnyEvent], None], epochs: EpochStore) -> Forwarder:
        return Forwarder(self, emit, epochs)

    def _timed(self) -> Timed:
        return self.forwarder

    def _watch_tun(self, tun: Tun) -> None:
        self._loop.watch(tun.fd, self._on_tun)

    def _watch_socket(self, sock: UdpSocket, tunnel: TunnelId | None) -> None:
        self._loop.watch(sock.fd, functools.partial(self._on_udp, sock, tunnel))

    def _unwatch(self, fd: int) -> None:
        self._loop.unwatch(fd)

    # The data path's side (datapath/base.py), and its loop.

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Carry out orders, now. OSError or NotSupported when the TUN device cannot be opened."""
        for command in commands:
            if isinstance(command, Setup):
                self._set_up(command)
            self.forwarder.handle(command, self._clock())

    def ask(self, owners: Classifier) -> None:
        """Ask `owners` who made each new flow, and hear of it when one changes hands."""
        self.forwarder.classify = owners.classify
        owners.on_passed = lambda key: self.forwarder.passed(key, self._clock())

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Lend the loop: call back whenever `fd` is readable."""
        self._loop.watch(fd, callback)

    def unwatch(self, fd: int) -> None:
        """End what `watch` began, before `fd` is closed."""
        self._loop.unwatch(fd)

    def run(self) -> None:
        """Move packets until stopped."""
        self._loop.run()

    def stop(self) -> None:
        """Let `run` return; from anywhere."""
        self._loop.stop()

    def close(self) -> None:
        """Close every descriptor. The device and what others hold of them stay."""
        for sock in (*self._listening.values(), *self.outlets.of_tunnel.values()):
            sock.close()
        self._rendezvous.close_all()
        if self.tun is not None:
            self.tun.close()
        self._loop.close()

    # Descriptors.

    def _set_up(self, setup: Setup) -> None:
        inbound = setup.role is Role.ANCHOR
        self._sender = Sender(self.forwarder, self._transmit, self._lanes, inbound=inbound)
        self._receiver = Receiver(self.forwarder, self._write, inbound=not inbound)
        self._open_tun(setup)
        for endpoint in set(self._listening) - set(setup.listen):
            sock = self._listening.pop(endpoint)
            self.outlets.listening.remove(sock)
            self._close(sock, listen_name(endpoint))
        for endpoint in setup.listen:
            if endpoint not in self._listening:
                self._listen(endpoint)

    def _open_tun(self, setup: Setup) -> None:
        if self.tun is not None and self.tun.name == setup.device:
            return
        if self.tun is not None:
            self._drop_tun()
        name, features = tun_name(setup.device), self.features
        fd = self.descriptors.take(name)
        if fd is None:
            self.tun = Tun.open(setup.device, tso=features.tso, uso=features.uso)
            self.descriptors.hold(name, self.tun.fd)
        else:
            self.tun = Tun(fd, tso=features.tso, uso=features.uso)
        self._watch_tun(self.tun)

    def _drop_tun(self) -> None:
        if self.tun is not None:
            self._unwatch(self.tun.fd)
            self.descriptors.release(tun_name(self.tun.name))
            self.tun.close()
            self.tun = None

    def _listen(self, endpoint: Endpoint) -> None:
        try:
            sock = self._socket(listen_name(endpoint), endpoint, "")
        except OSError as error:
            # One family may be missing; an anchor without any is noticed by its hosts, and by control's log.
            self._say("error", f"cannot listen on {endpoint.address} port {endpoint.port}: {error.strerror}")
            return
        self._listening[endpoint] = sock
        self.outlets.listening.append(sock)
        self._watch_socket(sock, None)

    def _socket(self, name: str, local: Endpoint, interface: str) -> UdpSocket:
        fd = self.descriptors.take(name)
        features = self.features
        if fd is not None:
            return UdpSocket.adopt(fd, gso=features.gso, gro=features.gro)
        sock = UdpSocket.open(local, interface, gso=features.gso, gro=features.gro)
        self.descriptors.hold(name, sock.fd)
        return sock

    def _close(self, sock: UdpSocket, name: str) -> None:
        self._unwatch(sock.fd)
        self.descriptors.release(name)
        sock.close()

    # What the kernel has for us.

    def _on_tun(self) -> None:
        tun, sender = self.tun, self._sender
        if tun is None:
            return
        until = self._clock() + TIME_PER_TURN
        try:
            for _ in range(READS_PER_TURN):
                size = os.readv(tun.fd, sender.buffers)
                now = self._clock()
                sender.take(size, now)
                if now > until:
                    break
        except BlockingIOError:
            pass
        except OSError as error:
            self._say("error", f"device {tun.name} has gone: {error.strerror}")
            self._drop_tun()
        sender.flush(self._clock())

    def _on_udp(self, sock: UdpSocket, tunnel: TunnelId | None) -> None:
        receiver, outlets = self._receiver, self.outlets
        until = self._clock() + TIME_PER_TURN
        for _ in range(READS_PER_TURN):
            received = sock.receive(receiver.buffers)
            if received is None:
                break
            source = outlets.endpoint(sock, received.source)
            outlet = Outlet(sock, received.source, received.via)
            outlets.current = source, outlet
            index = receiver.tunnel_id() if tunnel is None else None
            claimed = self._claimed(index, source) if tunnel is None else None
            heard = claimed.packets_in if claimed is not None else 0
            now = self._clock()
            receiver.take(received.size, received.segment, source, received.ecn, now, tunnel)
            if tunnel is None:
                claimed = claimed or self._claimed(index, source)
                # Anybody can write any source on a datagram: only an authentic one shows the way back.
                if claimed is not None and claimed.outer == source and claimed.packets_in != heard:
                    outlets.remember(claimed.id, source, outlet)
            if now > until:
                break
        receiver.flush()
        outlets.current = None

    def _claimed(self, index: TunnelId | None, source: Endpoint) -> Tunnel | None:
        """Return the tunnel that a datagram at an anchor claims to come in."""
        forwarder = self.forwarder
        return forwarder.tunnels.get(index) if index is not None else forwarder.plain_by_source.get(source)

    # The forwarder's side (forwarder.Io).

    def send(
        self, tunnel: Way, datagram: bytes, destination: Endpoint, *, fragment: bool = False, ecn: int = 0
    ) -> None:
        """Send one datagram of a tunnel."""
        outlet = self._outlet(tunnel, destination)
        if outlet is None:
            self._gone(tunnel.id, "no socket for this address family")
            return
        if fragment:
            outlet.socket.fragment(True)
        try:
            outlet.socket.send(datagram, outlet.address, ecn=ecn, via=outlet.via)
        except OSError as error:
            self._not_sent(tunnel.id, error, 1)
        else:
            self._failing.discard(tunnel.id)
        finally:
            if fragment:
                outlet.socket.fragment(False)

    def write_inner(self, packet: bytes) -> None:
        """Give one complete packet to the TUN."""
        self._write((_COMPLETE, packet))

    def open_socket(self, command: OpenTunnel) -> None:
        """Open a tunnel's socket, in place of the one that it had."""
        name = tunnel_name(command)
        if self._names.get(command.tunnel) == name:
            return
        self.close_socket(command.tunnel)
        try:
            sock = self._socket(name, command.local, command.interface)
        except OSError as error:
            self._gone(command.tunnel, f"cannot open a socket: {error.strerror}")
            return
        self._names[command.tunnel] = name
        self.outlets.of_tunnel[command.tunnel] = sock
        self._failing.discard(command.tunnel)
        self._watch_socket(sock, command.tunnel)

    def close_socket(self, tunnel: TunnelId) -> None:
        """Close a tunnel's socket, if it has one."""
        sock = self.outlets.of_tunnel.pop(tunnel, None)
        self.outlets.forget(tunnel)
        if sock is not None:
            self._close(sock, self._names.pop(tunnel))

    def keep_way_back(self, source: Endpoint) -> None:
        """Remember how the sender of the present datagram is reached, for `send_outside` and its tunnel to come."""
        self.outlets.keep_way_back(source)

    def send_outside(self, datagram: bytes, destination: Endpoint) -> None:
        """Send one datagram from a listening socket, outside of any tunnel."""
        outlet = self.outlets.find(None, destination)
        if outlet is None:
            self.forwarder.totals["unsent-signals"] += 1
            return
        outlet.socket.fragment(True)
        try:
            outlet.socket.send(datagram, outlet.address, via=outlet.via)
        except OSError:  # nobody that we know waits for it
            self.forwarder.totals["unsent-signals"] += 1
        finally:
            outlet.socket.fragment(False)

    def random(self, size: int) -> bytes:
        """Return bytes that nobody can guess."""
        return os.urandom(size)

    # Batches, and what may go wrong.

    def _outlet(self, tunnel: Way, destination: Endpoint) -> Outlet | None:
        return tunnel.outlet if isinstance(tunnel, Lane) else self.outlets.find(tunnel.id, destination)

    def _transmit(self, tunnel: Way, data: memoryview, segment: int, count: int, ecn: int) -> None:
        outlet = self._outlet(tunnel, tunnel.outer) if tunnel.outer is not None else None
        if outlet is None:
            self._gone(tunnel.id, "no socket for this address family")
            return
        sock = outlet.socket
        if count > 1 and not sock.gso:
            self._transmit_singly(tunnel, data, segment, ecn)
            return
        control = sock.ecn_control(ecn)
        if outlet.via is not None:
            control.append(outlet.via)
        if count > 1:
            control.append(segment_control(segment))
        try:
            sock.socket.sendmsg((data,), control, 0, outlet.address)
        except OSError as error:
            if count > 1 and error.errno in (errno.EIO, errno.EINVAL, errno.EMSGSIZE):
                # EIO: this route cannot do it at all. The others: a segment is larger than the device's MTU.
                sock.gso = sock.gso and error.errno != errno.EIO
                self._transmit_singly(tunnel, data, segment, ecn)
            else:
                self._not_sent(tunnel.id, error, count)
        else:
            if self._failing:
                self._failing.discard(tunnel.id)

    def _transmit_singly(self, tunnel: Way, data: memoryview, segment: int, ecn: int) -> None:
        if tunnel.outer is not None:
            for at in range(0, len(data), segment):
                self.send(tunnel, bytes(data[at : at + segment]), tunnel.outer, ecn=ecn)

    def _not_sent(self, tunnel: TunnelId, error: OSError, count: int) -> None:
        if error.errno in NOT_SENT_FULL:
            self.forwarder.totals["not_sent_queue_full"] += count
        elif error.errno == errno.EMSGSIZE:
            self.forwarder.send_failed(tunnel, "message too long", self._clock(), too_big=True)
        elif error.errno in NOT_SENT_GONE:
            self._gone(tunnel, os.strerror(error.errno or 0))
        else:
            # EPERM: a firewall on this machine. A tunnel that it blocks fails its test, with that as the reason.
            self.forwarder.totals[f"not_sent_{errno.errorcode.get(error.errno or 0, 'other').lower()}"] += count

    def _gone(self, tunnel: TunnelId, why: str) -> None:
        if tunnel not in self._failing:
            self._failing.add(tunnel)
            self.forwarder.send_failed(tunnel, why, self._clock())

    def _write(self, parts: Sequence[Buffer]) -> None:
        if self.tun is None:
            return
        try:
            os.writev(self.tun.fd, parts)
        except OSError as error:
            # EINVAL: a packet that the kernel does not understand; EIO: the device is down.
            self.forwarder.totals[f"not_written_{errno.errorcode.get(error.errno or 0, 'other').lower()}"] += 1
