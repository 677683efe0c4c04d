"""A spliced session whose legs are cut at any step: every byte arrives once, at its place, in both directions.

A correspondent and a client with plain TCPs of their own, a network that loses, doubles, delays and reorders, a
firewall before the client that follows its connection's numbers as Linux does, the splice's rules between them, and
the proxy's arithmetic at each reconnect (linux/splice.py). Hypothesis says what happens next; cuts may follow each
other at once, answers be lost, and packets of legs that were left still arrive.
"""

import copy
import socket
import struct
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sojourn.linux import splice, tcp_repair
from sojourn.linux.splice import Kept, Spliced
from sojourn.linux.tcp_repair import OPTION_SACK, Numbers, Terms
from sojourn.msocks.splice_pair import CLIENT, CORRESPONDENT, FIRST, Half, Pair, PairFlag, State, Stream, tuple_key
from sojourn.msocks.splice_rules import ACK, Segment, Splice, build, parse

HOST, PROXY, OUT, FAR = ("198.51.100.7", 0), ("192.0.2.1", 1080), ("192.0.2.1", 50000), ("203.0.113.9", 443)
HEAD = bytes([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6])
ANSWER = b"resumed"
FIRST_LEG, MOST = 40000, 100
WINDOW, LEAST_ACK_WINDOW = 300, 330
"""A client's, and nf_conntrack's MAXACKWINDOW (65,535 and 66,000 in earnest). The correspondent heeds none: it has
known a larger one, and Linux believes in a smaller one only when it comes with news."""
TERMS = Terms(OPTION_SACK, 0, 0, 1460, 1460)
UP_ISN, DOWN_ISN = 0xFFFFFF80, 0xFFFFFFC0
"""About to wrap."""


class Tcp:
    """One end of a connection: enough of RFC 9293 to send, acknowledge and repair."""

    def __init__(self, sends: int, expects: int, window: int) -> None:
        self.sends, self.expects, self.window = sends, expects, window
        self.written, self.heard = b"", b""
        self.apart: dict[int, bytes] = {}
        """What came behind a gap, by its place."""
        self.acked = self.sent = 0
        self.deaf = False

    def segment(self, start: int, end: int) -> Segment:
        """Return what it sends of its stream, or (nothing) an acknowledgement."""
        self.sent = max(self.sent, end)
        seq, ack = (self.sends + start) & 0xFFFFFFFF, (self.expects + len(self.heard)) & 0xFFFFFFFF
        return Segment(seq, ack, ACK, self.window, 0, self._sack(), self.written[start:end])

    def _sack(self) -> bytes:
        blocks = [(at, at + len(piece)) for at, piece in self.apart.items()][-4:]
        edges = [(self.expects + edge) & 0xFFFFFFFF for block in blocks for edge in block]
        return b"\1\1" + bytes([5, 2 + 4 * len(edges)]) + struct.pack(f"!{len(edges)}I", *edges) if edges else b""

    def take(self, segment: Segment) -> bool:
        """Take a segment in; say whether it wants an acknowledgement."""
        acked = signed(segment.ack - self.sends)
        if self.deaf or max(acked, *self.sacked(segment.options)) > self.sent:
            return False  # as nf_conntrack's tcp_in_window does, whatever the end itself would do
        self.acked = max(self.acked, acked)
        at = signed(segment.seq - self.expects)
        if segment.payload and len(self.heard) < at + len(segment.payload) <= len(self.heard) + self.window:
            self.apart[at] = segment.payload
        for place in sorted(self.apart):
            if place <= len(self.heard):
                self.heard += self.apart.pop(place)[len(self.heard) - place :]
        return bool(segment.payload)

    def sacked(self, options: bytes) -> list[int]:
        """Return how far the blocks go; 0 stands for none."""
        at = options.find(5)
        blocks = options[at + 2 : at + options[at + 1]] if at >= 0 else b""
        return [0, *(signed(right - self.sends) for _, right in struct.iter_unpack("!II", blocks))]


class Firewall:
    """What Linux before a client makes of a leg (nf_conntrack_proto_tcp.c, tcp_in_window, as of 6.1); all that goes out
    passes.

    Numbers count from the leg's first ones. `ends`, `allowed`, `window`: td_end of both, the correspondent's td_maxend,
    the client's td_maxwin.
    """

    def __init__(self, client: Tcp) -> None:
        self.client = client
        self.ends = [0, len(ANSWER)]
        self.allowed = self.window = WINDOW

    def goes_out(self, segment: Segment) -> None:
        """Note what the client sends, unless it acknowledges too little of what came."""
        ack, seq = signed(segment.ack - self.client.expects), signed(segment.seq - self.client.sends)
        edges = segment.options[4:] if segment.options else b""
        sack = max([ack, *(signed(right - self.client.expects) for _, right in struct.iter_unpack("!II", edges))])
        if sack > self.ends[1] - max(self.window, LEAST_ACK_WINDOW) - 1:
            self.ends[0] = max(self.ends[0], seq + segment.taken)
            self.window = max(self.window, WINDOW + sack - ack)
            self.allowed = max(self.allowed, sack + WINDOW)

    def comes_in(self, segment: Segment) -> bool:
        """Note what comes for the client, and say whether it passes."""
        start = signed(segment.seq - self.client.expects)
        end = start + segment.taken
        acked = max(signed(segment.ack - self.client.sends), *self.client.sacked(segment.options))
        if acked > self.ends[0]:
            return False
        if start > self.allowed:
            if end - self.allowed + 1 > self.window:
                return False
            self.ends[1] = end
        elif end > self.ends[1] - self.window - 1:
            self.window += max(0, end - self.allowed)
            self.ends[1] = max(self.ends[1], end)
        return True


def signed(number: int) -> int:
    return (number + 0x80000000) % 0x100000000 - 0x80000000


class Tables:
    """The kernel's maps, with one pair."""

    def __init__(self) -> None:
        self.pair = Pair(State.LEGLESS, 1, PairFlag.RETURNS, UP_ISN)
        self.attached = {1}
        self.legs: dict[bytes, int] = {}

    def attach_all(self) -> None:
        pass

    def end_turn(self, _place: int) -> None:
        self.pair.state, self.pair.turn = State.LEGLESS, self.pair.turn + 1

    def read(self, _place: int, *, six: bool = False) -> Pair:
        assert not six
        return copy.deepcopy(self.pair)

    def streams(self, _place: int) -> tuple[Stream, Stream]:
        return self.pair.streams

    def write_leg(self, _place: int, pair: Pair) -> None:
        self.pair.halves, self.pair.leg_sent, self.pair.quiet = pair.halves, pair.leg_sent, pair.quiet
        self.pair.leg_limit = pair.leg_limit
        self.pair.state = State.SPLICED

    def enter(self, key: bytes, _place: int, _whose: int) -> None:
        self.legs[key] = self.pair.turn

    def forget(self, key: bytes) -> None:
        self.legs.pop(key, None)


class Near:
    """The proxy's connection to the correspondent."""

    family = socket.AF_INET
    port: int | None = None


class Leg(Near):
    """The proxy's end of a leg."""

    def __init__(self, port: int, client: Tcp) -> None:
        self.port, self.client = port, client

    def close(self) -> None:
        pass


class World:
    """All of it."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.tables.pair.streams = (
            Stream(FIRST + UP_ISN, FIRST + UP_ISN, FIRST + UP_ISN + 65535),
            Stream(FIRST + DOWN_ISN, FIRST + DOWN_ISN, FIRST + DOWN_ISN + 65535),
        )
        kept = Kept(0, 1, FIRST + UP_ISN, FIRST + DOWN_ISN, near=TERMS)
        self.joint = Spliced(cast("Any", self.tables), cast("Any", Near()), kept, returns=True)
        self.rules = Splice(self.tables.pair)
        self.far = Tcp(DOWN_ISN, UP_ISN, 0xFFFF)
        self.stream = b""
        """What the client's application has written."""
        self.had = b""
        """What it has heard on legs that were left."""
        self.legs: list[tuple[int, Tcp]] = []
        self.firewalls: dict[int, Firewall] = {}
        self.begins = 0
        """Where the present leg's own stream begins in the client's."""
        self.knows = False
        """Whether the client has heard that it goes on there."""
        self.air: list[tuple[int, Segment]] = []
        """Packets under way, with the client's port; 0: they are the correspondent's."""

    # -- what the client has and does

    def heard(self) -> bytes:
        """Return the correspondent's stream as far as the client's application has it."""
        if not self.knows:
            return self.had
        return self.had + self.legs[-1][1].heard[len(ANSWER) :]

    def write(self, data: bytes) -> None:
        """Let the application write."""
        self.stream += data
        if self.knows:
            self.legs[-1][1].written = self.stream[self.begins :]

    def leave(self) -> None:
        """Give the leg up and count, as every client has to before it asks to go on."""
        if self.legs:
            self.had = self.heard()
            self.legs[-1][1].deaf = True
        self.knows = False

    def reconnect(self, lost: bool) -> None:
        """Leave, ask, and be answered; `lost`: the answer does not arrive."""
        if self.knows or not self.legs:
            self.leave()
        position = self.joint.cut()
        number = len(self.legs) + 1
        client = Tcp(number * 0x33333333 & 0xFFFFFFFF, number * 0x5BD1E995 & 0xFFFFFFFF, WINDOW)
        self.legs.append((FIRST_LEG + number, client))
        self.firewalls[FIRST_LEG + number] = Firewall(client)
        leg = cast("Any", Leg(FIRST_LEG + number, client))
        self.joint.attach(leg, len(self.had), position, ANSWER, lambda _: None)
        assert not self.joint.kept.own, "the proxy has acknowledged nothing itself"
        if not lost:
            client.heard = ANSWER
            self.begins, self.knows = position, True
            client.written = self.stream[position:]
            self.air.append((self.legs[-1][0], client.segment(0, 0)))

    # -- what happens

    def send(self, port: int, *, again: bool) -> None:
        """Let an end send what it has not sent, or once more what is not acknowledged."""
        end = self.legs[-1][1] if port else self.far
        if port and not self.knows:
            return
        start = end.acked if again else end.sent
        self.air.append((port, end.segment(start, min(start + MOST, len(end.written)))))

    def carry(self, port: int, segment: Segment) -> None:
        """Let the proxy's kernel have a packet, and whoever it is for then have what comes of it."""
        if port:
            remote, local, whose = (HOST[0], port), PROXY, CLIENT
            self.firewalls[port].goes_out(segment)
            if self.tables.legs.get(tuple_key(remote, local)) != self.tables.pair.turn:
                return
        else:
            remote, local, whose = FAR, OUT, CORRESPONDENT
        _, left = self.rules.carry(whose, build(HEAD, Half(to=local, source=remote), segment))
        for packet in left:
            to = int.from_bytes(packet[22:24])
            end = self.far if to == FAR[1] else dict(self.legs)[to]
            passes = to == FAR[1] or self.firewalls[to].comes_in(parse(packet))
            if passes and end.take(parse(packet)):
                self.air.append((0 if end is self.far else to, acknowledgement(end)))

    def check(self) -> None:
        """Assert that all is a beginning of what was said."""
        assert self.far.written.startswith(self.heard())
        assert self.stream.startswith(self.far.heard)


def acknowledgement(end: Tcp) -> Segment:
    return end.segment(end.sent, end.sent)


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(sock: Near) -> splice.Ends:
        return ((HOST[0], sock.port), PROXY) if sock.port else (FAR, OUT)

    def numbers(leg: Leg) -> Numbers:
        return Numbers(leg.client.expects, leg.client.sends)

    monkeypatch.setattr(splice, "ends", ends)
    monkeypatch.setattr(splice, "_say", lambda _leg, _data: None)
    monkeypatch.setattr(splice.Spliced, "_way", lambda _self, _place: 1)
    monkeypatch.setattr(tcp_repair, "numbers", numbers)
    monkeypatch.setattr(tcp_repair, "terms", lambda _: TERMS)
    monkeypatch.setattr(tcp_repair, "window_edge", lambda _, at: (at + WINDOW) & 0xFFFFFFFF)
    monkeypatch.setattr(tcp_repair, "clock", lambda _: 0)
    monkeypatch.setattr(tcp_repair, "forget", lambda _: None)


steps = st.lists(
    st.tuples(
        st.sampled_from((
            "far writes", "client writes", "far sends", "client sends", "far repeats", "client repeats",
            "arrives", "arrives", "arrives", "arrives", "is lost", "comes twice", "leaves", "moves", "moves in vain",
        )),
        st.integers(0, 250),
    ),
    min_size=15, max_size=80,
)  # fmt: skip


@pytest.mark.usefixtures("_plain")
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
@example(steps=[("far writes", 50), ("far sends", 0), ("leaves", 0), ("arrives", 1), ("arrives", 1), ("arrives", 0)])
@example(steps=[("client writes", 400)] + 4 * [("client sends", 0)] + [("is lost", 1), ("is lost", 2)] + 2 * [
    ("arrives", 1)])  # fmt: skip
@example(steps=[("far writes", 600)] + 6 * [("far sends", 0)] + 3 * [("is lost", 1)] + 3 * [("arrives", 1)] + [
    ("client writes", 100), ("client sends", 0), ("arrives", 4)])  # fmt: skip
@example(steps=[("far writes", 500)] + 5 * [("far sends", 0)] + 5 * [("is lost", 1)] + [("client writes", 200)] + 2 * [
    ("client sends", 0), ("arrives", 1), ("arrives", 1)])  # fmt: skip
def test_legs_may_be_cut_at_any_step(steps: list[tuple[str, int]]) -> None:
    """The examples: what comes in between the client's count and the cut must not be acknowledged; and what came behind
    a gap by one leg must not be in what is acknowledged to the next, until that has sent as much; nothing goes beyond
    the window of a leg, bytes or a mere acknowledgement, lest its firewall take the client's acknowledgements for old.
    """
    world = World()
    world.reconnect(lost=False)
    for what, number in steps:
        play(world, what, number)
        world.check()
    if not world.knows:
        world.reconnect(lost=False)
    for _ in range(200):
        for port in (0, world.legs[-1][0]):
            world.send(port, again=True)
        while world.air:
            world.carry(*world.air.pop(0))
        world.check()
        if world.heard() == world.far.written and world.far.heard == world.stream:
            break
    assert (world.heard(), world.far.heard) == (world.far.written, world.stream), "all arrives in the end"


def play(world: World, what: str, number: int) -> None:
    """Let one thing happen; `number`: how many bytes, or which packet."""
    data = bytes((len(world.stream) + len(world.far.written) + at) % 251 for at in range(number))
    at = number % len(world.air) if world.air else 0
    port = world.legs[-1][0]
    match what:
        case "far writes":
            world.far.written += data
        case "client writes":
            world.write(data)
        case "far sends" | "far repeats":
            world.send(0, again=what == "far repeats")
        case "client sends" | "client repeats":
            world.send(port, again=what == "client repeats")
        case "leaves" if world.knows:
            world.leave()
        case "moves" | "moves in vain":
            world.reconnect(lost=what == "moves in vain")
        case "arrives" if world.air:
            world.carry(*world.air.pop(at))
        case "is lost" if world.air:
            world.air.pop(at)
        case "comes twice" if world.air:
            world.air.append(world.air[at])
