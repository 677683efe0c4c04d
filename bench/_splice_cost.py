"""What the splice's program costs a packet, as the kernel's own clock says (BPF_PROG_TEST_RUN): load hardly changes it.

The pair translates a packet into itself, so that one packet can come again and again; the least of many rounds counts.
"""

import os
import struct
from typing import Final

from tests.harness import bpf_ran

from sojourn.linux import bpf_pin
from sojourn.linux.splice_tables import SpliceTables
from sojourn.msocks.splice_pair import (
    CORRESPONDENT,
    FIRST,
    PAIR_BYTES,
    Half,
    HalfFlag,
    Pair,
    State,
    Stream,
    pack,
    tuple_key,
)
from sojourn.msocks.splice_rules import ACK, Segment, build

ROUNDS, REPEAT = 300, 200
"""TTL 255 is used up by REPEAT packets nearly."""
_STAMPED = b"\1\1\x08\x0a" + struct.pack("!II", 5, 6)
SHAPES: Final = {
    "data": Segment(0, 0, ACK, 500, 0, _STAMPED, b"x"),
    "ack": Segment(0, 0, ACK, 500, 0, _STAMPED, b""),
    "ack with SACK": Segment(0, 0, ACK, 500, 0, _STAMPED + b"\1\1\5\x0a" + bytes(8), b""),
}


def program_ns() -> dict[str, int]:
    """Return nanoseconds by shape of packet, both families."""
    found = {}
    for six, remote, local in (
        (False, ("198.51.100.7", 40000), ("192.0.2.1", 1080)),
        (True, ("2001:db8:1::7", 40000), ("2001:db8::1", 1080)),
    ):  # fmt: skip
        tables = SpliceTables(bpf_pin.place() / f"sojourn-cost-{os.getpid()}" / "one", 8)
        try:
            place = tables.take()
            assert place is not None
            tables.enter(tuple_key(remote, local), place, CORRESPONDENT)
            flags = HalfFlag.TIMESTAMPS | HalfFlag.SACK
            halves = [Half(local, remote, 1, in_scale=7, out_scale=7, flags=flags, ts=1 << 32, fresh_until=1 << 62)
                      for _ in range(2)]  # fmt: skip
            streams = (Stream(FIRST, FIRST, FIRST + 70000), Stream(FIRST, FIRST, FIRST + 70000))
            data = pack(Pair(State.SPLICED, tables.serial(place), halves=(halves[0], halves[1]), streams=streams))
            head = (6 << 28).to_bytes(4) + bytes(2) + b"\6\xff" if six else b"\x45\0" + bytes(4) + b"\x40\0\xff\6"
            kind = bytes(12) + (b"\x86\xdd" if six else b"\x08\0")
            for name, segment in SHAPES.items():
                packet = kind + build(head, halves[1], segment)
                least = min(_run(tables, place, data, packet) for _ in range(ROUNDS))
                found[f"IPv{6 if six else 4} {name}"] = least
        finally:
            tables.close(clean=True)
    return found


def _run(tables: SpliceTables, place: int, pair: bytes, packet: bytes) -> int:
    tables._view[place * PAIR_BYTES : (place + 1) * PAIR_BYTES] = pair
    ran = bpf_ran.run(tables._fds["splice"], packet, REPEAT)
    assert ran.verdict == bpf_ran.SENT_ON, ran.verdict
    return ran.nanoseconds
