"""Which network carries the SIP channel: the association follows the host to one that works.

One connection at a time. It stays where it is while its network works; a network on which it
could not be opened is left alone for a while (1 s, doubling to 30 s), the next one is tried at once.
"""

from collections.abc import Sequence

from sojourn.model import Endpoint, Network
from sojourn.upmt.host_events import CloseChannel, OpenChannel

BACKOFF_FIRST = 1.0
BACKOFF_LONGEST = 30.0


class ChannelKeeper:
    """Keeps a channel open on the best network that lets it. Commands only; the transport reports back."""

    def __init__(self, anchor: Endpoint) -> None:
        self.anchor = anchor
        self.channel: int | None = None
        """The channel in use or being opened."""
        self.network: str | None = None
        self.open = False
        self._addresses: tuple[str, ...] = ()
        self._last = 0
        self._backoff: dict[str, tuple[float, float]] = {}

    def opened(self, channel: int) -> bool:
        """Note that a channel is open; say whether it is the one in use."""
        if channel != self.channel:
            return False
        self.open = True
        if self.network is not None:
            self._backoff.pop(self.network, None)
        return True

    def closed(self, channel: int, now: float) -> bool:
        """Note that a channel is gone or could not be opened; say whether it was the one in use."""
        if channel != self.channel:
            return False
        if self.network is not None:
            wait = self._backoff.get(self.network, (0.0, BACKOFF_FIRST / 2))[1] * 2
            wait = min(wait, BACKOFF_LONGEST)
            self._backoff[self.network] = (now + wait, wait)
        self.channel, self.network, self.open = None, None, False
        return True

    def leave(self) -> list[OpenChannel | CloseChannel]:
        """Give the present channel up: its network does not carry it any more."""
        if self.channel is None:
            return []
        channel, self.channel, self.network, self.open = self.channel, None, None, False
        return [CloseChannel(channel)]

    def choose(self, networks: Sequence[Network], now: float) -> list[OpenChannel | CloseChannel]:
        """Open a channel if there is none, on the first of `networks` (best first) that may be tried."""
        if self.channel is not None:
            return []
        for network in networks:
            if self._backoff.get(network.name, (0.0, 0.0))[0] <= now:
                self._last += 1
                self.channel, self.network = self._last, network.name
                anchor = self._anchor_for(network)
                return [OpenChannel(self._last, network.name, network.interface, network.address, anchor)]
        return []

    def resolved(self, addresses: Sequence[str]) -> None:
        """Take in the anchor's addresses, once it has told them: its name may not be resolvable later on."""
        self._addresses = tuple(addresses)

    def _anchor_for(self, network: Network) -> Endpoint:
        ipv6 = ":" in network.address
        fitting = (address for address in self._addresses if (":" in address) is ipv6)
        return Endpoint(next(fitting, self.anchor.address), self.anchor.port)

    def retry_at(self, networks: Sequence[Network]) -> float | None:
        """Return when a network may be tried again, or None while there is nothing to wait for."""
        if self.channel is not None:
            return None
        return min((self._backoff.get(network.name, (0.0, 0.0))[0] for network in networks), default=None)

    def forget_failures(self, network: str | None = None) -> None:
        """Try again at once: a network appeared or changed (None: the machine woke up)."""
        if network is None:
            self._backoff.clear()
        else:
            self._backoff.pop(network, None)
