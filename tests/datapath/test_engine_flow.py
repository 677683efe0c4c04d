import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.datapath.engine_flow import TCP, UDP, ordinary
from sojourn.errors import RemoteProtocolError
from sojourn.packet.ip import flow_key, parse, udp_packet
from tests.packet.build import HOST4, PEER4, echo_packet, ends, tcp_packet

both = pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])


@both
@pytest.mark.parametrize("inbound", [False, True])
@pytest.mark.parametrize("offset", [0, 10])
def test_the_key_is_the_one_that_the_slow_path_uses(six: bool, inbound: bool, offset: int) -> None:
    for packet, protocol in ((tcp_packet(*ends(six)), TCP), (udp_packet(*ends(six), b"x"), UDP)):
        data = bytearray(offset) + packet
        found = ordinary(data, offset, len(packet), inbound)
        assert found == (40 if six else 20, protocol, flow_key(packet, inbound=inbound))


@pytest.mark.parametrize("flags", [1, 2, 4, 0x80, 0x12])
def test_segments_that_open_close_or_answer_congestion_are_not_ordinary(flags: int) -> None:
    packet = tcp_packet(*ends(), flags=flags)
    assert ordinary(bytearray(packet), 0, len(packet), False) is None


def test_what_has_no_ports_is_not_ordinary() -> None:
    packet = echo_packet(HOST4, PEER4, 1, payload=bytes(40))
    assert ordinary(bytearray(packet), 0, len(packet), False) is None


@given(
    st.one_of(st.binary(max_size=90), st.sampled_from([tcp_packet(*ends()), udp_packet(*ends(True), bytes(9))])),
    st.dictionaries(st.integers(0, 60), st.integers(0, 255), max_size=2),
    st.booleans(),
)
def test_whatever_passes_as_ordinary_is_read_the_same_way_by_the_parser(
    packet: bytes, changes: dict[int, int], inbound: bool
) -> None:
    data = bytearray(changes.get(at, byte) for at, byte in enumerate(packet))
    found = ordinary(data, 0, len(data), inbound)
    if found is None:
        return
    at, protocol, key = found
    try:
        view = parse(data)
    except RemoteProtocolError:
        pytest.fail("ordinary, and yet malformed")
    assert (view.header_bytes, view.protocol, view.is_fragment, view.total_bytes) == (at, protocol, False, len(data))
    assert key == flow_key(data, inbound=inbound)
