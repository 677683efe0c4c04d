"""Two peers agree on keys, and nobody else can."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.i3 import handshake
from sojourn.i3.handshake import Greeting, Session, read_hello, read_keys, read_who, who
from sojourn.i3.home import HomeIdentity
from sojourn.i3.identifier import Identifier, public
from sojourn.i3.proxy_header import ProxyHeader
from sojourn.model import TunnelId
from sojourn.packet.seal import Aead
from tests.i3.test_packet import documented
from tests.i3.world import identity

A, B, M = identity("a"), identity("b"), identity("m")


def greeting(wall_ns: int = 7) -> Greeting:
    return Greeting(A, B.keys, TunnelId(0x0A0B0C), bytes(range(32)), wall_ns)


def met() -> tuple[Session, Session]:
    """Return both ends of a session."""
    ours = greeting()
    hello = read_hello(ours.message, B, bytes(range(1, 33)))
    accept, theirs = hello.accept(TunnelId(5), 2.0)
    return ours.accepted(accept, 1.0), theirs


def test_a_hello_shows_whose_home_address_it_is_and_when_it_was_said() -> None:
    hello = read_hello(greeting(12345).message, B, bytes(range(1, 33)))
    assert hello.keys == A.keys
    assert hello.keys.address == A.address
    assert (hello.wall_ns, hello.index) == (12345, 0x0A0B0C)
    assert hello.aeads == (Aead.AES_256_GCM, Aead.CHACHA20_POLY1305)


def test_both_ends_have_the_same_keys_and_each_its_own_direction() -> None:
    a, b = met()
    for sealer, opener in ((a.sealer, b.opener), (b.sealer, a.opener)):
        sealed = sealer.seal(b"\x60 an inner packet")
        assert opener.open(sealed).plaintext == b"\x60 an inner packet"
        with pytest.raises(RemoteProtocolError, match="seen before"):
            opener.open(sealed)
    assert (a.sealer.tunnel, b.sealer.tunnel) == (b.index, a.index) == (5, 0x0A0B0C)
    with pytest.raises(RemoteProtocolError):
        a.opener.open(a.sealer.seal(b"back to its sender"))


def test_nothing_in_a_hello_can_be_read_or_changed_on_the_way() -> None:
    message = greeting().message
    assert len(message) == handshake.HELLO_BYTES
    assert A.keys.signing not in message
    assert A.keys.exchange not in message
    for at in (4, 40, 90, len(message) - 1):
        changed = bytearray(message)
        changed[at] ^= 1
        with pytest.raises(RemoteProtocolError):
            read_hello(bytes(changed), B, bytes(range(1, 33)))


def test_a_hello_for_somebody_else_does_not_open_and_nobody_else_can_accept_it() -> None:
    ours = greeting()
    with pytest.raises(RemoteProtocolError):
        read_hello(ours.message, M, bytes(range(1, 33)))
    to_m = Greeting(A, M.keys, TunnelId(1), bytes(range(32)), 1).message
    accept, _ = read_hello(to_m, M, bytes(range(1, 33))).accept(TunnelId(5), 1.0)
    with pytest.raises(RemoteProtocolError):
        ours.accepted(accept, 1.0)


def test_an_aead_that_only_one_has_is_not_chosen() -> None:
    ours = Greeting(A, B.keys, TunnelId(1), bytes(range(32)), 1, (Aead.CHACHA20_POLY1305,))
    hello = read_hello(ours.message, B, bytes(range(1, 33)))
    with pytest.raises(RemoteProtocolError, match="in common"):
        hello.accept(TunnelId(5), 1.0, (Aead.AES_256_GCM,))


def test_the_question_for_keys_is_as_long_as_its_answer() -> None:
    question = who(public(A.address))
    assert read_who(question) == public(A.address)
    answer = handshake.keys_of(B.keys)
    assert read_keys(answer).address == B.address
    assert len(question) == len(answer)


@given(st.integers(0, 5), st.binary(max_size=200))
def test_any_bytes_are_understood_or_refused(kind: int, data: bytes) -> None:
    message = bytes((kind,)) + data
    for read in (
        lambda: read_hello(message, B, bytes(range(1, 33))), lambda: read_who(message), lambda: read_keys(message),
        lambda: handshake.accept_index(message), lambda: greeting().accepted(message, 1.0),
    ):  # fmt: skip
        try:
            read()
        except RemoteProtocolError:
            continue


def test_the_bytes_in_the_documentation_are_the_bytes_on_the_wire() -> None:
    written, known = documented("peers"), documented("identifiers")
    a, b = (
        HomeIdentity(bytes(range(32)), bytes(range(32, 64))),
        HomeIdentity(bytes(range(64, 96)), bytes(range(96, 128))),
    )
    ours = Greeting(a, b.keys, TunnelId(0x010203), b"\3" * 32, 1_700_000_000_000_000_000)
    assert ours.message.hex() == written["hello"]
    marked = Greeting(a, b.keys, None, b"\3" * 32, 1_700_000_000_000_000_000)
    assert marked.message.hex() == "01" + written["mark"] + written["hello"][8:]
    accept, _ = read_hello(ours.message, b, b"\4" * 32).accept(TunnelId(0x0A0B0C), 1.0)
    assert accept.hex() == written["accept"]
    header = ProxyHeader(Identifier(bytes.fromhex(known["private"])), a.address)
    assert ours.accepted(accept, 1.0).sealer.seal(bytes(header)).hex() == written["identifier"]


def test_forged_accepts_change_nothing_the_true_one_is_taken_after_them() -> None:
    ours = greeting()
    accept, theirs = read_hello(ours.message, B, bytes(range(1, 33))).accept(TunnelId(5), 2.0)
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            ours.accepted(accept[:-1] + bytes((accept[-1] ^ 1,)), 1.0)
    session = ours.accepted(accept, 1.0)
    assert theirs.opener.open(session.sealer.seal(b"\x60 an inner packet")).plaintext == b"\x60 an inner packet"
