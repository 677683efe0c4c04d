import contextlib

from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.packet import vnet
from sojourn.packet.vnet import VnetHeader

byte, word = st.integers(0, 255), st.integers(0, 65535)


@given(st.builds(VnetHeader, byte, byte, word, word, word, word))
def test_a_header_reads_back_as_it_was_written(header: VnetHeader) -> None:
    assert vnet.parse(bytes(header)) == header
    assert len(bytes(header)) == vnet.HEADER_BYTES


def test_a_plain_packet_has_ten_zero_bytes() -> None:
    assert bytes(VnetHeader()) == bytes(10)


@given(st.binary(max_size=20))
def test_any_bytes_give_a_header_or_a_remote_protocol_error(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert bytes(vnet.parse(data)) == data[:10]
