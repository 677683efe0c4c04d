"""The other end of a TCP connection, made by hand: what a correspondent beyond the device would send."""

import os
import struct
import time
from collections.abc import Callable

from sojourn.linux.owners import User
from sojourn.packet import vnet
from sojourn.packet.checksum import checksum, pseudo_header
from sojourn.packet.ip import flow_key, ip_header, packed
from tests.harness.watched import LOCAL, REMOTE, Watched

TCP = 6
SYN, ACK = 2, 16
OURS = 5555


class Caller:
    """One connection between REMOTE and LOCAL. Sequence numbers begin at 1000."""

    def __init__(self, ground: Watched, remote_port: int, local_port: int = 0) -> None:
        self.ground = ground
        self.remote_port = remote_port
        self.local_port = local_port
        self.theirs = 0

    @classmethod
    def to(cls, ground: Watched, local_port: int) -> "Caller":
        """Call a listener."""
        return cls(ground, OURS, local_port)

    def send(self, flags: int, sequence: int) -> None:
        """Put one segment into the device."""
        from_, to = packed(REMOTE), packed(LOCAL)
        head = struct.pack(
            ">HHIIBBHHH", self.remote_port, self.local_port, sequence, self.theirs, 5 << 4, flags, 65000, 0, 0
        )
        value = checksum(head, pseudo_header(from_, to, TCP, len(head)))
        segment = head[:16] + value.to_bytes(2) + head[18:]
        os.write(self.ground.tun.fd, bytes(vnet.HEADER_BYTES) + ip_header(from_, to, TCP, len(segment)) + segment)

    def accept(self, local_port: int) -> None:
        """Answer the SYN that the ground has seen."""
        self.local_port = local_port
        syn = self._wait(lambda packet: bool(packet[33] & SYN))
        self.theirs = int.from_bytes(syn[24:28]) + 1
        self.send(SYN | ACK, 1000)

    def handshake(self) -> None:
        """Open a connection to the listener."""
        self.send(SYN, 1000)
        answer = self._wait(lambda packet: packet[33] & (SYN | ACK) == SYN | ACK)
        self.theirs = int.from_bytes(answer[24:28]) + 1
        self.send(ACK, 1001)

    def wait_for_data(self) -> User | None:
        """Return who made the flow once data has come."""
        packet = self._wait(lambda packet: len(packet) > 20 + (packet[32] >> 4) * 4)
        return self.ground.user(flow_key(packet))

    def _wait(self, wanted: Callable[[bytes], bool]) -> bytes:
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            for packet in self.ground.packets:
                if packet[0] == 0x45 and packet[9] == TCP and self._is_ours(packet) and wanted(packet):
                    return packet
            self.ground.read_more(0.2)
        raise AssertionError("the packet that was waited for did not come")

    def _is_ours(self, packet: bytes) -> bool:
        return struct.unpack(">HH", packet[20:24]) == (self.local_port, self.remote_port)
