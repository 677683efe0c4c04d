"""Flows with peers in the C core: where packets of a peer are many and its direct path works, Python lets them be.

To the core a session is a tunnel under the session's index, with the nominated address as its path; the rows of the
peer's flows point there. All sessions of peers that may have a direct path are sealed and opened by the core from their
beginning (core_keys.py), so that one counter and one replay window serve both: packets change between Python and the
core without a gap. Each peer has an association number of its own there, so that what one peer sends never finds a
row of another. The socket is the core's meanwhile; what is not ordinary comes up as ever.

Which peers those are, served_peers.py says.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from sojourn.datapath.core_activity import Activity, Notice
from sojourn.datapath.core_keys import CoreOpener, CoreSealer
from sojourn.datapath.peering import Peering
from sojourn.datapath.rendezvous_sockets import RendezvousSockets
from sojourn.datapath.served_peers import MOST_HOMES, Place, Served, ServedPeers
from sojourn.i3.handshake import Session
from sojourn.model import Endpoint, TunnelId
from sojourn.packet.ip import REMOTE6, packed, text
from sojourn.packet.seal import Hint
from sojourn.paft import FlowKey
from sojourn.upmt.peer_commands import HOME

if TYPE_CHECKING:
    from sojourn.datapath._core import Core


class CorePeers(ServedPeers):
    """Which peers' packets the core moves, and where."""

    def __init__(
        self, core: "Core", forwarder: Peering, sockets: Callable[[], RendezvousSockets], *, gso: bool
    ) -> None:
        super().__init__()
        self._core, self._forwarder, self._sockets, self._gso = core, forwarder, sockets, gso
        self.networks: dict[int, str] = {}
        """By descriptor: those whose socket the core reads."""
        self.names: dict[int, str] = {}
        """Of descriptors that the core has read: it may still hold something that came there."""
        self._homes: OrderedDict[bytes, int] = OrderedDict()
        """Associations in the core, at most `MOST_HOMES`; the one that nobody has asked for for longest is first."""
        self._numbered: int = HOME
        self.sessions: dict[TunnelId, Session] = {}

    # Rows (core_rows.PeerTwins).

    def association(self, key: FlowKey) -> int:
        """Return the number that stands for a flow's peer."""
        return self._home(key[REMOTE6])

    def place(self, key: FlowKey) -> TunnelId | None:
        """Return the core's tunnel to a flow's peer; None: packets go up."""
        served = self.served.get(key[REMOTE6])
        return served.place.session if served is not None and served.place is not None else None

    def _home(self, home: bytes) -> int:
        """Return the number of a home address. A number is never given twice: rows of it may be left."""
        found = self._homes.get(home)
        if found is None:
            self._numbered += 1
            found = self._homes[home] = self._numbered
            if len(self._homes) > MOST_HOMES:
                del self._homes[next(each for each in self._homes if each not in self.served)]
        else:
            self._homes.move_to_end(home)
        return found

    # Sessions.

    def took(self, session: Session) -> None:
        """Let the core seal and open under a new session."""
        self.sessions[session.index] = session
        mine, theirs = session.sealer.direction, session.opener.direction
        session.sealer = CoreSealer(self._core, session.keys, session.peer_index, mine, 0, session.index)
        session.opener = CoreOpener(self._core, session.keys, session.index, theirs, 0)

    def gone(self, index: TunnelId) -> None:
        """Forget a session."""
        super().gone(index)
        if index in self.sessions:
            del self.sessions[index]
            self._core.forget(index)

    # Peers.

    def has(self, index: TunnelId) -> bool:
        """Say whether the core has the keys of a session."""
        return index in self.sessions

    def borrowed(self) -> Iterable[str]:
        """Return the networks whose socket the core reads."""
        return self.networks.values()

    def enter(self, home: bytes, served: Served, place: Place) -> bool:
        """Have the core send to another place; False: the network has no socket."""
        before = served.place
        fd = self._borrowed(place.network)
        if fd is None:
            return False
        remote = place.remote
        self._core.set_path(
            place.session, self._home(home), fd, packed(remote.address), remote.port, 0, b"", place.mtu, True
        )
        self._point(home, place.session)
        if before is not None and before.session != place.session:
            self._core.clear_path(before.session)
        served.place = place
        return True

    def _borrowed(self, network: str) -> int | None:
        """Return the descriptor of a network's socket, which the core reads from now on."""
        for fd, name in self.networks.items():
            if name == network:
                return fd
        sock = self._sockets().lend(network, self.back)
        if sock is None:
            return None
        self._core.watch_socket(sock.fd, -1, self._gso, True)
        self.networks[sock.fd] = self.names[sock.fd] = network
        return sock.fd

    def leave(self, served: Served) -> None:
        """Let a peer's packets come up to Python."""
        if served.place is not None:
            self._point(packed(served.peer.home), None)
            if served.place.session in self.sessions:
                self._core.clear_path(served.place.session)
            served.place = None

    def _point(self, home: bytes, index: TunnelId | None) -> None:
        for key, row in self._forwarder.paft.of(HOME).items():
            if key[REMOTE6] == home:
                row.shadow.tunnel = index if row.tunnel is not None else None  # type: ignore[attr-defined]

    def placed(self) -> None:
        """Take note that rows may have changed their place."""
        for home, served in self.served.items():
            if served.place is not None:
                self._point(home, served.place.session)

    def back(self, network: str) -> None:
        """Have a network's socket read by Python again."""
        super().back(network)
        for fd in [fd for fd, name in self.networks.items() if name == network]:
            del self.networks[fd]
            self._core.unwatch(fd)
            self._sockets().take_back(network)

    # What the core hands up.

    def datagram(self, fd: int, datagram: bytes, source: Endpoint, now: float) -> None:
        """Take in what came on a socket that the core reads, or has read, for us."""
        network = self.names.get(fd)
        if network is not None:
            self._forwarder.from_rendezvous(network, datagram, source, now)

    def opened(self, notice: Notice, now: float) -> None:
        """Take in what the core has opened and did not deliver, if it is of one of our sessions."""
        _, number, epoch, _, hint, *_, fd, _, _, address, port, _, _, plaintext = notice
        network, roam = self.names.get(fd), self._forwarder.roam
        index = TunnelId(number)
        if network is None or roam is None or index not in self.sessions:
            return
        source = Endpoint(text(address), port)
        self.sessions[index].opener.advance(epoch)
        orders = roam.opened_elsewhere(network, index, (plaintext, Hint(hint)), source, now)
        self._forwarder.do_roam(orders, now)

    def did(self, one: Activity) -> None:
        """Take note of what the core did under a session."""
        index, roam = TunnelId(one.tunnel), self._forwarder.roam
        if index in self.sessions and roam is not None:
            counts = one.packets_in, one.bytes_in, one.packets_out, one.bytes_out
            roam.done_elsewhere(index, one.last_in, one.last_out, counts)
            for served in self.served.values():
                if served.place is not None and served.place.session == index:
                    served.packets += one.packets_in + one.packets_out

    def step(self, index: TunnelId) -> None:
        """Seal under the next epoch of a session, if it is one of ours."""
        if index in self.sessions:
            self.sessions[index].sealer.step()
