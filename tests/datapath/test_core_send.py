"""The C core, held against the same oracle by the same tests as the Python engine."""

from collections.abc import Iterator

import pytest

from sojourn.packet.ip import clamp_mss, complete_checksum, udp_packet
from sojourn.packet.vnet import VnetHeader
from tests.datapath import test_engine_send as same
from tests.datapath.engine_pair import ACK, CWR, FIN, MTU, SYN, TUNNEL, from_kernel, ready_pair
from tests.datapath.test_engine_send import *  # noqa: F403
from tests.datapath.test_engine_send import Bench
from tests.harness.core_ends import CoreSender
from tests.packet.build import ends, tcp_packet


@pytest.fixture(autouse=True, scope="module")
def _core() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(same, "Sender", CoreSender)
        yield


@pytest.mark.parametrize("flags", [SYN, ACK | FIN, ACK | 4, ACK | CWR])  # type: ignore[no-redef]
def test_what_the_forwarder_must_see_goes_there(flags: int) -> None:
    """The core needs nobody for the beginning and the end of a connection: it keeps the row's books itself."""
    bench = Bench(ready_pair())
    row = next(row for key, row in bench.pair.host.forwarder.paft.rows.items() if key[0] == 6 and len(key) == 13)
    bench.take(*from_kernel(tcp_packet(*ends(), b"", flags=flags)))
    assert bool(row.closing) is bool(flags & (FIN | 4))
    bench.take(*from_kernel(tcp_packet(*ends(), b"", flags=SYN)))
    assert not row.closing
    assert bench.packets()[0][33] == flags
    assert bench.slow == 0


@pytest.mark.parametrize("complete", [False, True])
def test_a_syn_leaves_with_the_mss_that_the_tunnel_carries(complete: bool) -> None:
    bench = Bench(ready_pair())
    packet = bytearray(tcp_packet(*ends(), b"", flags=SYN))
    packet[40:44] = b"\x02\x04\x23\x00"  # MSS 8960, in the place of two NOPs and the timestamp's kind
    packet[44:52] = b"\x01" * 8
    whole = _with_checksum(packet)
    expected = bytearray(whole)
    assert clamp_mss(expected, MTU - 40)
    if complete:
        bench.take(VnetHeader(), whole)
    else:
        bench.take(*from_kernel(whole))
    assert bench.packets() == [bytes(expected)]
    assert bench.slow == 0


def _with_checksum(packet: bytearray) -> bytes:
    packet[36:38] = b"\0\0"
    complete_checksum(packet)
    return bytes(packet)


def test_what_no_message_has_room_for_goes_up_whatever_a_path_is_said_to_carry() -> None:
    pair = ready_pair()
    pair.host.forwarder.tunnels[TUNNEL].inner_mtu = 65535
    bench = Bench(pair)
    bench.take(*from_kernel(udp_packet(*ends(), bytes(65500)), tcp=False))
    bench.sender.flush(pair.now)
    assert bench.messages == []
    bench.take(*from_kernel(udp_packet(*ends(), b"small"), tcp=False))
    bench.sender.flush(pair.now)
    assert bench.messages == [1]
