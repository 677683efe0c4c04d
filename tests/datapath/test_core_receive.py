"""The C core, held against the same oracle by the same tests as the Python engine."""

from collections.abc import Iterator

import pytest

from sojourn.packet import vnet
from sojourn.packet.ip import complete_checksum
from tests.datapath import test_engine_receive as same
from tests.datapath.test_engine_receive import *  # noqa: F403
from tests.harness.core_ends import CoreReceiver


@pytest.fixture(autouse=True, scope="module")
def _core() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(same, "Receiver", CoreReceiver)
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
