"""PolicyPush: what an anchor's owner offers to the hosts: policies, costs of networks, an order of networks.

    anchor                                host
      | -- MESSAGE PolicyPush (TLS) ------> |   after each registration on a new connection, and when it changed
      | <----------- 200 PolicyPushed ----- |   what of it the host can read; it uses only what its owner accepts

The version is a number made of the content: the same content is the same push, however often it comes. A push stands
for all earlier ones. It is taken over TLS only, where the anchor has proved who it is.

Timer (anchor): each request's F, 32 s; a host that did not answer gets it again when it registers next.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint
from sojourn.sip import message
from sojourn.sip.rules import refuse
from sojourn.sip.server import Send
from sojourn.sip.transaction import Answered, ClientTransaction
from sojourn.sip.via import Via, host_text
from sojourn.upmt.association_events import SendSip

CONTENT_TYPE: Final = "application/json"
MAX_PUSH_BYTES: Final = 32 << 10
MAX_PUSHED: Final = 64
"""Policies, costs and places in the order, each."""

Word = Annotated[str, Meta(min_length=1, max_length=64)]


class PolicyPush(Struct, frozen=True, tag_field="mType", tag=True, omit_defaults=True):
    """The signal. Tables are as in host.toml's `[[policy]]`, unread."""

    version: Annotated[int, Meta(ge=0, lt=1 << 53)] = 0
    policies: Annotated[tuple[dict[str, Any], ...], Meta(max_length=MAX_PUSHED)] = ()
    costs: Annotated[dict[Word, Word], Meta(max_length=MAX_PUSHED)] = {}
    """"free" or "metered" by a network's name, label or kind."""
    order: Annotated[tuple[Word, ...], Meta(max_length=MAX_PUSHED)] = ()


class PolicyPushed(Struct, frozen=True, tag_field="mType", tag=True, omit_defaults=True):
    """The answer: the push with this version has arrived."""

    version: int = 0


class PushReceived(Struct, frozen=True, tag=True):
    """For control: what the anchor offers now."""

    push: PolicyPush


_push_decoder = msgspec.json.Decoder(PolicyPush)
_answer_decoder = msgspec.json.Decoder(PolicyPushed)


def make_push(policies: tuple[dict[str, Any], ...], costs: Mapping[str, str], order: tuple[str, ...]) -> PolicyPush:
    """Return a push with the version that its content has; 0 = nothing is offered."""
    if not (policies or costs or order):
        return PolicyPush()
    bare = PolicyPush(0, policies, dict(costs), order)
    content = msgspec.json.Encoder(order="sorted").encode(bare)
    return PolicyPush(int.from_bytes(hashlib.sha256(content).digest()[:6]) or 1, policies, dict(costs), order)


def encode(signal: PolicyPush | PolicyPushed) -> bytes:
    """Write a body."""
    return msgspec.json.encode(signal)


def decode(body: bytes) -> PolicyPush:
    """Read a push; raise RemoteProtocolError for anything else, and for one that is too large."""
    if len(body) > MAX_PUSH_BYTES:
        raise RemoteProtocolError(f"a push is larger than {MAX_PUSH_BYTES} bytes", reason="push")
    try:
        return _push_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not a PolicyPush: {error}", reason="push") from error


def decode_answer(body: bytes) -> PolicyPushed:
    """Read a host's answer, or raise RemoteProtocolError."""
    try:
        return _answer_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not a PolicyPushed: {error}", reason="push") from error


def received(channel: int, asked: message.Request) -> list[SendSip | PushReceived]:
    """Host: answer a MESSAGE of the anchor that came on its TLS connection, and pass on the push that it carries."""
    if asked.method != "MESSAGE":
        return []
    try:
        push = decode(asked.body)
    except RemoteProtocolError as error:
        return [SendSip(channel, bytes(refuse(asked, error.status, "Not a PolicyPush")))]
    answer = message.response(asked, 200, body=encode(PolicyPushed(push.version)), content_type=CONTENT_TYPE)
    return [SendSip(channel, bytes(answer)), PushReceived(push)]


class _Host:
    __slots__ = ("had", "origin", "pending", "source", "transaction")

    def __init__(self, origin: int, source: Endpoint, had: int) -> None:
        self.origin, self.source = origin, source
        self.had = had
        """The version that it has confirmed on this connection, or said that it has; 0 = none."""
        self.pending = 0
        self.transaction: ClientTransaction | None = None


class PushSender:
    """Anchor: sends the push to each host that is registered over TLS."""

    def __init__(self, anchor: str, random: Callable[[int], bytes]) -> None:
        """`anchor`: its address or name, for SIP headers."""
        self.push = PolicyPush()
        self._anchor = host_text(anchor)
        self._random = random
        self._hosts: dict[str, _Host] = {}
        self._asked: dict[str, None] = {}
        """Those who have not answered yet, by user; whose request gives up first is first: all have one patience."""
        self._call_id = ""
        self._sequence = 0

    def offer(self, push: PolicyPush, now: float) -> list[Send]:
        """Take in what is offered from now on, and tell every host that has something else."""
        self.push = push
        return [send for user in self._hosts for send in self._tell(user, now)]

    def registered(self, user: str, origin: int, source: Endpoint, had: int, now: float) -> list[Send]:
        """Take note of a registration over TLS by a host that says it `had` this version: what it says holds.

        So a host is told also what was taken back while it was away, and whichever of the two was restarted.
        """
        host = self._hosts.get(user)
        if host is None or host.origin != origin:
            self._hosts[user] = _Host(origin, source, had)
            self._asked.pop(user, None)
        return self._tell(user, now)

    def forget(self, user: str) -> None:
        """Forget a host that has left."""
        self._hosts.pop(user, None)
        self._asked.pop(user, None)

    def answered(self, response: message.Response, origin: int, now: float) -> list[Send]:
        """Take in an answer to one of our requests; whatever else it is, is ignored."""
        for user in self._asked:
            host = self._hosts[user]
            if host.origin != origin or host.transaction is None:
                continue
            try:
                if not host.transaction.matches(response):
                    continue
            except RemoteProtocolError:
                return []
            for command in host.transaction.received(response, now):
                if isinstance(command, Answered):
                    # A refusal is an answer, too: the same push again would change nothing.
                    host.had, host.transaction = host.pending, None
                    del self._asked[user]
            return self._tell(user, now)
        return []

    def deadline(self) -> float | None:
        """Return when the first request gives up."""
        first = next(iter(self._asked), None)
        transaction = self._hosts[first].transaction if first is not None else None
        return transaction.deadline() if transaction is not None else None

    def tick(self, now: float) -> None:
        """Give up what is not answered; the next registration brings it again."""
        for user in list(self._asked):
            host = self._hosts[user]
            if host.transaction is not None and not host.transaction.tick(now):
                return
            host.transaction = None
            del self._asked[user]

    def _tell(self, user: str, now: float) -> list[Send]:
        host = self._hosts[user]
        if host.transaction is not None or host.had == self.push.version:
            return []
        host.pending = self.push.version
        host.transaction = ClientTransaction(self._request(user), reliable=True)
        host.transaction.start(now)
        self._asked.pop(user, None)
        self._asked[user] = None
        return [Send(host.origin, host.source, host.transaction.data)]

    def _request(self, user: str) -> message.Request:
        self._call_id = self._call_id or self._random(12).hex()
        self._sequence += 1
        target = f"sip:{user}@{self._anchor}"
        return message.request(
            "MESSAGE",
            target,
            via=Via("TLS", self._anchor, None, {"branch": message.new_branch(self._random(8))}),
            from_=message.Address(f"sip:{self._anchor}", parameters={"tag": self._call_id[:8]}),
            to=message.Address(target),
            call_id=self._call_id,
            sequence=self._sequence,
            body=encode(self.push),
            content_type=CONTENT_TYPE,
        )
