"""IP packets, version 4 and 6, as far as a tunnel end must understand them.

`parse` gives a view of the headers, `flow_key` the key under which the Paft keeps a flow:

    protocol (1)  local address (4 or 16)  remote address (4 or 16)  local port (2)  remote port (2)

Local is the mobile host's side, whichever way the packet travels. Every function that reads
a packet raises RemoteProtocolError for one that is malformed, and nothing else.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.model import ICMP, ICMPV6, TCP, UDP, Endpoint, Flow
from sojourn.packet.checksum import Buffer, checksum, complete, fold, pseudo_header, update

WITH_PORTS: Final = frozenset((TCP, UDP, 33, 132, 136))
"""TCP, UDP, DCCP, SCTP and UDP-Lite: all begin with source port and destination port."""
IPV4_HEADER: Final = 20
IPV6_HEADER: Final = 40
REMOTE6: Final = slice(17, 33)
"""Where the `flow_key` of an IPv6 flow has the other end."""

_ECHO = {ICMP: frozenset((0, 8, 13, 14)), ICMPV6: frozenset((128, 129))}
"""Questions and answers that carry an identifier: echo, and ICMPv4 timestamp."""
_ERRORS = {ICMP: frozenset((3, 4, 5, 11, 12)), ICMPV6: frozenset(range(128))}
_EXTENSIONS = frozenset((0, 43, 60, 135, 139, 140))
"""IPv6 headers to walk over (RFC 7045); all but the fragment header (44) and AH (51) have one form."""
_FRAGMENT, _AUTHENTICATION = 44, 51
_MOST_EXTENSIONS = 8
_NO_PORTS = bytes(4)


ADDRESSES_KEPT = 4096
"""Addresses that were turned into text or back lately: orders of ten thousand flows name few."""


class IpView(Struct, frozen=True):
    """What the headers of one packet say."""

    version: int
    protocol: int
    """The transport, after all IPv6 extension headers."""
    source: bytes
    destination: bytes
    header_bytes: int
    """Where the transport header begins."""
    total_bytes: int
    ttl: int
    ecn: int
    is_fragment: bool
    dont_fragment: bool
    has_transport: bool = True
    """False in a fragment that is not the first: what follows the header is payload."""


def parse(packet: Buffer, *, quoted: bool = False) -> IpView:
    """Read the headers of a packet. A packet that an ICMP error has `quoted` may be cut off after them."""
    if not packet:
        raise RemoteProtocolError("an empty packet", reason="short")
    version = packet[0] >> 4
    if version == 4:
        return _parse4(packet, quoted)
    if version == 6:
        return _parse6(packet, quoted)
    raise RemoteProtocolError(f"IP version {version}", reason="version")


def _parse4(packet: Buffer, quoted: bool) -> IpView:
    header = (packet[0] & 15) * 4
    if header < IPV4_HEADER or len(packet) < header:
        raise RemoteProtocolError("IPv4 header is cut off", reason="short")
    total = packet[2] << 8 | packet[3]
    if total < header or (total > len(packet) and not quoted):
        raise RemoteProtocolError(f"IPv4 length {total} in {len(packet)} bytes", reason="length")
    fragment = packet[6] << 8 | packet[7]
    return IpView(
        version=4,
        protocol=packet[9],
        source=bytes(packet[12:16]),
        destination=bytes(packet[16:20]),
        header_bytes=header,
        total_bytes=total,
        ttl=packet[8],
        ecn=packet[1] & 3,
        is_fragment=bool(fragment & 0x3FFF),
        dont_fragment=bool(fragment & 0x4000),
        has_transport=not fragment & 0x1FFF,
    )


def _parse6(packet: Buffer, quoted: bool) -> IpView:
    if len(packet) < IPV6_HEADER:
        raise RemoteProtocolError("IPv6 header is cut off", reason="short")
    total = IPV6_HEADER + (packet[4] << 8 | packet[5])
    if total > len(packet) and not quoted:
        raise RemoteProtocolError(f"IPv6 length {total} in {len(packet)} bytes", reason="length")
    protocol, header, is_fragment, has_transport = _walk(packet, min(total, len(packet)))
    return IpView(
        version=6,
        protocol=protocol,
        source=bytes(packet[8:24]),
        destination=bytes(packet[24:40]),
        header_bytes=header,
        total_bytes=total,
        ttl=packet[7],
        ecn=packet[1] >> 4 & 3,
        is_fragment=is_fragment,
        dont_fragment=True,
        has_transport=has_transport,
    )


def _walk(packet: Buffer, end: int) -> tuple[int, int, bool, bool]:
    """Return (transport protocol, where it begins, is a fragment, has a transport header)."""
    protocol, at, is_fragment = packet[6], IPV6_HEADER, False
    for _ in range(_MOST_EXTENSIONS):
        if protocol in _EXTENSIONS or protocol == _AUTHENTICATION:
            if at + 8 > end:
                break
            unit, more = (4, 2) if protocol == _AUTHENTICATION else (8, 1)
            protocol, at = packet[at], at + (packet[at + 1] + more) * unit
        elif protocol == _FRAGMENT:
            if at + 8 > end:
                break
            offset = packet[at + 2] << 8 | packet[at + 3]
            protocol, at, is_fragment = packet[at], at + 8, is_fragment or bool(offset & 0xFFF9)
            if offset & 0xFFF8:
                return protocol, at, True, False
        elif at <= end:
            return protocol, at, is_fragment, True
        else:
            break
    raise RemoteProtocolError("IPv6 extension headers are cut off or too many", reason="extensions")


def flow_key(packet: Buffer, offset: int = 0, *, inbound: bool = False) -> bytes:
    """Return the key of the flow that the packet at `offset` belongs to; `inbound` = it travels to the host.

    ICMP echo has its identifier as local port; an ICMP error belongs to the flow of the packet it
    quotes, whose sender it must go to; fragments and protocols without ports have both ports 0.
    """
    if offset:
        packet = packet[offset:]
    view = parse(packet)
    return _key(packet, view, inbound)


def _key(packet: Buffer, view: IpView, inbound: bool, quoted: bool = False) -> bytes:
    at, protocol, ports = view.header_bytes, view.protocol, _NO_PORTS
    end = min(view.total_bytes, len(packet))
    if view.is_fragment:
        pass
    elif protocol in WITH_PORTS:
        if at + 4 > end:
            raise RemoteProtocolError("no room for ports", reason="short")
        ports = bytes(packet[at : at + 4])
        if inbound:
            ports = ports[2:] + ports[:2]
    elif protocol in _ECHO:
        if at + 8 > end:
            raise RemoteProtocolError("no room for an ICMP header", reason="short")
        kind = packet[at]
        if kind in _ECHO[protocol]:
            ports = bytes(packet[at + 4 : at + 6]) + b"\0\0"
        elif kind in _ERRORS[protocol] and not quoted:
            inner = packet[at + 8 : end]
            about = parse(inner, quoted=True)
            if about.source != view.destination:
                # It would get by under the key of a flow to somewhere else.
                raise RemoteProtocolError("an ICMP error about another's packet", reason="icmp")
            return _key(inner, about, not inbound, quoted=True)
    ends = (view.destination, view.source) if inbound else (view.source, view.destination)
    return b"".join((protocol.to_bytes(1), *ends, ports))


def flow_of(key: bytes) -> Flow:
    """Return the flow that a key stands for."""
    size = (len(key) - 5) // 2
    if size not in (4, 16) or len(key) != 5 + 2 * size:
        raise RemoteProtocolError(f"a flow key of {len(key)} bytes", reason="length")
    local, remote, ports = key[1 : 1 + size], key[1 + size : -4], key[-4:]
    return Flow(
        key[0],
        Endpoint(text(local), int.from_bytes(ports[:2])),
        Endpoint(text(remote), int.from_bytes(ports[2:])),
    )


def key_of(flow: Flow) -> bytes:
    """Return the key of a flow."""
    ends = packed(flow.local.address) + packed(flow.remote.address)
    return b"".join((flow.protocol.to_bytes(1), ends, flow.local.port.to_bytes(2), flow.remote.port.to_bytes(2)))


def text(address: Buffer) -> str:
    """Return a packed address as people write it."""
    return _text(bytes(address))


@lru_cache(ADDRESSES_KEPT)
def _text(address: bytes) -> str:
    return str(IPv4Address(address) if len(address) == 4 else IPv6Address(address))


@lru_cache(ADDRESSES_KEPT)
def packed(address: str) -> bytes:
    """Return the 4 or 16 bytes of an address."""
    return ip_address(address).packed


def ip_header(source: bytes, destination: bytes, protocol: int, length: int, *, ttl: int = 64) -> bytes:
    """Return an IP header, DF set, for `length` bytes of transport."""
    if len(source) == 16:
        return b"".join((b"\x60\0\0\0", length.to_bytes(2), bytes((protocol, ttl)), source, destination))
    total = (IPV4_HEADER + length).to_bytes(2)
    header = bytearray(b"".join((b"\x45\0", total, b"\0\0\x40\0", bytes((ttl, protocol, 0, 0)), source, destination)))
    header[10:12] = checksum(header).to_bytes(2)
    return bytes(header)


def udp_packet(source: Endpoint, destination: Endpoint, payload: bytes) -> bytes:
    """Return a whole IP packet that carries one UDP datagram, its checksums right."""
    from_, to, length = packed(source.address), packed(destination.address), 8 + len(payload)
    head = source.port.to_bytes(2) + destination.port.to_bytes(2) + length.to_bytes(2)
    value = checksum(head + b"\0\0" + payload, pseudo_header(from_, to, UDP, length)) or 0xFFFF
    return b"".join((ip_header(from_, to, UDP, length), head, value.to_bytes(2), payload))


def udp_parts(packet: Buffer) -> tuple[Endpoint, Endpoint, bytes]:
    """Return source, destination and payload of a whole UDP packet whose checksum holds."""
    view = parse(packet)
    at, end = view.header_bytes, view.total_bytes
    if view.protocol != UDP or view.is_fragment or end - at < 8:
        raise RemoteProtocolError("not a whole UDP datagram", reason="udp")
    length = packet[at + 4] << 8 | packet[at + 5]
    if not 8 <= length <= end - at:
        raise RemoteProtocolError(f"UDP length {length} in {end - at} bytes", reason="length")
    datagram = bytes(packet[at : at + length])
    pseudo = pseudo_header(view.source, view.destination, UDP, length)
    if any(datagram[6:8]) and checksum(datagram, pseudo):
        raise RemoteProtocolError("UDP checksum is wrong", reason="checksum")
    source = Endpoint(text(view.source), int.from_bytes(datagram[:2]))
    return source, Endpoint(text(view.destination), int.from_bytes(datagram[2:4])), datagram[8:]


def complete_checksum(packet: bytearray) -> None:
    """Give a packet that came with hint P the checksum that its sender left out.

    Whatever stands in the field is ignored: the pseudo-header is taken from the packet itself.
    """
    view = parse(packet)
    at, end = view.header_bytes, view.total_bytes
    field = {TCP: 16, UDP: 6}.get(view.protocol)
    if field is None or view.is_fragment or end - at < (20 if view.protocol == TCP else 8) or end != len(packet):
        raise RemoteProtocolError("a partial checksum in a packet that has none", reason="hint")
    pseudo = pseudo_header(view.source, view.destination, view.protocol, end - at)
    packet[at + field : at + field + 2] = pseudo.to_bytes(2)
    complete(packet, at, field)


def clamp_mss(packet: bytearray, mss: int) -> bool:
    """Lower the MSS option of a TCP SYN to `mss`, if it is higher; say whether it was (RFC 9293 §3.7.1)."""
    view = parse(packet)
    at = view.header_bytes
    if view.protocol != TCP or view.is_fragment or view.total_bytes - at < 20 or not packet[at + 13] & 2:
        return False
    end = at + (packet[at + 12] >> 4) * 4
    option = at + 20
    while option + 4 <= end <= view.total_bytes and packet[option]:
        if packet[option] == 1:
            option += 1
        elif packet[option] == 2 and packet[option + 1] == 4:
            if packet[option + 2] << 8 | packet[option + 3] <= mss:
                return False
            _replace(packet, option + 2, mss.to_bytes(2), at, at + 16)
            return True
        else:
            option += max(packet[option + 1], 2)
    return False


def _replace(packet: bytearray | memoryview, at: int, new: bytes, start: int, field: int) -> None:
    """Change bytes under the checksum at `field`, which covers from `start` on, and keep it right (RFC 1624)."""
    low, high = at - (at - start & 1), at + len(new) + (at + len(new) - start & 1)
    old = fold(int.from_bytes(packet[low:high]))
    packet[at : at + len(new)] = new
    changed = fold(int.from_bytes(packet[low:high]))
    value = update(packet[field] << 8 | packet[field + 1], old, changed)
    packet[field : field + 2] = value.to_bytes(2)


def may_be_answered(packet: Buffer) -> bool:
    """Say whether an ICMP error about this packet is allowed (RFC 1122 §3.2.2, RFC 4443 §2.4 (e))."""
    view = parse(packet)
    if not view.has_transport or view.destination[0] >= (0xE0 if view.version == 4 else 0xFF) or not any(view.source):
        return False
    errors = _ERRORS.get(view.protocol)
    return errors is None or (view.header_bytes < view.total_bytes and packet[view.header_bytes] not in errors)


def too_big(packet: Buffer, mtu: int, source: str | bytes) -> bytes:
    """Return the ICMP error that tells the sender of `packet` to make it no larger than `mtu`.

    IPv4: "fragmentation needed" (RFC 1191 §4), 576 bytes at most; IPv6: "packet too big" (RFC 4443 §3.2),
    1280 bytes at most. It comes from `source`.
    """
    view = parse(packet)
    from_ = packed(source) if isinstance(source, str) else source
    if view.version == 4:
        quote = bytes(packet[: 576 - IPV4_HEADER - 8])
        body = b"\x03\x04\0\0\0\0" + mtu.to_bytes(2) + quote
        protocol, pseudo = ICMP, 0
    else:
        quote = bytes(packet[: 1280 - IPV6_HEADER - 8])
        body = b"\x02\0\0\0" + mtu.to_bytes(4) + quote
        protocol, pseudo = ICMPV6, pseudo_header(from_, view.source, ICMPV6, len(body))
    body = body[:2] + checksum(body, pseudo).to_bytes(2) + body[4:]
    return ip_header(from_, view.source, protocol, len(body)) + body


def ecn_of(packet: Buffer) -> int:
    """Return the ECN field (RFC 3168 §5): 0 not-ECT, 1 ECT(1), 2 ECT(0), 3 CE. The packet was parsed before."""
    return packet[1] & 3 if packet[0] >> 4 == 4 else packet[1] >> 4 & 3


def set_ecn(packet: bytearray | memoryview, ecn: int) -> None:
    """Write the ECN field; an IPv4 checksum follows. The packet was parsed before."""
    if packet[0] >> 4 == 4:
        _replace(packet, 1, bytes((packet[1] & 0xFC | ecn,)), 0, 10)
    else:
        packet[1] = packet[1] & 0xCF | ecn << 4


_NOT_ECT, _ECT1, _CE = 0, 1, 3


def decapsulated_ecn(inner: int, outer: int) -> int | None:
    """Return the ECN field of a packet that leaves its tunnel, None = drop it (RFC 6040 §4.2, figure 4)."""
    if outer == _CE:
        return None if inner == _NOT_ECT else _CE
    if outer == _ECT1 and inner != _NOT_ECT:
        return _CE if inner == _CE else _ECT1
    return inner
