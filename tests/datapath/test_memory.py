"""The in-memory data path by itself: what it was told to do lies in its lists."""

from sojourn.datapath.base import DataPath
from sojourn.datapath.memory import MemoryDataPath
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.ip import udp_packet
from sojourn.packet.seal import Secret
from sojourn.upmt.commands import AddAssociation, CloseTunnel, InstallSecret, OpenTunnel, Role, SetDefault, Setup
from sojourn.upmt.events import FlowSeen
from tests.harness.clock import Clock

HOST, A = AssociationId(1), TunnelId(0x10)
REMOTE = Endpoint("203.0.113.1", 1800)
OPEN = OpenTunnel(HOST, A, "wlan0", Endpoint("192.168.1.2", 50000), REMOTE)


def started() -> tuple[MemoryDataPath, Clock]:
    clock = Clock()
    node = MemoryDataPath(clock)
    node.submit(
        [
            Setup(Role.HOST, "sojourn0", 1448),
            AddAssociation(HOST, "10.201.0.2", None, (A,)),
            InstallSecret(HOST, Secret(1, bytes(32), 1)),
            OPEN,
            SetDefault(HOST, A),
        ]
    )
    return node, clock


def test_it_is_a_data_path() -> None:
    node: DataPath = started()[0]
    node.submit([])


def test_an_opened_tunnel_has_a_socket_and_its_first_probe_is_padded_to_1200() -> None:
    node, _ = started()
    assert node.sockets == {A: OPEN}
    ((tunnel, datagram, destination),) = node.outbox
    assert (tunnel, len(datagram), destination) == (A, 1200, REMOTE)
    assert datagram[:4] == bytes((0x81, 0, 0, 0x10))


def test_a_packet_goes_out_sealed_and_its_flow_is_told() -> None:
    node, clock = started()
    packet = udp_packet(Endpoint("10.201.0.2", 1), Endpoint("192.0.2.1", 2), b"hello")
    node.forwarder.from_inner(packet, clock())
    assert len(node.outbox[-1][1]) == len(packet) + 24
    assert [type(event) for event in node.events] == [FlowSeen]


def test_closing_a_tunnel_closes_its_socket() -> None:
    node, _ = started()
    node.submit([CloseTunnel(A)])
    assert node.sockets == {}


def test_random_bytes_differ_and_have_the_size_asked_for() -> None:
    node, _ = started()
    assert len({node.random(8) for _ in range(10)}) == 10
    assert len(node.random(8)) == 8
