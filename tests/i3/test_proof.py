from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sojourn.i3.identifier import Identifier, key_of, left, private, public, right
from sojourn.i3.packet import INSERT, RIGHT_BYTES, Request, Right, Status, parse
from sojourn.i3.proof import sign, wrong
from sojourn.model import Endpoint
from tests.i3.test_packet import IDENTIFIERS, requests
from tests.i3.world import identity

HERE = Endpoint("203.0.113.9", 1801)
SECRET, PREFIX = bytes(range(16)), bytes(range(8))
OWN = private(SECRET, PREFIX)
ALICE, MALLORY = identity("alice"), identity("mallory")


def request(right_: Right, of: Identifier, evidence: bytes = b"", target: tuple[Identifier, ...] = ()) -> Request:
    return Request(INSERT, right_, 1, of, evidence, b"n" * 16, target)


def with_key(key: bytes, of: Identifier = OWN) -> Identifier:
    return Identifier(of[:8] + key + of[24:])


def test_a_private_identifier_leads_to_an_address_for_whom_knows_its_secret_only() -> None:
    assert wrong(request(Right.KEY, OWN, SECRET), {HERE}) is None
    assert wrong(request(Right.KEY, OWN, key_of(OWN)), {HERE}) is Status.WRONG
    assert wrong(request(Right.KEY, OWN, bytes(16)), {HERE}) is Status.WRONG


def test_the_left_rule_makes_the_identifiers_key_of_the_targets() -> None:
    source = with_key(left(key_of(OWN)))
    assert wrong(request(Right.LEFT, source, target=(OWN,)), {HERE}) is None
    assert wrong(request(Right.LEFT, source, target=(OWN, source)), {HERE}) is None
    assert wrong(request(Right.LEFT, source, target=(source, OWN)), {HERE}) is Status.WRONG
    assert wrong(request(Right.LEFT, OWN, target=(source,)), {HERE}) is Status.WRONG


def test_the_right_rule_makes_the_targets_key_of_the_identifiers() -> None:
    target = with_key(right(key_of(OWN)))
    assert wrong(request(Right.RIGHT, OWN, target=(target,)), {HERE}) is None
    assert wrong(request(Right.RIGHT, target, target=(OWN,)), {HERE}) is Status.WRONG


@given(st.sampled_from([Right.LEFT, Right.RIGHT]), IDENTIFIERS)
def test_neither_rule_lets_anybody_lead_a_public_identifier_on(rule: Right, target: Identifier) -> None:
    of = public(ALICE.address)
    for key in (right(key_of(of)), left(key_of(of))):
        assert wrong(request(rule, of, target=(with_key(key, target),)), {HERE}) is Status.WRONG


@given(IDENTIFIERS, st.binary(min_size=16, max_size=16))
def test_what_leads_to_an_address_can_never_lead_back(of: Identifier, secret: bytes) -> None:
    """No identifier has two rights at once: a chain made by one rule is closed by none."""
    target = with_key(left(secret), of)
    held = [
        rule
        for rule in (Right.LEFT, Right.RIGHT)
        if wrong(request(rule, target, target=(with_key(secret, of),)), {HERE}) is None
    ]
    back = [
        rule
        for rule in (Right.LEFT, Right.RIGHT)
        if wrong(request(rule, with_key(secret, of), target=(target,)), {HERE}) is None
    ]
    assert not (held and back)


def test_a_public_identifier_is_proved_by_the_keys_that_make_the_home_address_and_a_signature() -> None:
    asked = sign(request(Right.SIGNED, public(ALICE.address)), ALICE, HERE)
    assert parse(bytes(asked)) == asked
    assert wrong(asked, {HERE}) is None


def test_nobody_else_can_sign_for_it_nor_use_the_signature_for_anything_else() -> None:
    asked = sign(request(Right.SIGNED, public(ALICE.address)), ALICE, HERE)
    assert wrong(sign(request(Right.SIGNED, public(ALICE.address)), MALLORY, HERE), {HERE}) is Status.WRONG
    mixed = sign(replace(asked, evidence=b""), MALLORY, HERE).evidence[:19] + asked.evidence[19:83] + bytes(64)
    assert wrong(replace(asked, evidence=mixed), {HERE}) is Status.WRONG
    for other in (replace(asked, number=2), replace(asked, nonce=b"m" * 16), replace(asked, kind=INSERT + 1)):
        assert wrong(other, {HERE}) is Status.WRONG


def test_a_signature_for_one_node_is_of_no_use_at_another() -> None:
    """A hostile node that hands a host's request on, to have the host's packets sent to itself, gets nothing."""
    asked = sign(request(Right.SIGNED, public(ALICE.address)), ALICE, Endpoint("192.0.2.66", 1801))
    assert wrong(asked, {HERE}) is Status.ELSEWHERE
    moved = sign(asked, ALICE, HERE).evidence[:19] + asked.evidence[19:]
    assert wrong(replace(asked, evidence=moved), {HERE}) is Status.WRONG


def test_an_ipv4_home_address_is_matched_and_proves_nothing() -> None:
    of = public("192.0.2.1")
    assert wrong(request(Right.HOME4, of, bytes((192, 0, 2, 1))), {HERE}) is None
    assert wrong(request(Right.HOME4, of, bytes((192, 0, 2, 2))), {HERE}) is Status.WRONG
    assert wrong(request(Right.HOME4, public(ALICE.address), bytes(4)), {HERE}) is Status.WRONG
    assert wrong(request(Right.KEY, of, SECRET), {HERE}) is Status.WRONG


@given(requests())
def test_requests_of_any_content_are_judged_and_chance_is_never_right(asked: Request) -> None:
    assert wrong(asked, {HERE}) is not None
    assert len(asked.evidence) == RIGHT_BYTES[asked.right]
