"""Answering challenges (RFC 7616 §3.4, RFC 3261 §22): never the same rejected credentials twice."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from sojourn.errors import RemoteProtocolError
from sojourn.sip.digest import (
    Algorithm,
    Challenge,
    Credentials,
    Qop,
    digest,
    parse_challenge,
    parse_info,
    same,
    secret_hash,
)
from sojourn.sip.message import Request, Response


class DigestClient:
    """The client half for one user at one server. Its nonce is used again, with a higher count, until it is stale."""

    def __init__(
        self,
        username: str,
        secret: str,
        random: Callable[[int], bytes],
        algorithms: Sequence[Algorithm] = (Algorithm.SHA256,),
    ) -> None:
        self.username = username
        self._secret = secret
        self._random = random
        self._algorithms = tuple(algorithms)
        self._challenge: Challenge | None = None
        self._count = 0
        self._sent: Credentials | None = None

    def use_secret(self, secret: str) -> None:
        """From now on prove another secret."""
        self._secret = secret

    def authorize(self, request: Request) -> None:
        """Put Authorization into a request, if there is a challenge to answer. Call it last: qop covers the body."""
        challenge = self._challenge
        self._sent = None
        if challenge is None:
            return
        self._count += 1
        qop = Qop.AUTH_INT if Qop.AUTH_INT in challenge.qops else Qop.AUTH
        blank = Credentials(
            self.username,
            challenge.realm,
            challenge.nonce,
            request.uri,
            "",
            challenge.algorithm,
            qop,
            self._random(8).hex(),
            self._count,
            challenge.opaque,
        )
        proof = digest(self._a1(blank), request.method, blank, request.body)
        self._sent = replace(blank, response=proof)
        request.headers.set("Authorization", str(self._sent))

    def challenged(self, answer: Response) -> bool:
        """Take in a 401 and say whether asking again makes sense; no when these credentials were rejected (§22.2).

        Of several challenges the one whose algorithm stands first in our own list is taken: RFC 8760 §3
        warns of a server's order that was changed on the way.
        """
        parsed = [parse_challenge(value) for value in answer.headers.getlist("WWW-Authenticate")]
        usable = [one for one in parsed if one is not None and one.algorithm in self._algorithms]
        rejected = self._sent
        self._sent = None
        if not usable:
            return False
        best = min(usable, key=lambda one: self._algorithms.index(one.algorithm))
        if rejected is not None and not best.stale and best.realm == rejected.realm:
            self._challenge = None
            return False
        self._challenge, self._count = best, 0
        return True

    def confirmed(self, answer: Response) -> bool:
        """Say whether the answer to the last authorized request proves that the server knows the secret, too.

        An answer without Authentication-Info proves nothing.
        """
        sent = self._sent
        value = answer.header("Authentication-Info")
        if sent is None or value is None:
            return False
        try:
            info = parse_info(value)
        except RemoteProtocolError:
            return False
        expected = digest(self._a1(sent), "", sent, answer.body)
        if (info.cnonce, info.count, info.qop) != (sent.cnonce, sent.count, sent.qop):
            return False
        if not same(expected, info.response):
            return False
        if info.next_nonce is not None and self._challenge is not None:
            old = self._challenge
            self._challenge = Challenge(old.realm, info.next_nonce, old.algorithm, old.qops, False, old.opaque)
            self._count = 0
        return True

    def _a1(self, credentials: Credentials) -> str:
        return secret_hash(credentials.algorithm, self.username, credentials.realm, self._secret)
