"""Where the engine's datagrams leave: which socket, to which address, from which of our own addresses.

A host has one socket a tunnel. An anchor has one for each address that it listens on, and answers every
peer from the one that the peer wrote to; a peer's NAT would drop an answer from anywhere else.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from sojourn.linux.udp import Address, Ancillary, UdpSocket
from sojourn.model import Endpoint, TunnelId

KEPT_PER_TUNNEL: Final = 3
"""Outer addresses of one tunnel that are remembered: the present one, the proved one, and one more."""
KNOWN_SOURCES: Final = 4096
KNOWN_TUNNELS: Final = 65536
KNOWN_STRANGERS: Final = 1024


class Outlet(NamedTuple):
    """All that `sendmsg` must be told to reach one endpoint."""

    socket: UdpSocket
    address: Address
    via: Ancillary | None = None


class Outlets:
    """Outlets by tunnel and endpoint."""

    def __init__(self) -> None:
        self.listening: list[UdpSocket] = []
        """Anchor."""
        self.of_tunnel: dict[TunnelId, UdpSocket] = {}
        """Host."""
        self.current: tuple[Endpoint, Outlet] | None = None
        """The way back to the sender of the datagram that is being worked on."""
        self._known: dict[TunnelId, dict[Endpoint, Outlet]] = {}
        self._strangers: OrderedDict[Endpoint, Outlet] = OrderedDict()
        self._sources: dict[tuple[int, Address], Endpoint] = {}

    def endpoint(self, sock: UdpSocket, address: Address) -> Endpoint:
        """Return the endpoint of a source address as `recvmsg` gives it. A cache: anybody can send from anywhere."""
        key = (sock.fd, address)
        found = self._sources.get(key)
        if found is None:
            if len(self._sources) >= KNOWN_SOURCES:
                self._sources.clear()
            found = self._sources[key] = Endpoint(address[0].partition("%")[0], address[1])
        return found

    def remember(self, tunnel: TunnelId, endpoint: Endpoint, outlet: Outlet) -> None:
        """Keep the way to an endpoint that a tunnel's authentic packet came from."""
        known = self._known.get(tunnel)
        if known is None:
            if len(self._known) >= KNOWN_TUNNELS:
                del self._known[next(iter(self._known))]
            known = self._known[tunnel] = {}
        if known.get(endpoint) == outlet:
            return
        known.pop(endpoint, None)
        known[endpoint] = outlet
        while len(known) > KEPT_PER_TUNNEL:
            del known[next(iter(known))]

    def keep_way_back(self, source: Endpoint) -> None:
        """Keep the way to the sender of the present datagram, who has no tunnel (yet)."""
        if self.current is not None and self.current[0] == source:
            self._strangers[source] = self.current[1]
            self._strangers.move_to_end(source)
            if len(self._strangers) > KNOWN_STRANGERS:
                self._strangers.popitem(last=False)

    def find(self, tunnel: TunnelId | None, destination: Endpoint) -> Outlet | None:
        """Return how to reach `destination` in a tunnel (or outside of any), None = no socket of ours can."""
        own = self.of_tunnel.get(tunnel) if tunnel is not None else None
        if own is not None and tunnel is not None:
            return self._known.get(tunnel, {}).get(destination) or self._direct(tunnel, own, destination)
        if self.current is not None and self.current[0] == destination:
            return self.current[1]
        known = self._known.get(tunnel, {}).get(destination) if tunnel is not None else None
        known = known or self._strangers.get(destination)
        if known is not None and known.socket in self.listening:
            return known
        six = ":" in destination.address
        for sock in self.listening:
            if sock.six == six:
                return Outlet(sock, (destination.address, destination.port))
        return None

    def _direct(self, tunnel: TunnelId, own: UdpSocket, destination: Endpoint) -> Outlet:
        outlet = Outlet(own, (destination.address, destination.port))
        self.remember(tunnel, destination, outlet)
        return outlet

    def forget(self, tunnel: TunnelId) -> None:
        """Drop what was remembered of a tunnel."""
        self._known.pop(tunnel, None)
