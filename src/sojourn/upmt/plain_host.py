"""Sets plain tunnels up for a mobile host, each by a MESSAGE in the very tunnel (DESIGN §3.2, §3.3).

    start --TunnelRequest, the tunnel named--> 401 --the same, signed--> 200, proved --> TunnelReady
          with the handovers to that tunnel that wait, if any (the paper's combined form)
    no answer for 3 s, or a refusal --> TunnelRefused, and on it goes: asked again and again, at most seconds apart

The anchor takes packets only from the address that such an exchange has proved, so a host goes through it
again for every tunnel whose address may be another one now: moved, silent, blocked, slept. Each tunnel is a
target of its own (`sip:TUNNEL@anchor`), because one MESSAGE may be pending for each (RFC 3428 §8), and a
network that is dead must not keep the others waiting.

Timers, for each tunnel: the transaction's, `BLOCKED_AFTER`, and `again_at` after a refusal.
"""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint, TunnelId
from sojourn.sip import message
from sojourn.sip.rules import remedy_of
from sojourn.sip.transaction import Answered, ClientCommand, ClientTransaction, GaveUp, Timers, Transmit
from sojourn.upmt import signals
from sojourn.upmt.commands import SendInner
from sojourn.upmt.constants import BLOCKED_AFTER
from sojourn.upmt.handover_sender import Pending
from sojourn.upmt.lease import Lease
from sojourn.upmt.signal_message import SignalWriter
from sojourn.upmt.signal_proof import SignalProof, Verdict

FIRST_RETRANSMISSION: Final = 0.05
GUESSED_RTT: Final = 0.125
SPACING: Final = (1.0, 4.0)
"""Seconds between two attempts at most: in the first half minute, and later."""
REFUSED_AGAIN: Final = 30.0
"""Seconds after which an anchor that said no is asked again."""


class TunnelReady(Struct, frozen=True):
    """The anchor takes packets of this tunnel from where it is now."""

    tunnel: TunnelId
    seen: Endpoint | None
    """Our own address as the anchor sees it."""
    handovers: tuple[Pending, ...] = ()
    """What was asked for in the same message, and what the anchor said to each."""
    answers: tuple[signals.AnySignal, ...] = ()


class TunnelRefused(Struct, frozen=True):
    """It does not, yet."""

    tunnel: TunnelId
    why: str


PlainCommand = SendInner | TunnelReady | TunnelRefused


WaitingFor = Callable[[TunnelId], Sequence[tuple[Pending, signals.HandoverRequest]]]


def _nothing_waits(_tunnel: TunnelId) -> Sequence[tuple[Pending, signals.HandoverRequest]]:
    return ()


class _Attempt:
    """One tunnel on its way."""

    def __init__(self, proof: SignalProof, rtt: float, now: float) -> None:
        self.signature = proof.new()
        self.rtt = rtt
        self.transaction: ClientTransaction | None = None
        self.rounds = 0
        """Transactions that nobody answered."""
        self.blocked_at: float | None = now + BLOCKED_AFTER
        self.again_at: float | None = None
        self.handovers: tuple[Pending, ...] = ()
        """What the message that is on its way asks for beside the tunnel."""


class PlainHost:
    """A machine for all tunnels of one host (machine.py)."""

    def __init__(
        self, proof: SignalProof, random: Callable[[int], bytes], waiting_for: WaitingFor = _nothing_waits
    ) -> None:
        """`waiting_for(tunnel)`: the handovers that a message in a tunnel may carry along."""
        self._proof = proof
        self._waiting_for = waiting_for
        self._writer = SignalWriter(random)
        self._attempts: dict[TunnelId, _Attempt] = {}

    def lease(self, lease: Lease, user: str) -> None:
        """Take in the addresses that signals go between."""
        self._writer.lease(lease, user)

    def start(self, tunnel: TunnelId, rtt: float | None, now: float, *, anew: bool = False) -> list[SendInner]:
        """Set a tunnel up; what is under way already goes on, unless everything has changed (`anew`)."""
        if not self._writer.can_write or (tunnel in self._attempts and not anew):
            return []
        self._attempts[tunnel] = attempt = _Attempt(self._proof, rtt or GUESSED_RTT, now)
        return self._ask(tunnel, attempt, now)

    def stop(self, tunnel: TunnelId) -> None:
        """Leave a tunnel alone: it is gone, or works."""
        self._attempts.pop(tunnel, None)

    def received(self, data: bytes, now: float) -> list[PlainCommand] | None:
        """Take in a SIP message from the anchor; None if it is no answer to any of ours."""
        try:
            answer = message.parse(data)
            if not isinstance(answer, message.Response):
                return None
            for tunnel, attempt in self._attempts.items():
                if attempt.transaction is not None and attempt.transaction.matches(answer):
                    return self._heard(tunnel, attempt, attempt.transaction, answer, now)
        except RemoteProtocolError:
            pass
        return None

    def deadline(self) -> float | None:
        """Return the earliest of all timers."""
        times: list[float | None] = []
        for attempt in self._attempts.values():
            times += [attempt.blocked_at, attempt.again_at]
            times.append(attempt.transaction.deadline() if attempt.transaction is not None else None)
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> list[PlainCommand]:
        """Repeat, complain or begin again, as due."""
        commands: list[PlainCommand] = []
        for tunnel, attempt in list(self._attempts.items()):
            if attempt.transaction is not None:
                commands += self._obey(tunnel, attempt, attempt.transaction.tick(now), now)
            if attempt.again_at is not None and attempt.again_at <= now:
                commands += self._ask(tunnel, attempt, now)
            if attempt.blocked_at is not None and attempt.blocked_at <= now:
                attempt.blocked_at = None
                commands.append(TunnelRefused(tunnel, "no answer from the anchor: UDP seems to be blocked"))
        return commands

    def _ask(self, tunnel: TunnelId, attempt: _Attempt, now: float) -> list[SendInner]:
        attempt.again_at = None
        lent = self._waiting_for(tunnel)
        attempt.handovers = tuple(pending for pending, _ in lent)
        body = signals.encode([signals.TunnelRequest(tunnel), *(asked for _, asked in lent)])
        request = self._writer.request(body, target=str(tunnel))
        attempt.signature.sign(request)
        spacing = SPACING[min(attempt.rounds, 1)]
        timers = Timers(t1=max(2 * attempt.rtt, FIRST_RETRANSMISSION), t2=spacing)
        attempt.transaction = ClientTransaction(request, False, timers)
        first = attempt.transaction.start(now)
        return [self._send(tunnel, order.data) for order in first if isinstance(order, Transmit)]

    def _send(self, tunnel: TunnelId, data: bytes) -> SendInner:
        return SendInner(tunnel, self._writer.packet(data))

    def _heard(
        self, tunnel: TunnelId, attempt: _Attempt, transaction: ClientTransaction, answer: message.Response, now: float
    ) -> list[PlainCommand]:
        if answer.final:
            verdict = attempt.signature.judge(answer)
            if verdict is Verdict.IGNORE:
                return []
            if verdict is Verdict.AGAIN:
                return [*self._ask(tunnel, attempt, now)]
        return self._obey(tunnel, attempt, transaction.received(answer, now), now)

    def _obey(
        self, tunnel: TunnelId, attempt: _Attempt, orders: Sequence[ClientCommand], now: float
    ) -> list[PlainCommand]:
        commands: list[PlainCommand] = []
        for order in orders:
            match order:
                case Transmit(data):
                    commands.append(self._send(tunnel, data))
                case Answered(response):
                    commands.append(self._answered(tunnel, attempt, response, now))
                case GaveUp():
                    attempt.rounds += 1
                    commands += self._ask(tunnel, attempt, now)
        return commands

    def _answered(
        self, tunnel: TunnelId, attempt: _Attempt, response: message.Response, now: float
    ) -> TunnelReady | TunnelRefused:
        attempt.transaction, attempt.blocked_at = None, None
        why = response.phrase
        if response.status == 200:
            try:
                answers = signals.decode(response.body)
            except RemoteProtocolError as error:
                answers, why = [], str(error)
            match answers:
                case [signals.TunnelResponse(tunnel_id=int(number)) as answer, *rest] if number == tunnel:
                    del self._attempts[tunnel]
                    self._proof.settle(tunnel, attempt.signature)
                    return TunnelReady(tunnel, _seen(answer), attempt.handovers, tuple(rest))
                case [signals.Failure(reason=why), *_]:
                    pass
        attempt.again_at = now + REFUSED_AGAIN
        remedy = remedy_of(response)
        return TunnelRefused(tunnel, f"the anchor answered: {why}" + (f"; {remedy}" if remedy else ""))


def _seen(answer: signals.TunnelResponse) -> Endpoint | None:
    return Endpoint(answer.address, answer.port) if answer.address is not None and answer.port is not None else None
