"""The stack that each program takes with all that it calls: at most 512 bytes, as Debian 12's Linux 6.1 counts them.

Linux rounds what a function takes up to 32 bytes (kernel/bpf/verifier.c, check_max_stack_depth), a newer one with a JIT
only to 16: what just fits there is refused by an older one. So it is counted from the object, the same on every kernel.
"""

import struct
from pathlib import Path

import pytest

from sojourn.linux.bpf import OBJECTS

MOST, PIECE = 512, 32
FRAME = 10
"""The register that points at the end of the stack."""
CALL, ADDRESS, MOVE, ADD = 0x85, 0x18, 0xBF, 0x07
LOAD, STORES = 1, (2, 3)
"""Classes of instructions: the lowest three bits of the code."""
SYMBOLS, RELOCATIONS, FUNCTION, EXECUTABLE = 2, 9, 2, 4
SECTION, SYMBOL = struct.Struct("<IIQQQQIIQQ"), struct.Struct("<IBBHQQ")
Place = tuple[int, int]
"""A section's number and an offset in it."""


class Programs:
    """The functions of one ELF object: what stack each takes by itself, and which others it calls."""

    def __init__(self, path: Path) -> None:
        self._bytes = path.read_bytes()
        (start,) = struct.unpack_from("<Q", self._bytes, 40)
        size, count = struct.unpack_from("<HH", self._bytes, 58)
        self._sections = [SECTION.unpack_from(self._bytes, start + number * size) for number in range(count)]
        table = next(section for section in self._sections if section[1] == SYMBOLS)
        self._symbols = list(SYMBOL.iter_unpack(self._of(table)))
        names = self._of(self._sections[table[6]])
        functions = [symbol for symbol in self._symbols if symbol[1] & 15 == FUNCTION]
        self.sizes: dict[Place, int] = {(symbol[3], symbol[4]): symbol[5] for symbol in functions}
        self.names = {(symbol[3], symbol[4]): names[symbol[0] :].split(b"\0")[0].decode() for symbol in functions}
        self._linked = {
            (section[7], offset): self._symbols[info >> 32]
            for section in self._sections
            if section[1] == RELOCATIONS
            for offset, info in struct.iter_unpack("<QQ", self._of(section))
        }

    def _of(self, section: tuple[int, ...]) -> bytes:
        return self._bytes[section[4] : section[4] + section[5]]

    def look(self, place: Place) -> tuple[int, set[Place]]:
        """Return how many bytes of stack a function takes by itself, and which functions it calls or hands over."""
        section, start = place
        own, called, points_at_frame = 0, set(), set()
        code = self._of(self._sections[section])
        for at in range(start, start + self.sizes[place], 8):
            operation, registers, offset, value = struct.unpack_from("<BBhi", code, at)
            to, source = registers & 15, registers >> 4
            if operation == ADD and to in points_at_frame:
                own = max(own, -value)
            points_at_frame.discard(to)
            if operation == MOVE and source == FRAME:
                points_at_frame.add(to)
            elif (operation & 7 in STORES and to == FRAME) or (operation & 7 == LOAD and source == FRAME):
                own = max(own, -offset)
            elif (operation == CALL and source == 1) or operation == ADDRESS:
                called |= self._called((section, at), operation, value)
        return own, called

    def _called(self, place: Place, operation: int, value: int) -> set[Place]:
        section, at = place
        _, kind, _, home, begin, _ = self._linked.get(place, (0, 0, 0, section, 0, 0))
        if kind & 15 == FUNCTION:
            return {(home, begin)}
        if operation == CALL:
            return {(home, (value + 1) * 8 + (0 if place in self._linked else at))}
        return {(home, value)} if self._sections[home][2] & EXECUTABLE and place in self._linked else set()

    def deepest(self, place: Place) -> tuple[int, str]:
        """Return what a function takes with the deepest of its callees, and by which way."""
        own, called = self.look(place)
        more, way = max((self.deepest(callee) for callee in called), default=(0, ""))
        return -(-max(own, 1) // PIECE) * PIECE + more, f"{self.names[place]} {own}" + (f", {way}" if way else "")


@pytest.mark.parametrize("name", ["plain", "owner", "splice"])
def test_no_program_takes_more_stack_than_the_oldest_kernel_gives(name: str) -> None:
    programs = Programs(OBJECTS / f"{name}.bpf.o")
    taken, way = max(programs.deepest(place) for place in programs.sizes)
    assert 0 < taken <= MOST, way


def test_the_deepest_way_is_found_over_calls_and_callbacks() -> None:
    programs = Programs(OBJECTS / "splice.bpf.o")
    place = next(place for place, name in programs.names.items() if name == "splice")
    ways = {programs.names[callee] for callee in programs.look(place)[1]}
    assert ways == {"arrive4", "arrive6"}
    place = next(place for place, name in programs.names.items() if name == "translate_options")
    assert {programs.names[callee] for callee in programs.look(place)[1]} == {"next_option"}
