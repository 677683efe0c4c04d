"""proxy_hdr: what ROAM's proxies say to each other before, or instead of, an inner packet (docs/wire.md, peers).

It is a plaintext of the sealed format (packet/seal.py): its tag is the authentication. With DATA alone it would say
nothing, so that packet travels without it, and its first nibble (4 or 6) says so.

    byte 0     2 in the first nibble, then flags: 1 ID, 2 DATA, 4 AGAIN, 8 FLOW
    byte 1     version, 0
    16 bytes   ID without DATA: the sender's home address (IPv4 as ::ffff:a.b.c.d)
    32 bytes   ID: the sender's private identifier, for the translation table
    5 bytes    FLOW (with ID): the flow that the identifier is for: protocol, the sender's port, the receiver's
    rest       DATA: an IP packet
"""

import ipaddress
import struct
from typing import Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.i3.flow_triggers import FlowPorts
from sojourn.i3.identifier import IDENTIFIER_BYTES, Identifier, is_public

# The protocol's.
NIBBLE: Final = 2
ID, DATA, AGAIN, FLOW = 1, 2, 4, 8
VERSION: Final = 0
HOME_BYTES: Final = 16
PIGGYBACK_BYTES: Final = 2 + IDENTIFIER_BYTES
"""What ID adds to a packet that goes anyway."""
FLOW_BYTES: Final = 5
EMPTY: Final = bytes((NIBBLE << 4, VERSION))
"""Neither flag: proves that its sender has the keys."""


class ProxyHeader(Struct, frozen=True):
    """One header and what follows it."""

    identifier: Identifier | None = None
    home: str | None = None
    """The sender's home address, where an identifier comes alone."""
    again: bool = False
    """What was sent to the sender lately may be lost: the newest packet of each flow is wanted again."""
    packet: bytes = b""
    flow: FlowPorts | None = None
    """The flow that the identifier is for, as its sender sees it; None: it is for all that have none."""

    def __bytes__(self) -> bytes:
        flags = (ID if self.identifier is not None else 0) | (DATA if self.packet else 0) | (AGAIN if self.again else 0)
        flags |= FLOW if self.flow is not None else 0
        if flags == DATA:
            return self.packet
        home = pack_home(self.home) if self.home is not None else b""
        flow = b"" if self.flow is None else struct.pack(">BHH", *self.flow)
        return bytes((NIBBLE << 4 | flags, VERSION)) + home + (self.identifier or b"") + flow + self.packet


def parse(plaintext: bytes) -> ProxyHeader:
    """Read what a peer has sealed; RemoteProtocolError."""
    if not plaintext:
        raise RemoteProtocolError("an empty plaintext", reason="plaintext")
    if plaintext[0] >> 4 in (4, 6):
        return ProxyHeader(packet=plaintext)
    flags = plaintext[0] & 0xF
    if plaintext[0] >> 4 != NIBBLE or (flags & FLOW and not flags & ID):
        raise RemoteProtocolError(f"no plaintext of a peer begins with {plaintext[0]:#x}", reason="plaintext")
    if len(plaintext) < 2 or plaintext[1] != VERSION:
        raise RemoteProtocolError("a proxy header of another version", reason="version")
    at, home, identifier, flow = 2, None, None, None
    if flags & ID and not flags & DATA:
        home, at = _home(plaintext[at : at + HOME_BYTES]), at + HOME_BYTES
    if flags & ID:
        identifier, at = _identifier(plaintext[at : at + IDENTIFIER_BYTES]), at + IDENTIFIER_BYTES
    if flags & FLOW:
        flow, at = _flow(plaintext[at : at + FLOW_BYTES]), at + FLOW_BYTES
    packet = plaintext[at:]
    if bool(packet) is not bool(flags & DATA) or (packet and packet[0] >> 4 not in (4, 6)):
        raise RemoteProtocolError("a proxy header and something else than a packet", reason="plaintext")
    return ProxyHeader(identifier, home, bool(flags & AGAIN), packet, flow)


def pack_home(address: str) -> bytes:
    """Return the 16 bytes of a home address."""
    home = ipaddress.ip_address(address)
    return home.packed if home.version == 6 else bytes(10) + b"\xff\xff" + home.packed


def _home(data: bytes) -> str:
    if len(data) != HOME_BYTES:
        raise RemoteProtocolError("the home address is cut off", reason="short")
    address = ipaddress.IPv6Address(data)
    return str(address.ipv4_mapped or address)


def _flow(data: bytes) -> FlowPorts:
    if len(data) != FLOW_BYTES:
        raise RemoteProtocolError("the flow is cut off", reason="short")
    return FlowPorts(*struct.unpack(">BHH", data))


def _identifier(data: bytes) -> Identifier:
    if len(data) != IDENTIFIER_BYTES:
        raise RemoteProtocolError("the identifier is cut off", reason="short")
    if is_public(Identifier(data)):
        raise RemoteProtocolError("a public identifier where a private one belongs", reason="identifier")
    return Identifier(data)
