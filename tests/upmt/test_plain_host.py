"""The host's half of setting up a plain tunnel, and the signatures of what is signalled in one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.model import Endpoint, Flow, TunnelId
from sojourn.packet import ip
from sojourn.sip import message
from sojourn.sip.digest import Qop
from sojourn.sip.digest_server import DigestServer, Proved, make_verifier
from sojourn.sip.rules import refuse
from sojourn.upmt import signals
from sojourn.upmt.commands import Everything, Exactly, Move, SendInner
from sojourn.upmt.constants import BLOCKED_AFTER
from sojourn.upmt.handover_sender import FLOWS_PER_DATAGRAM, HandoverSender, SendSignal
from sojourn.upmt.host_events import HandoverDone
from sojourn.upmt.lease import Lease
from sojourn.upmt.plain_host import REFUSED_AGAIN, SPACING, PlainCommand, PlainHost, TunnelReady, TunnelRefused
from sojourn.upmt.signal_proof import MAX_CHALLENGES, SignalProof
from tests.harness.registering import Counting

A, B = TunnelId(0x10), TunnelId(0x11)
VIPA, INNER = "10.201.0.2", "10.201.0.1"
LEASE = Lease(VIPA, None, 600.0, None, (A, B), (Endpoint("203.0.113.1", 1800),), (INNER,))
SECRET, OUTER = "the host's own", Endpoint("198.51.100.1", 40001)


class Anchor:
    """What answers: a digest server for one user."""

    def __init__(self) -> None:
        self.digest = DigestServer("sojourn", bytes(32), qops=(Qop.AUTH_INT,))
        self._verifier = make_verifier("laptop", "sojourn", SECRET, self.digest.algorithms)

    def challenge(self, asked: message.Request, *, stale: bool = False) -> bytes:
        (one,) = self.digest.challenges("here", 0.0, stale)
        return bytes(message.response(asked, 401, headers=[("WWW-Authenticate", str(one))]))

    def accept(self, asked: message.Request, *said: signals.AnySignal) -> bytes:
        """Answer a request that is signed as it should be."""
        proof = self.digest.verify(asked, "here", 0.0, lambda _user: [self._verifier])
        assert isinstance(proof, Proved)
        body = signals.encode(said)
        info = ("Authentication-Info", str(proof.info(body)))
        return bytes(message.response(asked, 200, headers=[info], body=body, content_type="application/json"))


def proof() -> SignalProof:
    return SignalProof("laptop", SECRET, Counting(10**6))


def host(signatures: SignalProof | None = None) -> PlainHost:
    made = PlainHost(signatures or proof(), Counting())
    made.lease(LEASE, "laptop")
    return made


def asked(command: object, tunnel: TunnelId = A) -> message.Request:
    """Read what a command sends to the anchor in a tunnel."""
    assert isinstance(command, SendInner)
    assert command.tunnel == tunnel
    source, destination, data = ip.udp_parts(command.packet)
    assert (source, destination) == (Endpoint(VIPA, 5060), Endpoint(INNER, 5060))
    request = message.parse(data)
    assert isinstance(request, message.Request)
    return request


def response(tunnel: TunnelId = A) -> signals.TunnelResponse:
    return signals.TunnelResponse(tunnel, OUTER.address, OUTER.port)


def heard(machine: PlainHost, data: bytes, now: float = 0.0) -> list[PlainCommand]:
    commands = machine.received(data, now)
    assert commands is not None
    return commands


def test_a_tunnel_is_asked_for_by_name_challenged_signed_and_ready() -> None:
    machine, anchor = host(), Anchor()
    (first,) = machine.start(A, 0.02, 0.0)
    request = asked(first)
    assert signals.decode(request.body) == [signals.TunnelRequest(A)]
    assert request.uri == f"sip:{A}@{INNER}", "a target of its own: it holds up nothing else (RFC 3428 §8)"
    assert request.header("Authorization") is None
    (second,) = heard(machine, anchor.challenge(request))
    signed = asked(second)
    assert "qop=auth-int" in (signed.header("Authorization") or "")
    assert heard(machine, anchor.accept(signed, response())) == [TunnelReady(A, OUTER)]
    assert machine.deadline() is None


def test_several_tunnels_are_set_up_side_by_side() -> None:
    machine, anchor = host(), Anchor()
    (one,), (other,) = machine.start(A, None, 0.0), machine.start(B, None, 0.0)
    (signed_other,) = heard(machine, anchor.challenge(asked(other, B)))
    (signed_one,) = heard(machine, anchor.challenge(asked(one)))
    assert heard(machine, anchor.accept(asked(signed_one), response())) == [TunnelReady(A, OUTER)]
    assert heard(machine, anchor.accept(asked(signed_other, B), response(B))) == [TunnelReady(B, OUTER)]


def test_an_answer_without_the_anchors_proof_is_not_believed() -> None:
    machine, anchor = host(), Anchor()
    (signed,) = heard(machine, anchor.challenge(asked(machine.start(A, 0.02, 0.0)[0])))
    request = asked(signed)
    body = signals.encode([response()])
    forged = bytes(message.response(request, 200, body=body, content_type="application/json"))
    assert heard(machine, forged) == []
    genuine = anchor.accept(request, response())
    assert heard(machine, genuine.replace(b"40001", b"40002")) == [], "its body was changed"
    assert heard(machine, genuine) == [TunnelReady(A, OUTER)]


def test_what_is_not_answered_is_repeated_complained_of_and_begun_again() -> None:
    machine = host()
    sent = list(machine.start(A, 0.02, 0.0))
    complaints: list[tuple[float, PlainCommand]] = []
    while (due := machine.deadline()) is not None and due < 70:
        for command in machine.tick(due):
            if isinstance(command, SendInner):
                sent.append(command)
            else:
                complaints.append((due, command))
    why = "no answer from the anchor: UDP seems to be blocked"
    assert complaints == [(BLOCKED_AFTER, TunnelRefused(A, why))], "said once"
    assert 32 / SPACING[0] + 32 / SPACING[1] < len(sent) < 32 / SPACING[0] + 32 / SPACING[1] + 20
    assert len({asked(command).via.branch for command in sent}) == 3, "a new transaction each half minute"


def test_what_is_under_way_goes_on_unless_everything_is_new() -> None:
    machine, anchor = host(), Anchor()
    request = asked(machine.start(A, 0.02, 0.0)[0])
    assert machine.start(A, 0.02, 0.1) == []
    (again,) = machine.start(A, 0.02, 0.2, anew=True)
    assert machine.received(anchor.challenge(request), 0.3) is None, "an answer to what was given up"
    machine.stop(A)
    assert machine.received(anchor.challenge(asked(again)), 0.3) is None
    assert (machine.deadline(), machine.tick(99.0)) == (None, [])


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda sent: refuse(sent, 403, "Unknown user or wrong secret"), "Unknown user or wrong secret"),
        (lambda sent: refuse(sent, 488, "Not here", "do that"), "Not here; do that"),
        (lambda sent: message.response(sent, 401), "Unauthorized"),
    ],
)
def test_a_refusal_is_told_and_asked_again_later(answer: object, why: str) -> None:
    machine = host()
    request = asked(machine.start(A, 0.02, 0.0)[0])
    assert callable(answer)
    assert heard(machine, bytes(answer(request)), 1.0) == [TunnelRefused(A, f"the anchor answered: {why}")]
    assert machine.deadline() == 1.0 + REFUSED_AGAIN
    (again,) = machine.tick(1.0 + REFUSED_AGAIN)
    assert asked(again).method == "MESSAGE"


@pytest.mark.parametrize("said", [signals.Failure("no"), signals.TunnelResponse(B), signals.KeepAlive(1)])
def test_an_answer_of_another_kind_sets_nothing_up(said: signals.AnySignal) -> None:
    machine, anchor = host(), Anchor()
    (signed,) = heard(machine, anchor.challenge(asked(machine.start(A, 0.02, 0.0)[0])))
    (refused,) = heard(machine, anchor.accept(asked(signed), said))
    assert isinstance(refused, TunnelRefused)


def test_challenges_without_end_are_a_refusal() -> None:
    machine, anchor = host(), Anchor()
    (command,) = machine.start(A, 0.02, 0.0)
    for _ in range(MAX_CHALLENGES):
        (command,) = heard(machine, anchor.challenge(asked(command), stale=True))  # type: ignore[assignment]
    (refused,) = heard(machine, anchor.challenge(asked(command), stale=True))
    assert isinstance(refused, TunnelRefused)


def test_without_a_lease_there_is_nothing_to_ask() -> None:
    machine = PlainHost(proof(), Counting())
    assert (machine.start(A, None, 0.0), machine.deadline()) == ([], None)


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_whatever_comes_instead_of_an_answer_changes_nothing(data: bytes) -> None:
    machine, anchor = host(), Anchor()
    request = asked(machine.start(A, 0.02, 0.0)[0])
    genuine = anchor.challenge(request)
    for sent in (data, genuine[: len(data)], genuine.replace(b"SIP/2.0 401", b"SIP/2.0 200") + data):
        machine.received(sent, 0.0)
    (signed,) = heard(machine, genuine)
    assert heard(machine, anchor.accept(asked(signed), response())) == [TunnelReady(A, OUTER)]


# Handovers in plain tunnels.


def sender(stream: str | None = "TLS") -> tuple[HandoverSender, SignalProof]:
    signatures = proof()
    made = HandoverSender(Counting(), 0, signatures, stream)
    made.lease(LEASE, "laptop")
    return made, signatures


def test_a_handover_in_a_plain_tunnel_names_it_is_signed_and_believes_only_proof() -> None:
    outbox, _ = sender()
    anchor = Anchor()
    (first,) = outbox.order(1, (Move(Everything(), A),), 0.0)
    assert [type(said) for said in signals.decode(asked(first).body)] == [
        signals.TunnelRequest,
        signals.HandoverRequest,
    ]
    (again,) = outbox.received(anchor.challenge(asked(first)), 0.0)
    request = asked(again)
    answers: list[signals.AnySignal] = [response(), signals.HandoverResponse(1, (signals.RowResult(A, {"moved": 2}),))]
    forged = message.response(request, 200, body=signals.encode(answers), content_type="application/json")
    assert outbox.received(bytes(forged), 0.1) == []
    assert outbox.pending() == 1
    assert outbox.received(anchor.accept(request, *answers), 0.2) == [HandoverDone(1, str(A), 0.2, {"moved": 2})]


def test_the_nonce_of_the_set_up_signs_the_first_handover() -> None:
    outbox, signatures = sender()
    machine, anchor = host(signatures), Anchor()
    (signed,) = heard(machine, anchor.challenge(asked(machine.start(A, 0.02, 0.0)[0])))
    heard(machine, anchor.accept(asked(signed), response()))
    (first,) = outbox.order(1, (Move(Everything(), A),), 0.0)
    assert "nc=00000002" in (asked(first).header("Authorization") or "")
    assert outbox.received(anchor.accept(asked(first), response(), signals.HandoverResponse(1)), 0.0)


def test_a_tunnel_that_is_being_set_up_holds_its_handovers_back() -> None:
    outbox, _ = sender()
    assert outbox.hold(A, 0.0) == []
    assert outbox.order(1, (Move(Everything(), A),), 0.0) == []
    (sent,) = outbox.tunnel_works(A, 1.0)
    asked(sent, A)


def test_what_is_pending_on_a_tunnel_that_has_to_be_set_up_again_goes_on_another_one() -> None:
    outbox, _ = sender()
    (first,) = outbox.order(1, (Move(flows(1).select, B),), 0.0)
    asked(first, B)
    assert outbox.order(2, (flows(1),), 0.0) == [], "one message at a time"
    (sent,) = outbox.hold(B, 0.1)
    assert [type(said) for said in signals.decode(asked(sent, A).body)] == [
        signals.TunnelRequest,
        signals.HandoverRequest,
        signals.HandoverRequest,
    ]


def flows(count: int) -> Move:
    many = (Endpoint("192.0.2.80", port) for port in range(1, count + 1))
    return Move(Exactly(tuple(flow_to(remote) for remote in many)), A)


def flow_to(remote: Endpoint) -> Flow:
    return Flow(6, Endpoint(VIPA, 40000), remote)


def test_a_long_list_goes_over_the_connection_signed_where_that_is_in_the_clear() -> None:
    for stream, signed in (("TLS", False), ("TCP", True)):
        outbox, signatures = sender(stream)
        anchor = Anchor()
        (sent,) = outbox.order(1, (flows(100),), 0.0)
        assert isinstance(sent, SendSignal)
        request = message.parse(sent.data)
        assert isinstance(request, message.Request)
        assert [type(said) for said in signals.decode(request.body)] == [signals.HandoverRequest]
        if signed:
            (sent,) = outbox.received(anchor.challenge(request), 0.0)
            assert isinstance(sent, SendSignal)
            assert b"Authorization: Digest" in sent.data
        assert signatures.of(A) is not signatures.of(None)


def test_over_datagrams_a_long_list_is_cut_into_ones_that_fit() -> None:
    outbox, _ = sender(stream=None)
    anchor = Anchor()
    commands = outbox.order(1, (flows(3 * FLOWS_PER_DATAGRAM + 1),), 0.0)
    (first,) = outbox.received(anchor.challenge(asked(commands[0])), 0.0)
    named = 0
    while outbox.pending():
        request = asked(first)
        assert len(request.body) < 40_000
        (_, part) = signals.decode(request.body)
        assert isinstance(part, signals.HandoverRequest)
        assert part.move == 1
        named += len(part.rows[0].flows or ())
        done, *rest = outbox.received(anchor.accept(request, response(), signals.HandoverResponse(1)), 0.0)
        assert isinstance(done, HandoverDone)
        first = rest[0] if rest else first
    assert named == 3 * FLOWS_PER_DATAGRAM + 1
