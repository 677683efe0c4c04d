"""What an application is told at once when its packet may not go: TCP a reset, everything else an ICMP error.

Both come from the packet's own destination, like the other errors that a tunnel end makes (ip.too_big): nothing
of ours has an address that the application should learn.
"""

from typing import Final

from sojourn.model import ICMP, ICMPV6, TCP
from sojourn.packet.checksum import Buffer, checksum, pseudo_header
from sojourn.packet.ip import IPV4_HEADER, IPV6_HEADER, IpView, ip_header, may_be_answered, parse

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_QUOTED4: Final = 576 - IPV4_HEADER - 8
_QUOTED6: Final = 1280 - IPV6_HEADER - 8


def refusal(packet: Buffer) -> bytes | None:
    """Return the IP packet that refuses `packet`, None where there must not be one; may raise RemoteProtocolError."""
    view = parse(packet)
    if view.protocol == TCP and not view.is_fragment:
        return _reset(packet, view)
    return _prohibited(packet, view) if may_be_answered(packet) else None


def _reset(packet: Buffer, view: IpView) -> bytes | None:
    """Return the answer to a segment for a connection that is not there (RFC 9293 §3.5.2); None to a reset."""
    at, end = view.header_bytes, view.total_bytes
    if end - at < 20 or packet[at + 13] & _RST:
        return None
    flags = packet[at + 13]
    ports = bytes(packet[at + 2 : at + 4]) + bytes(packet[at : at + 2])
    if flags & _ACK:
        numbers, said = bytes(packet[at + 8 : at + 12]) + bytes(4), _RST
    else:
        payload = max(end - at - (packet[at + 12] >> 4) * 4, 0)
        used = payload + bool(flags & _SYN) + bool(flags & _FIN)
        acknowledged = int.from_bytes(packet[at + 4 : at + 8]) + used & 0xFFFFFFFF
        numbers, said = bytes(4) + acknowledged.to_bytes(4), _RST | _ACK
    head = ports + numbers + bytes((5 << 4, said)) + bytes(6)
    value = checksum(head, pseudo_header(view.destination, view.source, TCP, len(head)))
    head = head[:16] + value.to_bytes(2) + head[18:]
    return ip_header(view.destination, view.source, TCP, len(head)) + head


def _prohibited(packet: Buffer, view: IpView) -> bytes:
    """Return "communication administratively prohibited" (RFC 1812 §5.2.7.1; RFC 4443 §3.1, code 1)."""
    if view.version == 4:
        body, protocol, pseudo = b"\x03\x0d" + bytes(6) + bytes(packet[:_QUOTED4]), ICMP, 0
    else:
        body, protocol = b"\x01\x01" + bytes(6) + bytes(packet[:_QUOTED6]), ICMPV6
        pseudo = pseudo_header(view.destination, view.source, ICMPV6, len(body))
    body = body[:2] + checksum(body, pseudo).to_bytes(2) + body[4:]
    return ip_header(view.destination, view.source, protocol, len(body)) + body
