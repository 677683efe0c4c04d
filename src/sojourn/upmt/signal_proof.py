"""What a mobile host proves with each signal that no sealing proves, and has its anchor prove (DESIGN §3.3).

Digest with auth-int (RFC 7616): of the host over the request's body, of the anchor over the answer's. The nonce is
bound to the outer address that the anchor sees, so there is one digest for each tunnel, and one for the connection.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from sojourn.model import TunnelId
from sojourn.sip.digest_client import DigestClient
from sojourn.sip.message import Request, Response

MAX_CHALLENGES: Final = 4
"""401 answers in a row that are followed: the second one already is unusual."""

Where = TunnelId | None
"""The tunnel that a signal goes in; None = the association's own connection."""


class Verdict(Enum):
    """What a final answer is worth."""

    HEED = auto()
    """It is the anchor's, or a refusal, which needs no proof."""
    AGAIN = auto()
    """A challenge: send the request anew, `signed`."""
    IGNORE = auto()
    """It says 200 and does not prove that the anchor said so: wait for the one that does."""


class Signature:
    """The digest of one way to the anchor."""

    def __init__(self, user: str, secret: str, random: Callable[[int], bytes]) -> None:
        self._digest = DigestClient(user, secret, random)
        self._challenges = 0

    def sign(self, request: Request) -> None:
        """Put Authorization into a request that is otherwise complete, if there was a challenge."""
        self._digest.authorize(request)

    def judge(self, answer: Response) -> Verdict:
        """Say what the final answer to the request signed last is worth."""
        if answer.status == 401 and self._challenges < MAX_CHALLENGES:
            self._challenges += 1
            return Verdict.AGAIN if self._digest.challenged(answer) else Verdict.HEED
        if answer.status == 200 and not self._digest.confirmed(answer):
            return Verdict.IGNORE
        self._challenges = 0
        return Verdict.HEED


class SignalProof:
    """The signatures of one host, by the way that they are for."""

    def __init__(self, user: str, secret: str, random: Callable[[int], bytes]) -> None:
        self._user = user
        self._secret = secret
        self._random = random
        self._signatures: dict[Where, Signature] = {}

    def use_secret(self, secret: str) -> None:
        """From now on prove another secret."""
        self._secret = secret
        self._signatures.clear()

    def new(self) -> Signature:
        """Return a signature that has not been challenged."""
        return Signature(self._user, self._secret, self._random)

    def of(self, where: Where) -> Signature:
        """Return the signature in use there."""
        if where not in self._signatures:
            self._signatures[where] = self.new()
        return self._signatures[where]

    def settle(self, where: Where, signature: Signature) -> None:
        """Go on with a signature that the anchor has accepted there."""
        self._signatures[where] = signature
