"""A TLS connection to the anchor as bytes in order: late, in pieces, stalled while its network is dead."""

from collections import deque
from typing import TYPE_CHECKING

from sojourn.model import Endpoint
from sojourn.sip.framing import StreamFramer
from sojourn.upmt.association import ChannelClosed, ChannelOpened, SipReceived
from sojourn.upmt.host_events import OpenChannel

if TYPE_CHECKING:
    from tests.harness.pair import Laptop, World

OPEN_TIMEOUT = 10.0
USER_TIMEOUT = 20.0
STRANGER_TIMEOUT = 30.0
"""An anchor ends connections that nobody registers on (linux/sip_listener.py)."""
RETRY_EVERY = 0.2
"""How often a stalled stream tries again: TCP's own back-off is not what is tested here."""
PIECE_BYTES = 700
"""What comes at once, so that messages come in pieces."""


class Pipe:
    """One connection, from the order to open it until both sides have forgotten it."""

    def __init__(self, world: "World", laptop: "Laptop", order: OpenChannel) -> None:
        self.world = world
        self.laptop = laptop
        self.channel = order.channel
        self.wire = laptop.wires[order.network]
        self.stalled = False
        """Its addresses are gone: nothing will ever pass again."""
        world.origins += 1
        self.origin = world.origins
        self._source = Endpoint(self.wire.public, 50000 + self.origin)
        self._local = Endpoint(order.address, 50000 + self.origin)
        self._framer = StreamFramer()
        self._heard = StreamFramer()
        self._up: deque[bytes] = deque()
        self._down: deque[bytes] = deque()
        self._open = True
        self._waiting_since: float | None = None
        net = world.net
        if self._passes():
            net.at(net.now + 2 * self.wire.delay, self._opened)
        else:
            net.at(net.now + OPEN_TIMEOUT, lambda: self.break_off("no answer within 10 s"))

    def up(self, data: bytes) -> None:
        """Send from the host."""
        self._up.extend(data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES))
        self._pump(up=True)

    def down(self, data: bytes) -> None:
        """Send from the anchor."""
        self.world.sip("anchor", self.wire, data)
        self._down.extend(data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES))
        self._pump(up=False)

    def close(self) -> None:
        """The host gives it up; its transport says so, as the real one does."""
        self.break_off("closed here")

    def break_off(self, why: str) -> None:
        """End it, for whatever reason."""
        if not self._open:
            return
        self.abort()
        net = self.world.net
        net.at(net.now + 2 * self.wire.delay, lambda: self.laptop.tell(ChannelClosed(self.channel, why)))

    def abort(self) -> None:
        """End it without telling the host, which is no more."""
        self._open = False
        self.laptop.pipes.pop(self.channel, None)
        self.world.anchor.pipes.pop(self.origin, None)

    def _opened(self) -> None:
        if self._open:
            self.world.anchor.pipes[self.origin] = self
            self.world.net.at(self.world.net.now + STRANGER_TIMEOUT, self._judge)
            self.laptop.tell(ChannelOpened(self.channel, self._local, True))

    def _judge(self) -> None:
        if self.origin not in self.world.anchor.trusted:
            self.break_off("the anchor closed the connection")

    def _passes(self) -> bool:
        return not (self.stalled or self.wire.dead_up or self.wire.dead_down) and self.wire.name in self.laptop.here

    def _pump(self, *, up: bool) -> None:
        net, queue = self.world.net, self._up if up else self._down
        if not queue or not self._open:
            return
        if self._passes():
            self._waiting_since = None
            pieces = [queue.popleft() for _ in range(len(queue))]
            arrive = self._at_anchor if up else self._at_host
            net.at(net.now + self.wire.delay, lambda: arrive(pieces))
            return
        if self._waiting_since is None:
            self._waiting_since = net.now
        if net.now - self._waiting_since >= USER_TIMEOUT:
            self.break_off("the connection timed out")
        else:
            net.at(net.now + RETRY_EVERY, lambda: self._pump(up=up))

    def _at_anchor(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._framer.feed(piece)
            while self._open and (data := self._framer.next_bytes()) is not None:
                self.world.sip(self.laptop.name, self.wire, data)
                self.world.arrive_sip(self.origin, self._source, data)

    def _at_host(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            if self._open:
                self.laptop.tell(SipReceived(self.channel, piece))
