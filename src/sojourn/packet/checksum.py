"""The Internet checksum (RFC 1071), its pseudo-headers and its incremental form (RFC 1624).

A *sum* here is a folded one's complement sum, 0 to 0xFFFF; a *checksum* is its complement,
which is what stands in a header. Addresses are packed (4 or 16 bytes).
"""

Buffer = bytes | bytearray | memoryview


def fold(value: int) -> int:
    """Return the one's complement sum of all 16-bit words of a number.

    2**16 is 1 modulo 0xFFFF, so one division adds all words up. Zero stays apart from
    0xFFFF: a sum is 0 only when every word was.
    """
    return value % 0xFFFF or (0xFFFF if value else 0)


def sum_of(data: Buffer) -> int:
    """Return the sum of `data`, padded with a zero byte where its length is odd."""
    value = int.from_bytes(data)
    return fold(value << 8 if len(data) & 1 else value)


def checksum(data: Buffer, initial: int = 0) -> int:
    """Return the checksum of `data`, added to the sum `initial`."""
    return fold(sum_of(data) + initial) ^ 0xFFFF


def pseudo_header(source: Buffer, destination: Buffer, protocol: int, length: int) -> int:
    """Return the sum of a pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1); `length` is that of the transport part."""
    return fold(int.from_bytes(source) + int.from_bytes(destination) + protocol + length)


def update(old_checksum: int, old_word: int, new_word: int) -> int:
    """Return a checksum after one 16-bit word under it was changed (RFC 1624, equation 3)."""
    return fold((old_checksum ^ 0xFFFF) + (old_word ^ 0xFFFF) + new_word) ^ 0xFFFF


def complete(packet: bytearray | memoryview, start: int, offset: int) -> None:
    """Finish a checksum whose field, at `start` + `offset`, holds the sum of the pseudo-header so far.

    This is what Linux calls CHECKSUM_PARTIAL and virtio NEEDS_CSUM. A result of zero is written
    as 0xFFFF: in UDP zero means "no checksum" (RFC 768), in TCP the two are the same.
    """
    field = start + offset
    packet[field : field + 2] = (checksum(packet[start:]) or 0xFFFF).to_bytes(2)
