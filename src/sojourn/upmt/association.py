"""The mobile host's association: a REGISTER that is always valid, over whichever channel works.

States: waiting for a channel -> registering (401, 423 and stale nonces are part of it) ->
associated -> registering again at 2/3 of the lease ... ; refused (until `RefreshWanted`); leaving -> left.
Timers: those of the transaction (sip/transaction.py), refresh, retry (1 s doubling to 60 s, a
quarter more or less by chance), 2 s for leaving.

A *channel* is a SIP connection or socket that the owner opens and closes; the newest one is used,
and what is pending moves there. Signals (MESSAGE) that come on a channel are passed on.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from msgspec.structs import replace

from sojourn.errors import LocalProtocolError, RemoteProtocolError
from sojourn.sip import via as via_module
from sojourn.sip.digest_client import DigestClient
from sojourn.sip.framing import StreamFramer, parse_datagram
from sojourn.sip.grammar import is_token
from sojourn.sip.message import MAX_EXPIRES, Address, Request, Response, new_branch, parse_expires, request
from sojourn.sip.rules import Unanswerable, options_answer, refusal, remedy_of
from sojourn.sip.transaction import Answered, ClientCommand, ClientTransaction, GaveUp, Timers, Transmit
from sojourn.upmt import lease as lease_module
from sojourn.upmt.association_events import (
    Associated as Associated,
)
from sojourn.upmt.association_events import (
    AssociationCommand as AssociationCommand,
)
from sojourn.upmt.association_events import (
    AssociationEvent as AssociationEvent,
)
from sojourn.upmt.association_events import (
    AssociationSettings as AssociationSettings,
)
from sojourn.upmt.association_events import (
    ChannelClosed as ChannelClosed,
)
from sojourn.upmt.association_events import (
    ChannelOpened as ChannelOpened,
)
from sojourn.upmt.association_events import (
    CloseChannel as CloseChannel,
)
from sojourn.upmt.association_events import (
    CredentialIssued as CredentialIssued,
)
from sojourn.upmt.association_events import (
    Leave as Leave,
)
from sojourn.upmt.association_events import (
    Left as Left,
)
from sojourn.upmt.association_events import (
    PassedOn as PassedOn,
)
from sojourn.upmt.association_events import (
    RefreshWanted as RefreshWanted,
)
from sojourn.upmt.association_events import (
    Refused as Refused,
)
from sojourn.upmt.association_events import (
    SendSip as SendSip,
)
from sojourn.upmt.association_events import (
    SipReceived as SipReceived,
)
from sojourn.upmt.association_events import (
    Unreachable as Unreachable,
)
from sojourn.upmt.lease import Lease

# Ours.
REFRESH_AT: Final = 2 / 3
"""The part of a lease after which it is renewed."""
RETRY_FIRST: Final = 1.0
RETRY_MOST: Final = 60.0
LEAVE_WITHIN: Final = 2.0
"""Seconds that a stopping host waits for the anchor's goodbye."""
MAX_CHALLENGES: Final = 4
"""401 and 423 answers in a row that one attempt puts up with."""
_METHODS: Final = ("MESSAGE", "OPTIONS")
_PASSING: Final = frozenset({408, 429, 480})
"""4xx answers that another attempt may get past."""


class State(Enum):
    """Where the association stands."""

    CONNECTING = auto()
    ASSOCIATED = auto()
    REFUSED = auto()
    LEAVING = auto()
    LEFT = auto()


class _Channel:
    """One way to the anchor."""

    def __init__(self, opened: ChannelOpened) -> None:
        self.local = opened.local
        self.transport = opened.transport or ("TLS" if opened.reliable else "UDP")
        self.reliable = opened.reliable
        self.framer = StreamFramer()


class AssociationClient:
    """Keeps one host registered at one anchor."""

    def __init__(
        self, settings: AssociationSettings, random: Callable[[int], bytes], timers: Timers | None = None
    ) -> None:
        if not is_token(settings.tid) or not settings.user:
            raise LocalProtocolError("a TID must be a SIP token, and a user have a name")
        self.settings = settings
        self.push = 0
        """The version of the anchor's PolicyPush that came last: the anchor is told at each registration."""
        self.state = State.CONNECTING
        self.lease: Lease | None = None
        self._random = random
        self._timers = timers
        self._digest = DigestClient(settings.user, settings.secret, random, settings.algorithms)
        self._channels: dict[int, _Channel] = {}
        self._call_id = random(12).hex()
        self._sequence = 0
        self._tag = random(6).hex()
        self._expires = settings.expires
        self._vipa = settings.vipa
        self._request: Request | None = None
        self._transaction: ClientTransaction | None = None
        self._on: int | None = None
        self._due = True
        self._at: float | None = None
        self._leave_by: float | None = None
        self._failures = 0
        self._rounds = 0

    def handle(self, event: AssociationEvent, now: float) -> list[AssociationCommand]:
        """Take in one fact."""
        match event:
            case ChannelOpened():
                self._channels.pop(event.channel, None)
                self._channels[event.channel] = _Channel(event)
                return self._register(now) if self._due or self._transaction is not None else []
            case ChannelClosed():
                return self._closed(event, now)
            case SipReceived():
                return self._received(event, now)
            case RefreshWanted():
                return self._refresh(now)
            case Leave():
                return self._leave(now)

    def deadline(self) -> float | None:
        """When `tick` wants to be called next."""
        waiting = self._transaction.deadline() if self._transaction is not None else None
        return min((at for at in (waiting, self._at, self._leave_by) if at is not None), default=None)

    def tick(self, now: float) -> list[AssociationCommand]:
        """Retransmit, refresh, retry or give up, as due."""
        if self._leave_by is not None and now >= self._leave_by:
            return self._gone(told=False)
        commands: list[AssociationCommand] = []
        if self._transaction is not None:
            commands += self._carry_out(self._transaction.tick(now), now)
        if self._at is not None and now >= self._at and self._transaction is None:
            commands += self._register(now)
        return commands

    # Sending.

    def _refresh(self, now: float) -> list[AssociationCommand]:
        if self.state in {State.LEAVING, State.LEFT} or self._transaction is not None:
            return []
        if self.state is State.REFUSED:
            self.state = State.CONNECTING
        return self._register(now)

    def _leave(self, now: float) -> list[AssociationCommand]:
        if self.state in {State.LEAVING, State.LEFT}:
            return []
        associated = self.lease is not None and self.state is not State.REFUSED
        self.state = State.LEAVING
        if not associated or not self._channels:
            return self._gone(told=not associated)
        self._leave_by = now + LEAVE_WITHIN
        return self._register(now)

    def _register(self, now: float) -> list[AssociationCommand]:
        """Send a new REGISTER on the newest channel."""
        self._at = None
        self._due = self._transaction is not None or self._due
        self._drop_transaction()
        if not self._channels:
            self._due = True
            return [Unreachable("no connection to the anchor", None)]
        self._due = False
        self._on = next(reversed(self._channels))
        channel = self._channels[self._on]
        self._request = self._build(channel)
        self._transaction = ClientTransaction(self._request, channel.reliable, self._timers)
        return self._carry_out(self._transaction.start(now), now)

    def _build(self, channel: _Channel) -> Request:
        settings = self.settings
        self._sequence += 1
        domain = via_module.host_text(settings.domain)
        record = Address(f"sip:{settings.user}@{domain}")
        where = f"{via_module.host_text(channel.local.address)}:{channel.local.port}"
        contact = Address(f"sip:{settings.tid}@{where};transport={channel.transport.lower()}")
        expires = 0 if self.state is State.LEAVING else self._expires
        headers = [("Contact", str(contact)), ("Expires", str(expires))]
        if self._vipa is not None:
            headers.append(("VIpAddr", self._vipa))
        made = request(
            "REGISTER",
            f"sip:{domain}",
            via=via_module.make(channel.transport, channel.local, new_branch(self._random(8)), settings.tid),
            from_=Address(record.uri, parameters={"tag": self._tag}),
            to=record,
            call_id=self._call_id,
            sequence=self._sequence,
            headers=headers,
            body=b"" if settings.offer is None else lease_module.encode_offer(replace(settings.offer, push=self.push)),
            content_type=None if settings.offer is None else lease_module.CONTENT_TYPE,
        )
        self._digest.authorize(made)
        return made

    def _carry_out(self, orders: list[ClientCommand], now: float) -> list[AssociationCommand]:
        commands: list[AssociationCommand] = []
        for order in orders:
            match order:
                case Transmit():
                    assert self._on is not None
                    commands.append(SendSip(self._on, order.data))
                case Answered():
                    self._transaction = None
                    commands += self._answered(order.response, now)
                case GaveUp():
                    self._transaction = None
                    commands += self._failed(order.why, now)
        return commands

    # What comes in.

    def _closed(self, event: ChannelClosed, now: float) -> list[AssociationCommand]:
        self._channels.pop(event.channel, None)
        if self._transaction is None or event.channel != self._on:
            return []
        if self._channels:
            return self._register(now)
        if self.state is State.LEAVING:
            return self._gone(told=False)
        self._drop_transaction()
        self._due = True
        return [Unreachable(event.why, None)]

    def _received(self, event: SipReceived, now: float) -> list[AssociationCommand]:
        channel = self._channels.get(event.channel)
        if channel is None:
            return []
        commands: list[AssociationCommand] = []
        try:
            if not channel.reliable:
                return self._message(event.channel, parse_datagram(event.data), now)
            channel.framer.feed(event.data)
            while (message := channel.framer.next_message()) is not None:
                commands += self._message(event.channel, message, now)
        except RemoteProtocolError as error:
            if channel.reliable:
                commands.append(CloseChannel(event.channel, f"the anchor's answer cannot be read: {error}"))
        return commands

    def _message(self, on: int, message: Request | Response, now: float) -> list[AssociationCommand]:
        if isinstance(message, Request):
            return self._asked(on, message)
        waiting = self._transaction
        try:
            ours = waiting is not None and waiting.matches(message)
        except RemoteProtocolError:
            return []
        if waiting is None or not ours:
            return [PassedOn(on, message)]
        return self._carry_out(waiting.received(message, now), now)

    def _asked(self, on: int, asked: Request) -> list[AssociationCommand]:
        try:
            refused = refusal(asked, _METHODS)
        except Unanswerable:
            return []
        if refused is not None:
            return [SendSip(on, bytes(refused))]
        if asked.method == "OPTIONS":
            return [SendSip(on, bytes(options_answer(asked, _METHODS)))]
        return [PassedOn(on, asked)]

    # Answers to REGISTER.

    def _answered(self, answer: Response, now: float) -> list[AssociationCommand]:
        self._rounds += 1
        if self._rounds <= MAX_CHALLENGES:
            if answer.status == 401 and self._digest.challenged(answer):
                return self._register(now)
            if answer.status == 423 and self._longer(answer):
                return self._register(now)
        if self.state is State.LEAVING:
            return self._gone(told=answer.status == 200)
        if answer.status == 200:
            return self._accepted(answer, now)
        return self._refused(answer, now)

    def _longer(self, answer: Response) -> bool:
        least = parse_expires(answer.header("Min-Expires"))
        if least is None or not self._expires < least <= MAX_EXPIRES:
            return False
        self._expires = least
        return True

    def _accepted(self, answer: Response, now: float) -> list[AssociationCommand]:
        if self.settings.require_proof and not self._digest.confirmed(answer):
            return self._failed("the answer does not prove that the anchor knows our secret", now)
        try:
            lease, credential = self._lease(answer)
        except RemoteProtocolError as error:
            return self._failed(str(error), now)
        commands: list[AssociationCommand] = []
        if credential is not None:
            self._digest.use_secret(credential)
            commands.append(CredentialIssued(credential))
        self.lease, self._vipa = lease, lease.vipa
        self.state = State.ASSOCIATED
        self._failures = self._rounds = 0
        self._at = now + lease.expires * REFRESH_AT
        return [*commands, Associated(lease)]

    def _lease(self, answer: Response) -> tuple[Lease, str | None]:
        """Read the body, or the paper's headers where there is none."""
        if answer.body and answer.content_type == lease_module.CONTENT_TYPE:
            return lease_module.decode(answer.body)
        contacts = answer.contacts
        told = parse_expires(contacts[0].parameters.get("expires")) if contacts else None
        expires = told or answer.expires or self._expires
        return lease_module.from_headers(answer.header("VIpAddr"), answer.header("VIp6Addr"), expires), None

    def _refused(self, answer: Response, now: float) -> list[AssociationCommand]:
        remedy = remedy_of(answer)
        if answer.status == 401:
            why = "the anchor does not accept this user and secret"
            return self._rejected(Refused(401, why, remedy or "join again with a fresh token", True))
        if 400 <= answer.status < 500 and answer.status not in _PASSING:
            return self._rejected(Refused(answer.status, answer.phrase, remedy, True))
        after = parse_expires(answer.header("Retry-After"))
        self._retry(now, at_least=min(after or 0, RETRY_MOST * 10))
        return [Refused(answer.status, answer.phrase, remedy, False)]

    def _rejected(self, refused: Refused) -> list[AssociationCommand]:
        self.state = State.REFUSED
        self._at, self._due, self._rounds = None, False, 0
        return [refused]

    def _failed(self, why: str, now: float) -> list[AssociationCommand]:
        if self.state is State.LEAVING:
            return self._gone(told=False)
        self._retry(now)
        self._due = True  # a new channel need not wait for the retry
        return [Unreachable(why, self._at)]

    def _retry(self, now: float, at_least: float = 0.0) -> None:
        delay = min(RETRY_FIRST * 2.0**self._failures, RETRY_MOST)
        chance = 0.75 + self._random(1)[0] / 512
        self._failures = min(self._failures + 1, 16)
        self._rounds = 0
        self._at = now + max(delay * chance, at_least)

    def _drop_transaction(self) -> None:
        if self._transaction is not None:
            self._transaction.abandon()
            self._transaction = None

    def _gone(self, *, told: bool) -> list[AssociationCommand]:
        self._drop_transaction()
        self.state = State.LEFT
        self.lease = self._at = self._leave_by = None
        self._due = False
        return [Left(told)]
