"""What really passes an interface of the lab: IP packets, as AF_PACKET sees them."""

import select
import socket
from types import TracebackType
from typing import Self

from sojourn.lab import namespaces
from sojourn.lab.processes import now
from sojourn.linux import ethtool

ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
ETHERNET_BYTES = 14


def compute_checksums(namespace: str, interface: str) -> None:
    """Make an interface send packets with whole checksums: virtual cables leave them open otherwise."""
    namespaces.inside(namespace, lambda: ethtool.ask(interface, ethtool.SET_TX_CHECKSUM, 0))


class Capture:
    """Collects the IP packets of one interface, both directions, from when it is made. A context."""

    def __init__(self, namespace: str, interface: str, *, framed: bool = True) -> None:
        """`framed`: whether there are Ethernet headers (TUN devices have none)."""

        def opened() -> socket.socket:
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            tap.bind((interface, ETH_P_ALL))
            tap.setblocking(False)
            return tap

        self._skip = ETHERNET_BYTES if framed else 0
        self._socket = namespaces.inside(namespace, opened)
        self.packets: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def read(self, seconds: float = 0.3) -> list[bytes]:
        """Return the IP packets that passed since the last call, `seconds` from now included."""
        until = now() + seconds
        fresh: list[bytes] = []
        while (left := until - now()) > 0:
            readable, _, _ = select.select([self._socket], [], [], left)
            if readable:
                packet = self._socket.recv(65536)[self._skip :]
                if packet and packet[0] >> 4 in (4, 6):
                    fresh.append(packet)
        self.packets += fresh
        return fresh
