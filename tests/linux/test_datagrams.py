import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.linux.datagrams import MAX_DATAGRAM, MAX_RUN_BYTES, Address, DatagramSocket, runs
from sojourn.linux.udp import MAX_SEGMENTS
from sojourn.model import Endpoint


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_datagram_is_received_with_its_source_and_answered(address: str) -> None:
    server, client = DatagramSocket(Endpoint(address, 0)), DatagramSocket(Endpoint(address, 0))
    try:
        assert server.receive() is None
        assert client.send(b"hello", (address, server.local.port)) is None
        received = server.receive()
        assert received == ((b"hello",), (address, client.local.port))
        assert server.send(b"hello yourself", received[1]) is None
        assert client.receive() == ((b"hello yourself",), (address, server.local.port))
    finally:
        server.close()
        client.close()


def test_what_is_too_long_comes_empty_and_what_cannot_be_sent_is_said() -> None:
    server = DatagramSocket(Endpoint("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(bytes(MAX_DATAGRAM + 1), ("127.0.0.1", server.local.port))
        assert server.receive() == ((b"",), ("127.0.0.1", client.getsockname()[1]))
    assert server.send(b"x", ("127.0.0.1", 0)) == "EINVAL"
    assert server.send(bytes(70000), ("127.0.0.1", 9)) == "EMSGSIZE"
    server.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_run_is_sent_by_one_call_and_received_as_the_datagrams_that_it_was(address: str) -> None:
    server, client = DatagramSocket(Endpoint(address, 0)), DatagramSocket(Endpoint(address, 0))
    try:
        run = [bytes((number,)) * 1000 for number in range(20)] + [b"the last"]
        assert client.send_run(run, (address, server.local.port)) == []
        came: list[bytes] = []
        while (received := server.receive()) is not None:
            came += received[0]
            assert received[1] == (address, client.local.port)
        assert came == run
        assert client.send_run([b"x", b"y"], (address, 0)) == ["EINVAL"] * 2
    finally:
        server.close()
        client.close()


TO = ("192.0.2.1", 1)
SENDS: st.SearchStrategy[tuple[bytes, Address]] = st.tuples(
    st.sampled_from([b"", b"x" * 9000, b"a" * 10, b"b" * 10, b"c"]), st.sampled_from([TO, ("h", 2)])
)


@given(st.lists(SENDS))
def test_runs_keep_all_datagrams_in_order_and_each_is_one_that_the_kernel_takes(
    sends: list[tuple[bytes, Address]],
) -> None:
    made = runs(sends)
    assert [(data, to) for run, to in made for data in run] == sends
    for run, _ in made:
        if len(run) > 1:
            assert {len(data) for data in run[:-1]} == {len(run[0])}
            assert 0 < len(run[-1]) <= len(run[0])
            assert sum(map(len, run)) <= MAX_RUN_BYTES
            assert len(run) <= MAX_SEGMENTS
