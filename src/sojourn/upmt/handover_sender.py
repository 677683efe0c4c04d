"""Tells the anchor of handovers: one MESSAGE pending at a time, batched, repeated, never lost.

A handover stands in the outbox until the anchor has answered it. What comes while a MESSAGE is
pending waits for the answer and then goes in one message (RFC 3428 §8); a message that is pending
on a tunnel given up is abandoned at once and its handovers go again, with the same move numbers,
on the tunnel of the newest one that works, or on the old one as soon as that works again. An order
for everything makes all older ones pointless.

In plain tunnels (`proof`) each message is signed, begins with a TunnelRequest, which says what tunnel it is in, and
is answered with a proof. While its tunnel is being set up it goes with the request for that, in one message
(`waiting_for`, `confirmed`; plain_host.py).

Timer: the pending transaction's, first retransmission after max(2 RTT, 50 ms) (DESIGN §3.3).
"""

from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from sojourn.errors import RemoteProtocolError
from sojourn.model import TunnelId
from sojourn.sip import message
from sojourn.sip.transaction import Answered, ClientCommand, ClientTransaction, GaveUp, Timers, Transmit
from sojourn.upmt import signals
from sojourn.upmt.commands import Everything, Move, SendInner
from sojourn.upmt.handover_rows import in_parts
from sojourn.upmt.host_events import HandoverDone
from sojourn.upmt.lease import Lease
from sojourn.upmt.signal_message import SignalWriter
from sojourn.upmt.signal_proof import SignalProof, Signature, Verdict

MAX_DATAGRAM_BODY = 1300
"""Bytes of a MESSAGE above which it needs a congestion-controlled transport (RFC 3261 §18.1.1)."""
FIRST_RETRANSMISSION = 0.05
DEFAULT_RTT = 0.25
ASKED_AGAIN = 5
"""How often a handover is repeated whose answer says that it may succeed later."""
FLOWS_PER_DATAGRAM = 512
"""Flows that one request names at most where there is no stream for large ones: some 30 KB, fragmented."""
_INTRODUCTION_BYTES = 64
"""What the request for a tunnel takes of a message."""
NUMBERS_RESERVED = 1000
"""Move numbers that are stored as used before the first of them is."""


class SendSignal(Struct, frozen=True, tag=True):
    """A MESSAGE that is too large for a datagram: it goes over the association's connection."""

    data: bytes


class Pending(Struct, frozen=True):
    """One handover that the anchor has not answered yet."""

    number: int
    moves: tuple[Move, ...]
    tunnel: TunnelId | None
    ordered: float
    tries: int = 0


SenderCommand = SendInner | SendSignal | HandoverDone


class HandoverSender:
    """The outbox and its one transaction."""

    def __init__(
        self,
        random: Callable[[int], bytes],
        first_number: int,
        proof: SignalProof | None = None,
        stream: str | None = "TLS",
    ) -> None:
        """`proof`: for plain tunnels. `stream`: what the association's connection is, None for datagrams."""
        self._proof = proof
        self._stream = stream
        self._number = first_number
        self._stored = first_number
        self.reserved = first_number + NUMBERS_RESERVED
        """A successor starts above this one."""
        self._writer = SignalWriter(random)
        self._outbox: list[Pending] = []
        self._transaction: ClientTransaction | None = None
        self._sent: tuple[Pending, ...] = ()
        self._tunnel: TunnelId | None = None
        self._lost: set[TunnelId] = set()
        """Tunnels given up, until they work again."""
        self._held: set[TunnelId] = set()
        """Plain tunnels that are being set up."""
        self._large = False
        self._introduced = 0
        """Signals in the message that stand before the handovers."""
        self._rtt: dict[TunnelId, float] = {}

    def lease(self, lease: Lease, user: str | None = None) -> None:
        """Take in the addresses that signals go between."""
        self._writer.lease(lease, user)

    def next_number(self) -> tuple[int, bool]:
        """Return the next move number, and whether a new block of them must be stored first."""
        self._number += 1
        if self._number > self.reserved:
            self.reserved += NUMBERS_RESERVED
        is_new, self._stored = self.reserved > self._stored, self.reserved
        return self._number, is_new

    def go_on_from(self, number: int) -> None:
        """Use only numbers above one that the anchor has seen of this host."""
        if number > self._number:
            self._number = number
            self.reserved = max(self.reserved, number)

    def measured(self, tunnel: TunnelId, srtt: float | None) -> None:
        """Note a tunnel's round trip time, in seconds."""
        if srtt is not None:
            self._rtt[tunnel] = srtt

    def rtt(self, tunnel: TunnelId) -> float | None:
        """Return a tunnel's round trip time, in seconds, where it is known."""
        return self._rtt.get(tunnel)

    def pending(self) -> int:
        """Return how many handovers the anchor has not confirmed."""
        return len(self._outbox)

    def order(self, number: int, moves: Sequence[Move], now: float) -> list[SenderCommand]:
        """Signal a handover that has just taken effect here; nothing where it does not concern the anchor."""
        if not moves:
            return []
        if any(isinstance(move.select, Everything) for move in moves):
            self._outbox.clear()
            self._abandon()
        tunnel = next((move.tunnel for move in moves if move.tunnel is not None), None)
        parts = [tuple(moves)] if self._stream is not None else in_parts(moves, FLOWS_PER_DATAGRAM)
        self._outbox += [Pending(number, part, tunnel, now) for part in parts]
        return self._elsewhere(now) or self._flush(now)

    def hold(self, tunnel: TunnelId, now: float) -> list[SenderCommand]:
        """Send nothing in a plain tunnel until it is set up (`tunnel_works`), and what is pending there elsewhere."""
        self._lost.add(tunnel)
        self._held.add(tunnel)
        if self._transaction is not None and not self._large and self._tunnel == tunnel:
            self._abandon()
        return self._flush(now)

    def waiting_for(self, tunnel: TunnelId) -> list[tuple[Pending, signals.HandoverRequest]]:
        """Return the handovers that a message in this tunnel may carry now, if that is where they are to go."""
        if self._transaction is not None or self._best_tunnel() != tunnel:
            return []
        lent: list[tuple[Pending, signals.HandoverRequest]] = []
        size = 0
        for pending in self._outbox[: signals.MAX_SIGNALS - 1]:
            request = self._signal(pending, tunnel)
            size += len(signals.encode([request]))
            if size > MAX_DATAGRAM_BODY - _INTRODUCTION_BYTES:
                break
            lent.append((pending, request))
        return lent

    def confirmed(
        self, sent: Sequence[Pending], answers: Sequence[signals.AnySignal], now: float
    ) -> list[SenderCommand]:
        """Take in the answers to handovers that `waiting_for` has lent."""
        there = {id(pending) for pending in self._outbox}
        return self._settled([pending for pending in sent if id(pending) in there], sent, answers, now)

    def tunnel_lost(self, tunnel: TunnelId, now: float) -> list[SenderCommand]:
        """Send what is pending on a tunnel given up again on another one, if there is another."""
        self._lost.add(tunnel)
        return self._elsewhere(now)

    def tunnel_works(self, tunnel: TunnelId, now: float) -> list[SenderCommand]:
        """Send what is pending on a tunnel that was lost again, at once: it is opened anew, or answers again."""
        if tunnel not in self._lost:
            return []
        again = self._transaction is not None and not self._large and self._tunnel in self._lost
        self._lost.discard(tunnel)
        self._held.discard(tunnel)
        if again:
            self._abandon()
        return self._flush(now)

    def registered(self, now: float) -> list[SenderCommand]:
        """Send what was on its way over the old connection again: the association has a new one."""
        if self._transaction is None or not self._large:
            return []
        self._abandon()
        return self._flush(now)

    def received(self, data: bytes, now: float) -> list[SenderCommand]:
        """Take in a SIP message from the anchor; what is no answer to our transaction is ignored."""
        try:
            answer = message.parse(data)
            if not isinstance(answer, message.Response) or self._transaction is None:
                return []
            if not self._transaction.matches(answer):
                return []
        except RemoteProtocolError:
            return []
        signature = self._signature()
        if signature is not None and answer.final:
            match signature.judge(answer):
                case Verdict.IGNORE:
                    return []
                case Verdict.AGAIN:
                    self._abandon()
                    return self._flush(now)
        return self._obey(self._transaction.received(answer, now), now)

    def deadline(self) -> float | None:
        """Return when the transaction wants to be ticked."""
        return self._transaction.deadline() if self._transaction is not None else None

    def tick(self, now: float) -> list[SenderCommand]:
        """Retransmit, or start again after the transaction gave up: the anchor must learn of it some time."""
        return self._obey(self._transaction.tick(now), now) if self._transaction is not None else []

    def _obey(self, commands: Sequence[ClientCommand], now: float) -> list[SenderCommand]:
        out: list[SenderCommand] = []
        for command in commands:
            match command:
                case Transmit(data):
                    out.append(self._carry(data))
                case Answered(response):
                    out += self._answered(response, now)
                case GaveUp():
                    self._abandon()
                    out += self._flush(now)
        return out

    def _answered(self, response: message.Response, now: float) -> list[SenderCommand]:
        sent, self._sent, self._transaction = self._sent, (), None
        try:
            answers = signals.decode(response.body)[self._introduced :] if response.status == 200 else []
        except RemoteProtocolError:
            answers = []
        return self._settled(sent, sent, answers, now) + self._flush(now)

    def _settled(
        self, wanted: Sequence[Pending], sent: Sequence[Pending], answers: Sequence[signals.AnySignal], now: float
    ) -> list[SenderCommand]:
        """Note what was answered, of what was sent; `wanted`: what nothing newer has made pointless."""
        done_with = {id(pending) for pending in wanted}
        self._outbox = [pending for pending in self._outbox if id(pending) not in done_with]
        done: list[SenderCommand] = []
        newer = len(self._outbox)
        for place, pending in enumerate(sent):
            if id(pending) not in done_with:
                continue
            answer = answers[place] if place < len(answers) else None
            if isinstance(answer, signals.Failure) and answer.again and pending.tries < ASKED_AGAIN:
                self._outbox.insert(len(self._outbox) - newer, replace(pending, tries=pending.tries + 1))
                continue
            counts: dict[str, int] = {} if isinstance(answer, signals.HandoverResponse) else {"refused": 1}
            for result in answer.results if isinstance(answer, signals.HandoverResponse) else ():
                for word, count in result.counts.items():
                    counts[word] = counts.get(word, 0) + count
            name = str(pending.tunnel) if pending.tunnel is not None else None
            done.append(HandoverDone(pending.number, name, now - pending.ordered, counts))
        return done

    def _elsewhere(self, now: float) -> list[SenderCommand]:
        """Give up a message that is pending on a lost tunnel, if what waits names one that is not lost."""
        if self._transaction is None or self._tunnel not in self._lost or self._best_tunnel() in self._lost:
            return []
        self._abandon()
        return self._flush(now)

    def _best_tunnel(self) -> TunnelId | None:
        """Return the tunnel of the newest handover, of those that are not lost if there is one."""
        newest_first = [pending.tunnel for pending in reversed(self._outbox) if pending.tunnel is not None]
        return next((tunnel for tunnel in newest_first if tunnel not in self._lost), next(iter(newest_first), None))

    def _flush(self, now: float) -> list[SenderCommand]:
        """Start a transaction for all that waits."""
        if self._transaction is not None or not self._outbox or not self._writer.can_write:
            return []
        tunnel = self._best_tunnel()
        if tunnel is None or tunnel in self._held:
            return []
        most = signals.MAX_SIGNALS - 1 if self._stream is not None else 1
        self._sent = tuple(self._outbox[:most])
        self._tunnel = tunnel
        handovers = [self._signal(pending, tunnel) for pending in self._sent]
        introduction = [signals.TunnelRequest(tunnel)] if self._proof is not None else []
        request = self._writer.request(signals.encode([*introduction, *handovers]))
        self._large = self._stream is not None and len(bytes(request)) > MAX_DATAGRAM_BODY
        if self._large:  # outside of any tunnel all of them are named
            introduction, handovers = [], [self._signal(pending, None) for pending in self._sent]
            request = self._writer.request(signals.encode(handovers))
        self._introduced = len(introduction)
        signature = self._signature()
        if signature is not None:
            signature.sign(request)
        t1 = max(2 * self._rtt.get(tunnel, DEFAULT_RTT / 2), FIRST_RETRANSMISSION)
        self._transaction = ClientTransaction(request, self._large, Timers(t1=t1))
        return self._obey(self._transaction.start(now), now)

    def _signature(self) -> Signature | None:
        """Return what signs the message in `_sent`, if it needs that: TLS proves what is said there."""
        if self._proof is None or (self._large and self._stream == "TLS"):
            return None
        return self._proof.of(None if self._large else self._tunnel)

    def _signal(self, pending: Pending, here: TunnelId | None) -> signals.HandoverRequest:
        """Write a handover; a tunnel that all of it goes to, and that it is told in, is not named (the paper, §V)."""
        single = all(move.tunnel == here for move in pending.moves)
        rows = tuple(signals.row_of(move, here if single else None) for move in pending.moves)
        return signals.HandoverRequest(pending.number, rows)

    def _carry(self, data: bytes) -> SendInner | SendSignal:
        assert self._tunnel is not None
        return SendSignal(data) if self._large else SendInner(self._tunnel, self._writer.packet(data))

    def _abandon(self) -> None:
        if self._transaction is not None:
            self._transaction.abandon()
        self._transaction, self._sent = None, ()
