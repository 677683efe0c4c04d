"""Challenging a client and checking what it answers, without memory for strangers (RFC 7616 §3.3, §3.4).

A nonce is the time and an HMAC over time, realm and source address: nothing is stored for it. Only
a nonce that somebody has proved a secret with gets a place in a bounded table, where its highest
count (nc) stands; a count that is not higher is a replay. What the table forgets, it forgets by
raising `_floor`, so that no forgotten nonce can be replayed.
"""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.sip.digest import (
    Algorithm,
    AuthenticationInfo,
    Challenge,
    Credentials,
    Qop,
    digest,
    parse_credentials,
    same,
    secret_hash,
)
from sojourn.sip.message import Request

# Ours.
NONCE_LIFE: Final = 300.0
"""Seconds for which a nonce may be used."""
MAX_NONCES: Final = 8192
_AHEAD: Final = 0.5
"""Seconds that a nonce may be ahead of the clock, many having been made in one microsecond."""
_TIME_DIGITS: Final = 16
_MAC_DIGITS: Final = 32


class Verifier(Struct, frozen=True):
    """What a server keeps of one secret: H(user:realm:secret) by algorithm. As good as the secret itself."""

    a1: dict[Algorithm, str]

    def __repr__(self) -> str:
        return "Verifier(...)"


def make_verifier(username: str, realm: str, secret: str, algorithms: Sequence[Algorithm]) -> Verifier:
    """Compute what a server needs to check `secret`."""
    return Verifier({algorithm: secret_hash(algorithm, username, realm, secret) for algorithm in algorithms})


class Failure(Enum):
    """Why a request is not authenticated."""

    MISSING = auto()
    """No credentials for this realm: challenge it."""
    STALE = auto()
    """Right secret, but the nonce is too old, of another source or used before: challenge with stale=true."""
    WRONG = auto()
    """Unknown user or wrong secret. Which of the two, nobody is told."""


class Proved(Struct, frozen=True):
    """Someone knows a secret of `username`."""

    username: str
    which: int
    """Which of the user's verifiers it was."""
    credentials: Credentials
    a1: str
    next_nonce: str | None

    def info(self, body: bytes) -> AuthenticationInfo:
        """Return the server's proof over its answer's body (RFC 7616 §3.5)."""
        sent = self.credentials
        proof = digest(self.a1, "", sent, body)
        return AuthenticationInfo(proof, sent.qop, sent.cnonce, sent.count, self.next_nonce)

    def __repr__(self) -> str:
        return f"Proved({self.username!r}, {self.which})"


class DigestServer:
    """The server half for one realm."""

    def __init__(
        self,
        realm: str,
        nonce_secret: bytes,
        algorithms: Sequence[Algorithm] = (Algorithm.SHA256,),
        qops: tuple[Qop, ...] = (Qop.AUTH, Qop.AUTH_INT),
        max_nonces: int = MAX_NONCES,
        nonce_life: float = NONCE_LIFE,
    ) -> None:
        """`nonce_secret`: 32 random bytes, new in every process: uptime starts anew with each boot."""
        self.realm = realm
        self.algorithms = tuple(algorithms)
        self._qops = qops
        self._secret = nonce_secret
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._max = max_nonces
        self._life = nonce_life
        self._floor = -1.0
        self._newest = 0

    def challenges(self, source: str, now: float, stale: bool = False) -> list[Challenge]:
        """Return one challenge for each algorithm, the preferred one first (RFC 8760 §2.3)."""
        nonce = self.nonce(source, now)
        return [Challenge(self.realm, nonce, algorithm, self._qops, stale) for algorithm in self.algorithms]

    def nonce(self, source: str, now: float) -> str:
        """Make a nonce that is good from `source` for a while, and that no one else was given."""
        self._newest = max(int(now * 1e6), self._newest + 1)
        stamp = f"{self._newest:0{_TIME_DIGITS}x}"
        return stamp + self._mac(stamp, source)

    def verify(
        self, request: Request, source: str, now: float, verifiers: Callable[[str], Sequence[Verifier]]
    ) -> Proved | Failure:
        """Check a request's Authorization; `verifiers` gives the secrets of a user, () for none.

        Raises RemoteProtocolError for a header that cannot be read.
        """
        sent = self._credentials(request)
        if sent is None:
            return Failure.MISSING
        if sent.uri != request.uri:
            raise RemoteProtocolError("the digest is of another Request-URI", reason="digest")
        known = list(verifiers(sent.username)) or [Verifier({})]  # as much work for an unknown user
        found = [
            (place, a1)
            for place, a1 in enumerate(verifier.a1.get(sent.algorithm, "") for verifier in known)
            if same(digest(a1, request.method, sent, request.body), sent.response) and a1
        ]
        if not found:
            return Failure.WRONG
        age = self._age(sent.nonce, source, now)
        if age is None or not self._count(sent.nonce, sent.count):
            return Failure.STALE
        next_nonce = self.nonce(source, now) if age > self._life / 2 else None
        return Proved(sent.username, found[0][0], sent, found[0][1], next_nonce)

    def _credentials(self, request: Request) -> Credentials | None:
        for value in request.headers.getlist("Authorization"):
            sent = parse_credentials(value)
            if sent is not None and sent.realm == self.realm and sent.algorithm in self.algorithms:
                if sent.qop not in self._qops:
                    raise RemoteProtocolError("the digest has a qop that was not offered", reason="digest")
                return sent
        return None

    def _mac(self, stamp: str, source: str) -> str:
        text = f"{stamp}\0{self.realm}\0{source}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()[:_MAC_DIGITS]

    def _age(self, nonce: str, source: str, now: float) -> float | None:
        """Return the age of a nonce of ours that may be used, else None."""
        stamp, mac = nonce[:_TIME_DIGITS], nonce[_TIME_DIGITS:]
        if not same(self._mac(stamp, source), mac):
            return None
        made = int(stamp, 16) / 1e6
        return now - made if made > self._floor and -_AHEAD <= now - made <= self._life else None

    def _count(self, nonce: str, count: int) -> bool:
        if count <= self._counts.get(nonce, 0):
            return False
        self._counts[nonce] = count
        self._counts.move_to_end(nonce)
        if len(self._counts) > self._max:
            forgotten, _ = self._counts.popitem(last=False)
            self._floor = max(self._floor, int(forgotten[:_TIME_DIGITS], 16) / 1e6)
        return True
