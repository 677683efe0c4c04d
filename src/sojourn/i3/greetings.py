"""Which greetings are looked into at all: X25519 is reckoned for few of those that anybody can send.

A Hello is *marked* for its receiver: the index that its sender may choose is 24 bits of a MAC over Noise's message, by
a key that only the two hosts can make (handshake.mark). So a host tells greetings of its configured peers from all
others by one hash for each such peer (some 1.5 us), and each peer has a share of its own:

    marked by a configured peer    `PEER_RATE` a second of each; one that came before is refused unread
    to a private identifier        `PER_SECOND` together: only peers know these
    anybody's                      `PER_SECOND` together, questions for keys the same

A peer that is configured by its address alone has shown its keys beforehand: it was asked for them (roam_sessions.py),
and whether they make the address costs one hash. A flood of strangers' greetings keeps strangers out, and no peer. One
in 2^24 of them has a given peer's mark by chance. Somebody who holds copies of a peer's own Hellos (a node on their
way) can use up that peer's share by more than `KEPT` different ones; he could as well drop them.
"""

import hashlib
from collections import deque
from typing import Final

from sojourn.bucket import Bucket
from sojourn.errors import RemoteProtocolError
from sojourn.i3.handshake import HELLO_BYTES, INDEX_BYTES, mark_key
from sojourn.i3.home import HomeIdentity, HomeKeys

# Ours.
PER_SECOND: Final = 50.0
PEER_RATE: Final = 5.0
"""A second, and at once."""
KEPT: Final = 32
"""Marks of a peer that are remembered."""


class _Known:
    __slots__ = ("came", "keyed", "share")

    def __init__(self, key: bytes) -> None:
        self.keyed = hashlib.blake2s(key=key, digest_size=INDEX_BYTES)
        """handshake.mark, as far as it is the same for all Hellos: this is done for each peer and each of a flood."""
        self.share = Bucket(PEER_RATE, PEER_RATE)
        self.came: deque[bytes] = deque(maxlen=KEPT)


class Greetings:
    """The shares of all who greet this host."""

    def __init__(self, identity: HomeIdentity) -> None:
        self._identity = identity
        self._known: dict[HomeKeys, _Known] = {}
        self._anybody, self._private, self._questions = (Bucket(PER_SECOND, PER_SECOND) for _ in range(3))

    def know(self, keys: HomeKeys) -> None:
        """Give a peer a share of its own. Keys that agree on nothing get none."""
        if keys not in self._known and (key := mark_key(self._identity, keys, keys.exchange, self._identity.keys)):
            self._known[keys] = _Known(key)

    def forget(self, keys: HomeKeys) -> None:
        """Let a peer be a stranger again."""
        self._known.pop(keys, None)

    def hello(self, message: bytes, now: float, *, private: bool) -> None:
        """Take a Hello in, or raise RemoteProtocolError. `private`: it came to an identifier that only peers know."""
        if len(message) != HELLO_BYTES:
            raise RemoteProtocolError("a Hello of another size", reason="length")
        index, noise = message[1 : 1 + INDEX_BYTES], message[1 + INDEX_BYTES :]
        for known in self._known.values():
            mac = known.keyed.copy()
            mac.update(noise)
            if mac.digest() == index:
                if index in known.came:
                    raise RemoteProtocolError("a Hello that came before", reason="replayed")
                if known.share.take(now):
                    known.came.append(index)
                    return
        if not (self._private if private else self._anybody).take(now):
            raise RemoteProtocolError("more greetings than we answer", reason="rate")

    def question(self, now: float) -> None:
        """Take in a question for our keys, or raise RemoteProtocolError."""
        if not self._questions.take(now):
            raise RemoteProtocolError("more questions than we answer", reason="rate")
