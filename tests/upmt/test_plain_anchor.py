"""The anchor's machine and plain tunnels: whom it opens one for, what it answers strangers, and what it never does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sojourn.model import Endpoint, TunnelId
from sojourn.packet import ip
from sojourn.packet.seal import Aead
from sojourn.paft import MoveResult
from sojourn.sip import message
from sojourn.sip.digest_client import DigestClient
from sojourn.sip.server import Send
from sojourn.sip.via import Via
from sojourn.upmt import events, lease, signals
from sojourn.upmt.anchor import Anchor, AnchorCommand, Keep, SipArrived, association_of
from sojourn.upmt.anchor_signals import PATIENCE
from sojourn.upmt.commands import (
    AddAssociation,
    Everything,
    InstallSecret,
    Move,
    MoveFlows,
    OpenTunnel,
    RemoveAssociation,
    SendInner,
    SendOutside,
)
from sojourn.upmt.plain_anchor import NONCE_LIFE, REMEDY, Way
from tests.harness.registering import INNER, Counting, Phone, anchor, answers, subscriber

VIPA = "10.201.0.2"
HOST = association_of(VIPA)
HERE, THERE, ELSEWHERE = Endpoint("198.51.100.1", 40001), Endpoint("203.0.113.99", 9), Endpoint("198.51.100.1", 40002)
PLAIN = lease.encode_offer(lease.Offer(plain=True))
JSON = "application/json"


class Laptop:
    """A host with plain tunnels, as the anchor's machine meets it: REGISTER, and signals from any outer address."""

    def __init__(self, transport: str = "TLS", *, allowed: bool = True, offer: bytes = PLAIN) -> None:
        self.anchor: Anchor = anchor()
        self.anchor.plain.allowed = allowed
        self.phone = Phone(self.anchor, transport=transport)
        self.registered = self.register(offer)
        self.digest = DigestClient("laptop", self.credential(), Counting(77_000))
        self._random = Counting(88_000)
        self._sequence = 0

    def register(self, offer: bytes) -> list[AnchorCommand]:
        """Register as far as it goes."""
        headers = {"Contact": "<sip:tid-1@10.0.0.2>"}
        kind = JSON if offer else None
        challenged = answers(self.phone.send(self.phone.request(body=offer, content_type=kind, headers=headers)))
        assert self.phone.digest.challenged(challenged[0])
        return self.phone.send(self.phone.request(body=offer, content_type=kind, headers=headers))

    def credential(self) -> str:
        """Return the host's own credential, the token's secret where none was told."""
        body = answers(self.registered)[-1].body
        return (lease.decode(body)[1] if body else None) or "one-time secret"

    @property
    def tunnels(self) -> tuple[TunnelId, ...]:
        return self.anchor.subscribers["laptop"].tunnels

    def write(self, *said: signals.AnySignal) -> message.Request:
        """Write a MESSAGE, signed if there was a challenge."""
        self._sequence += 1
        request = message.request(
            "MESSAGE",
            f"sip:{INNER}",
            via=Via("UDP", VIPA, 5060, {"branch": message.new_branch(self._random(8)), "rport": None}),
            from_=message.Address(f"sip:laptop@{INNER}", parameters={"tag": "b"}),
            to=message.Address(f"sip:{INNER}"),
            call_id="signals",
            sequence=self._sequence,
            body=signals.encode(said),
            content_type=JSON,
        )
        self.digest.authorize(request)
        return request

    def tell(
        self, request: message.Request | bytes, source: Endpoint = HERE, tunnel: TunnelId | None = None, now: float = 0
    ) -> list[AnchorCommand]:
        """Let it arrive from an outer address, in a tunnel or in none."""
        packet = ip.udp_packet(Endpoint(VIPA, 5060), Endpoint(INNER, 5060), bytes(request))
        if tunnel is None:
            return self.anchor.handle(events.StrangerReceived(HOST, packet, source), now)
        return self.anchor.handle(events.InnerReceived(HOST, tunnel, packet, source), now)

    def challenged(self, source: Endpoint = HERE, tunnel: TunnelId | None = None, now: float = 0) -> None:
        """Get a nonce for an address."""
        (reply,) = self.tell(self.write(signals.TunnelRequest(self.tunnels[0])), source, tunnel, now)
        assert self.digest.challenged(answer_in(reply))

    def set_up(self, source: Endpoint = HERE) -> list[AnchorCommand]:
        """Open the first tunnel."""
        self.challenged(source)
        return self.tell(self.write(signals.TunnelRequest(self.tunnels[0])), source)


def answer_in(command: AnchorCommand) -> message.Response:
    """Read the answer that goes back inside, in a tunnel or not."""
    assert isinstance(command, SendInner | SendOutside)
    source, destination, data = ip.udp_parts(command.packet)
    assert (source, destination) == (Endpoint(INNER, 5060), Endpoint(VIPA, 5060))
    answer = message.parse(data)
    assert isinstance(answer, message.Response)
    return answer


def opened(laptop: Laptop, source: Endpoint, slot: int = 0) -> OpenTunnel:
    return OpenTunnel(HOST, laptop.tunnels[slot], "", Endpoint("", 0), source, sealed=False)


# Association.


def test_a_host_that_offers_plain_tunnels_gets_no_secret_and_its_credential() -> None:
    laptop = Laptop()
    granted, credential = lease.decode(answers(laptop.registered)[-1].body)
    assert (granted.secret, len(granted.tunnels), granted.inner_addresses) == (None, lease.SLOTS, (INNER,))
    assert credential is not None
    assert not [command for command in laptop.registered if isinstance(command, InstallSecret)]


def test_an_anchor_that_has_no_plain_tunnels_refuses_with_the_remedy() -> None:
    refused = answers(Laptop(allowed=False, offer=PLAIN).registered)[-1]
    assert (refused.status, refused.phrase) == (488, "This anchor has no plain tunnels")
    assert refused.header("Warning") == f'399 sojourn "{REMEDY}"'


@pytest.mark.parametrize("transport", ["UDP", "TCP"])
def test_no_secret_is_told_in_the_clear_and_the_tokens_becomes_the_hosts_own(transport: str) -> None:
    laptop = Laptop(transport)
    granted, credential = lease.decode(answers(laptop.registered)[-1].body)
    assert (granted.secret, credential) == (None, None)
    record = laptop.anchor.subscribers["laptop"]
    assert (record.ha1, record.ha1_once, record.tid) == (subscriber().ha1_once, None, "tid-1")
    other = Phone(laptop.anchor, transport=transport, tid="tid-2", origin=2)
    assert answers(other.register())[-1].status == 403, "the token is used up"


def test_the_papers_own_register_has_no_body_and_the_answer_has_none() -> None:
    answer = answers(Laptop("UDP", offer=b"").registered)[-1]
    assert (answer.status, answer.header("VIpAddr"), answer.body) == (200, VIPA, b"")


def test_a_host_that_was_sealed_and_is_plain_now_leaves_its_secret_and_its_tunnels_behind() -> None:
    laptop = Laptop(offer=lease.encode_offer(lease.Offer()))
    assert laptop.anchor.subscribers["laptop"].secrets[0].key
    laptop.phone.digest.use_secret(laptop.credential())
    again = laptop.phone.request(body=PLAIN, content_type=JSON, headers={"Contact": "<sip:tid-1@10.0.0.2>"})
    commands = laptop.phone.send(again)
    (kept,) = [command.subscriber for command in commands if isinstance(command, Keep)]
    assert [secret.key for secret in kept.secrets] == [b""]
    kinds = [type(command) for command in commands]
    assert kinds.index(RemoveAssociation) < kinds.index(AddAssociation)
    assert InstallSecret not in kinds


# Set-up.


def test_a_stranger_is_challenged_where_it_is_and_gets_no_more_than_three_times_what_it_sent() -> None:
    laptop = Laptop()
    request = laptop.write(signals.TunnelRequest(laptop.tunnels[0]))
    (reply,) = laptop.tell(request)
    assert isinstance(reply, SendOutside)
    assert reply.destination == HERE
    assert answer_in(reply).status == 401
    assert 'qop="auth-int"' in (answer_in(reply).header("WWW-Authenticate") or "")
    assert len(reply.packet) <= 3 * (len(bytes(request)) + 28)


def test_an_answer_to_a_stranger_that_is_more_than_three_times_the_question_stays_here() -> None:
    way = Way(None, HERE, Endpoint(VIPA, 5060), Endpoint(INNER, 5060), received_bytes=100)
    (most,) = way.carry(bytes(300 - 28))
    assert isinstance(most, SendOutside)
    assert way.carry(bytes(300 - 27)) == []
    assert len(replace(way, tunnel=TunnelId(7)).carry(bytes(1000))) == 1, "in a tunnel the address is proved"


def test_who_answers_the_challenge_gets_the_tunnel_and_the_anchors_proof() -> None:
    laptop = Laptop()
    order, reply = laptop.set_up()
    assert order == opened(laptop, HERE)
    assert isinstance(reply, SendInner)
    assert reply.tunnel == laptop.tunnels[0]
    answer = answer_in(reply)
    assert (answer.status, signals.decode(answer.body)) == (
        200,
        [signals.TunnelResponse(laptop.tunnels[0], HERE.address, HERE.port)],
    )
    assert laptop.digest.confirmed(answer)


def test_the_request_again_gets_the_same_answer_and_opens_nothing_again() -> None:
    laptop = Laptop()
    laptop.challenged()
    request = laptop.write(signals.TunnelRequest(laptop.tunnels[0]))
    _, first = laptop.tell(request)
    assert laptop.tell(request, tunnel=laptop.tunnels[0]) == [first]


@pytest.mark.parametrize("place", [ELSEWHERE, THERE])
def test_a_signed_request_from_another_address_or_port_is_challenged_there(place: Endpoint) -> None:
    laptop = Laptop()
    laptop.challenged(HERE)
    (reply,) = laptop.tell(laptop.write(signals.TunnelRequest(laptop.tunnels[0])), place)
    assert isinstance(reply, SendOutside)
    assert reply.destination == place
    assert "stale=true" in (answer_in(reply).header("WWW-Authenticate") or "")
    assert laptop.anchor.refused["stale"] == 1


def test_a_new_address_moves_the_tunnel_once_it_is_proved() -> None:
    laptop = Laptop()
    laptop.set_up(HERE)
    order, _ = laptop.set_up(ELSEWHERE)
    assert order == opened(laptop, ELSEWHERE)
    assert laptop.anchor.outer[laptop.tunnels[0]] == ELSEWHERE


def test_a_changed_body_a_wrong_secret_and_another_users_are_refused() -> None:
    laptop = Laptop()
    laptop.challenged()
    request = laptop.write(signals.TunnelRequest(laptop.tunnels[0]))
    request.body = request.body.replace(b"TunnelRequest", b"TunnelReqvest")
    assert [answer_in(reply).status for reply in laptop.tell(request)] == [403]
    laptop.digest.use_secret("a guess")
    assert [answer_in(r).status for r in laptop.tell(laptop.write(signals.TunnelRequest(laptop.tunnels[0])))] == [403]
    assert laptop.anchor.refused["secret"] == 2
    assert laptop.anchor.outer == {}


def test_a_digest_that_does_not_cover_the_body_is_refused() -> None:
    laptop = Laptop()
    (reply,) = laptop.tell(laptop.write(signals.TunnelRequest(laptop.tunnels[0])))
    weaker = answer_in(reply)
    weaker.headers.set("WWW-Authenticate", (weaker.header("WWW-Authenticate") or "").replace("auth-int", "auth"))
    assert laptop.digest.challenged(weaker), "somebody on the way took it out"
    (reply,) = laptop.tell(laptop.write(signals.TunnelRequest(laptop.tunnels[0])))
    assert answer_in(reply).status == 400
    assert laptop.anchor.outer == {}


def test_nobody_gets_the_tunnel_of_another_host_and_nobody_one_without_asking() -> None:
    laptop = Laptop()
    laptop.challenged()
    foreign = next(number for number in range(1, 99) if number not in laptop.tunnels)
    for said in (signals.TunnelRequest(foreign), signals.TunnelRequest(), signals.KeepAlive(1)):
        (reply,) = laptop.tell(laptop.write(said))
        assert isinstance(reply, SendOutside)
        assert answer_in(reply).status == 403
    assert laptop.anchor.outer == {}


def test_a_sealed_host_cannot_be_spoken_for_in_the_clear() -> None:
    laptop = Laptop(offer=lease.encode_offer(lease.Offer((Aead.AES_256_GCM,))))
    assert laptop.tell(laptop.write(signals.TunnelRequest(laptop.tunnels[0]))) == []
    assert laptop.anchor.refused["not-plain"] == 1


def test_when_the_owner_turns_plain_tunnels_off_strangers_are_not_heard_any_more() -> None:
    laptop = Laptop()
    laptop.anchor.plain.allowed = False
    assert laptop.tell(laptop.write(signals.TunnelRequest(laptop.tunnels[0]))) == []


# Signals in the tunnel.


def everything(laptop: Laptop, number: int) -> signals.HandoverRequest:
    return signals.HandoverRequest(number, (signals.WireRow(all=True, tunnel_ids=(laptop.tunnels[0],)),))


def test_a_handover_in_a_plain_tunnel_is_signed_and_so_is_its_answer() -> None:
    laptop = Laptop()
    laptop.set_up()
    move = laptop.tell(laptop.write(everything(laptop, 7)), tunnel=laptop.tunnels[0])
    assert move[1:] == [MoveFlows(HOST, 7, (Move(Everything(), laptop.tunnels[0]),))], (
        "no challenge: the nonce is good still"
    )
    (reply,) = laptop.anchor.handle(events.FlowsMoved(HOST, 7, ({MoveResult.MOVED: 2},)), 0.1)
    assert laptop.digest.confirmed(answer_in(reply))


def test_a_handover_that_was_not_signed_is_challenged_and_carries_nothing_out() -> None:
    laptop = Laptop()
    laptop.set_up()
    stranger = Laptop()
    (reply,) = laptop.tell(stranger.write(everything(laptop, 7)), tunnel=laptop.tunnels[0])
    assert isinstance(reply, SendInner)
    assert answer_in(reply).status == 401


def test_a_handover_cannot_be_replayed() -> None:
    laptop = Laptop()
    laptop.set_up()
    request = laptop.write(everything(laptop, 7))
    laptop.tell(request, tunnel=laptop.tunnels[0])
    request.headers.set("Via", str(Via("UDP", VIPA, 5060, {"branch": message.new_branch(b"another!"), "rport": None})))
    (reply,) = laptop.tell(request, tunnel=laptop.tunnels[0])
    assert "stale=true" in (answer_in(reply).header("WWW-Authenticate") or "")


def test_tunnel_and_handover_come_in_one_message() -> None:
    laptop = Laptop()
    laptop.challenged()
    order, _, move = laptop.tell(laptop.write(signals.TunnelRequest(laptop.tunnels[0]), everything(laptop, 3)))
    assert (order, type(move)) == (opened(laptop, HERE), MoveFlows)
    (reply,) = laptop.anchor.tick(PATIENCE)
    said = signals.decode(answer_in(reply).body)
    assert [type(part) for part in said] == [signals.TunnelResponse, signals.Failure]
    assert laptop.digest.confirmed(answer_in(reply))


def test_a_keep_alive_is_answered_by_itself_signed() -> None:
    laptop = Laptop()
    laptop.set_up()
    (reply,) = laptop.tell(laptop.write(signals.KeepAlive(5)), tunnel=laptop.tunnels[0], now=20)
    assert signals.decode(answer_in(reply).body) == [signals.KeepAlive(5)]
    assert laptop.digest.confirmed(answer_in(reply))


def test_a_nonce_lasts_an_hour_and_the_next_one_comes_in_time() -> None:
    laptop = Laptop()
    laptop.set_up()
    (reply,) = laptop.tell(laptop.write(signals.KeepAlive(1)), tunnel=laptop.tunnels[0], now=NONCE_LIFE * 0.6)
    assert laptop.digest.confirmed(answer_in(reply)), "and it has brought the next nonce"
    (reply,) = laptop.tell(laptop.write(signals.KeepAlive(2)), tunnel=laptop.tunnels[0], now=NONCE_LIFE * 1.5)
    assert answer_in(reply).status == 200


def test_large_signals_over_tcp_are_signed_too_and_over_udp_refused() -> None:
    for transport, status in (("TCP", 401), ("UDP", 403)):
        laptop = Laptop(transport)
        request = laptop.write(everything(laptop, 3))
        arrived = SipArrived(1, laptop.phone.source, transport, bytes(request))
        (refused,) = laptop.anchor.handle(arrived, 0)
        assert isinstance(refused, Send)
        answer = message.parse(refused.data)
        assert isinstance(answer, message.Response)
        assert answer.status == status
        if transport == "TCP":
            assert laptop.digest.challenged(answer)
            arrived = replace(arrived, data=bytes(laptop.write(everything(laptop, 3))))
            _, order = laptop.anchor.handle(arrived, 0)
            assert isinstance(order, MoveFlows)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_whatever_a_stranger_sends_the_anchor_opens_nothing(data: bytes, in_tunnel: bool) -> None:
    laptop = Laptop()
    head = bytes(laptop.write(signals.TunnelRequest(laptop.tunnels[0])))
    for sent in (data, head[: len(data)] + data, head.replace(b"sip:", data[:8], 1)):
        for command in laptop.tell(sent, tunnel=laptop.tunnels[0] if in_tunnel else None):
            assert isinstance(command, SendInner | SendOutside)
            assert answer_in(command).status >= 400
