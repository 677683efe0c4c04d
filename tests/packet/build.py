"""Whole packets for tests, with right checksums."""

from sojourn.model import ICMP, ICMPV6, TCP, Endpoint
from sojourn.packet.checksum import checksum, pseudo_header
from sojourn.packet.ip import ip_header, packed

HOST4, PEER4 = "10.201.0.2", "192.0.2.80"
HOST6, PEER6 = "fd00:201::2", "2001:db8::80"
MSS_1460 = b"\x02\x04\x05\xb4"
TIMESTAMPS = b"\x01\x01\x08\x0a" + bytes(range(8))


def tcp_packet(
    source: Endpoint,
    destination: Endpoint,
    payload: bytes = b"",
    *,
    flags: int = 0x10,
    sequence: int = 1000,
    options: bytes = TIMESTAMPS,
) -> bytes:
    """One TCP segment; flags: FIN 1, SYN 2, RST 4, PSH 8, ACK 0x10, ECE 0x40, CWR 0x80."""
    from_, to = packed(source.address), packed(destination.address)
    head = b"".join(
        (
            source.port.to_bytes(2),
            destination.port.to_bytes(2),
            sequence.to_bytes(4),
            (77).to_bytes(4),
            bytes(((5 + len(options) // 4) << 4, flags)),
            (512).to_bytes(2),
            bytes(4),
            options,
        )
    )
    whole = bytearray(head + payload)
    whole[16:18] = checksum(whole, pseudo_header(from_, to, TCP, len(whole))).to_bytes(2)
    return ip_header(from_, to, TCP, len(whole)) + bytes(whole)


def echo_packet(source: str, destination: str, identifier: int, *, answer: bool = False, payload: bytes = b"") -> bytes:
    """An ICMP or ICMPv6 echo."""
    from_, to = packed(source), packed(destination)
    six = len(from_) == 16
    kind = (129 if answer else 128) if six else (0 if answer else 8)
    whole = bytearray(bytes((kind, 0, 0, 0)) + identifier.to_bytes(2) + b"\0\x01" + payload)
    protocol = ICMPV6 if six else ICMP
    whole[2:4] = checksum(whole, pseudo_header(from_, to, protocol, len(whole)) if six else 0).to_bytes(2)
    return ip_header(from_, to, protocol, len(whole)) + bytes(whole)


def ends(six: bool = False, local_port: int = 40000, remote_port: int = 443) -> tuple[Endpoint, Endpoint]:
    """The host's and the correspondent's side of a flow."""
    return Endpoint(HOST6 if six else HOST4, local_port), Endpoint(PEER6 if six else PEER4, remote_port)


def checksums_hold(packet: bytes) -> bool:
    """Say whether the IPv4 header's and the transport's checksum are right."""
    six = packet[0] >> 4 == 6
    at = 40 if six else 20
    source, destination = (packet[8:24], packet[24:40]) if six else (packet[12:16], packet[16:20])
    protocol = packet[6] if six else packet[9]
    header_holds = six or checksum(packet[:20]) == 0
    pseudo = pseudo_header(source, destination, protocol, len(packet) - at) if protocol != ICMP else 0
    return header_holds and checksum(packet[at:], pseudo) == 0
