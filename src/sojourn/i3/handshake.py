"""How two peers agree on keys: Noise_IK inside i3 packets (docs/wire.md, peers). The first byte says what it is.

    0x01  Hello    index of its sender (3), Noise's first message: time, the AEADs offered, the signing key
    0x02  Accept   index of its sender (3), index of the Hello (3), Noise's second message: the AEAD chosen
    0x03  Who      zeros (3), the asker's public identifier: which keys make this home address?
    0x04  Keys     zeros (3), both public keys, which hash to the home address that was asked
    0x8_  sealed   packet/seal.py, under the index of its receiver

A home address is made of its keys, so a Hello shows by itself whose it is, and Keys need no other proof. Times are
nanoseconds of the sender's wall clock; a Hello that is not later than the last one is a replay.
"""

import copy
import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.i3.home import KEY_BYTES, HomeIdentity, HomeKeys
from sojourn.i3.identifier import IDENTIFIER_BYTES, Identifier
from sojourn.model import TunnelId
from sojourn.packet.noise import FIRST_BYTES, SECOND_BYTES, Handshake, Pattern
from sojourn.packet.seal import Aead, Direction, KeySchedule, Opener, Sealer, Secret

# The protocol's.
HELLO, ACCEPT, WHO, KEYS = range(1, 5)
SEALED: Final = 0x80
INDEX_BYTES: Final = 3
TIME_BYTES: Final = 8
PROLOGUE: Final = b"sojourn roam 0"
LABEL: Final = b"sojourn roam session"
MARK_LABEL: Final = b"sojourn roam mark"
HELLO_BYTES: Final = 1 + INDEX_BYTES + FIRST_BYTES + TIME_BYTES + 1 + KEY_BYTES
ACCEPT_BYTES: Final = 1 + 2 * INDEX_BYTES + SECOND_BYTES + 1
KEYS_BYTES: Final = 1 + INDEX_BYTES + 2 * KEY_BYTES
WHO_BYTES: Final = KEYS_BYTES
"""Padded to the size of its answer."""
AEADS: Final = (Aead.AES_256_GCM, Aead.CHACHA20_POLY1305)


class Session:
    """The keys of two peers after one handshake: 3.2's sealed format, each direction under its receiver's index."""

    __slots__ = ("began", "index", "initiator", "keys", "opener", "peer_index", "sealer", "used")

    def __init__(
        self, secret: bytes, aead: Aead, index: TunnelId, peer_index: TunnelId, *, initiator: bool, now: float
    ) -> None:
        keys = self.keys = KeySchedule(Secret(0, secret, 0, aead))
        mine, theirs = Direction.HOST_TO_ANCHOR, Direction.ANCHOR_TO_HOST
        if not initiator:
            mine, theirs = theirs, mine
        self.index, self.peer_index, self.initiator = index, peer_index, initiator
        self.sealer = Sealer(keys, peer_index, mine, 0)
        self.opener = Opener(keys, index, theirs, 0)
        self.began = now
        self.used = False
        """Something has been opened: the peer has the keys."""


def mark_key(identity: HomeIdentity, peer: HomeKeys, sender: bytes, receiver: HomeKeys) -> bytes:
    """Return by what Hellos from `sender` (its X25519 key) to `receiver` are marked; empty: no such keys."""
    try:
        shared = identity.exchange.exchange(X25519PublicKey.from_public_bytes(peer.exchange))
    except ValueError:  # of low order
        return b""
    return hashlib.blake2s(MARK_LABEL + sender + receiver.exchange, key=shared).digest()


def mark(key: bytes, noise: bytes) -> TunnelId:
    """Return the index by which the receiver of Noise's first message knows, before it opens it, whose it is."""
    return TunnelId(int.from_bytes(hashlib.blake2s(noise, key=key, digest_size=INDEX_BYTES).digest()))


class Greeting:
    """Our Hello, until it is accepted. A new one for each try: a peer takes each only once."""

    def __init__(
        self, identity: HomeIdentity, peer: HomeKeys, index: TunnelId | None, ephemeral: bytes, wall_ns: int,
        aeads: Sequence[Aead] = AEADS,
    ) -> None:  # fmt: skip
        """`index`: None marks the Hello for its receiver, which then knows it among any number of strangers'."""
        self._noise = Handshake(
            Pattern.IK, identity.exchange, ephemeral, remote_static=peer.exchange, prologue=PROLOGUE
        )
        offer = wall_ns.to_bytes(TIME_BYTES) + bytes((sum(1 << aead for aead in aeads),)) + identity.keys.signing
        noise = self._noise.write(offer)
        if index is None:
            index = mark(mark_key(identity, peer, identity.keys.exchange, peer), noise)
        self.index = index
        self.message = bytes((HELLO,)) + index.to_bytes(INDEX_BYTES) + noise

    def accepted(self, message: bytes, now: float) -> Session:
        """Take in the Accept; RemoteProtocolError. A forged one changes nothing: the true one may come after it."""
        if len(message) != ACCEPT_BYTES:
            raise RemoteProtocolError("an Accept of another size", reason="length")
        theirs = TunnelId(int.from_bytes(message[1 : 1 + INDEX_BYTES]))
        noise = copy.copy(self._noise)
        chosen = noise.read(message[1 + 2 * INDEX_BYTES :])
        try:
            aead = Aead(chosen[0])
        except ValueError as error:
            raise RemoteProtocolError("an AEAD that there is not", reason="noise") from error
        return Session(noise.export(LABEL), aead, self.index, theirs, initiator=True, now=now)


class Hello(Struct, frozen=True):
    """What a Hello says, and the handshake that answers it."""

    keys: HomeKeys
    wall_ns: int
    index: TunnelId
    aeads: tuple[Aead, ...]
    noise: Handshake

    def accept(self, index: TunnelId, now: float, wanted: Sequence[Aead] = AEADS) -> tuple[bytes, Session]:
        """Return the Accept and the session; RemoteProtocolError where no AEAD suits both."""
        aead = next((each for each in wanted if each in self.aeads), None)
        if aead is None:
            raise RemoteProtocolError("no AEAD in common", reason="noise")
        head = bytes((ACCEPT,)) + index.to_bytes(INDEX_BYTES) + self.index.to_bytes(INDEX_BYTES)
        message = head + self.noise.write(bytes((aead,)))
        return message, Session(self.noise.export(LABEL), aead, index, self.index, initiator=False, now=now)


def read_hello(message: bytes, identity: HomeIdentity, ephemeral: bytes) -> Hello:
    """Open a Hello; RemoteProtocolError. Nothing of it is fresh yet: see the time."""
    if len(message) != HELLO_BYTES:
        raise RemoteProtocolError("a Hello of another size", reason="length")
    noise = Handshake(Pattern.IK, identity.exchange, ephemeral, prologue=PROLOGUE)
    offer = noise.read(message[1 + INDEX_BYTES :])
    aeads = tuple(aead for aead in Aead if offer[TIME_BYTES] >> aead & 1)
    return Hello(
        HomeKeys(offer[TIME_BYTES + 1 :], noise.remote_static),
        int.from_bytes(offer[:TIME_BYTES]),
        TunnelId(int.from_bytes(message[1 : 1 + INDEX_BYTES])),
        aeads,
        noise,
    )


def accept_index(message: bytes) -> TunnelId:
    """Return which of our Hellos an Accept answers; RemoteProtocolError."""
    if len(message) != ACCEPT_BYTES:
        raise RemoteProtocolError("an Accept of another size", reason="length")
    return TunnelId(int.from_bytes(message[1 + INDEX_BYTES : 1 + 2 * INDEX_BYTES]))


def who(own: Identifier) -> bytes:
    """Return the question for a home address's keys, to be answered to `own`."""
    return (bytes((WHO, 0, 0, 0)) + own).ljust(WHO_BYTES, b"\0")


def read_who(message: bytes) -> Identifier:
    """Return whom to answer; RemoteProtocolError."""
    end = 1 + INDEX_BYTES + IDENTIFIER_BYTES
    if len(message) != WHO_BYTES or any(message[1 : 1 + INDEX_BYTES]) or any(message[end:]):
        raise RemoteProtocolError("a question of another form", reason="length")
    return Identifier(message[1 + INDEX_BYTES : end])


def keys_of(keys: HomeKeys) -> bytes:
    """Return the answer."""
    return bytes((KEYS, 0, 0, 0)) + keys.signing + keys.exchange


def read_keys(message: bytes) -> HomeKeys:
    """Return the keys that somebody says to be his; RemoteProtocolError. Their address tells whose they are."""
    if len(message) != KEYS_BYTES or any(message[1 : 1 + INDEX_BYTES]):
        raise RemoteProtocolError("an answer of another form", reason="length")
    body = message[1 + INDEX_BYTES :]
    return HomeKeys(body[:KEY_BYTES], body[KEY_BYTES:])
