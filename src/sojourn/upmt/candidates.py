"""Subscribers as the registrar sees them: a read-only view of the anchor's records."""

from collections import deque
from collections.abc import Hashable, Iterator, Mapping

from sojourn.sip.digest import Algorithm
from sojourn.sip.digest_server import Verifier
from sojourn.sip.registrar import Binding
from sojourn.sip.registrar import Subscriber as Candidate
from sojourn.upmt.records import Subscriber

ORIGINS_KEPT = 4
"""Connections of one host that signals are taken from: the newest, and those it may be leaving."""


class Candidates(Mapping[str, Candidate]):
    """Looks a user up in the records. A revoked one is not there."""

    def __init__(self, records: Mapping[str, Subscriber], bindings: Mapping[str, Binding]) -> None:
        self._records = records
        self._bindings = bindings
        self.origins: dict[str, deque[Hashable]] = {}
        """The connections on which each user registered last."""

    def __getitem__(self, user: str) -> Candidate:
        record = self._records[user]
        if record.revoked:
            raise KeyError(user)
        return Candidate(user, _verifier(record.ha1_once), _verifier(record.ha1), record.tid, self._bindings.get(user))

    def __iter__(self) -> Iterator[str]:
        return (user for user, record in self._records.items() if not record.revoked)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def registered(self, user: str, origin: Hashable) -> None:
        """Note the connection on which a user has proved itself."""
        origins = self.origins.setdefault(user, deque(maxlen=ORIGINS_KEPT))
        if origin not in origins:
            origins.append(origin)


def stored(verifier: Verifier) -> str:
    """Return what a record keeps of a secret: words like "SHA-256:hexadecimal H(user:realm:secret)"."""
    return " ".join(f"{algorithm}:{ha1}" for algorithm, ha1 in verifier.a1.items())


def _verifier(record: str | None) -> Verifier | None:
    if record is None:
        return None
    words = (word.rpartition(":") for word in record.split())
    return Verifier({Algorithm(algorithm): ha1 for algorithm, _, ha1 in words})
