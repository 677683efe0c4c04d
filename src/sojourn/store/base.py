"""What an anchor remembers over a restart, and the interface of whatever keeps it.

Everything is small and is held in memory by the daemon as well: a store is read once, at
start, and then only written. All calls are synchronous and come from one thread.
"""

from typing import Protocol

from msgspec import Struct

from sojourn.upmt.records import PortForward, Subscriber


class AnchorRecords(Struct, frozen=True):
    """All that is stored, as it was read."""

    subscribers: dict[str, Subscriber]
    """By user."""
    forwards: tuple[PortForward, ...]
    meta: dict[str, bytes]
    """Single values of the daemon's own: the nonce secret, counters."""


class Store(Protocol):
    """Where an anchor's records are kept. What a call wrote survives a crash once it has returned."""

    def load(self) -> AnchorRecords:
        """Read everything."""
        ...

    def put(self, *subscribers: Subscriber, lasting: bool = True) -> None:
        """Keep or replace subscribers, all of them or none. Not `lasting`: a power cut may undo it, a crash may not."""
        ...

    def sync(self) -> None:
        """Let everything that was put survive a power cut, too."""
        ...

    def remove(self, user: str) -> None:
        """Forget a user with its port forwards. An unknown one is no error."""
        ...

    def put_forward(self, forward: PortForward) -> None:
        """Keep a port forward; one with the same protocol and public port is replaced."""
        ...

    def remove_forward(self, protocol: int, public_port: int) -> None:
        """Forget a port forward. An unknown one is no error."""
        ...

    def put_meta(self, key: str, value: bytes) -> None:
        """Keep a single value."""
        ...

    def close(self) -> None:
        """Let go of files. Nothing is lost without it."""
        ...


class MemoryStore:
    """The same without a disk: for tests, and for whoever wants to read what a store does."""

    def __init__(self) -> None:
        self._subscribers: dict[str, Subscriber] = {}
        self._forwards: dict[tuple[int, int], PortForward] = {}
        self._meta: dict[str, bytes] = {}

    def load(self) -> AnchorRecords:
        """Return copies of everything."""
        return AnchorRecords(dict(self._subscribers), tuple(sorted(self._forwards.values())), dict(self._meta))

    def put(self, *subscribers: Subscriber, lasting: bool = True) -> None:
        """Keep or replace subscribers."""
        self._subscribers.update({subscriber.user: subscriber for subscriber in subscribers})

    def sync(self) -> None:
        """Do nothing."""

    def remove(self, user: str) -> None:
        """Forget a user with its port forwards."""
        self._subscribers.pop(user, None)
        self._forwards = {key: forward for key, forward in self._forwards.items() if forward.user != user}

    def put_forward(self, forward: PortForward) -> None:
        """Keep a port forward."""
        self._forwards[forward.protocol, forward.public_port] = forward

    def remove_forward(self, protocol: int, public_port: int) -> None:
        """Forget a port forward."""
        self._forwards.pop((protocol, public_port), None)

    def put_meta(self, key: str, value: bytes) -> None:
        """Keep a single value."""
        self._meta[key] = value

    def close(self) -> None:
        """Do nothing."""
