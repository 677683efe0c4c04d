"""Inviting and revoking."""

import hashlib

import pytest
from msgspec.structs import replace

from sojourn.control.config import parse_anchor
from sojourn.control.socks_account import secret_of
from sojourn.control.subscribers import invite, revoke
from sojourn.control.token import parse
from sojourn.errors import ConfigError
from sojourn.packet.seal import Secret
from sojourn.upmt.records import Subscriber

CONFIG = parse_anchor('address = "192.0.2.1"\nsip_port = 443\n')
KEYS = (b"k" * 32, b"s" * 32)
SECRET = bytes(range(16))


def test_the_token_and_the_record_hold_two_forms_of_the_same_secret() -> None:
    subscriber, token = invite(CONFIG, {}, "laptop", SECRET, KEYS, 1000.0)
    assert parse(str(token)) == token
    assert (token.address, token.port, token.spki, token.socks_key) == ("192.0.2.1", 443, *KEYS)
    ha1 = hashlib.sha256(f"laptop:sojourn:{SECRET.hex()}".encode()).hexdigest()
    assert subscriber.ha1_once == f"SHA-256:{ha1}"
    assert subscriber == Subscriber(
        "laptop", "laptop", ha1_once=subscriber.ha1_once, created=1000.0, socks_secret=secret_of(SECRET)
    )


def test_a_host_that_has_joined_is_not_locked_out_by_a_second_token() -> None:
    known = {"laptop": Subscriber("laptop", "laptop", ha1="x")}
    with pytest.raises(ConfigError, match="sojourn anchor revoke laptop"):
        invite(CONFIG, known, "laptop", SECRET, KEYS, 1.0)


def test_a_token_that_was_never_used_is_replaced_by_a_new_one() -> None:
    first, _ = invite(CONFIG, {}, "laptop", bytes(16), KEYS, 1.0)
    second, _ = invite(CONFIG, {"laptop": first}, "laptop", SECRET, KEYS, 2.0)
    assert second.ha1_once not in (None, first.ha1_once)


def test_a_revoked_name_can_be_invited_anew() -> None:
    known = {"laptop": Subscriber("laptop", "laptop", ha1="x", tid="t", revoked=True)}
    subscriber, _ = invite(CONFIG, known, "laptop", SECRET, KEYS, 1.0)
    assert (subscriber.revoked, subscriber.tid, subscriber.ha1) == (False, None, None)


def test_a_name_that_cannot_stand_in_a_sip_header_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be a user's name"):
        invite(CONFIG, {}, 'a"b', SECRET, KEYS, 1.0)


def test_revoking_leaves_nothing_that_authenticates() -> None:
    before = Subscriber(
        "laptop", "laptop", ha1="x", ha1_once="y", vipa="10.201.0.2", secrets=(Secret(1, bytes(32), 0),), move=7
    )
    after = revoke({"laptop": before}, "laptop")
    assert after == replace(before, revoked=True, ha1=None, ha1_once=None, secrets=())


def test_revoking_a_stranger_names_those_who_are_known() -> None:
    with pytest.raises(ConfigError, match=r"Known names: laptop, phone\."):
        revoke({name: Subscriber(name, name) for name in ("phone", "laptop")}, "tablet")
