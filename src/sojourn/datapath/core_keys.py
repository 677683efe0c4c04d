"""The sealer and the opener of a tunnel whose packets the C core seals and opens.

When epochs step, and which keys are ready, is decided where it always is (packet/seal.py,
upmt/tunnel_keys.py); the core gets the keys, and owns the send counter and the replay windows. What
Python seals or opens itself (control frames, the slow path) takes its counters from there, too.
"""

from typing import TYPE_CHECKING

from sojourn.errors import LocalProtocolError, RemoteProtocolError
from sojourn.model import TunnelId
from sojourn.packet.seal import (
    PACKETS_PER_EPOCH,
    SEALED,
    VERSION,
    Direction,
    Hint,
    KeySchedule,
    Opened,
    Opener,
    ReceiveEpoch,
    Sealer,
    Secret,
    Window,
    derive,
)

if TYPE_CHECKING:
    from sojourn.datapath._core import Core

STEP_MARGIN = 1 << 16
"""Packets before the end of an epoch at which the core asks for the next one (core.h)."""

_REASONS = {
    "short": "shorter than a sealed packet",
    "version": "not a sealed packet of this version",
    "replayed": "a counter that was seen before, or is too old",
    "forged": "the tag does not verify",
}


class CoreSealer(Sealer):
    """The send half; its counter is the core's."""

    step_after = PACKETS_PER_EPOCH - STEP_MARGIN

    def __init__(
        self,
        core: "Core",
        keys: KeySchedule,
        tunnel: TunnelId,
        direction: Direction,
        epoch: int,
        place: TunnelId | None = None,
    ) -> None:
        """`place`: what the core calls it, where packets say something else: the index of a peer."""
        self._core = core
        self._place = tunnel if place is None else place
        super().__init__(keys, tunnel, direction, epoch)

    @property
    def counter(self) -> int:
        """The counter of the next packet."""
        return self._core.counter(self._place)

    @counter.setter
    def counter(self, value: int) -> None:
        """Leave out the counters below `value`. It never goes back: a nonce would repeat."""
        self._core.skip(self._place, value)

    def step(self, epoch: int | None = None) -> None:
        """Go to a later epoch; the core's threads seal in it from their next packet on."""
        epoch = self.epoch + 1 if epoch is None else epoch
        secret = self._keys.at(epoch)
        if secret is None or epoch <= self.epoch:
            raise LocalProtocolError(f"epoch {epoch} cannot follow {self.epoch} on tunnel {self.tunnel}")
        key, iv = derive(secret, self.tunnel, self.direction, epoch)
        self.generation, self.epoch = secret.generation, epoch
        self.first_word = (SEALED | VERSION << 5 | epoch & 7) << 24 | self.tunnel
        self._core.set_send_key(self._place, epoch, self.first_word, secret.aead, key, iv)

    def seal(self, plaintext: bytes | bytearray | memoryview, hint: Hint = Hint.NONE) -> bytes:
        """Return the whole datagram for one inner packet or control frame."""
        return self._core.seal(self._place, bytes(plaintext), hint)


class CoreEpoch(ReceiveEpoch):
    """What the core needs to open the packets of one epoch. Cipher and window are the core's own."""

    __slots__ = ("aead", "core", "iv", "key", "tunnel")

    def __init__(self, core: "Core", epoch: int, secret: Secret, tunnel: TunnelId, direction: Direction) -> None:
        self.core = core
        self.tunnel = tunnel
        self.epoch = epoch
        self.generation = secret.generation
        self.aead = secret.aead
        self.key, self.iv = derive(secret, tunnel, direction, epoch)

    @property
    def window(self) -> Window:
        """What the core has seen: a copy, for whoever wants to look at it."""
        copy = Window()
        copy.top, bits = self.core.window(self.tunnel, self.epoch)
        copy.bitmap = int.from_bytes(bits, "little")
        return copy

    @window.setter
    def window(self, window: Window) -> None:
        """Do nothing: with what a window begins is told with the key."""


class CoreOpener(Opener):
    """The receive half; `epochs` say which keys the core has."""

    def __init__(
        self, core: "Core", keys: KeySchedule, tunnel: TunnelId, direction: Direction, epoch: int, seen: int = -1
    ) -> None:
        self._core = core
        self._seen = {epoch: seen}
        self._given: Opened | None = None
        super().__init__(keys, tunnel, direction, epoch, seen)

    def refresh(self) -> None:
        """Make ready the keys that the present state calls for."""
        super().refresh()
        self._push()

    def drop_previous(self) -> None:
        """Forget the epoch before the current one."""
        super().drop_previous()
        self._push()

    def top(self) -> int:
        """Return the highest counter opened in the current epoch, -1 for none."""
        return self._core.top(self.tunnel, self.current)

    def give(self, opened: Opened | None) -> None:
        """Let the next `open` return what the core has opened already."""
        self._given = opened

    def open(self, datagram: bytes | memoryview) -> Opened:
        """Return what an authentic and new datagram holds; raise RemoteProtocolError for any other."""
        given, self._given = self._given, None
        if given is None:
            result = self._core.open(self.tunnel, bytes(datagram))
            if isinstance(result, str):
                raise RemoteProtocolError(_REASONS[result], reason=result)
            plaintext, epoch, counter, hint, highest = result
            given = Opened(plaintext, epoch, counter, Hint(hint), highest, epoch < self.current)
        self.advance(given.epoch)
        return given

    def _receive_epoch(self, epoch: int, secret: Secret) -> ReceiveEpoch:
        return CoreEpoch(self._core, epoch, secret, self.tunnel, self.direction)

    def _push(self) -> None:
        held = sorted((held for slot in self.epochs for held in slot), key=lambda one: -one.epoch)
        keys = [
            (one.epoch, int(one.aead), one.key, one.iv, self._seen.get(one.epoch, -1))
            for one in held
            if isinstance(one, CoreEpoch)
        ]
        self._core.set_receive_keys(self.tunnel, self.current, keys)
