"""An anchor's machine and hosts that register with it, without net or clock: for dialogue tests of either end."""

from collections.abc import Mapping, Sequence
from itertools import count

from sojourn.control.config import REALM
from sojourn.model import Endpoint
from sojourn.sip import message
from sojourn.sip.digest import Algorithm
from sojourn.sip.digest_client import DigestClient
from sojourn.sip.digest_server import DigestServer, make_verifier
from sojourn.sip.registrar import Limits, Registrar
from sojourn.sip.server import Send
from sojourn.sip.via import Via
from sojourn.upmt.anchor import Anchor, AnchorCommand, SipArrived
from sojourn.upmt.candidates import stored
from sojourn.upmt.leases import Leases, Terms
from sojourn.upmt.records import Subscriber
from sojourn.upmt.vipa import VipaPool

TUNNELS_AT = Endpoint("203.0.113.1", 1800)
INNER = "10.201.0.1"
UNIX = 1_700_000_000.0
SECRET = "one-time secret"


class Counting:
    """Random bytes that count up: none comes twice, and every run is the same."""

    def __init__(self, start: int = 1) -> None:
        self._count = count(start)

    def __call__(self, size: int) -> bytes:
        return next(self._count).to_bytes(size)


def subscriber(user: str = "laptop", secret: str = SECRET) -> Subscriber:
    """Return a fresh token's record."""
    once = stored(make_verifier(user, REALM, secret, (Algorithm.SHA256,)))
    return Subscriber(user, f"{user}'s name", ha1_once=once)


def anchor(
    *subscribers: Subscriber, pool: str = "10.201.0.0/16", endpoints: tuple[Endpoint, ...] = (TUNNELS_AT,)
) -> Anchor:
    """Return an anchor that has these records."""
    records: Mapping[str, Subscriber] = {record.user: record for record in subscribers or (subscriber(),)}
    random = Counting()
    leases = Leases(VipaPool(pool), Terms(endpoints, (INNER,)), random, records.values())
    return Anchor(Registrar(DigestServer(REALM, bytes(32)), Limits()), leases, records, random, UNIX)


def answers(commands: Sequence[AnchorCommand]) -> list[message.Response]:
    """Return the SIP answers among some commands."""
    found = [message.parse(command.data) for command in commands if isinstance(command, Send)]
    return [answer for answer in found if isinstance(answer, message.Response)]


class Phone:
    """Whoever speaks SIP to the anchor over one connection (or from one UDP socket)."""

    def __init__(
        self,
        anchor: Anchor,
        user: str = "laptop",
        secret: str = SECRET,
        *,
        tid: str = "tid-1",
        origin: int = 1,
        transport: str = "TLS",
    ) -> None:
        self.anchor = anchor
        self.user = user
        self.tid = tid
        self.origin = origin
        self.transport = transport
        self.source = Endpoint("198.51.100.1", 40000)
        self.digest = DigestClient(user, secret, Counting(1000 * origin))
        self.sequence = 0
        self._random = Counting(5000 * origin)

    def request(
        self,
        method: str = "REGISTER",
        body: bytes = b"",
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> message.Request:
        """Build a request, with credentials once there was a challenge."""
        self.sequence += 1
        branch = message.new_branch(self._random(8))
        record = message.Address(f"sip:{self.user}@anchor", parameters={"tag": "a"})
        built = message.request(
            method,
            "sip:anchor",
            via=Via(self.transport, "10.0.0.2", 5060, {"branch": branch, "TID": self.tid, "rport": None}),
            from_=record,
            to=message.Address(f"sip:{self.user}@anchor"),
            call_id=f"call-{self.origin}",
            sequence=self.sequence,
            headers=list((headers or {}).items()),
            body=body,
            content_type=content_type,
        )
        self.digest.authorize(built)
        return built

    def send(self, request: message.Request, now: float = 0.0) -> list[AnchorCommand]:
        """Hand the anchor a request."""
        return self.anchor.handle(SipArrived(self.origin, self.source, self.transport, bytes(request)), now)

    def register(self, now: float = 0.0, **headers: str) -> list[AnchorCommand]:
        """Register as far as it goes: ask, answer the challenge, return what the anchor then does."""
        headers = {"Contact": f"<sip:{self.tid}@10.0.0.2>"} | headers
        commands = self.send(self.request(headers=headers), now)
        (answer,) = answers(commands)
        if answer.status == 401 and self.digest.challenged(answer):
            commands = self.send(self.request(headers=headers), now)
        return commands
