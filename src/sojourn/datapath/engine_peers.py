"""Flows with peers in the Python engine's hot loops: where packets of a peer are many, they go in batches.

A peer's direct path is a `Lane` (engine_flow.py) then: by its home address for what the TUN gives, by our index of its
session for what its socket gives. The socket is read here meanwhile, into the receiver's own buffer; whatever is not
ordinary there goes to roam.py as ever. Which peers those are, served_peers.py says.
"""

import functools
from collections.abc import Callable, Iterable

from sojourn.datapath.engine_flow import Lane
from sojourn.datapath.engine_receive import Receiver
from sojourn.datapath.outlets import Outlet
from sojourn.datapath.peering import Peering
from sojourn.datapath.rendezvous_sockets import READS_PER_TURN, RendezvousSockets
from sojourn.datapath.served_peers import Place, Served, ServedPeers
from sojourn.i3.handshake import Session
from sojourn.linux.udp import UdpSocket
from sojourn.model import Endpoint, TunnelId
from sojourn.packet.ip import packed


class EnginePeers(ServedPeers):
    """The lanes, and the sockets that they use."""

    many = 100
    """Packets in `WITHIN`: one at a time there are not many more than that on a busy machine."""

    def __init__(
        self, forwarder: Peering, sockets: Callable[[], RendezvousSockets], receiver: Callable[[], Receiver],
        watch: Callable[[int, Callable[[], None]], None], unwatch: Callable[[int], None], clock: Callable[[], float],
        *, gso: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.lanes: dict[bytes, Lane] = {}
        """By home address."""
        self._by_index: dict[TunnelId, Lane] = {}
        self._networks: dict[str, UdpSocket] = {}
        """Whose socket is read here."""
        self._forwarder, self._sockets, self._receiver = forwarder, sockets, receiver
        self._watch, self._unwatch, self._clock, self._gso = watch, unwatch, clock, gso

    # Sessions and rows (peer_core.PeerCore).

    def took(self, session: Session) -> None:
        """Do nothing: a lane uses the session's own keys."""

    def placed(self) -> None:
        """Do nothing: the hot loop asks the rows themselves."""

    # Served peers.

    def has(self, index: TunnelId) -> bool:
        """Say that any session will do."""
        return True

    def borrowed(self) -> Iterable[str]:
        """Return the networks whose socket is read here."""
        return self._networks

    def enter(self, home: bytes, served: Served, place: Place) -> bool:
        """Let a peer's packets go by a lane; False: the network has no socket."""
        session = served.peer.session
        sock = self._borrow(place.network)
        if sock is None or session is None or sock.six is not (":" in place.remote.address):
            return False
        self.leave(served)
        served.place = place
        remote = (place.remote.address, place.remote.port)
        lane = Lane(
            session, home, place.remote, place.mtu, Outlet(sock, remote),
            functools.partial(self._sent, served, session.index), functools.partial(self._heard, served, session.index),
        )  # fmt: skip
        self.lanes[home] = self._by_index[session.index] = lane
        return True

    def leave(self, served: Served) -> None:
        """Let a peer's packets go one at a time again."""
        if served.place is not None:
            self.lanes.pop(packed(served.peer.home), None)
            self._by_index.pop(served.place.session, None)
            served.place = None

    def _borrow(self, network: str) -> UdpSocket | None:
        sock = self._networks.get(network)
        if sock is None and (sock := self._sockets().lend(network, self.back)) is not None:
            sock.gso = self._gso
            self._networks[network] = sock
            self._watch(sock.fd, functools.partial(self._readable, network, sock))
        return sock

    def back(self, network: str) -> None:
        """Have a network's socket read one datagram at a time again."""
        super().back(network)
        sock = self._networks.pop(network, None)
        if sock is not None:
            self._unwatch(sock.fd)
            self._sockets().take_back(network)

    # What is sent and what comes.

    def _sent(self, served: Served, index: TunnelId, now: float, packets: int, size: int) -> None:
        served.packets += packets
        if self._forwarder.roam is not None:
            self._forwarder.roam.done_elsewhere(index, 0.0, now, (0, 0, packets, size))

    def _heard(self, served: Served, index: TunnelId, now: float, packets: int, size: int) -> None:
        served.packets += packets
        if self._forwarder.roam is not None:
            self._forwarder.roam.done_elsewhere(index, now, 0.0, (packets, size, 0, 0))

    def _readable(self, network: str, sock: UdpSocket) -> None:
        receiver = self._receiver()
        for _ in range(READS_PER_TURN):
            received = sock.receive(receiver.buffers)
            if received is None:
                break
            source, now = Endpoint(received.source[0].partition("%")[0], received.source[1]), self._clock()
            size, segment = received.size, received.segment
            if not size or receiver.fast(size, segment, source, received.ecn, now, None, self._by_index):
                continue
            receiver.flush()
            data = bytes(memoryview(receiver.buffers[0])[:size])
            for at in range(0, size, segment):
                self._forwarder.from_rendezvous(network, data[at : at + segment], source, now)
            if self._networks.get(network) is not sock:
                break
        receiver.flush()
