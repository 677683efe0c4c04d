import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.i3.identifier import identifier, is_public, key_of, left, place_of, private, public, right

SIXTEEN, EIGHT = st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8)


@given(SIXTEEN, EIGHT, EIGHT)
def test_a_private_identifier_carries_the_left_image_of_its_secret(secret: bytes, prefix: bytes, suffix: bytes) -> None:
    made = private(secret, prefix, suffix)
    assert len(made) == 32
    assert not is_public(made)
    assert key_of(made) == left(secret) == hashlib.sha256(b"sojourn i3 left\0" + secret).digest()[:16]
    assert made[24:] == suffix


@given(SIXTEEN, EIGHT, EIGHT, EIGHT)
def test_members_of_an_anycast_group_share_their_place(secret: bytes, prefix: bytes, one: bytes, other: bytes) -> None:
    assert place_of(private(secret, prefix, one)) == place_of(private(secret, prefix, other))


@given(st.ip_addresses().map(str).filter(lambda text: "%" not in text))
def test_the_public_identifier_is_a_hash_of_the_home_address_alone(home: str) -> None:
    assert public(home) == public(home.upper())
    assert is_public(public(home))


def test_the_public_identifier_reads_as_the_wire_document_says() -> None:
    digest = hashlib.sha256(b"sojourn i3 public\0" + bytes((192, 0, 2, 1))).digest()
    assert public("192.0.2.1") == bytes((digest[0] | 0x80,)) + digest[1:]


@given(SIXTEEN)
def test_the_two_rules_are_two_functions(key: bytes) -> None:
    assert left(key) != right(key)
    assert left(right(key)) != key != right(left(key))


@given(st.binary(max_size=70))
def test_only_32_bytes_are_an_identifier(data: bytes) -> None:
    if len(data) == 32:
        assert identifier(data) == data
    else:
        with pytest.raises(RemoteProtocolError):
            identifier(data)
