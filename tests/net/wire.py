"""IP packets as a correspondent sees and makes them: checksums summed up anew, headers written by hand.

Nothing of the program is used to judge what the program made.
"""

import ipaddress
import struct

TCP, UDP, ICMP, ICMPV6, SCTP = 6, 17, 1, 58, 132
_CASTAGNOLI = 0x82F63B78


def is_right(packet: bytes) -> bool:
    """Say whether every checksum of an unfragmented packet holds (RFC 1071; SCTP: RFC 9260, appendix A)."""
    if packet[0] >> 4 == 4:
        head, total = (packet[0] & 15) * 4, int.from_bytes(packet[2:4])
        protocol, addresses = packet[9], packet[12:20]
        if sum_of(packet[:head]) != 0xFFFF:
            return False
    else:
        head, total = 40, 40 + int.from_bytes(packet[4:6])
        protocol, addresses = packet[6], packet[8:40]
    body = packet[head:total]
    if protocol == SCTP:
        return int.from_bytes(body[8:12], "little") == crc32c(body[:8] + bytes(4) + body[12:])
    if protocol == ICMP:
        return sum_of(body) == 0xFFFF
    if protocol not in (TCP, UDP, ICMPV6):
        return True
    return sum_of(addresses + struct.pack("!II", len(body), protocol) + body) == 0xFFFF


def sum_of(data: bytes) -> int:
    """Add up 16-bit words in one's complement."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def crc32c(data: bytes) -> int:
    """Return the CRC that SCTP carries, little-endian on the wire."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_CASTAGNOLI if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def sctp(source: int, destination: int, tag: int, chunk: bytes) -> bytes:
    """Return an SCTP packet with one chunk."""
    head = struct.pack("!HHI", source, destination, tag)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk


def address_of(packet: bytes, *, source: bool) -> str:
    """Return where a packet comes from or goes to."""
    size, at = (4, 12) if packet[0] >> 4 == 4 else (16, 8)
    at += 0 if source else size
    return str(ipaddress.ip_address(packet[at : at + size]))


def protocol_of(packet: bytes) -> int:
    """Return the protocol after the (bare) IP header."""
    return packet[9] if packet[0] >> 4 == 4 else packet[6]


def payload_of(packet: bytes) -> bytes:
    """Return what follows the IP header."""
    return packet[(packet[0] & 15) * 4 : int.from_bytes(packet[2:4])] if packet[0] >> 4 == 4 else packet[40:]


def ttl_of(packet: bytes) -> int:
    """Return the TTL or hop limit."""
    return packet[8] if packet[0] >> 4 == 4 else packet[7]


def icmp_error(kind: int, code: int, quoted: bytes) -> bytes:
    """Return an ICMPv4 error about a packet."""
    body = struct.pack("!BBHI", kind, code, 0, 0) + quoted
    return body[:2] + struct.pack("!H", 0xFFFF - sum_of(body)) + body[4:]


def udp4(source: tuple[str, int], destination: tuple[str, int], payload: bytes) -> bytes:
    """Return an IPv4 packet with a UDP datagram, without UDP checksum."""
    datagram = struct.pack("!HHHH", source[1], destination[1], 8 + len(payload), 0) + payload
    ends = ipaddress.ip_address(source[0]).packed + ipaddress.ip_address(destination[0]).packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 0, 0, 64, UDP, 0) + ends
    return header[:10] + struct.pack("!H", 0xFFFF - sum_of(header)) + header[12:] + datagram
