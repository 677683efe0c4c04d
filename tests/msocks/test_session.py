"""Sessions over connections that break anywhere: every byte arrives once, in order; and who may come back."""

import hashlib
import random
from collections import deque

import pytest

from sojourn.errors import LocalProtocolError, RemoteProtocolError
from sojourn.msocks.copy_buffer import CopyBuffer
from sojourn.msocks.frames import SESSION_BYTES, Challenges, Reconnect, Status, parse_reconnect, take_frame
from sojourn.msocks.session import PROVING, TOMBSTONE_LIFE, UNPROVED_HOLD, Entry, Limits, Session, SessionTable

KEY, ID = b"k" * 32, b"s" * SESSION_BYTES


class Half:
    """One direction of a TCP connection: what is under way, and what waits in the receiver's kernel."""

    def __init__(self) -> None:
        self.under_way = bytearray()
        self.queue = bytearray()
        self.unacknowledged = 0

    def deliver(self, count: int) -> None:
        self.queue += self.under_way[:count]
        del self.under_way[:count]

    def acknowledge(self) -> None:
        self.unacknowledged = len(self.under_way)


class End:
    """One end of a session between a source and a sink of bytes, as an event loop would drive it."""

    def __init__(self, data: bytes, size: int, margin: int) -> None:
        out, into = (CopyBuffer(memoryview(bytearray(size)), margin=margin) for _ in range(2))
        self.session = Session(out, into)
        self.data = data
        self.read = 0
        self.digest = hashlib.sha256()
        self.written = 0
        self.blocked = False
        self.old: deque[Half] = deque()
        self.sends: Half | None = None
        self.hears: Half | None = None

    def step(self, dice: random.Random) -> None:
        """Move some bytes each way."""
        out, into = self.session.out, self.session.into
        space = out.space()
        count = min(len(space), len(self.data) - self.read, dice.randrange(400))
        space[:count] = self.data[self.read : self.read + count]
        out.took(count)
        self.read += count
        if self.sends is not None:
            piece = bytes(out.pending()[: dice.randrange(400)])
            self.sends.under_way += piece
            self.sends.unacknowledged += len(piece)
            out.gave(len(piece))
            self.session.acknowledged(self.sends.unacknowledged)
        self.drain(dice.randrange(400))
        if not self.blocked:
            piece = bytes(into.pending()[: dice.randrange(400)])
            self.digest.update(piece)
            self.written += len(piece)
            into.gave(len(piece))
            into.confirm(into.sent)

    def drain(self, limit: int) -> None:
        source = self.old[0] if self.old else self.hears
        if source is None:
            return
        room = self.session.room()
        count = min(len(room), len(source.queue), limit)
        room[:count] = source.queue[:count]
        del source.queue[:count]
        if count and self.session.took(count):
            self.old.popleft()

    def cut(self) -> int:
        """Give the leg up; what the kernel has acknowledged stays readable."""
        if self.sends is not None:
            self.session.acknowledged(self.sends.unacknowledged)
        unread = 0 if self.hears is None else len(self.hears.queue)
        if unread and self.hears is not None:
            self.old.append(self.hears)
        self.sends = self.hears = None
        return self.session.cut(unread)


@pytest.mark.parametrize("seed", range(40))
def test_random_data_survives_random_breaks_in_both_directions(seed: int) -> None:
    dice = random.Random(seed)
    up, down = dice.randbytes(120_000), dice.randbytes(120_000)
    client, proxy = End(up, 4096, 512), End(down, 4096, 512)
    breaks = 0
    connect(client, proxy)
    while (client.written, proxy.written) != (len(down), len(up)):
        for end in (client, proxy):
            end.blocked = dice.random() < 0.3
            end.step(dice)
        for half in (client.sends, proxy.sends):
            assert half is not None
            half.deliver(dice.randrange(600))
            if dice.random() < 0.7:
                half.acknowledge()
        if dice.random() < 0.2:
            breaks += 1
            move(client, proxy, dice)
    assert breaks > 75
    assert client.digest.digest() == hashlib.sha256(down).digest()
    assert proxy.digest.digest() == hashlib.sha256(up).digest()


def connect(client: End, proxy: End) -> None:
    up, down = Half(), Half()
    client.sends = proxy.hears = up
    proxy.sends = client.hears = down


def move(client: End, proxy: End, dice: random.Random) -> None:
    """Break the leg as DESIGN §6 orders it: the client's count, then the proxy's, then the bytes again."""
    lost = client.sends
    received = client.cut()
    if lost is not None and dice.random() < 0.5:
        lost.deliver(dice.randrange(200))  # still arrives at the proxy after the client has gone
    if dice.random() < 0.2:
        proxy.step(dice)
    answered = proxy.cut()
    proxy.session.attach(received)
    client.session.attach(answered)
    connect(client, proxy)


def test_an_end_whose_reader_stands_still_can_be_moved_again_and_again() -> None:
    dice = random.Random(7)
    data = dice.randbytes(3000)
    client, proxy = End(data, 1024, 64), End(b"", 1024, 64)
    proxy.blocked = True
    connect(client, proxy)
    for _ in range(30):
        for _ in range(5):
            client.step(dice)
            proxy.step(dice)
            assert client.sends is not None
            client.sends.deliver(120)
            client.sends.acknowledge()
        move(client, proxy, dice)
    proxy.blocked = False
    for _ in range(400):
        client.step(dice)
        proxy.step(dice)
        assert client.sends is not None
        client.sends.deliver(1000)
        client.sends.acknowledge()
    assert proxy.digest.digest() == hashlib.sha256(data).digest()
    assert not proxy.old


def test_a_position_that_is_not_held_is_refused() -> None:
    buffer = CopyBuffer(memoryview(bytearray(100)), margin=10)
    buffer.took(len(buffer.space()))
    buffer.gave(90)
    buffer.confirm(90)
    buffer.took(len(buffer.space()))
    assert buffer.head == 100
    for position in (101, -1):
        with pytest.raises(RemoteProtocolError):
            buffer.rewind(position)
    buffer.took(len(buffer.space()))
    with pytest.raises(RemoteProtocolError):
        buffer.rewind(79)
    buffer.rewind(80)
    assert buffer.sent == 80


def test_what_is_in_hand_is_taken_in_wherever_the_stream_begins() -> None:
    buffer, data = CopyBuffer(memoryview(bytearray(100)), margin=10), bytes(range(90))
    buffer.begin(295)
    buffer.put(data[:89])
    with pytest.raises(LocalProtocolError):
        buffer.put(data[88:])
    buffer.put(data[89:])
    said = b""
    while pending := buffer.pending():
        said += bytes(pending)
        buffer.gave(len(pending))
    assert (buffer.head, said) == (385, data)


# The proxy's table.


def asked(challenges: Challenges, *, generation: int = 1, now: float = 100.0, key: bytes = KEY) -> tuple[
    Reconnect, bytes
]:  # fmt: skip
    order = Reconnect(ID, generation, 0, challenges.make(now))
    taken = take_frame(order.encode(key))
    assert taken is not None
    return parse_reconnect(taken[0].body)


def table(limits: Limits | None = None) -> tuple[SessionTable, Challenges]:
    challenges = Challenges(b"secret")
    made = SessionTable(limits or Limits(), challenges)
    made.add(Entry(ID, "ann", KEY))
    return made, challenges


def test_a_session_goes_on_once_for_each_generation() -> None:
    sessions, challenges = table()
    verdict = sessions.judge(*asked(challenges), 100.0)
    assert (verdict.status, verdict.challenge, verdict.key) == (None, False, KEY)
    sessions.resume(ID, 1)
    assert sessions.judge(*asked(challenges), 100.0).status is Status.STALE
    assert sessions.judge(*asked(challenges, generation=2), 100.0).status is None


def test_who_cannot_prove_the_key_hears_the_same_as_who_asks_for_nothing() -> None:
    sessions, challenges = table()
    foreign = sessions.judge(*asked(challenges, key=b"x" * 32), 100.0)
    sessions.remove(ID, Status.ENDED, 100.0)
    sessions.expired(100.0 + TOMBSTONE_LIFE)
    assert foreign == sessions.judge(*asked(challenges), 100.0)
    assert foreign.status is Status.UNKNOWN
    assert foreign.key is None


def test_an_old_challenge_is_answered_by_a_new_one() -> None:
    sessions, challenges = table()
    assert sessions.judge(*asked(challenges), 161.0).challenge
    assert sessions.judge(*asked(Challenges(b"another")), 100.0).challenge


def test_how_a_session_ended_is_told_for_a_while() -> None:
    sessions, challenges = table()
    sessions.remove(ID, Status.RESET, 100.0)
    assert sessions.judge(*asked(challenges), 100.0).status is Status.RESET
    assert sessions.count("ann") == 0


def test_a_session_without_a_leg_waits_for_its_time_and_no_longer() -> None:
    sessions, _ = table(Limits(hold_s=60.0))
    assert sessions.leg_lost(ID, 100.0) == []
    assert sessions.expired(159.0) == []
    assert sessions.expired(160.0) == [ID]
    sessions.resume(ID, 1)
    assert sessions.expired(1000.0) == []


def test_a_session_that_its_client_may_never_have_heard_of_waits_for_half_a_minute() -> None:
    sessions, _ = table(Limits(held=2))
    names = [bytes([number]) * 16 for number in (2, 3, 4)]
    for id in names:
        sessions.add(Entry(id, "ann", KEY, unproved_until=PROVING))
    sessions.resume(names[1], 1)
    assert [sessions.leg_lost(id, 10.0) for id in names[:2]] == [[], []]
    assert sessions.leg_lost(ID, 11.0) == [names[0]], "it goes before those that somebody may come back to"
    assert sessions.expired(10.0 + UNPROVED_HOLD - 1) == []
    assert sessions.expired(10.0 + UNPROVED_HOLD) == [names[0]]
    sessions.remove(names[0], Status.RESET, 40.0)
    assert sessions.leg_lost(names[2], PROVING) == [names[1]], "a leg that has stood for so long was heard of"
    assert sessions.expired(PROVING + UNPROVED_HOLD) == []


def test_sessions_and_those_without_a_leg_are_counted() -> None:
    sessions, _ = table(Limits(sessions=3, per_user=2, held=1))
    assert sessions.room_for("ann")
    sessions.add(Entry(b"2" * 16, "ann", KEY))
    assert not sessions.room_for("ann")
    assert sessions.room_for("bob")
    sessions.add(Entry(b"3" * 16, "bob", KEY))
    assert not sessions.room_for("bob")
    assert sessions.leg_lost(ID, 1.0) == []
    assert sessions.leg_lost(b"2" * 16, 2.0) == [ID]
