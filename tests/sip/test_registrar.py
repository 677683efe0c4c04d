"""The registrar's decisions, one REGISTER at a time."""

import hashlib

import pytest
from msgspec.structs import replace

from sojourn.model import Endpoint
from sojourn.sip import via
from sojourn.sip.digest import Algorithm
from sojourn.sip.digest_client import DigestClient
from sojourn.sip.digest_server import DigestServer, make_verifier
from sojourn.sip.message import Address, Request, Response, parse, request
from sojourn.sip.registrar import Accept, Binding, Decision, Limits, Refuse, Registrar, Subscriber
from sojourn.sip.rules import remedy_of

SOURCE = Endpoint("160.80.100.1", 33000)
ONCE = make_verifier("alice", "sojourn", "token", [Algorithm.SHA256])
OWN = make_verifier("alice", "sojourn", "own", [Algorithm.SHA256])
NEW = Subscriber("alice", one_time=ONCE)
KNOWN = Subscriber("alice", one_time=ONCE, own=OWN, tid="laptop")


def registrar() -> Registrar:
    """Return a registrar with the default limits."""
    return Registrar(DigestServer("sojourn", b"k" * 32), Limits())


class Host:
    """Sends REGISTERs as user `user` with one secret."""

    def __init__(self, secret: str, user: str = "alice", tid: str | None = "laptop") -> None:
        self.tid = tid
        self.user = user
        self.sequence = 0
        self.digest = DigestClient(user, secret, lambda n: hashlib.sha256(b"r").digest()[:n])

    def register(self, *headers: tuple[str, str], to: str = "sip:alice@anchor", call_id: str = "c") -> Request:
        """Build the next REGISTER."""
        self.sequence += 1
        made = request(
            "REGISTER",
            "sip:anchor",
            via=via.make("TLS", Endpoint("10.0.0.1", 40000), f"z9hG4bK{self.sequence}", self.tid),
            from_=Address("sip:alice@anchor", parameters={"tag": "1"}),
            to=Address(to),
            call_id=call_id,
            sequence=self.sequence,
            headers=headers or [("Contact", "<sip:laptop@10.0.0.1:40000>")],
        )
        self.digest.authorize(made)
        return made

    def ask(
        self, at: Registrar, subscriber: Subscriber, *headers: tuple[str, str], to: str = "sip:alice@anchor"
    ) -> Decision:
        """Register, answering a challenge if there is one."""
        subscribers = {"alice": subscriber}
        decision = at.handle_register(self.register(*headers, to=to), SOURCE, 10, subscribers)
        if isinstance(decision, Refuse) and decision.reason == "challenge":
            assert self.digest.challenged(decision.response)
            decision = at.handle_register(self.register(*headers, to=to), SOURCE, 10, subscribers)
        return decision


def accepted(decision: Decision) -> Accept:
    """Narrow to Accept."""
    assert isinstance(decision, Accept), decision
    return decision


def refused(decision: Decision) -> Response:
    """Narrow to the answer of a refusal."""
    assert isinstance(decision, Refuse), decision
    return decision.response


def test_without_credentials_there_is_a_small_challenge() -> None:
    decision = registrar().handle_register(Host("token").register(), SOURCE, 0, {"alice": NEW})
    assert isinstance(decision, Refuse)
    assert (decision.reason, decision.remember, decision.response.status) == ("challenge", False, 401)
    assert len(decision.response.headers.getlist("WWW-Authenticate")) == 1


def test_the_smallest_register_is_answered_with_at_most_three_times_its_bytes() -> None:
    smallest = (
        b"REGISTER sip:a SIP/2.0\r\nv:SIP/2.0/UDP a;branch=z9hG4bK1\r\nf:<sip:a>;tag=1\r\nt:<sip:a>\r\n"
        b"i:1\r\nCSeq:1 REGISTER\r\n\r\n"
    )
    asked = parse(smallest)
    assert isinstance(asked, Request)
    answer = refused(registrar().handle_register(asked, SOURCE, 0, {}))
    assert len(bytes(answer)) <= 3 * len(smallest)


def test_the_first_association_is_told_apart_and_binds_its_terminal() -> None:
    decision = accepted(Host("token").ask(registrar(), NEW))
    assert (decision.first, decision.retires_one_time, decision.tid, decision.user) == (True, False, "laptop", "alice")
    assert (decision.expires, decision.wanted) == (600, None)
    assert decision.binding == Binding("c", 2)


def test_both_secrets_are_good_until_the_own_one_was_used() -> None:
    again = accepted(Host("token").ask(registrar(), KNOWN))
    assert again.first
    own = accepted(Host("own").ask(registrar(), KNOWN))
    assert (own.first, own.retires_one_time) == (False, True)
    retired = replace(KNOWN, one_time=None)
    assert refused(Host("token").ask(registrar(), retired)).status == 403
    assert accepted(Host("own").ask(registrar(), retired)).retires_one_time


def test_a_token_used_by_another_terminal_is_refused_with_the_remedy() -> None:
    answer = refused(Host("token", tid="phone").ask(registrar(), KNOWN))
    assert (answer.status, answer.phrase) == (403, "This token belongs to another terminal")
    assert "sojourn anchor token --name" in (remedy_of(answer) or "")


def test_an_unknown_user_and_a_wrong_secret_get_the_same_words() -> None:
    unknown = refused(Host("token", user="mallory").ask(registrar(), NEW))
    wrong = refused(Host("guess").ask(registrar(), NEW))
    assert (unknown.status, unknown.phrase) == (wrong.status, wrong.phrase) == (403, "Unknown user or wrong secret")


def test_nobody_registers_for_another_address_of_record() -> None:
    assert refused(Host("token").ask(registrar(), NEW, to="sip:bob@anchor")).status == 403


def test_a_register_without_tid_is_malformed() -> None:
    assert refused(Host("token", tid=None).ask(registrar(), NEW)).status == 400


def test_a_refresh_names_the_vipa_it_has() -> None:
    headers = [("Contact", "<sip:laptop@10.0.0.1>"), ("VIpAddr", "1.2.3.4")]
    assert accepted(Host("own").ask(registrar(), KNOWN, *headers)).wanted == "1.2.3.4"


def test_too_brief_gets_423_with_the_least_that_is_taken() -> None:
    answer = refused(Host("token").ask(registrar(), NEW, ("Contact", "<sip:l@10.0.0.1>;expires=5")))
    assert (answer.status, answer.header("Min-Expires")) == (423, "60")


@pytest.mark.parametrize(
    ("headers", "expires"),
    [
        ([("Contact", "<sip:l@10.0.0.1>")], 600),
        ([("Contact", "<sip:l@10.0.0.1>"), ("Expires", "300")], 300),
        ([("Contact", "<sip:l@10.0.0.1>;expires=120"), ("Expires", "300")], 120),
        ([("Contact", "<sip:l@10.0.0.1>"), ("Expires", "99999")], 3600),
        ([("Contact", "<sip:l@10.0.0.1>"), ("Expires", "nonsense")], 600),
        ([("Contact", "<sip:l@10.0.0.1>;expires=0")], 0),
        ([("Contact", "*"), ("Expires", "0")], 0),
    ],
)
def test_the_interval_is_contacts_then_expires_then_the_default(headers: list[tuple[str, str]], expires: int) -> None:
    assert accepted(Host("token").ask(registrar(), NEW, *headers)).expires == expires


@pytest.mark.parametrize("expires", [(), (("Expires", "60"),)])
def test_an_asterisk_needs_expires_0(expires: tuple[tuple[str, str], ...]) -> None:
    assert refused(Host("token").ask(registrar(), NEW, ("Contact", "*"), *expires)).status == 400


def test_a_sequence_number_that_is_not_higher_is_refused_in_the_same_call_only() -> None:
    same = replace(KNOWN, binding=Binding("c", 2))
    answer = refused(Host("own").ask(registrar(), same))
    assert (answer.status, answer.phrase) == (500, "Sequence number out of order")
    assert accepted(Host("own").ask(registrar(), replace(KNOWN, binding=Binding("c", 1)))).binding.sequence == 2
    assert accepted(Host("own").ask(registrar(), replace(KNOWN, binding=Binding("before", 99)))).binding.call_id == "c"


def test_a_nonce_used_again_is_stale_and_the_next_attempt_passes() -> None:
    anchor, host = registrar(), Host("own")
    assert accepted(host.ask(anchor, KNOWN))
    again = host.register()
    assert accepted(anchor.handle_register(again, SOURCE, 11, {"alice": KNOWN}))
    replayed = anchor.handle_register(again, SOURCE, 12, {"alice": KNOWN})
    assert isinstance(replayed, Refuse)
    assert (replayed.reason, replayed.response.status) == ("stale", 401)
    assert "stale=true" in (replayed.response.header("WWW-Authenticate") or "")


def test_damaged_credentials_get_400() -> None:
    asked = Host("own").register()
    asked.headers.set("Authorization", 'Digest username="alice')
    assert refused(registrar().handle_register(asked, SOURCE, 0, {"alice": KNOWN})).status == 400


def test_the_answer_lends_the_address_and_proves_the_anchor() -> None:
    host = Host("token")
    decision = accepted(host.ask(registrar(), NEW))
    answer = parse(bytes(decision.answer("1.2.3.4", "fd00::4", b"{}")))
    assert isinstance(answer, Response)
    assert (answer.status, answer.header("VIpAddr"), answer.header("VIp6Addr")) == (200, "1.2.3.4", "fd00::4")
    assert answer.contacts[0].parameters == {"expires": "600"}
    assert answer.content_type == "application/json"
    assert host.digest.confirmed(answer)


def test_an_exhausted_pool_is_said_clearly_and_proved_senders_are_remembered() -> None:
    decision = accepted(Host("token").ask(registrar(), NEW))
    full = decision.refuse(503, "No free address", "enlarge `pool`", retry_after=120)
    assert (full.response.status, full.response.header("Retry-After"), full.remember) == (503, "120", True)
