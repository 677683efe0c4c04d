"""What an anchor lends: a Vipa, tunnel indices and secrets, as changes of a subscriber's record.

Each secret generation has its own block of epochs, so that a new secret's first epoch is
higher than every one that can have been used under an older one (DESIGN §3.2, Keys).
"""

from collections.abc import Callable, Iterable

from msgspec import Struct
from msgspec.structs import replace

from sojourn.model import Endpoint, TunnelId
from sojourn.packet.seal import OVERHEAD_BYTES, Aead, Secret
from sojourn.upmt.lease import SECRET_BYTES, SLOTS, Lease
from sojourn.upmt.records import Subscriber
from sojourn.upmt.vipa import VipaPool

EPOCHS_PER_GENERATION = 4096
"""More than a lease's life has steps: at 120 s or 2^23 packets a step a refresh comes long before."""


class Terms(Struct, frozen=True):
    """What every lease of this anchor says."""

    endpoints: tuple[Endpoint, ...]
    inner_addresses: tuple[str, ...]
    resolver: str | None = None
    keep_alive: float = 25.0
    mtu: int = 1420
    """Of sealed tunnels; plain ones have room for more."""


class Leases:
    """Gives and takes back. Raises vipa.PoolExhausted when nothing is left to lend."""

    def __init__(
        self, pool: VipaPool, terms: Terms, random: Callable[[int], bytes], subscribers: Iterable[Subscriber]
    ) -> None:
        self._pool = pool
        self._terms = terms
        self._random = random
        self._taken: set[TunnelId] = set()
        for subscriber in subscribers:
            self._taken.update(subscriber.tunnels)
            if subscriber.vipa is not None and subscriber.vipa in pool:
                pool.lease(subscriber.vipa)

    def grant(
        self,
        subscriber: Subscriber,
        wanted: str | None,
        expires: float,
        unix: float,
        aead: Aead | None = Aead.AES_256_GCM,
    ) -> tuple[Subscriber, Lease]:
        """Lend for `expires` seconds from Unix time `unix`; a running lease is renewed with a new secret.

        `aead` None: no secret, for an association outside of TLS (plain tunnels only).
        """
        vipa, vipa6 = subscriber.vipa, subscriber.vipa6
        if vipa is None or vipa not in self._pool:  # the owner may have changed the pool
            vipa, vipa6 = self._pool.lease(wanted)
        tunnels = subscriber.tunnels or self._indices()
        secret = self._next_secret(subscriber, aead) if aead is not None else None
        renewed = replace(
            subscriber,
            vipa=vipa,
            vipa6=vipa6,
            tunnels=tunnels,
            # The first one is in use; one that followed may never have reached the host.
            secrets=(*subscriber.secrets[:1], secret) if secret is not None else _spent(subscriber),
            lease_until=unix + expires,
        )
        terms = self._terms
        lease = Lease(
            vipa, vipa6, expires, secret, tunnels, terms.endpoints, terms.inner_addresses, terms.resolver,
            terms.keep_alive, terms.mtu if secret is not None else terms.mtu + OVERHEAD_BYTES, subscriber.move,
        )  # fmt: skip
        return renewed, lease

    def end(self, subscriber: Subscriber) -> Subscriber:
        """Take everything back; the last generation is kept, without its key, so that no epoch is used twice."""
        if subscriber.vipa is not None:
            self._pool.give_back(subscriber.vipa)
        self._taken.difference_update(subscriber.tunnels)
        return replace(subscriber, vipa=None, vipa6=None, tunnels=(), secrets=_spent(subscriber), lease_until=None)

    def _next_secret(self, subscriber: Subscriber, aead: Aead) -> Secret:
        generation = subscriber.secrets[-1].generation + 1 if subscriber.secrets else 1
        key = self._random(SECRET_BYTES)
        return Secret(generation, key, generation * EPOCHS_PER_GENERATION, aead)

    def _indices(self) -> tuple[TunnelId, ...]:
        """Draw random indices that no association has, one a slot."""
        drawn: list[TunnelId] = []
        while len(drawn) < SLOTS:
            index = TunnelId(int.from_bytes(self._random(3)))
            if index and index not in self._taken:
                self._taken.add(index)
                drawn.append(index)
        return tuple(drawn)


def _spent(subscriber: Subscriber) -> tuple[Secret, ...]:
    return tuple(replace(secret, key=b"") for secret in subscriber.secrets[-1:])
