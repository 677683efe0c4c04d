"""The server side of one endpoint's SIP: from bytes to a request worth looking at, and the answer back.

Puts together framing rules, `rules`, `received`/`rport` and transactions, for an anchor as for a
mobile host. What it cannot settle itself (OPTIONS it can) comes back as `Incoming`.
"""

from collections import Counter
from collections.abc import Hashable

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint
from sojourn.sip import via as via_module
from sojourn.sip.message import Request, Response, response, stamp
from sojourn.sip.rules import METHODS, Unanswerable, options_answer, refusal
from sojourn.sip.transaction import ServerKey, ServerTransactions, Timers


class Incoming(Struct, frozen=True):
    """A request that is new and well-formed: to be answered with `SipServer.answer`."""

    request: Request
    key: ServerKey
    origin: Hashable
    """The connection, or whatever the caller names a way back by."""
    source: Endpoint
    destination: Endpoint
    """Where the answer goes when it goes as a datagram (RFC 3581 §4)."""


class Send(Struct, frozen=True):
    """Order: these bytes go back to `origin`; by datagram, to `destination`."""

    origin: Hashable
    destination: Endpoint
    data: bytes


class SipServer:
    """Requests in, answers out."""

    def __init__(self, methods: tuple[str, ...] = METHODS, timers: Timers | None = None) -> None:
        self.methods = methods
        self.transactions = ServerTransactions(timers)
        self.refused: Counter[str] = Counter()
        """What was refused, by reason."""

    def received(
        self, request: Request, origin: Hashable, source: Endpoint, reliable: bool, now: float
    ) -> Send | Incoming | None:
        """Take in a request; None when it is a copy of one still being worked on, or not worth an answer.

        `origin` names the connection, or for datagrams the socket. Retransmissions are told
        apart by origin and source address, too.
        """
        try:
            key = self.transactions.key(request, (origin, source.address))
            destination = via_module.answer_to(request.via, source)
            stamp(request, source)
            refused = refusal(request, self.methods) or _measure(request)
        except Unanswerable as error:
            self.refused[error.reason] += 1
            return None
        except RemoteProtocolError:
            self.refused["unanswerable"] += 1
            return None
        if refused is not None:
            self.refused[str(refused.status)] += 1
            return Send(origin, destination, bytes(refused))
        fresh, answer = self.transactions.received(key, reliable, now)
        if not fresh:
            return None if answer is None else Send(origin, destination, answer)
        incoming = Incoming(request, key, origin, source, destination)
        return self.answer(incoming, options_answer(request, self.methods)) if request.method == "OPTIONS" else incoming

    def answer(self, incoming: Incoming, answer: Response, remember: bool = True) -> Send:
        """Answer a request; copies of it get the same bytes, unless it is a challenge (`remember=False`)."""
        data = bytes(answer)
        if remember:
            self.transactions.answered(incoming.key, data)
        else:
            self.transactions.forget(incoming.key)
        return Send(incoming.origin, incoming.destination, data)


def _measure(request: Request) -> Response | None:
    """Cut a datagram's body to its Content-Length, and refuse one that is too short for it (§18.3)."""
    length = request.content_length
    if length is not None and length > len(request.body):
        return response(request, 400, "The body is shorter than Content-Length")
    request.body = request.body[:length]
    return None
