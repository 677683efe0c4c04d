"""The splice's program, loaded once, and the plain words of it (msocks/splice_rules.py): both have the same packets."""

import copy
import os
import struct

from sojourn.linux import bpf_pin
from sojourn.linux.splice_tables import SpliceTables
from sojourn.msocks.splice_pair import (
    CLIENT,
    CORRESPONDENT,
    FIRST,
    Half,
    HalfFlag,
    Pair,
    State,
    Stream,
    tuple_key,
    unpack,
)
from sojourn.msocks.splice_rules import Segment, Splice, Verdict, build
from sojourn.packet.checksum import checksum, pseudo_header
from tests.harness import bpf_ran
from tests.harness.bpf_ran import DROPPED, PASSED, SENT_ON

MACS = bytes(6) + bytes.fromhex("020000000002")
ENDS = {
    False: (("198.51.100.7", 40000), ("192.0.2.1", 1080), ("192.0.2.1", 50000), ("203.0.113.9", 443)),
    True: (("2001:db8:1::7", 40000), ("2001:db8::1", 1080), ("2001:db8::1", 50000), ("2001:db8:2::9", 443)),
}
"""Client, our address for it, our address for the correspondent, correspondent."""
FOREVER = 1 << 62
UP, DOWN = 1000, 9000
"""Where the streams stand in the correspondent's numbers."""
LEG_UP, LEG_DOWN = 0xFFFFFF00, 77
"""Where they stand on the leg: about to wrap."""


class Ground:
    """The program, loaded once, with one pair of each family."""

    def __init__(self) -> None:
        self.folder = bpf_pin.place() / f"sojourn-test-{os.getpid()}" / "one"
        self.tables = SpliceTables(self.folder, 8)
        self.places = {}
        for six, ends in ENDS.items():
            place = self.tables.take()
            assert place is not None
            self.places[six] = place
            self.tables.enter(tuple_key(ends[0], ends[1]), place, CLIENT)
            self.tables.enter(tuple_key(ends[3], ends[2]), place, CORRESPONDENT)

    def run(self, packet: bytes) -> tuple[int, bytes]:
        """Run the program on one packet; return what it says, and the packet as it left it."""
        kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\0"
        ran = bpf_ran.run(self.tables._fds["splice"], MACS + kind + packet)
        return ran.verdict, ran.frame[14:]


def fresh(ground: Ground, six: bool, **changes: int) -> Pair:
    """Return a pair as the proxy fills it in."""
    client, ours, out, correspondent = ENDS[six]
    flags = changes.get("half_flags", HalfFlag.TIMESTAMPS | HalfFlag.SACK)
    macs = (bytes.fromhex("0a0000000001"), bytes.fromhex("0a0000000002"))
    up = Half(
        correspondent, out, 1, (UP - LEG_UP) & 0xFFFFFFFF, (DOWN - LEG_DOWN) & 0xFFFFFFFF, 0xFFFFFFF0,
        changes.get("most", 0), changes.get("client_scale", 7), changes.get("near_scale", 7), flags | HalfFlag.OWN,
        LEG_DOWN + 50, ts_last=0xFFFFFFF0, fresh_until=FOREVER, macs=macs, fresh_turn=1,
    )  # fmt: skip
    down = Half(
        client, ours, 1, (LEG_DOWN - DOWN) & 0xFFFFFFFF, (LEG_UP - UP) & 0xFFFFFFFF, 5000, 0,
        changes.get("far_scale", 7), changes.get("leg_scale", 7), flags, ts_last=5000, fresh_until=FOREVER,
        macs=macs, fresh_turn=1,
    )  # fmt: skip
    return Pair(
        changes.get("state", State.SPLICED), ground.tables.serial(ground.places[six]), changes.get("flags", 0), UP,
        (up, down),
        (Stream(FIRST + UP, FIRST + UP - 20, FIRST + UP + 70000),
         Stream(FIRST + DOWN, FIRST + DOWN, FIRST + DOWN + 70000)),
        leg_limit=DOWN + changes.get("window", 70000),
    )  # fmt: skip


def packet(six: bool, whose: int, segment: Segment, hops: int = 60) -> bytes:
    """Return a sound packet of one of the peers."""
    ends = ENDS[six]
    half = Half(to=ends[1], source=ends[0]) if whose == CLIENT else Half(to=ends[2], source=ends[3])
    head = (6 << 28 | 0x20 << 20).to_bytes(4) + bytes(2) + bytes([6, hops]) if six else (
        bytes([0x45, 2, 0, 0, 9, 9, 0x40, 0, hops, 6]))  # fmt: skip
    return build(head, half, segment)


def compare(ground: Ground, six: bool, pair: Pair, packets: list[tuple[int, bytes]]) -> list[Verdict]:
    """Let both have the same packets, one after the other."""
    place, told = ground.places[six], []
    list(ground.tables.notices())
    ground.tables.write(place, pair)
    rules = Splice(copy.deepcopy(pair))
    verdicts = []
    for whose, data in packets:
        said, left = ground.run(data)
        verdict, expected = rules.carry(whose, data)
        verdicts.append(verdict)
        if verdict is Verdict.UP:
            assert (said, left) == (PASSED, data)
        elif not expected:
            assert said == DROPPED
        else:
            assert (said, left[: len(expected[-1])]) == (SENT_ON, expected[-1])
            check(left)
        told += [(notice.kind, notice.whose) for notice in ground.tables.notices()]
        assert told == rules.told
        assert same(unpack(ground.tables.read_bytes(place), six=six)) == same(rules.pair)
    return verdicts


def same(pair: Pair) -> Pair:
    """Return what has to be the same in both: all but the times."""
    pair = copy.deepcopy(pair)
    for half in pair.halves:
        half.heard = half.path_mtu = 0
    return pair


def check(data: bytes) -> None:
    """Assert that a TCP packet's checksums are right."""
    six = data[0] >> 4 == 6
    source, to, body = (data[8:24], data[24:40], data[40:]) if six else (data[12:16], data[16:20], data[20:])
    assert checksum(body, pseudo_header(source, to, 6, len(body))) == 0
    assert six or checksum(data[:20]) == 0


def stamped(value: int, echo: int) -> bytes:
    return b"\1\1\x08\x0a" + struct.pack("!II", value & 0xFFFFFFFF, echo & 0xFFFFFFFF)
