"""Two hosts that speak directly, and the rows of a's data path: for what serves peers whose packets are many."""

import os
from typing import Any

from sojourn.model import Endpoint
from sojourn.packet.ip import flow_key, packed, udp_packet
from sojourn.paft import Row
from sojourn.upmt.peer_commands import HOME, PEERS
from tests.i3.direct_world import DirectWorld, talk


class PeerBench:
    """`peers`: what is under test; `forwarder`: what it and a's host need of the data path."""

    peers: Any
    forwarder: Any

    def __init__(self) -> None:
        self.world = DirectWorld()
        self.a, self.b = self.world.wishing("a", "b"), self.world.wishing("b", "a")
        self.fd = os.eventfd(0)  # stands for a socket: nothing is ever sent on it

    def meet(self) -> None:
        """Let both find their direct path."""
        self.world.place(self.a, "wifi", "198.51.100.1")
        self.world.place(self.b, "wifi", "198.51.100.2")
        self.world.run(0.5)
        assert talk(self.world, self.a, self.b, 5.0) == []

    def packet(self, text: str, *, source: str = "", inbound: bool = False) -> bytes:
        """Return a's packet to b (or to `source`), or the other way round."""
        ends = Endpoint(self.a.home, 7), Endpoint(source or self.b.home, 9)
        here, there = ends[::-1] if inbound else ends
        return udp_packet(here, there, text.encode())

    def row(self, other: str = "") -> Row:
        """Add the row of such packets."""
        row = Row(HOME, PEERS, self.world.now)
        row.packets_out = 1
        self.forwarder.paft.add(flow_key(self.packet("", source=other)), row)
        return row

    def busy(self) -> None:
        """Let so many packets go one at a time that they are better served."""
        peer = self.a.proxy.peer_at(self.b.home)
        assert peer is not None
        for _ in range(self.peers.many):
            self.peers.moved(packed(self.b.home), peer, self.world.now)
        self.peers.follow(self.a.proxy, self.world.now)
