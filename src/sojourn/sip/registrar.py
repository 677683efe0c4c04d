"""The anchor's half of REGISTER as a pure function of request and subscriber (RFC 3261 §10.3; paper, §VII).

It decides and forgets: the anchor keeps subscribers and bindings, fills in the body of what is
accepted, and hands the binding in again with the next request. A subscriber starts with the
one-time secret of a join token; the first association binds the terminal (TID) to it, and the
answer tells the host a credential of its own. Both are good until the own one was used.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint
from sojourn.sip.digest_server import DigestServer, Failure, Proved, Verifier
from sojourn.sip.message import STAR, Address, Request, Response, parse_expires, response
from sojourn.sip.rules import refuse

# The protocol's.
BRIEF_LIMIT: Final = 3600
"""Only an interval under one hour may be called too brief (RFC 3261 §10.3, step 7)."""

NEW_TOKEN: Final = "make a token for this host on the anchor: sojourn anchor token --name NAME"


class Limits(Struct, frozen=True):
    """For how long a registration may last, in seconds."""

    min_expires: int = 60
    expires: int = 600
    max_expires: int = 3600


class Binding(Struct, frozen=True):
    """What the last accepted REGISTER said: kept by the anchor, needed to order the next one."""

    call_id: str
    sequence: int


class Subscriber(Struct, frozen=True):
    """One token's owner, as the anchor has stored it."""

    user: str
    one_time: Verifier | None
    """The join token's secret; None once the own one was used."""
    own: Verifier | None = None
    """The credential that the first association told the host."""
    tid: str | None = None
    """The terminal that used the token first; None before that."""
    binding: Binding | None = None


class Refuse(Struct, frozen=True):
    """Send this answer and change nothing."""

    response: Response
    reason: str
    """One word for the counter: challenge, stale, secret, tid, user, brief, order, contact, malformed."""

    @property
    def remember(self) -> bool:
        """Whether a copy of the request should get the very same answer: no stranger may fill our memory."""
        return self.reason not in {"challenge", "stale", "secret", "malformed"}


class Accept(Struct, frozen=True):
    """A proved REGISTER. The anchor finds the lease and sends `answer`; `expires` 0 ends the association."""

    request: Request
    user: str
    tid: str
    expires: int
    wanted: str | None
    """The VIPA that a refresh names."""
    contact: Address | None
    """None: it only asks what is registered."""
    binding: Binding
    """To be stored with the association."""
    first: bool
    """Proved with the one-time secret: bind the TID and tell the host a credential of its own."""
    proof: Proved

    @property
    def retires_one_time(self) -> bool:
        """Whether the host has now used its own credential, so that the token's secret ends."""
        return not self.first

    def answer(
        self, vipa: str | None, vipa6: str | None = None, body: bytes = b"", expires: int | None = None
    ) -> Response:
        """Build the 200 OK: Contact with its expiry, VIpAddr, VIp6Addr and the server's own proof."""
        headers: list[tuple[str, str]] = []
        lasting = self.expires if expires is None else expires
        if self.contact is not None and lasting:
            parameters = {**self.contact.parameters, "expires": str(lasting)}
            headers.append(("Contact", str(Address(self.contact.uri, self.contact.name, parameters))))
        if vipa is not None:
            headers.append(("VIpAddr", vipa))
        if vipa6 is not None:
            headers.append(("VIp6Addr", vipa6))
        headers.append(("Authentication-Info", str(self.proof.info(body))))
        kind = "application/json" if body else None
        return response(self.request, 200, headers=headers, body=body, content_type=kind)

    def refuse(self, status: int, why: str, remedy: str | None = None, retry_after: int | None = None) -> Refuse:
        """Build the answer for what only the anchor knows, such as a pool without a free address (503)."""
        more = [] if retry_after is None else [("Retry-After", str(retry_after))]
        return Refuse(refuse(self.request, status, why, remedy, *more), "anchor")


Decision = Refuse | Accept


class Registrar:
    """Decides about REGISTER requests that `sip/rules.py` found nothing against."""

    def __init__(self, digest: DigestServer, limits: Limits | None = None) -> None:
        self.digest = digest
        self.limits = limits or Limits()

    def handle_register(
        self, request: Request, source: Endpoint, now: float, subscribers: Mapping[str, Subscriber]
    ) -> Decision:
        """Say what becomes of a request, by the steps of RFC 3261 §10.3."""
        try:
            proof = self.digest.verify(request, source.address, now, lambda user: _verifiers(subscribers.get(user)))
            if isinstance(proof, Failure):
                return self._unproved(request, source, now, proof)
            return self._proved(request, proof, subscribers[proof.username])
        except RemoteProtocolError as error:
            return Refuse(refuse(request, 400, f"Bad Request: {str(error).partition(':')[0]}"), "malformed")

    def challenge(self, request: Request, source: Endpoint, now: float, stale: bool = False) -> Refuse:
        """Ask for credentials."""
        challenges = self.digest.challenges(source.address, now, stale)
        headers = [("WWW-Authenticate", str(challenge)) for challenge in challenges]
        return Refuse(response(request, 401, headers=headers), "stale" if stale else "challenge")

    def _unproved(self, request: Request, source: Endpoint, now: float, failure: Failure) -> Refuse:
        if failure is Failure.WRONG:
            remedy = "join again with a token that the anchor still knows, or " + NEW_TOKEN
            return Refuse(refuse(request, 403, "Unknown user or wrong secret", remedy), "secret")
        return self.challenge(request, source, now, stale=failure is Failure.STALE)

    def _proved(self, request: Request, proof: Proved, subscriber: Subscriber) -> Decision:
        tid = request.via.tid
        if not tid:
            return Refuse(refuse(request, 400, "Via without TID"), "tid")
        if request.to.user != subscriber.user:
            return Refuse(refuse(request, 403, "Not the address of record of this user"), "user")
        if subscriber.tid not in {None, tid}:
            return Refuse(refuse(request, 403, "This token belongs to another terminal", NEW_TOKEN), "tid")
        binding = Binding(request.call_id, request.cseq.sequence)
        last = subscriber.binding
        if last is not None and last.call_id == binding.call_id and last.sequence >= binding.sequence:
            return Refuse(refuse(request, 500, "Sequence number out of order"), "order")
        return self._times(request, proof, subscriber, tid, binding)

    def _times(self, request: Request, proof: Proved, subscriber: Subscriber, tid: str, binding: Binding) -> Decision:
        contacts = request.contacts
        expires = request.expires
        if contacts == [STAR]:
            if expires != 0:
                return Refuse(refuse(request, 400, "Contact * needs Expires 0"), "contact")
        elif contacts:
            own = parse_expires(contacts[0].parameters.get("expires"))
            expires = own if own is not None else expires
        expires = self.limits.expires if expires is None else expires
        if 0 < expires < min(self.limits.min_expires, BRIEF_LIMIT):
            more = ("Min-Expires", str(self.limits.min_expires))
            return Refuse(refuse(request, 423, "Interval Too Brief", None, more), "brief")
        return Accept(
            request=request,
            user=subscriber.user,
            tid=tid,
            expires=min(expires, self.limits.max_expires),
            wanted=request.header("VIpAddr"),
            contact=contacts[0] if contacts else None,
            binding=binding,
            first=_kinds(subscriber)[proof.which] == "one-time",
            proof=proof,
        )


def _kinds(subscriber: Subscriber) -> list[str]:
    own = ["own"] if subscriber.own is not None else []
    return own + (["one-time"] if subscriber.one_time is not None else [])


def _verifiers(subscriber: Subscriber | None) -> list[Verifier]:
    if subscriber is None:
        return []
    return [verifier for verifier in (subscriber.own, subscriber.one_time) if verifier is not None]
