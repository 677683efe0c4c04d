import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint, TunnelId
from sojourn.packet.seal import Aead, Secret
from sojourn.upmt.lease import Lease, Offer, decode, decode_offer, encode, encode_offer, from_headers

LEASE = Lease(
    "10.201.0.2", "fd00::2", 600.0, Secret(3, bytes(range(32)), 12288, Aead.CHACHA20_POLY1305),
    tuple(TunnelId(number) for number in range(1, 17)), (Endpoint("45.0.0.1", 1800), Endpoint("2001:db8::1", 1800)),
    ("10.201.0.1", "fd00::1"), "10.201.0.1", 25.0, 1400,
)  # fmt: skip


def test_a_lease_is_read_as_it_was_written() -> None:
    assert decode(encode(LEASE)) == (LEASE, None)
    assert decode(encode(LEASE, "c" * 48)) == (LEASE, "c" * 48)


def test_a_lease_for_plain_tunnels_has_no_secret() -> None:
    plain = replace(LEASE, secret=None, tunnels=())
    assert decode(encode(plain)) == (plain, None)


def test_unknown_fields_are_ignored() -> None:
    fields = msgspec.json.decode(encode(LEASE)) | {"later": [1, 2]}
    assert decode(msgspec.json.encode(fields))[0] == LEASE


@pytest.mark.parametrize(
    "change",
    [
        {"vipa": "fd00::2"},
        {"vipa": "nonsense"},
        {"vipa6": "10.0.0.1"},
        {"expires": 0},
        {"expires": 1e300},
        {"tunnels": [1, 1]},
        {"tunnels": [0]},
        {"tunnels": [1 << 24]},
        {"tunnels": list(range(1, 19))},
        {"endpoints": [{"address": "45.0.0.1", "port": 0}]},
        {"endpoints": [{"address": "anchor", "port": 1800}]},
        {"mtu": 100},
        {"keep_alive": 0},
        {"secret": {"generation": 1, "key": "AA==", "from_epoch": 0, "aead": "AES-256-GCM"}},
        {"secret": {"generation": 1, "key": "A" * 43 + "=", "from_epoch": 0, "aead": "rot13"}},
        {"secret": {"generation": -1, "key": "A" * 43 + "=", "from_epoch": 0, "aead": "AES-256-GCM"}},
        {"credential": "short"},
        {"resolver": 1},
    ],
)
def test_a_value_out_of_bounds_is_refused(change: dict[str, object]) -> None:
    fields = msgspec.json.decode(encode(LEASE)) | change
    with pytest.raises(RemoteProtocolError):
        decode(msgspec.json.encode(fields))


def test_the_secret_is_not_shown() -> None:
    assert LEASE.secret is not None
    assert LEASE.secret.key.hex() not in repr(LEASE)
    assert repr(LEASE.secret.key) not in repr(LEASE)


def test_an_answer_without_body_lends_an_address_only() -> None:
    lease = from_headers("1.2.3.4", None, 600)
    assert (lease.vipa, lease.vipa6, lease.secret, lease.tunnels) == ("1.2.3.4", None, None, ())
    for vipa in (None, "", "nonsense", "fd00::1"):
        with pytest.raises(RemoteProtocolError):
            from_headers(vipa, None, 600)


def test_an_offer_is_read_as_it_was_written_and_unknown_ciphers_are_passed_over() -> None:
    offer = Offer((Aead.CHACHA20_POLY1305, Aead.AES_256_GCM), plain=True, push=7)
    assert decode_offer(encode_offer(offer)) == offer
    assert decode_offer(b'{"aeads": ["rot13", "ChaCha20-Poly1305"]}').aeads == (Aead.CHACHA20_POLY1305,)
    assert decode_offer(b'{"aeads": ["rot13"]}') == decode_offer(b"") == Offer()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_lease_or_refused(data: bytes) -> None:
    for read in (decode, decode_offer):
        with contextlib.suppress(RemoteProtocolError):
            read(data)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
JSON = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=5), SCALARS, max_size=3)
FIELDS = sorted(msgspec.json.decode(encode(LEASE, "c" * 48)))


@given(JSON, st.sampled_from(FIELDS))
def test_any_value_in_any_field_is_a_lease_or_refused(value: object, field: str) -> None:
    fields = msgspec.json.decode(encode(LEASE, "c" * 48)) | {field: value}
    with contextlib.suppress(RemoteProtocolError):
        decode(msgspec.json.encode(fields))
