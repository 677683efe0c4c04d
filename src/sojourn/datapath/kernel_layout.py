"""How the maps of the kernel path look: the counterpart of bpf/plain.h."""

import struct
from enum import IntFlag
from typing import Final

from msgspec import Struct

from sojourn.model import Endpoint
from sojourn.packet.ip import packed, text
from sojourn.paft import FlowKey

PROGRAMS: Final = (
    "leave_bare", "leave_ethernet", "arrive_bare", "arrive_ethernet", "depart_ethernet", "joined_ethernet",
)  # fmt: skip
MAPS: Final = (
    "rows4", "rows6", "row_counts", "tunnels", "tunnel_counts", "sources4", "sources6", "settings", "reasons", "wakes",
)  # fmt: skip
REASONS: Final = (
    "ok", "no-row", "unusual", "unusable", "too-large", "no-packet", "segments", "refused", "congestion", "lost",
)  # fmt: skip
"""enum reason, in its order: why packets went up to the engine; the last two were dropped."""
WAKES_BYTES: Final = 1 << 16
NANOSECONDS: Final = 1_000_000_000

FLOW_KEY_BYTES: Final = {4: 13, 6: 37}
ROW_KEY_BYTES: Final = {4: 16, 6: 40}
ROW: Final = struct.Struct("=IIQ")
COUNTS: Final = struct.Struct("=8Q")
SLOT: Final = struct.Struct("=I")
TUNNEL: Final = struct.Struct("=QIHBB16s16s2s2sI24x")
SENDER: Final = struct.Struct("=IIQ")
SOURCE: Final = {4: struct.Struct("=4s4s2s2s"), 6: struct.Struct("=16s16s2s2s")}
SETTINGS: Final = struct.Struct("=QIII6s6x")
REASON: Final = struct.Struct("=Q")
WOKEN: Final = struct.Struct("=II")


class Flag(IntFlag):
    """What is true of a tunnel."""

    USABLE = 1
    MAY_FRAGMENT = 2
    ZERO_CHECKSUM6 = 4


class TunnelEntry(Struct, frozen=True):
    """One tunnel as the programs see it."""

    id: int
    """Its TunnelId: a successor learns from it which slot is which."""
    association: int
    interface: int
    inner_mtu: int
    flags: Flag
    local: Endpoint
    remote: Endpoint

    def pack(self) -> bytes:
        """Return the value of map `tunnels`."""
        return TUNNEL.pack(
            self.association, self.interface, self.inner_mtu, self.family, self.flags,
            packed(self.local.address), packed(self.remote.address),
            self.local.port.to_bytes(2), self.remote.port.to_bytes(2), self.id,
        )  # fmt: skip

    @property
    def family(self) -> int:
        """Which maps its source belongs to: 4 or 6."""
        return 6 if ":" in self.remote.address else 4

    def source(self) -> bytes:
        """Return the key of `sources4` or `sources6`: where this tunnel's packets come from, and to."""
        return SOURCE[self.family].pack(
            packed(self.remote.address), packed(self.local.address),
            self.remote.port.to_bytes(2), self.local.port.to_bytes(2),
        )  # fmt: skip

    def sender(self, slot: int) -> bytes:
        """Return the value there."""
        return SENDER.pack(slot, self.flags, self.association)


def unpack_tunnel(value: bytes) -> TunnelEntry:
    """Read a value of map `tunnels`."""
    association, interface, mtu, family, flags, local, remote, local_port, remote_port, number = TUNNEL.unpack(value)
    size = 4 if family == 4 else 16
    return TunnelEntry(
        number, association, interface, mtu, Flag(flags),
        Endpoint(text(local[:size]), int.from_bytes(local_port)),
        Endpoint(text(remote[:size]), int.from_bytes(remote_port)),
    )  # fmt: skip


def family_of(key: FlowKey) -> int:
    """Return which map a flow's row belongs to: 4 or 6."""
    return 4 if len(key) == FLOW_KEY_BYTES[4] else 6


def row_key(key: FlowKey) -> bytes:
    """Return the key of map `rows4` or `rows6`."""
    return key.ljust(ROW_KEY_BYTES[family_of(key)], b"\0")


def flow_key_of(data: bytes) -> FlowKey:
    """Return the flow key in a key of one of them."""
    return data[: FLOW_KEY_BYTES[4 if len(data) == ROW_KEY_BYTES[4] else 6]]
