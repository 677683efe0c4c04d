"""The engine's sockets for peers: one a network, beside its tunnel's, bound to its interface and address.

Packets may be fragmented outside, but for those that probe a direct path's MTU (i3/direct_mtu.py): by way of a node
they have at most 1280 bytes inside, and directly what the probes have shown; a path that has narrowed since then loses
nothing where routers fragment.
"""

import errno
import functools
from collections.abc import Callable
from typing import Final, Protocol

from sojourn.linux.descriptors import Descriptors, rendezvous_name
from sojourn.linux.udp import NOT_SENT_FULL, UdpSocket
from sojourn.model import Endpoint
from sojourn.upmt.peer_commands import OpenRendezvous

READS_PER_TURN: Final = 64
_BUFFER_BYTES: Final = 65536


class Takes(Protocol):
    """Who is given what arrives (datapath/peering.py)."""

    def from_rendezvous(self, network: str, datagram: bytes, source: Endpoint, now: float) -> None:
        """Take in one datagram."""
        ...

    def is_node(self, endpoint: Endpoint) -> bool:
        """Say whether that is a rendezvous node's address."""
        ...

    def rendezvous_failed(self, network: str, why: str) -> None:
        """Note that the system refuses to send on a network."""
        ...


class RendezvousSockets:
    """All of them. Python reads them itself, whatever engine serves the tunnels."""

    def __init__(
        self,
        takes: Takes,
        descriptors: Descriptors,
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
        clock: Callable[[], float],
    ) -> None:
        self._takes, self._descriptors, self._clock = takes, descriptors, clock
        self._watch, self._unwatch = watch, unwatch
        self._sockets: dict[str, tuple[UdpSocket, str]] = {}
        """With the names of their descriptors."""
        self._lent: dict[str, Callable[[str], None]] = {}
        self._failing: set[str] = set()
        self._buffer = bytearray(_BUFFER_BYTES)

    def open(self, command: OpenRendezvous) -> str:
        """Open a network's socket, or take over the one that a process before had; return why that failed."""
        self.close(command.network)
        name = rendezvous_name(command)
        fd = self._descriptors.take(name)
        try:
            if fd is not None:
                sock = UdpSocket.adopt(fd, gso=False, gro=True)
            else:
                sock = UdpSocket.open(command.local, command.interface, gso=False, gro=True)
                self._descriptors.hold(name, sock.fd)
        except OSError as error:
            return f"cannot open a socket: {error.strerror}"
        sock.fragment(True)
        self._sockets[command.network] = (sock, name)
        self._failing.discard(command.network)
        self._watch(sock.fd, functools.partial(self._readable, command.network, sock))
        return ""

    def close(self, network: str) -> None:
        """Close a network's socket, if it has one."""
        if network in self._lent:
            self._lent[network](network)
        held = self._sockets.pop(network, None)
        if held is not None:
            sock, name = held
            self._unwatch(sock.fd)
            self._descriptors.release(name)
            sock.close()

    def local(self, network: str) -> Endpoint | None:
        """Return the address of a network's socket."""
        held = self._sockets.get(network)
        return held[0].local if held is not None else None

    def lend(self, network: str, wanted_back: Callable[[str], None]) -> UdpSocket | None:
        """Let somebody else read a network's socket, until it is taken back; `wanted_back`: asks for that."""
        held = self._sockets.get(network)
        if held is None:
            return None
        self._unwatch(held[0].fd)
        self._lent[network] = wanted_back
        return held[0]

    def take_back(self, network: str) -> None:
        """Read a socket again that was lent."""
        self._lent.pop(network, None)
        held = self._sockets.get(network)
        if held is not None:
            self._watch(held[0].fd, functools.partial(self._readable, network, held[0]))

    def close_all(self) -> None:
        """Close the sockets; what others hold of them stays."""
        for sock, _ in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def send(self, network: str, datagram: bytes, node: Endpoint, *, whole: bool = False) -> None:
        """Send one datagram; a queue that is full loses it, as a router's would.

        That nodes are not reached is told. A peer's address may be no way from here: what goes there is lost.
        """
        held = self._sockets.get(network)
        if held is None or held[0].six is not (":" in node.address):
            self._fails(network, "no address of the rendezvous node's family", node)
            return
        if whole:
            held[0].fragment(False)
        try:
            held[0].socket.sendto(datagram, (node.address, node.port))
        except OSError as error:
            if error.errno not in NOT_SENT_FULL and error.errno != errno.EMSGSIZE:
                self._fails(network, error.strerror or "cannot send", node)
        else:
            self._failing.discard(network)
        finally:
            if whole:
                held[0].fragment(True)

    def _fails(self, network: str, why: str, to: Endpoint) -> None:
        if self._takes.is_node(to) and network not in self._failing:
            self._failing.add(network)
            self._takes.rendezvous_failed(network, why)

    def _readable(self, network: str, sock: UdpSocket) -> None:
        for _ in range(READS_PER_TURN):
            received = sock.receive((self._buffer,))
            if received is None:
                return
            source, now = Endpoint(received.source[0].partition("%")[0], received.source[1]), self._clock()
            data = bytes(memoryview(self._buffer)[: received.size])
            for at in range(0, received.size, received.segment):
                self._takes.from_rendezvous(network, data[at : at + received.segment], source, now)
                if self._sockets.get(network, (None,))[0] is not sock:
                    return


class RendezvousIo:
    """What an engine's forwarder needs of them (registry.Io)."""

    _rendezvous: RendezvousSockets

    def open_rendezvous(self, command: OpenRendezvous) -> str:
        """Open a network's socket for peers."""
        return self._rendezvous.open(command)

    def rendezvous_local(self, network: str) -> Endpoint | None:
        """Return the address of a network's socket for peers."""
        return self._rendezvous.local(network)

    def close_rendezvous(self, network: str) -> None:
        """Close it."""
        self._rendezvous.close(network)

    def send_rendezvous(self, network: str, datagram: bytes, node: Endpoint, *, whole: bool = False) -> None:
        """Send one datagram to a rendezvous node or a peer; `whole`: with DF."""
        self._rendezvous.send(network, datagram, node, whole=whole)
