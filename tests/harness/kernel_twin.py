"""One forwarder and the kernel path's programs beside it, both asked about the same packet.

The programs are the real ones, in this kernel, run on packets of ours (bpf_ran.py): nothing is attached.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from sojourn.datapath import kernel_objects
from sojourn.datapath.kernel import KernelPath, Way
from sojourn.datapath.kernel_layout import MAPS, PROGRAMS
from sojourn.datapath.kernel_links import Links
from sojourn.datapath.kernel_tables import KernelTables
from sojourn.datapath.loop import boot_time
from sojourn.datapath.memory import MemoryDataPath
from sojourn.linux.bpf import BpfObject, close_all
from sojourn.linux.descriptors import Descriptors
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet import frame
from sojourn.upmt.commands import AddAssociation, OpenTunnel, Role, SetDefault, Setup
from sojourn.upmt.tunnel import Tunnel
from tests.harness import bpf_ran
from tests.harness.bpf_ran import Ran

ME, TUNNEL, OTHER = AssociationId(7), TunnelId(0xABCDEF), TunnelId(0x123456)
VIPA, VIPA6 = "10.201.0.2", "fd00:201::2"
SIGNALS = ("10.201.0.1", "fd00:201::1")
MTU = 1420
LOOPBACK: Final = 1
HERE = {4: Endpoint("198.51.100.1", 4700), 6: Endpoint("2001:db8:1::1", 4700)}
THERE = {4: Endpoint("203.0.113.1", 1800), 6: Endpoint("2001:db8:2::1", 1800)}
_ETHERTYPE: Final = {4: b"\x08\0", 6: b"\x86\xdd"}
_MACS: Final = bytes.fromhex("020000000001020000000002")


class Sent(NamedTuple):
    """One datagram that the forwarder has sent."""

    datagram: bytes
    destination: Endpoint
    fragment: bool
    ecn: int


class NoLinks(Links):
    """Attaches nothing."""

    def __init__(self) -> None:
        super().__init__({}, Descriptors(), "")
        self.arriving: list[int] = []

    def arrive(self, interface: int) -> None:
        """Note that what arrives on an interface was to be taken."""
        self.arriving.append(interface)


class Recorder(MemoryDataPath):
    """A data path that notes all about what it sends."""

    def __init__(self) -> None:
        super().__init__(boot_time)
        self.sent: list[Sent] = []

    def send(
        self, tunnel: Tunnel, datagram: bytes, destination: Endpoint, *, fragment: bool = False, ecn: int = 0
    ) -> None:
        """Note a datagram."""
        self.sent.append(Sent(datagram, destination, fragment, ecn))


class Twin:
    """Both, with one plain tunnel that works, its path MTU known."""

    def __init__(
        self, role: Role, outer: int = 4, *, zero_checksum6: bool = True, small: Mapping[str, int] | None = None
    ) -> None:
        """`small`: maps that the kernel lets have fewer entries than Python thinks."""
        self.role = role
        self.fds = _loaded(role, small or {})
        self.path = Recorder()
        self.forwarder = self.path.forwarder
        self.local, self.remote = (HERE, THERE) if role is Role.HOST else (THERE, HERE)
        self.outer = outer
        self.path.submit([
            Setup(role, "sojourn0", MTU, inner_addresses=SIGNALS, allowed=("0.0.0.0/0", "::/0"), plain=True),
            AddAssociation(ME, VIPA, VIPA6, (TUNNEL, OTHER)),
        ])  # fmt: skip
        most = kernel_objects.MOST_ROWS[role], kernel_objects.MOST_TUNNELS[role]
        self.tables = KernelTables(self.fds, *most)
        self.kernel = KernelPath(
            self.forwarder, self.tables, NoLinks(), self._way, LOOPBACK, boot_time(), zero_checksum6=zero_checksum6
        )
        opened = OpenTunnel(ME, TUNNEL, "lo", self.local[outer], self.remote[outer], sealed=False)
        self.path.submit([opened, SetDefault(ME, TUNNEL)])
        for _ in range(8):
            self.answer_probes()
            self.forwarder.tick(boot_time())
        self.kernel.flush()

    def close(self) -> None:
        """Give everything back."""
        self.kernel.close()
        close_all(self.fds.values())

    @property
    def tunnel(self) -> Tunnel:
        """The one that works."""
        return self.forwarder.tunnels[TUNNEL]

    def _way(self, tunnel: Tunnel) -> Way | None:
        return Way(LOOPBACK, self.local[self.outer])

    def answer_probes(self) -> None:
        """Answer what the tunnel asks, as its peer would."""
        for sent in self.path.sent:
            if not sent.datagram[0] >> 4:
                asked = frame.parse(sent.datagram)
                if isinstance(asked, frame.Probe):
                    self.from_peer(bytes(frame.Answer(0, asked.sequence, asked.sent_us, 1, 1, 0, 0)))
        self.path.sent.clear()

    def from_peer(self, datagram: bytes, ecn: int = 0) -> None:
        """Give the forwarder what the tunnel's peer has sent."""
        on = TUNNEL if self.role is Role.HOST else None
        self.forwarder.from_outer(datagram, self.remote[self.outer], boot_time(), on, ecn)

    def take_sent(self) -> list[Sent]:
        """Return the inner packets that the forwarder has sent since the last call."""
        sent = [one for one in self.path.sent if one.datagram[:1] and one.datagram[0] >> 4]
        self.answer_probes()
        return sent

    def take_delivered(self) -> list[bytes]:
        """Return what the forwarder has given to the TUN since the last call."""
        delivered = list(self.path.delivered)
        self.path.delivered.clear()
        return delivered

    def run(self, program: str, packet: bytes, family: int) -> Ran:
        """Run a program on one packet, behind an Ethernet header."""
        data = _MACS + _ETHERTYPE[family] + packet
        return bpf_ran.run(self.fds[program], data)


def _loaded(role: Role, small: Mapping[str, int]) -> dict[str, int]:
    if not small:
        return {name.rpartition("/")[2]: fd for name, fd in kernel_objects.load(role).items()}
    sizes = dict.fromkeys(("rows4", "rows6", "row_counts"), kernel_objects.MOST_ROWS[role])
    sizes |= dict.fromkeys(("tunnels", "tunnel_counts", "sources4", "sources6"), kernel_objects.MOST_TUNNELS[role])
    with BpfObject(kernel_objects.OBJECT, {**sizes, **small}) as loaded:
        return {what: loaded.program(what) for what in PROGRAMS} | {what: loaded.map(what) for what in MAPS}


@contextmanager
def twin(
    role: Role, outer: int = 4, *, zero_checksum6: bool = True, small: Mapping[str, int] | None = None
) -> Iterator[Twin]:
    """Lend a `Twin`."""
    made = Twin(role, outer, zero_checksum6=zero_checksum6, small=small)
    try:
        yield made
    finally:
        made.close()
