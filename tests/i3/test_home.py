import hashlib
import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from sojourn.i3.home import HomeIdentity, HomeKeys

KEY = st.binary(min_size=32, max_size=32)


def test_a_home_address_is_made_the_way_of_rfc_7343_with_our_prefix() -> None:
    identity = HomeIdentity(bytes(32), bytes(range(32)))
    context = bytes.fromhex("84e6ec5ba67a40bfbbe3b7b4d5e44a1e")
    digest = hashlib.sha256(context + identity.keys.signing + identity.keys.exchange).digest()
    middle = int.from_bytes(digest) >> 80 & (1 << 96) - 1
    assert int(ipaddress.IPv6Address(identity.address)) == 0xFD536F6A << 96 | middle
    assert ipaddress.IPv6Address(identity.address).is_private


@given(KEY, KEY, KEY)
def test_another_key_is_another_address(signing: bytes, one: bytes, other: bytes) -> None:
    assert (HomeKeys(signing, one).address == HomeKeys(signing, other).address) is (one == other)
    assert (HomeKeys(one, signing).address == HomeKeys(other, signing).address) is (one == other)


@given(st.binary(max_size=100), KEY)
def test_what_a_host_has_signed_is_known_as_its_own_and_nobody_elses(message: bytes, seed: bytes) -> None:
    identity, other = HomeIdentity(seed, bytes(32)), HomeIdentity(bytes(31) + b"\1", bytes(32))
    signature = identity.sign(message)
    assert identity.keys.signed(message, signature)
    assert not identity.keys.signed(message + b"x", signature)
    assert other.keys == identity.keys or not other.keys.signed(message, signature)


@given(KEY, st.binary(max_size=100), st.binary(max_size=70))
def test_keys_and_signatures_of_any_bytes_are_only_ever_wrong(key: bytes, message: bytes, signature: bytes) -> None:
    assert not HomeKeys(key, bytes(32)).signed(message, signature)
