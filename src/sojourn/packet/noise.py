"""Noise handshakes IK and IKpsk2 over X25519, ChaCha20-Poly1305 and BLAKE2s (Noise specification, revision 34).

MSOCKS uses IKpsk2: the client knows the proxy's static key and shares a secret with it. Peers use
IK. Section numbers below are the specification's. Both patterns are two messages:

    IK, IKpsk2:  <- s                  the initiator knows the responder's static key
                 -> e, es, s, ss
                 <- e, ee, se (, psk)

The first message can be replayed: nothing may be changed because of it. An initiator has proved
itself with its first transport message, not before.
"""

import hashlib
import hmac
import struct
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from sojourn.errors import LocalProtocolError, RemoteProtocolError

KEY_BYTES: Final = 32
TAG_BYTES: Final = 16
MAX_MESSAGE_BYTES: Final = 65535
"""§3: of any Noise message."""
MAX_NONCE: Final = (1 << 64) - 1
"""§5.1: reserved for rekeying, never used for a message."""
FIRST_BYTES: Final = KEY_BYTES + (KEY_BYTES + TAG_BYTES) + TAG_BYTES
"""Size of a first message without payload."""
SECOND_BYTES: Final = KEY_BYTES + TAG_BYTES


class Pattern(StrEnum):
    """Which handshake, as the protocol name writes it."""

    IK = "IK"
    IKPSK2 = "IKpsk2"


class CipherState:
    """One direction's key and counter (§5.1). Messages have to come in the order in which they were sealed."""

    __slots__ = ("_aead", "nonce")

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)
        self.nonce = 0

    def seal(self, plaintext: bytes, associated: bytes = b"") -> bytes:
        """Encrypt the next message."""
        if len(plaintext) > MAX_MESSAGE_BYTES - TAG_BYTES:
            raise LocalProtocolError(f"a Noise message holds {MAX_MESSAGE_BYTES - TAG_BYTES} bytes at most")
        return self._aead.encrypt(self._next(), plaintext, associated)

    def open(self, ciphertext: bytes, associated: bytes = b"") -> bytes:
        """Decrypt the next message. Raises RemoteProtocolError; the counter then stays where it is."""
        if not TAG_BYTES <= len(ciphertext) <= MAX_MESSAGE_BYTES:
            raise RemoteProtocolError("a Noise message of an impossible size", reason="noise")
        nonce = self._next()
        try:
            return self._aead.decrypt(nonce, ciphertext, associated)
        except InvalidTag as error:
            self.nonce -= 1
            raise RemoteProtocolError("a Noise message that does not open", reason="noise") from error

    def _next(self) -> bytes:
        if self.nonce >= MAX_NONCE:
            raise LocalProtocolError("a Noise key is used up")
        self.nonce += 1
        return struct.pack("<4xQ", self.nonce - 1)  # §12.3: 32 zero bits, then the counter, little-endian


class Handshake:
    """One end of one handshake (§5.2, §5.3). After an error it is dead and has to be dropped."""

    def __init__(
        self,
        pattern: Pattern,
        static: X25519PrivateKey,
        ephemeral: bytes,
        *,
        remote_static: bytes | None = None,
        psk: bytes | None = None,
        prologue: bytes = b"",
    ) -> None:
        """`ephemeral` is 32 fresh random bytes. Whoever names `remote_static` is the initiator.

        A responder may set `psk` later, between reading the first message and writing the second: it
        learns from the first one's payload who is there.
        """
        name = f"Noise_{pattern}_25519_ChaChaPoly_BLAKE2s".encode()
        self._hash = hashlib.blake2s(name).digest() if len(name) > KEY_BYTES else name.ljust(KEY_BYTES, b"\0")
        self._chaining = self._hash
        self._cipher: CipherState | None = None
        self._pattern = pattern
        self._static = static
        self._ephemeral = X25519PrivateKey.from_private_bytes(ephemeral)
        self._remote_ephemeral = b""
        self._initiator = remote_static is not None
        self._stage = 0
        self.remote_static = remote_static or b""
        """The peer's static public key: a responder has it after the first message, proved but not yet fresh."""
        self.psk = psk
        self._mix_hash(prologue)
        self._mix_hash(self.remote_static or public(static))

    @property
    def hash(self) -> bytes:
        """The handshake hash (§11.2): both ends have the same, and nobody else ever will. Valid when done."""
        return self._hash

    @property
    def done(self) -> bool:
        """Whether both messages have passed."""
        return self._stage == 2

    def write(self, payload: bytes = b"") -> bytes:
        """Return the handshake message that is this end's to send."""
        self._step(self._initiator)
        message = public(self._ephemeral)
        self._mix_ephemeral(message)
        if self._initiator:
            self._mix_key(self._exchange(self._ephemeral, self.remote_static))
            message += self._encrypt_and_hash(public(self._static))
            self._mix_key(self._exchange(self._static, self.remote_static))
        else:
            self._mix_key(self._exchange(self._ephemeral, self._remote_ephemeral))
            self._mix_key(self._exchange(self._ephemeral, self.remote_static))
            self._mix_psk()
        message += self._encrypt_and_hash(payload)
        self._stage += 1
        return message

    def read(self, message: bytes) -> bytes:
        """Take in the peer's message and return its payload. Raises RemoteProtocolError."""
        self._step(not self._initiator)
        if not (SECOND_BYTES if self._initiator else FIRST_BYTES) <= len(message) <= MAX_MESSAGE_BYTES:
            raise self._dead("a handshake message of an impossible size")
        self._remote_ephemeral, rest = message[:KEY_BYTES], message[KEY_BYTES:]
        self._mix_ephemeral(self._remote_ephemeral)
        if self._initiator:
            self._mix_key(self._exchange(self._ephemeral, self._remote_ephemeral))
            self._mix_key(self._exchange(self._static, self._remote_ephemeral))
            self._mix_psk()
        else:
            self._mix_key(self._exchange(self._static, self._remote_ephemeral))
            self.remote_static = self._decrypt_and_hash(rest[: KEY_BYTES + TAG_BYTES])
            rest = rest[KEY_BYTES + TAG_BYTES :]
            self._mix_key(self._exchange(self._static, self.remote_static))
        payload = self._decrypt_and_hash(rest)
        self._stage += 1
        return payload

    def split(self) -> tuple[CipherState, CipherState]:
        """Return what seals this end's messages and what opens the peer's."""
        if not self.done:
            raise LocalProtocolError("the handshake is not over")
        first, second = (CipherState(key) for key in hkdf(self._chaining, b"", 2))
        return (first, second) if self._initiator else (second, first)

    def export(self, label: bytes) -> bytes:
        """Return a further key, which only both ends know; `label` says what for and is not empty."""
        if not self.done or not label:
            raise LocalProtocolError("a key is exported when the handshake is over, under a label")
        return hkdf(self._chaining, label, 2)[0]

    def _step(self, first: bool) -> None:
        if self._stage != (0 if first else 1):
            raise LocalProtocolError("this handshake message is not the next one")
        if self._stage == 1 and self._pattern is Pattern.IKPSK2 and self.psk is None:
            raise LocalProtocolError("no pre-shared key was set")

    def _dead(self, why: str) -> RemoteProtocolError:
        self._stage = -1
        return RemoteProtocolError(why, reason="noise")

    def _exchange(self, mine: X25519PrivateKey, theirs: bytes) -> bytes:
        try:
            return mine.exchange(X25519PublicKey.from_public_bytes(theirs))
        except ValueError as error:  # a point of low order
            raise self._dead("a public key that is none") from error

    def _mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.blake2s(self._hash + data).digest()

    def _mix_key(self, material: bytes) -> None:
        self._chaining, key = hkdf(self._chaining, material, 2)
        self._cipher = CipherState(key)

    def _mix_ephemeral(self, key: bytes) -> None:
        self._mix_hash(key)
        if self._pattern is Pattern.IKPSK2:  # §9.2
            self._mix_key(key)

    def _mix_psk(self) -> None:
        if self._pattern is not Pattern.IKPSK2:
            return
        self._chaining, hashed, key = hkdf(self._chaining, self.psk or b"", 3)
        self._mix_hash(hashed)
        self._cipher = CipherState(key)

    def _encrypt_and_hash(self, plaintext: bytes) -> bytes:
        assert self._cipher is not None
        sealed = self._cipher.seal(plaintext, self._hash)
        self._mix_hash(sealed)
        return sealed

    def _decrypt_and_hash(self, sealed: bytes) -> bytes:
        assert self._cipher is not None
        try:
            plaintext = self._cipher.open(sealed, self._hash)
        except RemoteProtocolError:
            self._stage = -1
            raise
        self._mix_hash(sealed)
        return plaintext


def public(key: X25519PrivateKey) -> bytes:
    """Return the 32 bytes of the public half."""
    return key.public_key().public_bytes_raw()


def hkdf(chaining: bytes, material: bytes, outputs: int) -> tuple[bytes, ...]:
    """Derive two or three keys (§4.3)."""
    temporary = _hmac(chaining, material)
    keys: list[bytes] = []
    for number in range(1, outputs + 1):
        keys.append(_hmac(temporary, (keys[-1] if keys else b"") + bytes([number])))
    return tuple(keys)


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.blake2s).digest()
