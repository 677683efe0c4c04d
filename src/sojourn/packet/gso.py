"""Generic segmentation, slowly: a super-packet into its segments, and segments into super-packets.

This is the oracle that the engine's fast path is tested against, and what handles everything the
fast path leaves alone. Both directions keep to what Linux does (net/ipv4/tcp_offload.c, udp_offload.c):

* FIN and PSH stand on the last segment only, CWR on the first only;
* the IPv4 identification counts up, except under DF, where it means nothing (RFC 6864 §4.1) and stays.
"""

from collections.abc import Iterable
from typing import Final

from sojourn.errors import RemoteProtocolError
from sojourn.model import TCP, UDP
from sojourn.packet import vnet
from sojourn.packet.checksum import checksum, complete, pseudo_header
from sojourn.packet.ip import IpView, complete_checksum, parse
from sojourn.packet.vnet import VnetHeader

FIN, SYN, RST, PSH, URG, CWR = 1, 2, 4, 8, 0x20, 0x80
MAX_PACKET: Final = 65535
CHECKSUM_OFFSET: Final = {TCP: 16, UDP: 6}


def finish(packet: bytes | bytearray, header: VnetHeader) -> list[bytes]:
    """Return the complete packets that one read from a TUN device stands for."""
    if header.gso_type != vnet.NO_GSO:
        return split(packet, header)
    whole = bytearray(packet)
    if header.flags & vnet.NEEDS_CHECKSUM:
        if header.checksum_start + header.checksum_offset + 2 > len(whole):
            raise RemoteProtocolError("checksum lies behind the packet", reason="vnet")
        complete(whole, header.checksum_start, header.checksum_offset)
    return [bytes(whole)]


def split(packet: bytes | bytearray, header: VnetHeader) -> list[bytes]:
    """Cut a super-packet into segments, each a complete packet with right checksums."""
    view = parse(packet)
    size, head = header.segment_bytes, headers_of(packet, view)
    kind = header.gso_type & ~vnet.GSO_ECN
    wanted = {vnet.GSO_TCP4: (4, TCP), vnet.GSO_TCP6: (6, TCP)}.get(kind, (view.version, UDP))
    if wanted != (view.version, view.protocol) or kind not in (vnet.GSO_TCP4, vnet.GSO_TCP6, vnet.GSO_UDP):
        raise RemoteProtocolError(f"segmentation type {header.gso_type} of protocol {view.protocol}", reason="vnet")
    if not size or view.is_fragment or view.total_bytes != len(packet):
        raise RemoteProtocolError(f"segments of {size} bytes", reason="vnet")
    payload = packet[head:]
    starts = range(0, len(payload), size) if payload else range(1)
    last = starts[-1]
    return [
        _segment(packet[:head], view, payload[at : at + size], at, index, at == last) for index, at in enumerate(starts)
    ]


def headers_of(packet: bytes | bytearray, view: IpView) -> int:
    """Return the bytes of IP and transport header of a TCP or UDP packet."""
    at, end = view.header_bytes, view.total_bytes
    size = 8 if view.protocol == UDP else 20
    if view.protocol not in CHECKSUM_OFFSET or at + size > end:
        raise RemoteProtocolError("no TCP or UDP header", reason="short")
    if view.protocol == TCP:
        size = (packet[at + 12] >> 4) * 4
        if size < 20 or at + size > end:
            raise RemoteProtocolError("TCP header is cut off", reason="short")
    return at + size


def _segment(
    head: bytes | bytearray, view: IpView, payload: bytes | bytearray, offset: int, index: int, is_last: bool
) -> bytes:
    whole = bytearray(head) + payload
    at = view.header_bytes
    if view.protocol == TCP:
        sequence = int.from_bytes(whole[at + 4 : at + 8]) + offset
        whole[at + 4 : at + 8] = (sequence & 0xFFFFFFFF).to_bytes(4)
        whole[at + 13] &= (0xFF if is_last else ~(FIN | PSH) & 0xFF) & (0xFF if not index else ~CWR & 0xFF)
    else:
        whole[at + 4 : at + 6] = (len(whole) - at).to_bytes(2)
    _set_length(whole, view, 0 if view.dont_fragment else index)
    complete_checksum(whole)
    return bytes(whole)


def _set_length(packet: bytearray, view: IpView, id_step: int) -> None:
    if view.version == 6:
        packet[4:6] = (len(packet) - 40).to_bytes(2)
        return
    identification = int.from_bytes(packet[4:6]) + id_step & 0xFFFF
    packet[2:6] = len(packet).to_bytes(2) + identification.to_bytes(2)
    packet[10:12] = b"\0\0"
    packet[10:12] = checksum(packet[: view.header_bytes]).to_bytes(2)


def coalesce(packets: Iterable[bytes]) -> list[tuple[VnetHeader, bytes]]:
    """Put complete packets together where `split` of the result gives the very same packets back.

    Order is kept, and only neighbours are joined. What cannot be joined comes back as it was.
    """
    runs: list[list[bytes]] = []
    for packet in packets:
        if not (runs and _continues(runs[-1], packet)):
            runs.append([])
        runs[-1].append(packet)
    return [_join(run) for run in runs]


def _join(run: list[bytes]) -> tuple[VnetHeader, bytes]:
    first = run[0]
    if len(run) == 1:
        return VnetHeader(), first
    view = parse(first)
    at, head = view.header_bytes, headers_of(first, view)
    whole = bytearray(first[:head]) + b"".join(packet[head:] for packet in run)
    _set_length(whole, view, 0)
    gso_type = vnet.GSO_UDP
    if view.protocol == TCP:
        gso_type = vnet.GSO_TCP4 if view.version == 4 else vnet.GSO_TCP6
        whole[at + 13] |= run[-1][at + 13] & (FIN | PSH)
        gso_type |= vnet.GSO_ECN if whole[at + 13] & CWR else 0
    else:
        whole[at + 4 : at + 6] = (len(whole) - at).to_bytes(2)
    field = CHECKSUM_OFFSET[view.protocol]
    pseudo = pseudo_header(view.source, view.destination, view.protocol, len(whole) - at)
    whole[at + field : at + field + 2] = pseudo.to_bytes(2)
    return VnetHeader(vnet.NEEDS_CHECKSUM, gso_type, head, len(first) - head, at, field), bytes(whole)


def _continues(run: list[bytes], packet: bytes) -> bool:
    """Say whether `packet` is what `split` would give after the packets of `run`."""
    try:
        header, whole = _join([*run, packet]) if _may_follow(run, packet) else (VnetHeader(), b"")
    except RemoteProtocolError:
        return False
    return bool(whole) and len(whole) <= MAX_PACKET and split(whole, header) == [*run, packet]


def _may_follow(run: list[bytes], packet: bytes) -> bool:
    """Say no to what `_join` could not put into one length field, or would have to look at in vain."""
    view, other = parse(run[0]), parse(packet)
    head = headers_of(run[0], view)
    sizes = [len(each) - head for each in (*run, packet)]
    return (
        not (view.is_fragment or other.is_fragment)
        and (view.version, view.protocol, view.header_bytes) == (other.version, other.protocol, other.header_bytes)
        and headers_of(packet, other) == head
        and head + sum(sizes) <= MAX_PACKET
        and sizes[0] > 0
        and sizes[-1] > 0
        and len(set(sizes[:-1])) == 1
        and sizes[-1] <= sizes[0]
    )
