"""SOCKS5 messages: written and read back, cut anywhere, and nonsense."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.msocks import socks5
from sojourn.msocks.socks5 import Address, Code, Command, Datagram, Reply, Request

PORTS = st.integers(0, 65535)
NAMES = st.from_regex(r"[a-z][a-z0-9.-]{0,60}", fullmatch=True)
ADDRESSES = st.builds(Address, st.one_of(st.ip_addresses().map(str), NAMES), PORTS)

CASES: list[tuple[Callable[[Any], Any], bytes, Any]] = [
    (socks5.take_greeting, socks5.greeting(0, 2, 0x8D), frozenset({0, 2, 0x8D})),
    (socks5.take_choice, socks5.choice(2), 2),
    (socks5.take_password, socks5.password("ann", "päss"), ("ann", "päss")),
    (socks5.take_password_answer, socks5.password_answer(False), False),
    (socks5.take_request, b"\5\1\0\1\xc0\0\2\7\0P", Request(Command.CONNECT, Address("192.0.2.7", 80))),
    (socks5.take_request, b"\5\2\0\3\7example\1\xbb", Request(Command.BIND, Address("example", 443))),
    (socks5.take_request, b"\5\1\0\3\0111.2.3.255\0P", Request(Command.CONNECT, Address("1.2.3.255", 80))),
    (socks5.take_reply, b"\5\5\0\4" + bytes(15) + b"\1\0\0", Reply(Code.REFUSED, Address("::1", 0))),
]


@pytest.mark.parametrize(("take", "data", "value"), CASES)
def test_each_message_is_read_one_byte_at_a_time_and_what_follows_is_left(
    take: Callable[[bytes], Any], data: bytes, value: object
) -> None:
    for count in range(len(data)):
        assert take(data[:count]) is None
    assert take(data) == take(data + b"behind") == (value, len(data))


@given(ADDRESSES, st.sampled_from(list(Command)), st.binary(max_size=30))
def test_what_is_written_is_read(address: Address, command: Command, payload: bytes) -> None:
    asked = Request(command, address)
    assert socks5.take_request(socks5.request(asked)) == (asked, len(socks5.request(asked)))
    answer = Reply(Code.SUCCEEDED, address)
    assert socks5.take_reply(socks5.reply(answer)) == (answer, len(socks5.reply(answer)))
    relayed = Datagram(address, payload)
    assert socks5.parse_datagram(socks5.datagram(relayed)) == relayed


@pytest.mark.parametrize(
    "take", [socks5.take_greeting, socks5.take_choice, socks5.take_password, socks5.take_password_answer,
             socks5.take_request, socks5.take_reply, socks5.parse_datagram],
)  # fmt: skip
@given(data=st.binary(max_size=80))
def test_nonsense_is_a_value_none_or_refused(take: Callable[[bytes], object], data: bytes) -> None:
    for given_bytes in (data, b"\5" + data, b"\1" + data, b"\0\0\0" + data):
        try:
            take(given_bytes)
        except RemoteProtocolError:
            continue


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"\4\1\0", "version"), (b"\5\1\0\2\0", "address type"), (b"\5\1\0\3\0\0\0", "name"),
     (b"\5\1\0\3\3a b\0\0", "name")],
)  # fmt: skip
def test_what_can_never_become_a_request_is_refused_at_once(data: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as error:
        socks5.take_request(data)
    assert error.value.reason == reason


def test_fragments_of_datagrams_are_refused() -> None:
    with pytest.raises(RemoteProtocolError) as error:
        socks5.parse_datagram(b"\0\0\1\1\1\2\3\4\0\7x")
    assert error.value.reason == "fragment"


def test_names_that_do_not_fit_are_our_own_fault() -> None:
    for name in ("", "a" * 256, "bücher"):
        with pytest.raises(ValueError):
            socks5.encode_address(Address(name, 1))


def test_an_address_is_written_as_people_do() -> None:
    assert str(Address("::1", 80)) == "[::1]:80"
    assert str(Address("a.example", 80)) == "a.example:80"
