"""Sealed datagrams: their header, keys, epochs and replay window (docs/wire.md, sealed packets).

    byte 0     1 v v C P e e e   sealed; v = version 0; e = low 3 bits of the epoch
    bytes 1-3  tunnel index
    bytes 4-7  packet counter, from 0 in each epoch
    then       AEAD ciphertext and a 16-byte tag; the 8 bytes above are its associated data

`KeySchedule` derives, `Sealer` owns one tunnel's send counter, `Opener` its replay windows.
The nonce is iv xor counter (RFC 9001 §5.3). A sealer starts every process in an epoch that
was never used before, so that no nonce repeats, also not over a crash.
"""

from collections.abc import Callable
from enum import IntEnum, IntFlag
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from msgspec import Struct

from sojourn.errors import LocalProtocolError, RemoteProtocolError
from sojourn.model import TunnelId

# The protocol's.
SEALED: Final = 0x80
VERSION: Final = 0
HEADER_BYTES: Final = 8
TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = HEADER_BYTES + TAG_BYTES
"""What sealing adds to an inner packet, before UDP and IP headers."""
REPLAY_WINDOW: Final = 8192
PACKETS_PER_EPOCH: Final = 1 << 23
SECONDS_PER_EPOCH: Final = 120.0
SECONDS_PER_IDLE_EPOCH: Final = 3600.0
"""The same while nothing but control frames is sealed, some 150 of them. An anchor of ten thousand idle hosts would
else see 500 steps a second, half of them its own."""
EPOCHS_AHEAD: Final = 2
"""How far a sender may be past the newest epoch its peer has reported."""
EPOCHS_READY: Final = 3
"""How far ahead of the newest epoch it has opened a receiver holds keys."""
LABEL: Final = b"sojourn v0"

_MASK = (1 << REPLAY_WINDOW) - 1


class Aead(IntEnum):
    """The ciphers of a sealed tunnel; the numbers are part of the key derivation."""

    AES_256_GCM = 1
    CHACHA20_POLY1305 = 2


class Direction(IntEnum):
    """Who seals. Part of the key derivation, so that the two ends never share a key."""

    HOST_TO_ANCHOR = 0
    ANCHOR_TO_HOST = 1


class Hint(IntFlag):
    """Bits 4 and 3 of byte 0: what an honest sender says of its packet (docs/wire.md)."""

    NONE = 0
    CONTINUES = 0x10
    """Same headers as the packet with counter - 1, next segment."""
    PARTIAL = 0x08
    """The inner transport checksum is partial: the receiver's kernel completes it."""


class Secret(Struct, frozen=True):
    """An association secret and the epoch from which it counts (REGISTER's answer)."""

    generation: int
    key: bytes
    from_epoch: int
    aead: Aead = Aead.AES_256_GCM

    def __repr__(self) -> str:
        return f"Secret(generation={self.generation}, from_epoch={self.from_epoch})"


class Cipher:
    """One direction's key in one epoch."""

    __slots__ = ("aead", "iv")

    def __init__(self, secret: Secret, tunnel: TunnelId, direction: Direction, epoch: int) -> None:
        key, iv = derive(secret, tunnel, direction, epoch)
        self.aead: AESGCM | ChaCha20Poly1305 = AESGCM(key) if secret.aead is Aead.AES_256_GCM else ChaCha20Poly1305(key)
        self.iv = int.from_bytes(iv)

    def nonce(self, counter: int) -> bytes:
        """Return the 12 bytes for packet `counter` (RFC 9001 §5.3)."""
        return (self.iv ^ counter).to_bytes(12)


def derive(secret: Secret, tunnel: TunnelId, direction: Direction, epoch: int) -> tuple[bytes, bytes]:
    """Return (32-byte key, 12-byte iv) for one tunnel, direction and epoch (DESIGN §3.2, Keys)."""
    info = (
        LABEL
        + bytes((secret.aead,))
        + secret.generation.to_bytes(4)
        + tunnel.to_bytes(3)
        + bytes((direction,))
        + epoch.to_bytes(4)
    )
    okm = HKDFExpand(SHA256(), 44, info).derive(secret.key)
    return okm[:32], okm[32:]


class KeySchedule:
    """The secrets of one association, newest last; at most the one in use and its successor."""

    def __init__(self, secret: Secret) -> None:
        self.secrets = [secret]

    def install(self, secret: Secret) -> None:
        """Take in a newer secret. A successor that was never used gives way to it: its peer may not know it."""
        if secret.generation <= self.secrets[-1].generation:
            return
        self.secrets = [self.secrets[0], secret]

    def retire(self) -> None:
        """Forget every secret but the newest (its peer has sealed with it)."""
        self.secrets = self.secrets[-1:]

    def newest(self) -> Secret:
        """Return the secret that a sender should be sealing with."""
        return self.secrets[-1]

    def at(self, epoch: int) -> Secret | None:
        """Return the secret that governs `epoch`, or None for one from before our memory."""
        for secret in reversed(self.secrets):
            if epoch >= secret.from_epoch:
                return secret
        return None


class Sealer:
    """The send half of one tunnel: the only owner of its counter.

    The engine's inner loop reads `cipher`, `first_word` and `counter` and advances `counter`
    itself; everyone else calls `seal`.
    """

    step_after = PACKETS_PER_EPOCH
    """Packets after which the next epoch is wanted. A data path whose threads seal by themselves wants it earlier."""

    def __init__(self, keys: KeySchedule, tunnel: TunnelId, direction: Direction, epoch: int) -> None:
        """Start in `epoch`, which the caller has stored and which was never used before."""
        self._keys = keys
        self.tunnel = tunnel
        self.direction = direction
        self.counter = 0
        self.epoch = epoch - 1
        self.step(epoch)

    def step(self, epoch: int | None = None) -> None:
        """Go to a later epoch (the next one by default). The caller has stored it first."""
        epoch = self.epoch + 1 if epoch is None else epoch
        secret = self._keys.at(epoch)
        if secret is None or epoch <= self.epoch:
            raise LocalProtocolError(f"epoch {epoch} cannot follow {self.epoch} on tunnel {self.tunnel}")
        self.cipher = Cipher(secret, self.tunnel, self.direction, epoch)
        self.generation = secret.generation
        self.epoch = epoch
        self.counter = 0
        self.first_word = (SEALED | VERSION << 5 | epoch & 7) << 24 | self.tunnel

    def exhausted(self) -> bool:
        """Say whether this epoch has sealed all the packets that it may."""
        return self.counter >= PACKETS_PER_EPOCH

    def seal(self, plaintext: bytes | bytearray | memoryview, hint: Hint = Hint.NONE) -> bytes:
        """Return the whole datagram for one inner packet or control frame."""
        counter = self.counter
        if counter >= 1 << 32:
            raise LocalProtocolError("the packet counter of an epoch has run out")
        self.counter = counter + 1
        header = (self.first_word | hint << 24).to_bytes(4) + counter.to_bytes(4)
        return header + self.cipher.aead.encrypt(self.cipher.nonce(counter), bytes(plaintext), header)


class Window:
    """Which of the last 8192 counters of one epoch were seen: bit d of `bitmap` = counter `top` - d."""

    __slots__ = ("bitmap", "top")

    def __init__(self, top: int = -1) -> None:
        """`top` >= 0: go on after a restart; what is not newer counts as seen."""
        self.top = top
        self.bitmap = 0 if top < 0 else _MASK

    def fresh(self, counter: int) -> bool:
        """Say whether a packet with this counter could be new. Changes nothing."""
        age = self.top - counter
        return age < 0 or (age < REPLAY_WINDOW and not self.bitmap >> age & 1)

    def mark(self, counter: int) -> bool:
        """Note an authenticated counter; say whether it is the highest so far."""
        age = self.top - counter
        if age >= 0:
            self.bitmap |= 1 << age
            return False
        self.bitmap = (self.bitmap << -age | 1) & _MASK if -age < REPLAY_WINDOW else 1
        self.top = counter
        return True


class ReceiveEpoch:
    """What it takes to open the packets of one epoch."""

    __slots__ = ("cipher", "epoch", "generation", "window")

    def __init__(self, epoch: int, generation: int, cipher: Cipher) -> None:
        self.epoch = epoch
        self.generation = generation
        self.cipher = cipher
        self.window = Window()


class Opened(Struct, frozen=True):
    """One authentic, new packet."""

    plaintext: bytes
    epoch: int
    counter: int
    hint: Hint
    highest: bool
    """No packet with a higher (epoch, counter) came before: only such a packet may move an address."""
    stale: bool
    """Sealed in an epoch that its sender should have left (DESIGN §3.2: answered, nothing else changes)."""


class Opener:
    """The receive half of one tunnel: keys for epochs cur - 1 to cur + 3, one replay window each.

    `epochs[low 3 bits]` holds the candidates, at most two: one under the present secret and, while
    a successor waits for its first packet, one under that. The engine reads `epochs` itself.
    """

    def __init__(self, keys: KeySchedule, tunnel: TunnelId, direction: Direction, epoch: int, seen: int = -1) -> None:
        """`epoch` is the newest one that the peer is known to have used (or will start with).

        `seen`: the highest counter that a process before this one has opened in it.
        """
        self._keys = keys
        self.tunnel = tunnel
        self.direction = direction
        self.current = epoch
        self.epochs: list[list[ReceiveEpoch]] = [[] for _ in range(8)]
        self.on_new_epoch: Callable[[int], None] | None = None
        """Called with the epoch after `current` has grown."""
        self._before = epoch
        """The one that came before `current`: not the number before it, where a new secret has begun."""
        self._oldest = epoch
        """No earlier epoch is opened again: its replay window is gone."""
        self.refresh()
        for held in self.epochs[epoch & 7]:
            if held.epoch == epoch:
                held.window = Window(seen)

    def top(self) -> int:
        """Return the highest counter opened in the current epoch, -1 for none."""
        top = -1
        for held in self.epochs[self.current & 7]:  # once a batch: no generator
            if held.epoch == self.current and held.window.top > top:
                top = held.window.top
        return top

    def refresh(self) -> None:
        """Make ready the keys that the present state calls for, and drop the others.

        Called after a step of `current`, after a new secret, and when the epoch before has
        had its 3 RTT (`drop_previous`).
        """
        wanted = set(range(max(self.current - 1, self._oldest), self.current + EPOCHS_READY + 1))
        if self._before >= self._oldest:
            wanted.add(self._before)
        start = self._keys.newest().from_epoch
        if start > self.current:
            wanted |= set(range(start, start + EPOCHS_READY + 1))
        have = {held.epoch: held for slot in self.epochs for held in slot}
        self.epochs = [[] for _ in range(8)]
        for epoch in sorted(wanted, reverse=True):
            secret, held = self._keys.at(epoch), have.get(epoch)
            if secret is None and held is None:
                continue
            if secret is not None and (held is None or held.generation != secret.generation):
                held = self._receive_epoch(epoch, secret)
            if held is not None:  # also one whose secret has gone meanwhile
                self.epochs[epoch & 7].append(held)

    def _receive_epoch(self, epoch: int, secret: Secret) -> ReceiveEpoch:
        return ReceiveEpoch(epoch, secret.generation, Cipher(secret, self.tunnel, self.direction, epoch))

    def drop_previous(self) -> None:
        """Forget the epoch before the current one: its late packets have had their 3 RTT."""
        self._oldest = self.current
        for slot in self.epochs:
            slot[:] = [held for held in slot if held.epoch >= self.current]

    def advance(self, epoch: int) -> None:
        """Note that the peer seals in `epoch`, if that is news."""
        if epoch > self.current:
            self._before, self.current = self.current, epoch
            self.refresh()
            if self.on_new_epoch is not None:
                self.on_new_epoch(epoch)

    def open(self, datagram: bytes | memoryview) -> Opened:
        """Return what an authentic and new datagram holds; raise RemoteProtocolError for any other."""
        if len(datagram) < OVERHEAD_BYTES + 1:
            raise RemoteProtocolError("shorter than a sealed packet", reason="short")
        first = datagram[0]
        if first & 0xE0 != SEALED | VERSION << 5:
            raise RemoteProtocolError("not a sealed packet of this version", reason="version")
        header = bytes(datagram[:HEADER_BYTES])
        counter = int.from_bytes(header[4:])
        replayed = False
        for held in self.epochs[first & 7]:
            if not held.window.fresh(counter):
                replayed = True
                continue
            try:
                plaintext = held.cipher.aead.decrypt(held.cipher.nonce(counter), bytes(datagram[HEADER_BYTES:]), header)
            except InvalidTag:
                continue
            highest = held.window.mark(counter) and held.epoch >= self.current
            stale = held.epoch < self.current
            self.advance(held.epoch)
            return Opened(plaintext, held.epoch, counter, Hint(first & 0x18), highest, stale)
        if replayed:
            raise RemoteProtocolError("a counter that was seen before, or is too old", reason="replayed")
        raise RemoteProtocolError("the tag does not verify", reason="forged")
