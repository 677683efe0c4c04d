"""Noise against published vectors, against two independent libraries, and against nonsense.

noise_vectors.json holds the vectors of cacophony and of snow for these two protocols.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import LocalProtocolError, RemoteProtocolError
from sojourn.packet.noise import FIRST_BYTES, SECOND_BYTES, CipherState, Handshake, Pattern, public

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "noise_vectors.json").read_text())
PSK = bytes(range(32))


def key(number: int) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def ends(pattern: Pattern = Pattern.IKPSK2, *, psk: bytes | None = PSK) -> tuple[Handshake, Handshake]:
    initiator = Handshake(pattern, key(1), b"\x11" * 32, remote_static=public(key(2)), psk=psk)
    return initiator, Handshake(pattern, key(2), b"\x12" * 32, psk=psk)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['from']}-{vector['protocol_name'][6:12]}")
def test_the_published_vectors_come_out(vector: dict[str, Any]) -> None:
    given = {name: bytes.fromhex(text) for name, text in vector.items() if isinstance(text, str) and "_" in name[3:]
             and name not in ("protocol_name",)}  # fmt: skip
    pattern = Pattern(vector["protocol_name"].split("_")[1])
    (psk,) = vector.get("init_psks") or [""]
    common: dict[str, Any] = {"psk": bytes.fromhex(psk) or None}
    static = X25519PrivateKey.from_private_bytes(given["init_static"])
    initiator = Handshake(pattern, static, given["init_ephemeral"], remote_static=given["init_remote_static"],
                          prologue=given["init_prologue"], **common)  # fmt: skip
    static = X25519PrivateKey.from_private_bytes(given["resp_static"])
    responder = Handshake(pattern, static, given["resp_ephemeral"], prologue=given["resp_prologue"], **common)
    messages = [(bytes.fromhex(one["payload"]), bytes.fromhex(one["ciphertext"])) for one in vector["messages"]]
    assert initiator.write(messages[0][0]) == messages[0][1]
    assert responder.read(messages[0][1]) == messages[0][0]
    assert responder.write(messages[1][0]) == messages[1][1]
    assert initiator.read(messages[1][1]) == messages[1][0]
    if "handshake_hash" in given:
        assert initiator.hash == responder.hash == given["handshake_hash"]
    pairs = (initiator.split(), responder.split())
    assert len(messages) >= 4
    for number, (payload, sealed) in enumerate(messages[2:]):
        sender, receiver = pairs[number % 2][0], pairs[1 - number % 2][1]
        assert sender.seal(payload) == sealed
        assert receiver.open(sealed) == payload


def noiseprotocol_end(pattern: Pattern, *, initiator: bool) -> Any:  # noqa: ANN401 - it has no types
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from noise.connection import Keypair, NoiseConnection
    end = NoiseConnection.from_name(f"Noise_{pattern}_25519_ChaChaPoly_BLAKE2s".encode())
    if pattern is Pattern.IKPSK2:
        end.set_psks(PSK)
    end.set_prologue(b"oracle")
    (end.set_as_initiator if initiator else end.set_as_responder)()
    end.set_keypair_from_private_bytes(Keypair.STATIC, key(7).private_bytes_raw())
    if initiator:
        end.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, public(key(8)))
    end.start_handshake()
    return end


@pytest.mark.parametrize("pattern", list(Pattern))
def test_noiseprotocol_understands_us_as_initiator_and_as_responder(pattern: Pattern) -> None:
    other = noiseprotocol_end(pattern, initiator=True)
    mine = Handshake(pattern, key(8), b"\x55" * 32, psk=PSK, prologue=b"oracle")
    assert mine.read(bytes(other.write_message(b"who"))) == b"who"
    assert mine.remote_static == public(key(7))
    assert bytes(other.read_message(mine.write(b"here"))) == b"here"
    check_talk(mine, other)
    other = noiseprotocol_end(pattern, initiator=False)
    mine = Handshake(pattern, key(8), b"\x55" * 32, remote_static=public(key(7)), psk=PSK, prologue=b"oracle")
    assert bytes(other.read_message(mine.write(b"who"))) == b"who"
    assert mine.read(bytes(other.write_message(b"here"))) == b"here"
    check_talk(mine, other)


def check_talk(mine: Handshake, other: Any) -> None:  # noqa: ANN401
    assert mine.hash == other.get_handshake_hash()
    sealing, opening = mine.split()
    for number in range(3):
        text = b"message %d" % number
        assert bytes(other.decrypt(sealing.seal(text))) == text
        assert opening.open(bytes(other.encrypt(text))) == text


@pytest.mark.parametrize("we_begin", [True, False])
def test_dissononce_understands_us(we_begin: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dissononce.cipher.chachapoly import ChaChaPolyCipher
        from dissononce.dh.x25519.private import PrivateKey
        from dissononce.dh.x25519.public import PublicKey
        from dissononce.dh.x25519.x25519 import X25519DH
        from dissononce.hash.blake2s import Blake2sHash
        from dissononce.processing.handshakepatterns.interactive.IK import IKHandshakePattern
        from dissononce.processing.impl.cipherstate import CipherState as OtherCipher
        from dissononce.processing.impl.handshakestate import HandshakeState
        from dissononce.processing.impl.symmetricstate import SymmetricState
    other = HandshakeState(SymmetricState(OtherCipher(ChaChaPolyCipher()), Blake2sHash()), X25519DH())
    remote = None if we_begin else PublicKey(public(key(8)))
    static = X25519DH().generate_keypair(PrivateKey(key(7).private_bytes_raw()))
    other.initialize(IKHandshakePattern(), not we_begin, b"oracle", s=static, rs=remote)
    mine = Handshake(Pattern.IK, key(8), b"\x33" * 32, remote_static=public(key(7)) if we_begin else None,
                     prologue=b"oracle")  # fmt: skip
    said = bytearray()
    if we_begin:
        other.read_message(mine.write(b"first"), said)
        answer = bytearray()
        ciphers = other.write_message(b"second", answer)
        assert mine.read(bytes(answer)) == b"second"
    else:
        first = bytearray()
        other.write_message(b"first", first)
        assert mine.read(bytes(first)) == b"first"
        ciphers = other.read_message(mine.write(b"second"), said)
    assert bytes(said) == (b"first" if we_begin else b"second")
    theirs_of_initiator, theirs_of_responder = ciphers
    sealing, opening = mine.split()
    mine_to_them, them_to_me = (
        (theirs_of_initiator, theirs_of_responder) if we_begin else (theirs_of_responder, theirs_of_initiator)
    )
    assert mine_to_them.decrypt_with_ad(b"", sealing.seal(b"up")) == b"up"
    assert opening.open(them_to_me.encrypt_with_ad(b"", b"down")) == b"down"


def test_another_secret_another_prologue_or_another_static_key_does_not_get_through() -> None:
    initiator, responder = ends()
    responder.psk = bytes(32)
    responder.read(initiator.write())
    with pytest.raises(RemoteProtocolError):
        initiator.read(responder.write())
    initiator, _ = ends()
    with pytest.raises(RemoteProtocolError):
        Handshake(Pattern.IKPSK2, key(2), b"\x12" * 32, psk=PSK, prologue=b"else").read(initiator.write())
    initiator, _ = ends()
    with pytest.raises(RemoteProtocolError):
        Handshake(Pattern.IKPSK2, key(3), b"\x12" * 32, psk=PSK).read(initiator.write())


def test_a_responder_may_learn_the_secret_from_who_is_there() -> None:
    initiator, _ = ends()
    responder = Handshake(Pattern.IKPSK2, key(2), b"\x12" * 32)
    assert responder.read(initiator.write(b"ann")) == b"ann"
    with pytest.raises(LocalProtocolError):
        responder.write()
    responder.psk = PSK
    assert initiator.read(responder.write(b"hello")) == b"hello"
    assert initiator.done
    assert responder.done


def test_messages_out_of_turn_are_our_own_fault() -> None:
    initiator, responder = ends()
    for wrong in (responder.write, initiator.split, lambda: initiator.read(bytes(100))):
        with pytest.raises(LocalProtocolError):
            wrong()


def test_a_message_that_was_changed_repeated_or_put_into_another_place_does_not_open() -> None:
    initiator, responder = ends(Pattern.IK)
    responder.read(initiator.write())
    initiator.read(responder.write())
    (sealing, _), (_, opening) = initiator.split(), responder.split()
    first, second = sealing.seal(b"one"), sealing.seal(b"two")
    for wrong in (second, first[:-1], b"", first + b"\0", bytes(len(first))):
        with pytest.raises(RemoteProtocolError):
            opening.open(wrong)
    assert opening.open(first) == b"one"
    with pytest.raises(RemoteProtocolError):
        opening.open(first)
    assert opening.open(second) == b"two"


def test_a_public_key_of_low_order_is_refused() -> None:
    initiator, responder = ends()
    with pytest.raises(RemoteProtocolError):
        responder.read(bytes(32) + initiator.write()[32:])
    with pytest.raises(LocalProtocolError):
        responder.read(initiator._ephemeral.private_bytes_raw())


@given(st.binary(max_size=200), st.sampled_from(list(Pattern)), st.booleans())
def test_nonsense_is_refused_and_nothing_else_happens(data: bytes, pattern: Pattern, as_initiator: bool) -> None:
    initiator, responder = ends(pattern)
    reader = responder
    if as_initiator:
        initiator.write()
        reader = initiator
    with pytest.raises(RemoteProtocolError):
        reader.read(data)


@given(st.integers(0, FIRST_BYTES - 1), st.integers(1, 255), st.booleans(), st.sampled_from(list(Pattern)))
def test_any_changed_byte_is_noticed(place: int, change: int, second: bool, pattern: Pattern) -> None:
    initiator, responder = ends(pattern)
    message = bytearray(initiator.write())
    if second:
        responder.read(bytes(message))
        message = bytearray(responder.write())
        place %= SECOND_BYTES
    message[place] ^= change
    with pytest.raises(RemoteProtocolError):
        (initiator if second else responder).read(bytes(message))


def test_also_the_bit_that_x25519_ignores_is_bound_by_the_hash() -> None:
    initiator, responder = ends()
    message = bytearray(initiator.write())
    message[31] ^= 0x80
    with pytest.raises(RemoteProtocolError):
        responder.read(bytes(message))


@given(st.binary(max_size=100))
def test_a_cipher_opens_what_it_sealed(text: bytes) -> None:
    sealing, opening = CipherState(PSK), CipherState(PSK)
    for associated in (b"", b"with"):
        assert opening.open(sealing.seal(text, associated), associated) == text
    with pytest.raises(RemoteProtocolError):
        opening.open(text)
