"""A client that was asleep for an hour, over fake time: both ends' machines, every byte, and what may be held."""

import random

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sojourn.msocks import client, server, socks5
from sojourn.msocks.copy_buffer import CopyBuffer
from sojourn.msocks.frames import Challenges, Reconnect, Resumed, Status
from sojourn.msocks.session import Entry, Limits, Session, SessionTable

HOUR = 3600.0
ID, KEY = b"s" * 16, b"k" * 32


def session() -> Session:
    return Session(*(CopyBuffer(memoryview(bytearray(200_000))) for _ in range(2)))  # type: ignore[arg-type]


def put(sender: Session, data: bytes) -> None:
    space = sender.out.space()
    assert len(space) >= len(data)
    space[: len(data)] = data
    sender.out.took(len(data))


def carry(sender: Session, receiver: Session, count: int, *, lost: int = 0) -> bytes:
    """Send what is pending; of it `lost` bytes never arrive. Return what did, taken by the other end's application."""
    data = bytes(sender.out.pending())[:count]
    sender.out.gave(len(data))
    arrived = data[: len(data) - lost]
    room = receiver.room()
    room[: len(arrived)] = arrived
    receiver.took(len(arrived))
    receiver.into.gave(len(arrived))
    receiver.into.confirm(receiver.into.sent)
    return arrived


def returned(table: SessionTable, challenges: Challenges, received: int, generation: int, stale: bytes, now: float) -> (
    tuple[Resumed, bool, int]
):  # fmt: skip
    """Bring a client back by its machine and the proxy's; return the answer, and how often it had to be challenged."""
    proxy = server.ServerDialogue(X25519PrivateKey.generate(), bytes(range(32)), (socks5.SOJOURN,))
    asked = client.Return(KEY, Reconnect(ID, generation, received, stale))
    to_proxy, challenged = asked.begin(), 0
    while True:
        to_client = b""
        events = proxy.feed(to_proxy)
        while events:
            event = events.pop(0)
            if isinstance(event, server.Say):
                to_client += event.data
            elif isinstance(event, server.Resume):
                verdict = table.judge(event.asked, event.proof, now)
                if verdict.challenge:
                    challenged += 1
                    events += proxy.challenge(challenges.make(now))
                else:
                    status = Status.RESUMED if verdict.status is None else verdict.status
                    to_client += Resumed(status, generation, HELD[0]).encode(verdict.key, event.asked)
        to_proxy = b""
        for heard in asked.feed(to_client):
            if isinstance(heard, client.Say):
                to_proxy += heard.data
            elif isinstance(heard, client.Answered):
                return heard.resumed, heard.proved, challenged


HELD = [0]
"""A: what the proxy answers for."""


def test_after_an_hour_both_streams_go_on_at_the_exact_byte() -> None:
    dice = random.Random(4)
    up, down = dice.randbytes(50_000), dice.randbytes(50_000)
    challenges = Challenges(b"secret")
    table = SessionTable(Limits(hold_s=7200.0), challenges)
    table.add(Entry(ID, "ann", KEY))
    mobile, proxy = session(), session()
    put(mobile, up)
    put(proxy, down)
    heard_up = carry(mobile, proxy, 30_000, lost=7_000)
    heard_down = carry(proxy, mobile, 20_000, lost=5_000)
    stale = challenges.make(100.0)
    assert table.leg_lost(ID, 160.0) == []
    for second in range(160, 160 + int(HOUR), 60):
        assert table.expired(float(second)) == []
    now = 160.0 + HOUR
    received, HELD[0] = mobile.cut(0), proxy.cut(0)
    resumed, proved, challenged = returned(table, challenges, received, 1, stale, now)
    assert (resumed.status, resumed.received, proved, challenged) == (Status.RESUMED, 23_000, True, 1)
    table.resume(ID, 1)
    mobile.attach(resumed.received)
    proxy.attach(received)
    heard_up += carry(mobile, proxy, 50_000)
    heard_down += carry(proxy, mobile, 50_000)
    assert (heard_up, heard_down) == (up, down)
    assert table.expired(now + 7200.0) == [], "it has a leg again"


def test_after_the_hold_time_it_is_told_that_nothing_is_held() -> None:
    challenges = Challenges(b"secret")
    table = SessionTable(Limits(hold_s=1800.0), challenges)
    table.add(Entry(ID, "ann", KEY))
    table.leg_lost(ID, 0.0)
    assert table.expired(1800.0) == [ID]
    table.remove(ID, Status.RESET, 1800.0)
    resumed, proved, _ = returned(table, challenges, 0, 1, client.NO_CHALLENGE, 1801.0)
    assert (resumed.status, proved) == (Status.RESET, True), "for a while it is known how it ended"
    table.expired(HOUR)
    resumed, proved, _ = returned(table, challenges, 0, 2, client.NO_CHALLENGE, HOUR)
    assert (resumed.status, proved) == (Status.UNKNOWN, False)


def test_a_thousand_that_sleep_take_no_more_places_than_are_configured() -> None:
    table = SessionTable(Limits(held=100), Challenges(b"secret"))
    ids = [number.to_bytes(16, "big") for number in range(1000)]
    for number, id in enumerate(ids):
        table.add(Entry(id, "ann", KEY))
        for surplus in table.leg_lost(id, float(number)):
            table.remove(surplus, Status.LOST, float(number))
    assert set(table.entries) == set(ids[-100:])
