"""Whose greetings are looked into: a peer's, whatever strangers send."""

import random
from functools import partial

import pytest

from sojourn.errors import RemoteProtocolError
from sojourn.i3 import handshake
from sojourn.i3.greetings import KEPT, PEER_RATE, PER_SECOND, Greetings
from sojourn.i3.handshake import HELLO_BYTES, Greeting, mark, mark_key, who
from sojourn.i3.home import HomeIdentity, HomeKeys
from sojourn.i3.packet import Data
from sojourn.model import TunnelId
from tests.i3.roam_world import Roamer, RoamWorld
from tests.i3.world import NODE, identity

A, B, M = identity("a"), identity("b"), identity("m")
RANDOM = random.Random(1).randbytes
SECOND_MILLISECONDS = 1000
PER_MILLISECOND = 10
"""10,000 junk greetings a second."""


def hello(of: HomeIdentity = A, to: HomeKeys = B.keys, wall_ns: int = 7) -> bytes:
    return Greeting(of, to, None, RANDOM(32), wall_ns).message


def junk() -> bytes:
    return bytes((handshake.HELLO,)) + RANDOM(HELLO_BYTES - 1)


def of_b() -> Greetings:
    greetings = Greetings(B)
    greetings.know(A.keys)
    return greetings


def refused(greetings: Greetings, message: bytes, now: float, *, private: bool = False) -> str:
    try:
        greetings.hello(message, now, private=private)
    except RemoteProtocolError as error:
        return error.reason
    return ""


def test_a_peers_hello_is_taken_when_strangers_have_used_up_theirs() -> None:
    greetings = of_b()
    assert [refused(greetings, junk(), 1.0) for _ in range(60)].count("") == PER_SECOND
    assert refused(greetings, hello(M), 1.0) == "rate", "a real Hello of somebody who is no peer"
    assert refused(greetings, hello(), 1.0) == ""
    greetings.forget(A.keys)
    assert refused(greetings, hello(), 1.0) == "rate"


def test_a_mark_is_good_for_one_message_one_direction_and_one_receiver() -> None:
    greetings = of_b()
    for _ in range(60):
        refused(greetings, junk(), 1.0)
    message = hello()
    changed = message[:40] + bytes((message[40] ^ 1,)) + message[41:]
    for wrong in (changed, hello(B, A.keys), hello(A, M.keys), hello(M)):
        assert refused(greetings, wrong, 1.0) == "rate"
    assert mark_key(A, B.keys, A.keys.exchange, B.keys) == mark_key(B, A.keys, A.keys.exchange, B.keys)


def test_a_recorded_hello_is_refused_unread_and_a_peers_own_share_is_bounded() -> None:
    greetings = of_b()
    message = hello()
    assert [refused(greetings, message, 1.0) for _ in range(3)] == ["", "replayed", "replayed"]
    for number in range(KEPT):
        refused(greetings, hello(wall_ns=number), 2.0)
    taken = [refused(greetings, hello(wall_ns=number), 2.0) for number in range(200)]
    assert taken.count("") <= PER_SECOND, "beyond its own share a peer is one of all"
    assert PEER_RATE < PER_SECOND


def test_a_key_of_low_order_gets_no_share() -> None:
    assert mark_key(B, HomeKeys(bytes(32), bytes(32)), bytes(32), B.keys) == b""
    greetings = Greetings(B)
    greetings.know(HomeKeys(bytes(32), bytes(32)))
    for _ in range(60):
        refused(greetings, junk(), 1.0)
    forged = junk()
    forged = forged[:1] + mark(b"", forged[4:]).to_bytes(3) + forged[4:]
    assert refused(greetings, forged, 1.0) == "rate"


def test_an_index_that_is_chosen_stays_as_it_is() -> None:
    assert Greeting(A, B.keys, TunnelId(9), RANDOM(32), 7).index == 9
    assert Greeting(A, B.keys, None, RANDOM(32), 7).message[1:4] != bytes(3)


def test_what_is_cut_off_is_refused_by_its_size() -> None:
    for message in (b"\x01", hello()[:-1], hello() + b"\0"):
        assert refused(of_b(), message, 1.0) == "length"


def flood(host: Roamer, made: list[bytes]) -> None:
    for payload in made:
        host.do(host.proxy.received("wifi", bytes(Data((host.proxy.public,), payload)), NODE, host.world.now))


@pytest.mark.parametrize("kind", ["random", "hellos of a stranger", "questions", "a recorded hello"])
def test_ten_thousand_junk_greetings_a_second_do_not_delay_a_peers_first_meeting(kind: str) -> None:
    """The Accept comes to A's public identifier, which is flooded as well."""
    world = RoamWorld()
    a, b = world.pair()
    same = {"questions": who(b.proxy.public), "hellos of a stranger": hello(M), "a recorded hello": hello(wall_ns=1)}

    def pour() -> None:
        for host in (a, b):
            flood(host, [same.get(kind) or junk() for _ in range(PER_MILLISECOND)])

    for turn in range(2 * SECOND_MILLISECONDS):
        world.at(turn / 1000, pour)
    world.at(0.9995, partial(a.send, b, "first"))
    world.run(1.0)
    world.run(1.0)
    assert b.got() == ["first"]
    refused = {"a recorded hello": "replayed"}.get(kind, "rate")
    assert b.proxy.refused[refused] > 15_000, b.proxy.refused
