"""Sealed datagrams: fixed vectors, replay, epochs, secrets."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import LocalProtocolError, RemoteProtocolError
from sojourn.model import TunnelId
from sojourn.packet.seal import (
    EPOCHS_READY,
    OVERHEAD_BYTES,
    PACKETS_PER_EPOCH,
    REPLAY_WINDOW,
    Aead,
    Direction,
    Hint,
    KeySchedule,
    Opener,
    Sealer,
    Secret,
    Window,
    derive,
)

TUNNEL = TunnelId(0x123456)
SECRET = Secret(1, bytes(range(32)), 7)
UP = Direction.HOST_TO_ANCHOR


def ends(secret: Secret = SECRET, epoch: int = 7, seen: int = -1) -> tuple[Sealer, Opener]:
    return (
        Sealer(KeySchedule(secret), TUNNEL, UP, epoch),
        Opener(KeySchedule(secret), TUNNEL, UP, epoch, seen),
    )


def reason_of(opener: Opener, datagram: bytes) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        opener.open(datagram)
    return caught.value.reason


def hkdf_expand(key: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869 §2.3, written out: the oracle of the key schedule."""
    output, block = b"", b""
    for number in range(1, 1 + -(-size // 32)):
        mac = HMAC(key, SHA256())
        mac.update(block + info + bytes((number,)))
        block = mac.finalize()
        output += block
    return output[:size]


def test_keys_are_derived_as_the_wire_document_says() -> None:
    info = b"sojourn v0" + bytes((1,)) + (1).to_bytes(4) + bytes.fromhex("123456") + bytes((0,)) + (7).to_bytes(4)
    assert b"".join(derive(SECRET, TUNNEL, UP, 7)) == hkdf_expand(SECRET.key, info, 44)


@pytest.mark.parametrize(
    ("aead", "key", "iv", "datagram"),
    [
        (
            Aead.AES_256_GCM,
            "4a32c77b05d85e8d2abdb95527feecf1b9e20ea994cbfd979d60f23352a46955",
            "e42c2f3775811508ab3551e2",
            "8f1234560000000564c6482c6474a4bf353502048ae4c1fa79c0b507",
        ),
        (
            Aead.CHACHA20_POLY1305,
            "ff947fbf434cf2503abd0d09dcdcb30a90c00c8ead52d54ee49a337d11adc9d4",
            "455ddc079f2fbe3d990e451b",
            "8f12345600000005973b86f0792ebf75729491454b834ee4328525d0",
        ),
    ],
)
def test_the_vectors_of_the_wire_document_hold(aead: Aead, key: str, iv: str, datagram: str) -> None:
    secret = Secret(1, bytes(range(32)), 7, aead)
    assert tuple(part.hex() for part in derive(secret, TUNNEL, UP, 7)) == (key, iv)
    sealer, opener = ends(secret)
    sealer.counter = 5
    assert sealer.seal(bytes.fromhex("45000014"), Hint.PARTIAL).hex() == datagram
    opened = opener.open(bytes.fromhex(datagram))
    assert (opened.plaintext.hex(), opened.epoch, opened.counter, opened.hint) == ("45000014", 7, 5, Hint.PARTIAL)
    cipher = (AESGCM if aead is Aead.AES_256_GCM else ChaCha20Poly1305)(bytes.fromhex(key))
    nonce = (int(iv, 16) ^ 5).to_bytes(12)
    header, rest = bytes.fromhex(datagram)[:8], bytes.fromhex(datagram)[8:]
    assert header == bytes((0x80 | 0x08 | 7, 0x12, 0x34, 0x56, 0, 0, 0, 5))
    assert cipher.decrypt(nonce, rest, header).hex() == "45000014"


def test_overhead_is_24_bytes() -> None:
    sealer, _ = ends()
    assert len(sealer.seal(bytes(100))) == 124 == 100 + OVERHEAD_BYTES


@given(st.binary(min_size=1, max_size=64), st.integers(0, 87 * 8 - 1))
def test_a_single_flipped_bit_is_refused(plaintext: bytes, bit: int) -> None:
    sealer, opener = ends()
    datagram = bytearray(sealer.seal(plaintext))
    bit %= len(datagram) * 8
    datagram[bit // 8] ^= 1 << bit % 8
    if bit // 8 in (1, 2, 3):
        # The tunnel index is looked up before, but it is under the tag as well.
        assert reason_of(opener, bytes(datagram)) == "forged"
    else:
        assert reason_of(opener, bytes(datagram)) in {"forged", "version"}


@given(st.binary(max_size=200))
def test_any_bytes_give_a_packet_or_a_protocol_error(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        ends()[1].open(data)


def test_directions_tunnels_and_secrets_do_not_open_each_others_packets() -> None:
    sealer, _ = ends()
    datagram = sealer.seal(b"E")
    assert reason_of(Opener(KeySchedule(SECRET), TUNNEL, Direction.ANCHOR_TO_HOST, 7), datagram) == "forged"
    assert reason_of(Opener(KeySchedule(SECRET), TunnelId(0x123457), UP, 7), datagram) == "forged"
    assert reason_of(Opener(KeySchedule(Secret(2, SECRET.key, 7)), TUNNEL, UP, 7), datagram) == "forged"


def test_a_replayed_packet_is_refused_by_name() -> None:
    sealer, opener = ends()
    datagram = sealer.seal(b"E")
    opener.open(datagram)
    assert reason_of(opener, datagram) == "replayed"


@given(st.lists(st.integers(0, 3 * REPLAY_WINDOW), max_size=60))
def test_the_window_agrees_with_a_set_of_what_was_seen(counters: list[int]) -> None:
    window, seen = Window(), set[int]()
    for counter in counters:
        top = max(seen, default=-1)
        fresh = counter not in seen and counter > top - REPLAY_WINDOW
        assert window.fresh(counter) is fresh
        if fresh:
            assert window.mark(counter) is (counter > top)
            seen.add(counter)


def test_late_packets_within_the_window_are_taken_in_any_order_once() -> None:
    sealer, opener = ends()
    datagrams = [sealer.seal(b"E") for _ in range(100)]
    assert [opener.open(datagram).counter for datagram in reversed(datagrams)] == list(reversed(range(100)))
    assert {reason_of(opener, datagram) for datagram in datagrams} == {"replayed"}


def test_only_the_highest_counter_of_the_newest_epoch_is_highest() -> None:
    sealer, opener = ends()
    first, second = sealer.seal(b"E"), sealer.seal(b"E")
    sealer.step()
    third = sealer.seal(b"E")
    assert [opener.open(datagram).highest for datagram in (second, first, third)] == [True, False, True]


def test_an_epoch_left_behind_opens_until_it_is_dropped_and_never_again() -> None:
    sealer, opener = ends()
    datagrams = [sealer.seal(b"E") for _ in range(3)]
    sealer.step()
    opener.open(sealer.seal(b"E"))
    late = opener.open(datagrams[0])
    assert (late.stale, late.highest) == (True, False)
    opener.drop_previous()
    assert reason_of(opener, datagrams[1]) == "forged"
    opener.refresh()  # As after a new secret: the window of the dropped epoch is gone, so it stays shut.
    assert reason_of(opener, datagrams[0]) == "forged"
    assert reason_of(opener, datagrams[2]) == "forged"


def test_a_receiver_is_ready_for_three_epochs_ahead_and_no_more() -> None:
    _, opener = ends()
    ahead = Sealer(KeySchedule(SECRET), TUNNEL, UP, 7 + EPOCHS_READY)
    assert opener.open(ahead.seal(b"E")).epoch == 7 + EPOCHS_READY
    _, opener = ends()
    ahead.step()
    assert reason_of(opener, ahead.seal(b"E")) == "forged"


def test_a_new_secret_is_opened_beside_the_old_one_until_it_is_used() -> None:
    sending, receiving = KeySchedule(SECRET), KeySchedule(SECRET)
    sealer, opener = Sealer(sending, TUNNEL, UP, 7), Opener(receiving, TUNNEL, UP, 7)
    new = Secret(2, bytes(32), 1024)
    receiving.install(new)
    opener.refresh()
    first, *late = (sealer.seal(b"E") for _ in range(4))
    assert opener.open(first).epoch == 7
    sending.install(new)
    sealer.step(1024)
    assert sealer.generation == 2
    assert opener.open(sealer.seal(b"E")).epoch == 1024
    assert opener.current == 1024
    # What was on its way meanwhile is taken in as after any step of the epoch, also when the old secret is forgotten.
    assert opener.open(late[0]).stale
    receiving.retire()
    opener.refresh()
    assert opener.open(late[1]).epoch == 7
    assert reason_of(opener, late[1]) == "replayed"
    opener.drop_previous()
    assert reason_of(opener, late[2]) == "forged"


def test_an_older_secret_is_not_installed_and_used_up_ones_are_forgotten() -> None:
    keys = KeySchedule(SECRET)
    keys.install(Secret(1, bytes(32), 99))
    assert keys.secrets == [SECRET]
    keys.install(Secret(2, bytes(32), 1024))
    keys.retire()
    assert keys.at(7) is None
    keys.install(Secret(3, bytes(32), 2048))
    assert [secret.generation for secret in keys.secrets] == [2, 3]
    keys.retire()
    assert [secret.generation for secret in keys.secrets] == [3]


def test_a_secret_that_its_peer_never_used_gives_way_to_a_newer_one() -> None:
    """The answer that told it may have been lost: the peer goes on with the one before."""
    keys = KeySchedule(SECRET)
    keys.install(Secret(2, bytes(32), 1024))
    keys.install(Secret(3, bytes(32), 2048))
    assert [secret.generation for secret in keys.secrets] == [1, 3]


def test_a_secret_never_shows_its_key() -> None:
    assert SECRET.key.hex() not in repr(SECRET)
    assert "key" not in repr(SECRET)


def test_a_restarted_receiver_takes_nothing_that_its_forerunner_has_opened() -> None:
    sealer, opener = ends()
    datagrams = [sealer.seal(b"E") for _ in range(10)]
    opener.open(datagrams[0])
    opener.open(datagrams[6])
    _, successor = ends(epoch=opener.current, seen=opener.top())
    assert reason_of(successor, datagrams[0]) == "replayed"
    assert reason_of(successor, datagrams[6]) == "replayed"
    assert successor.open(datagrams[7]).highest


def test_an_epoch_is_exhausted_at_two_to_the_23_and_its_counter_never_wraps() -> None:
    sealer, _ = ends()
    sealer.counter = PACKETS_PER_EPOCH - 1
    assert not sealer.exhausted()
    sealer.seal(b"E")
    assert sealer.exhausted()
    sealer.counter = 1 << 32
    with pytest.raises(LocalProtocolError):
        sealer.seal(b"E")


def test_an_epoch_is_never_stepped_back_to() -> None:
    sealer, _ = ends()
    with pytest.raises(LocalProtocolError):
        sealer.step(7)
