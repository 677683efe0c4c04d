"""The C core, held against the same oracle by the same tests as the Python engine."""

from collections.abc import Iterator

import pytest

from sojourn.datapath.core_engine import FROM_PEERS
from sojourn.packet import vnet
from sojourn.packet.ip import complete_checksum, flow_key, packed
from tests.datapath import test_engine_receive as same
from tests.datapath.engine_pair import TUNNEL, ready_pair
from tests.datapath.test_engine_receive import *  # noqa: F403
from tests.harness.core_ends import CoreReceiver


def flow_by_flow(packets: list[bytes]) -> list[bytes]:
    """Leave the order within each flow alone: core and Python write side by side, and no flow waits for another."""
    return sorted(packets, key=lambda packet: flow_key(packet, inbound=True))


@pytest.fixture(autouse=True, scope="module")
def _core() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(same, "Receiver", CoreReceiver)
        patch.setattr(same, "in_order", flow_by_flow)
        yield


@pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])
def test_a_stream_that_never_pauses_is_written_in_packets_that_exist(six: bool) -> None:
    bench = same.Bench()
    segments = [segment for _ in range(3) for segment in same.train(six, True, 40000, 1000)]
    for number, segment in enumerate(segments):  # one stream: each goes on where the one before ended
        at = (40 if six else 20) + 4
        segments[number] = segment[:at] + (1000 * number).to_bytes(4) + segment[at + 4 :]
    whole = []
    for segment in segments:
        packet = bytearray(segment)
        complete_checksum(packet)
        whole.append(bytes(packet))
    bench.take(bench.seal(whole))
    bench.compare()
    assert len(bench.writes) == 2
    assert max(map(len, bench.writes)) <= vnet.HEADER_BYTES + 65535


def test_packets_that_nobody_marked_are_joined_too_if_their_checksums_are_right() -> None:
    bench = same.Bench()
    segments = same.train(False, True, 20000, 1000)
    bench.take(bench.seal(segments, hints=False))
    assert len(bench.writes) == 1
    bench.compare()
    spoilt = bytearray(segments[3])
    spoilt[-1] ^= 1
    bench.take(bench.seal([*segments[:3], bytes(spoilt), *segments[4:]], hints=False))
    assert len(bench.writes) == 4
    bench.compare()


def test_one_host_takes_a_quarter_of_what_an_anchor_has_room_for() -> None:
    """What the core leaves to Python waits in one queue; the control frames of others have to find room there."""
    pair = ready_pair()
    at, sealer = pair.anchor.forwarder.tunnels[TUNNEL], pair.host.forwarder.tunnels[TUNNEL].sealer
    receiver = CoreReceiver(pair.anchor.forwarder, lambda _parts: None, inbound=False)
    core, source = receiver.core, at.outer
    assert sealer is not None
    assert source is not None

    def arrive(count: int) -> int:
        """Say how many of so many packets, none of them ordinary, are dropped."""
        for _ in range(count):
            datagram = sealer.seal(bytes(40))
            core.drive_udp(receiver.fd, datagram, len(datagram), packed(source.address), source.port, b"", 0, pair.now)
        return core.counts().get("slow-path-full", 0)

    def belong_to(association: int) -> None:
        core.set_path(
            TUNNEL, association, receiver.fd, packed(source.address), source.port, 0, b"", at.inner_mtu, True
        )  # fmt: skip

    assert arrive(3000) == 3000 - 2048
    belong_to(2)
    assert arrive(10) == 0
    core.clear_path(TUNNEL)
    assert arrive(10) == 0
    belong_to(1)
    assert arrive(10) == 10
    assert len(core.take(FROM_PEERS, 1000)) == 1000
    core.done()
    assert arrive(1010) == 10


def test_a_key_that_is_given_twice_is_held_and_given_back_once() -> None:
    core = CoreReceiver(ready_pair().anchor.forwarder, lambda _parts: None, inbound=False).core
    twice = (7, 1, b"k" * 32, b"i" * 12, -1)
    core.set_receive_keys(99, 7, [twice, twice])
    core.set_receive_keys(99, 7, [twice])
    core.set_receive_keys(99, 8, [(8, 1, b"n" * 32, b"i" * 12, -1)])
    core.forget(99)
    assert core.top(99, 8) == -1


def test_a_batch_of_nothing_is_no_batch() -> None:
    pair = ready_pair()
    receiver = CoreReceiver(pair.anchor.forwarder, lambda _parts: None, inbound=False)
    with pytest.raises(ValueError, match="no such batch"):
        receiver.core.drive_udp(receiver.fd, b"", 0, bytes(4), 1, b"", 0, pair.now)
