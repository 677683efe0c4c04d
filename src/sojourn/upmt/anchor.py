"""The anchor (MMS) as a machine: REGISTER and MESSAGE in, leases and orders for the data path out.

It owns who is associated and what each host was lent; the data path owns tunnels and rows.

    REGISTER (TLS, or UDP/TCP where allowed) -> registrar -> lease -> AddAssociation, InstallSecret, 200 OK
    MESSAGE inside a tunnel or on the connection -> anchor_signals -> MoveFlows ... FlowsMoved -> 200 OK
    MESSAGE in a plain tunnel, or on the way to one -> plain_anchor (challenge, proof, OpenTunnel) -> the same

Timers: signals that the data path did not answer; leases that run out. A lease that ran out stays
with its host (who may be asleep) for `LINGER`, unless the pool has nothing else to give.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping

from msgspec.structs import replace

from sojourn.errors import RemoteProtocolError
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet import ip
from sojourn.packet.seal import Aead
from sojourn.sip import message
from sojourn.sip.digest_server import make_verifier
from sojourn.sip.registrar import Accept, Binding, Refuse, Registrar
from sojourn.sip.rules import refuse
from sojourn.sip.server import Incoming, Send, SipServer
from sojourn.upmt import events, lease, signals
from sojourn.upmt.anchor_events import AnchorCommand as AnchorCommand
from sojourn.upmt.anchor_events import AnchorEvent as AnchorEvent
from sojourn.upmt.anchor_events import Associated as Associated
from sojourn.upmt.anchor_events import Keep as Keep
from sojourn.upmt.anchor_events import NotKept as NotKept
from sojourn.upmt.anchor_events import SipArrived as SipArrived
from sojourn.upmt.anchor_events import SubscriberChanged as SubscriberChanged
from sojourn.upmt.anchor_events import SubscriberRemoved as SubscriberRemoved
from sojourn.upmt.anchor_events import Trust as Trust
from sojourn.upmt.anchor_signals import AnchorSignals, Answer, Sender
from sojourn.upmt.candidates import Candidates, stored
from sojourn.upmt.commands import AddAssociation, CloseTunnel, InstallSecret, OpenTunnel, RemoveAssociation
from sojourn.upmt.lease_ends import Subscribers
from sojourn.upmt.leases import Leases
from sojourn.upmt.move_numbers import MoveNumbers, adopted, noted
from sojourn.upmt.plain_anchor import REMEDY, Asked, PlainAnchor, Way, is_plain, proved
from sojourn.upmt.records import Subscriber
from sojourn.upmt.vipa import PoolExhausted

LINGER = 24 * 3600.0
"""Seconds for which a lease that ran out is kept for its host."""
CREDENTIAL_BYTES = 24
RETRY_AFTER = 120
"""Seconds that a host is told to wait when the pool is exhausted."""


class Anchor:
    """The machine. Records are handed in once, at start, and every change of one goes out as `Keep`."""

    def __init__(
        self,
        registrar: Registrar,
        leases: Leases,
        subscribers: Mapping[str, Subscriber],
        random: Callable[[int], bytes],
        unix_offset: float,
        *,
        plain: bool = False,
    ) -> None:
        """`unix_offset`: what to add to `now` to get Unix time; `plain`: hosts may have plain tunnels."""
        self.subscribers = Subscribers(subscribers)
        self.refused: Counter[str] = Counter()
        self.server = SipServer()
        self.outer: dict[TunnelId, Endpoint] = {}
        """Where each tunnel's host was last, as far as the data path has said."""
        self._registrar = registrar
        self._leases = leases
        self._random = random
        self._unix = unix_offset
        self.plain = PlainAnchor(registrar.digest.realm, random, plain)
        self._signals = AnchorSignals()
        self._numbers = MoveNumbers(self.subscribers)
        self._asked: dict[Hashable, Asked] = {}
        self._bindings: dict[str, Binding] = {}
        self._candidates = Candidates(self.subscribers, self._bindings)
        self._by_id: dict[AssociationId, str] = {}
        self._promised: tuple[Incoming, Accept, Subscriber] | None = None  # a first association, the record before

    # -- the machine's surface

    def start(self, fresh_secrets: bool) -> list[AnchorCommand]:
        """Return what the data path must know of associations that stand; call it once.

        `fresh_secrets`: secrets of before must not be used (the epochs of a former boot are not
        known): hosts register again as soon as they notice the silence.
        """
        commands: list[AnchorCommand] = []
        for subscriber in self.subscribers.values():
            if subscriber.vipa is None or subscriber.revoked:
                continue
            commands += self._install(subscriber, fresh_secrets)
        return commands

    def handle(self, event: AnchorEvent, now: float) -> list[AnchorCommand]:
        """Take in one fact."""
        match event:
            case SipArrived():
                return self._sip(event, now)
            case events.InnerReceived(association, tunnel, packet, source):
                if source is not None and association in self._by_id:
                    self.outer[tunnel] = source
                return self._inner(association, tunnel, packet, source, now)
            case events.StrangerReceived(association, packet, source):
                return self._inner(association, None, packet, source, now)
            case events.FlowsMoved():
                answer = self._signals.moved(event)
                return self._answer(answer) if answer is not None else []
            case events.TunnelMoved(tunnel, outer):
                self.outer[tunnel] = outer
            case events.State():
                self.outer.update(event.outer)
                self.subscribers.update(adopted(event, self.user_of))
            case events.SecretInUse(association, generation):
                return self._secret_in_use(association, generation)
            case SubscriberChanged(subscriber, ended):
                return self._changed(subscriber, ended)
            case SubscriberRemoved(user):
                gone = self.subscribers.get(user)
                commands = self._end(gone)[:-1] if gone is not None else []
                self.subscribers.pop(user, None)
                return commands
            case NotKept():
                return self._break_promise()
        return []

    def deadline(self) -> float | None:
        """Return when a signal runs out of patience, or the next lease out of time."""
        end = self.subscribers.next_end()
        times = (None if end is None else end + LINGER - self._unix, self._signals.deadline())
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> list[AnchorCommand]:
        """Answer late signals, end leases."""
        commands: list[AnchorCommand] = []
        for answer in self._signals.tick(now):
            commands += self._answer(answer)
        for subscriber in self.subscribers.ended(now + self._unix - LINGER):
            commands += self._end(subscriber)
        return commands

    def user_of(self, association: AssociationId) -> Subscriber | None:
        """Return whose association this is."""
        return self.subscribers.get(self._by_id.get(association, ""))

    # -- SIP outside of tunnels

    def _sip(self, event: SipArrived, now: float) -> list[AnchorCommand]:
        try:
            request = message.parse(event.data)
        except RemoteProtocolError as error:
            self.refused[error.reason] += 1
            return []
        if not isinstance(request, message.Request):
            self.refused["response"] += 1
            return []
        incoming = self.server.received(request, event.origin, event.source, event.transport != "UDP", now)
        if incoming is None or isinstance(incoming, Send):
            return [incoming] if incoming is not None else []
        if request.method == "REGISTER":
            return self._register(incoming, event, now)
        return self._message_outside(incoming, event, now)

    def _register(self, incoming: Incoming, event: SipArrived, now: float) -> list[AnchorCommand]:
        decision = self._registrar.handle_register(incoming.request, event.source, now, self._candidates)
        if isinstance(decision, Refuse):
            return self._refuse(incoming, decision)
        subscriber = self.subscribers[decision.user]
        if decision.contact is None:
            return [self.server.answer(incoming, decision.answer(subscriber.vipa, subscriber.vipa6))]
        if decision.expires == 0:
            left = [*self._end(subscriber, tell=False), self._log(subscriber, "left", event.source)]
            return [*left, self.server.answer(incoming, decision.answer(None))]
        private, credential = event.transport == "TLS", None
        try:
            offer = lease.decode_offer(decision.request.body)
            if offer.plain and not self.plain.allowed:
                return self._refuse(incoming, decision.refuse(488, "This anchor has no plain tunnels", REMEDY))
            aead = offer.aeads[0] if private and not offer.plain else None
            commands, renewed, granted = self._grant(subscriber, decision, aead, now)
        except PoolExhausted as error:
            why, remedy = f"No free address: {error}", "enlarge `pool` in anchor.toml, or revoke hosts"
            return self._refuse(incoming, decision.refuse(503, why, remedy, RETRY_AFTER))
        except RemoteProtocolError as error:
            return self._refuse(incoming, decision.refuse(error.status, f"Bad offer: {error}"))
        if decision.first and not private:  # nothing secret is told in the clear: the token's becomes the host's own
            renewed = replace(renewed, ha1=renewed.ha1_once, ha1_once=None)
        elif decision.first:
            credential = self._random(CREDENTIAL_BYTES).hex()
            digest = self._registrar.digest
            verifier = make_verifier(renewed.user, digest.realm, credential, digest.algorithms)
            renewed = replace(renewed, ha1=stored(verifier))
        elif decision.retires_one_time and renewed.ha1_once is not None:
            renewed = replace(renewed, ha1_once=None)
        renewed = replace(renewed, tid=decision.tid)
        if subscriber.vipa != renewed.vipa or is_plain(subscriber) != is_plain(renewed):
            commands += self._forget(subscriber)
        self.subscribers[decision.user] = renewed
        self._bindings[decision.user] = decision.binding
        self._candidates.registered(decision.user, event.origin)
        self._promised = (incoming, decision, subscriber) if credential is not None else None
        kept = Keep(renewed, promised=credential is not None)
        commands += [kept, *self._install(renewed, False), Trust(event.origin, event.source)]
        # The paper's own form has no bodies: headers say it all.
        body = lease.encode(granted, credential) if private or decision.request.body else b""
        answer = decision.answer(granted.vipa, granted.vipa6, body)
        commands.append(self._log(renewed, "refreshed" if subscriber.vipa else "associated", event.source, offer.push))
        return [*commands, self.server.answer(incoming, answer)]

    def _grant(
        self, subscriber: Subscriber, decision: Accept, aead: Aead | None, now: float
    ) -> tuple[list[AnchorCommand], Subscriber, lease.Lease]:
        """Lend; when the pool is exhausted, take back the lease that ran out longest ago first."""
        unix = now + self._unix
        try:
            return [], *self._leases.grant(subscriber, decision.wanted, decision.expires, unix, aead)
        except PoolExhausted:
            over = self.subscribers.ended(unix)
            if not over:
                raise
            return self._end(over[0]), *self._leases.grant(subscriber, decision.wanted, decision.expires, unix, aead)

    def _break_promise(self) -> list[AnchorCommand]:
        """Refuse a first association whose credential nobody would know after a restart; its token stays good."""
        if self._promised is None:
            return []
        (incoming, decision, before), self._promised = self._promised, None
        self._leases.end(self.subscribers[before.user])
        self.subscribers[before.user] = before
        self._bindings.pop(before.user, None)
        why, remedy = "The anchor cannot store anything now", "have its owner look at its log and at its disk"
        return self._refuse(incoming, decision.refuse(503, why, remedy, RETRY_AFTER))

    def _refuse(self, incoming: Incoming, decision: Refuse) -> list[AnchorCommand]:
        self.refused[decision.reason] += 1
        return [self.server.answer(incoming, decision.response, remember=decision.remember)]

    def _log(self, subscriber: Subscriber, what: str, source: Endpoint, push: int = 0) -> Associated:
        return Associated(subscriber.user, subscriber.name, subscriber.vipa, what, source, push)

    # -- leases and the data path

    def _install(self, subscriber: Subscriber, fresh_secrets: bool) -> list[AnchorCommand]:
        assert subscriber.vipa is not None
        association = association_of(subscriber.vipa)
        self._by_id[association] = subscriber.user
        commands: list[AnchorCommand] = [
            AddAssociation(association, subscriber.vipa, subscriber.vipa6, subscriber.tunnels)
        ]
        if not fresh_secrets:
            commands += [InstallSecret(association, secret) for secret in subscriber.secrets if secret.key]
        return commands

    def _secret_in_use(self, association: AssociationId, generation: int) -> list[AnchorCommand]:
        """Erase older secrets: the host has sealed with this one."""
        subscriber = self.user_of(association)
        if subscriber is None:
            return []
        kept = tuple(secret for secret in subscriber.secrets if secret.generation >= generation)
        if kept == subscriber.secrets:
            return []
        self.subscribers[subscriber.user] = renewed = replace(subscriber, secrets=kept)
        return [Keep(renewed)]

    def _changed(self, subscriber: Subscriber, ended: bool) -> list[AnchorCommand]:
        before = self.subscribers.get(subscriber.user)
        self.subscribers[subscriber.user] = subscriber
        if before is None or before.vipa is None or not (subscriber.revoked or ended):
            return []
        return self._end(replace(before, revoked=subscriber.revoked, ha1=subscriber.ha1, ha1_once=subscriber.ha1_once))

    def _end(self, subscriber: Subscriber, *, tell: bool = True) -> list[AnchorCommand]:
        """Take a lease back. The host is told in its tunnels: an idle one would not ask for long."""
        closing = [CloseTunnel(tunnel) for tunnel in subscriber.tunnels if tell and tunnel in self.outer]
        forgetting = self._forget(subscriber)
        self.subscribers[subscriber.user] = ended = self._leases.end(subscriber)
        return [*closing, *forgetting, Keep(ended)]

    def _forget(self, subscriber: Subscriber) -> list[AnchorCommand]:
        self._bindings.pop(subscriber.user, None)
        self._candidates.origins.pop(subscriber.user, None)
        if subscriber.vipa is None:
            return []
        association = association_of(subscriber.vipa)
        self._by_id.pop(association, None)
        for tunnel in subscriber.tunnels:
            self.outer.pop(tunnel, None)
        return [RemoveAssociation(association)]

    # -- signals

    def _inner(
        self, association: AssociationId, tunnel: TunnelId | None, packet: bytes, source: Endpoint | None, now: float
    ) -> list[AnchorCommand]:
        """Take a signal inside a tunnel, or (plain ones) from an address that has none yet."""
        subscriber = self.user_of(association)
        if subscriber is None:
            return []
        bare = source if is_plain(subscriber) else None
        if tunnel is None and (bare is None or not self.plain.allowed):
            self.refused["not-plain"] += 1
            return []
        try:
            vipa, anchor, payload = ip.udp_parts(packet)
            request = message.parse(payload)
        except RemoteProtocolError as error:
            self.refused[error.reason] += 1
            return []
        if not isinstance(request, message.Request):
            return []
        way = Way(tunnel, source, vipa, anchor, len(packet))
        incoming = self.server.received(request, (association, bare), vipa, False, now)
        if incoming is None:
            return []
        if isinstance(incoming, Send):
            return [*way.carry(incoming.data)]
        if bare is None:
            return self._message(Asked(incoming, way), subscriber, now)
        return self._bare_message(Asked(incoming, way), bare, subscriber, now)

    def _bare_message(self, asked: Asked, source: Endpoint, subscriber: Subscriber, now: float) -> list[AnchorCommand]:
        """Take a signal that no sealing proves; it may ask for the tunnel that it comes in."""
        assert asked.way is not None
        association = association_of(subscriber.vipa or "")
        request, candidate = asked.incoming.request, self._candidates.get(subscriber.user)
        came, mine = (asked.way.tunnel, source), (association, subscriber.tunnels)
        found = self.plain.admit(request, came, candidate, mine, now)
        if isinstance(found, Refuse):
            self.refused[found.reason] += 1
            return self._send(asked, found.response, remember=found.remember)
        orders: list[OpenTunnel] = []
        if found.order is not None:
            orders = [found.order]
            self.outer[found.tunnel] = source
        inside = Asked(asked.incoming, replace(asked.way, tunnel=found.tunnel), found.proof)
        return [*orders, *self._message(inside, subscriber, now)]

    def _message_outside(self, incoming: Incoming, event: SipArrived, now: float) -> list[AnchorCommand]:
        """Take a MESSAGE on a connection: only from the host that registered on that very connection."""
        user = incoming.request.from_.user
        subscriber = self.subscribers.get(user)
        here = subscriber is not None and event.origin in self._candidates.origins.get(user, ())
        if event.transport == "UDP" or not here or subscriber is None or subscriber.vipa is None:
            self.refused["unregistered"] += 1
            answer = refuse(incoming.request, 403, "Not registered on this connection")
            return [self.server.answer(incoming, answer)]
        if event.transport == "TLS":
            return self._message(Asked(incoming), subscriber, now)
        found = self.plain.check(incoming.request, event.source, self._candidates.get(user), now)
        if isinstance(found, Refuse):
            return self._refuse(incoming, found)
        return self._message(Asked(incoming, None, found), subscriber, now)

    def _message(self, asked: Asked, subscriber: Subscriber, now: float) -> list[AnchorCommand]:
        request, key = asked.incoming.request, asked.incoming.key
        if request.content_type not in signals.CONTENT_TYPES:
            accept = ("Accept", signals.CONTENT_TYPE)
            return self._send(asked, refuse(request, 415, "Unsupported Media Type", None, accept))
        assert subscriber.vipa is not None
        came_on = asked.way.tunnel if asked.way is not None else None
        live = frozenset(tunnel for tunnel in subscriber.tunnels if tunnel in self.outer)
        outer = self.outer.get(came_on) if came_on is not None else None
        sender = Sender(association_of(subscriber.vipa), subscriber.tunnels, came_on, outer, live)
        try:
            orders, answer = self._signals.received(key, sender, request.body, now)
        except RemoteProtocolError as error:
            self.refused[error.reason] += 1
            return self._send(asked, refuse(request, error.status, f"Bad UPMT signal: {error}"))
        self._asked[key] = asked
        fresh, late = self._numbers.sift(subscriber.user, orders)
        out: list[AnchorCommand] = [*fresh, *(self._answer(answer) if answer is not None else [])]
        for moved in late:
            out += self.handle(moved, now)
        renewed = noted(subscriber, max((order.number for order in fresh), default=0))
        self.subscribers[subscriber.user] = renewed
        # On record before it is carried out.
        return [Keep(renewed, lasting=False), *out] if renewed is not subscriber else out

    def _answer(self, answer: Answer) -> list[AnchorCommand]:
        asked = self._asked.pop(answer.key, None)
        if asked is None:
            return []
        asking = asked.incoming.request
        return self._send(asked, message.response(asking, 200, body=answer.body, content_type=signals.CONTENT_TYPE))

    def _send(self, asked: Asked, response: message.Response, *, remember: bool = True) -> list[AnchorCommand]:
        send = self.server.answer(asked.incoming, proved(response, asked.proof), remember)
        return [*asked.way.carry(send.data)] if asked.way is not None else [send]


def association_of(vipa: str) -> AssociationId:
    """Return the association's number: its Vipa's, so that a restarted control and its data path agree."""
    return AssociationId(int.from_bytes(ip.packed(vipa)))
