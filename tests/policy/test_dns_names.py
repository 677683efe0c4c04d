"""Names of addresses from DNS answers: read, remembered, forgotten."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.policy.dns_names import (
    KEEP_LEAST,
    KEEP_MOST,
    MAX_NAMES,
    MAX_RECORDS,
    DnsAnswer,
    DnsNames,
    read_answer,
)

POINTER = b"\xc0\x0c"
"""To the name in the question."""


def name(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".") if label) + b"\0"


def record(owner: bytes, kind: int, data: bytes, ttl: int = 300, network: int = 1) -> bytes:
    return owner + kind.to_bytes(2) + network.to_bytes(2) + ttl.to_bytes(4) + len(data).to_bytes(2) + data


def answer(*records: bytes, asked: bytes = name("www.example.org"), flags: int = 0x8180, questions: int = 1) -> bytes:
    head = b"\x12\x34" + flags.to_bytes(2) + questions.to_bytes(2) + len(records).to_bytes(2) + bytes(4)
    return head + asked + b"\0\x01\0\x01" + b"".join(records)


FOUR = bytes([192, 0, 2, 7])
SIX = bytes.fromhex("20010db8000000000000000000000007")


def test_addresses_get_the_name_that_was_asked_for() -> None:
    read = read_answer(answer(record(POINTER, 1, FOUR), record(POINTER, 28, SIX, 60)))
    assert read == DnsAnswer(("www.example.org",), ("192.0.2.7", "2001:db8::7"), 60)


def test_an_alias_gives_its_names_too_and_case_does_not_matter() -> None:
    target = name("cdn.Example.NET")
    read = read_answer(answer(record(POINTER, 5, target), record(target, 1, FOUR), asked=name("WWW.example.org")))
    assert read == DnsAnswer(("www.example.org", "cdn.example.net"), ("192.0.2.7",), 300)


def test_a_name_may_be_compressed_in_parts() -> None:
    alias = b"\x03cdn" + bytes([0xC0, 12 + 4])  # cdn + example.org
    read = read_answer(answer(record(POINTER, 5, alias), record(alias, 1, FOUR)))
    assert read is not None
    assert read.names == ("www.example.org", "cdn.example.org")


@pytest.mark.parametrize(
    "data",
    [
        answer(), answer(record(POINTER, 1, FOUR), flags=0x0100), answer(record(POINTER, 1, FOUR), flags=0x8183),
        answer(record(POINTER, 1, FOUR), flags=0xA180), answer(record(POINTER, 16, b"\x01x")),
        answer(record(POINTER, 1, FOUR, network=3)), answer(record(POINTER, 1, SIX)),
        answer(record(name("other.example.org"), 1, FOUR)), answer(record(POINTER, 1, FOUR), asked=name("")),
        answer(record(POINTER, 1, FOUR), asked=b"\x02\xff\xfe\0"), answer(questions=0),
    ],
)  # fmt: skip
def test_what_gives_no_name_to_an_address_is_nothing(data: bytes) -> None:
    assert read_answer(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b"", answer(record(POINTER, 1, FOUR))[:-1], answer(asked=b"\xc0\x0c"), answer(asked=b"\xc0\xff"),
        answer(asked=b"\x40x\0"), answer(record(b"\xc0\x21", 1, FOUR)), answer(asked=(b"\x3f" + b"x" * 63) * 4 + b"\0"),
        answer(record(POINTER, 5, b"\x07")), answer(record(b"\x01a\xc0\x23", 1, FOUR)),
        answer(record(POINTER, 5, name("a.b.c"))[:-7] + b"\x01\0" + name("a.b.c")),
    ],
)  # fmt: skip
def test_what_breaks_the_format_or_goes_round_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_answer(data)


def test_of_very_many_records_some_are_looked_at() -> None:
    many = [record(POINTER, 1, bytes([10, 0, count >> 8, count & 255])) for count in range(1000)]
    read = read_answer(answer(*many))
    assert read is not None
    assert len(read.addresses) == MAX_RECORDS


@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda tail: answer(record(POINTER, 1, FOUR))[:-8] + tail))
def test_any_bytes_are_an_answer_or_nothing_or_a_protocol_error(data: bytes) -> None:
    try:
        read = read_answer(data)
    except RemoteProtocolError:
        return
    assert read is None or (read.names and read.addresses)


labels = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789-"), min_size=1, max_size=20)


@given(st.lists(labels, min_size=1, max_size=6).map(".".join), st.binary(min_size=4, max_size=4), st.integers(0, 2**31))
def test_what_is_written_is_read(asked: str, address: bytes, ttl: int) -> None:
    read = read_answer(answer(record(POINTER, 1, address, ttl), asked=name(asked)))
    assert read == DnsAnswer((asked,), (".".join(map(str, address)),), min(ttl, int(KEEP_MOST)))


# The table.


def test_an_address_has_all_its_names_until_they_are_too_old() -> None:
    names = DnsNames()
    assert names.learn(DnsAnswer(("a.org",), ("192.0.2.7",), 5), 0.0)
    assert not names.learn(DnsAnswer(("a.org",), ("192.0.2.7",), 5), 1.0)
    assert names.learn(DnsAnswer(("b.org",), ("192.0.2.7",), 5000), 2.0)
    assert (names["192.0.2.7"], dict(names)) == (("a.org", "b.org"), {"192.0.2.7": ("a.org", "b.org")})
    assert not names.expire(1.0 + KEEP_LEAST - 0.1)
    assert names.expire(1.0 + KEEP_LEAST)
    assert names.get("192.0.2.7") == ("b.org",)
    assert not names.expire(6000.0, {"192.0.2.7"})
    assert names.expire(6000.0)
    assert len(names) == 0


def test_a_name_is_kept_for_a_day_at_most() -> None:
    names = DnsNames()
    names.learn(DnsAnswer(("a.org",), ("192.0.2.7",), 2**31), 0.0)
    assert names.expire(KEEP_MOST + 1)


def test_the_table_is_bounded_and_keeps_the_newest() -> None:
    names = DnsNames(3)
    for count in range(5):
        names.learn(DnsAnswer((f"n{count}.org",), (f"192.0.2.{count}",), 60), float(count))
    assert list(names) == ["192.0.2.2", "192.0.2.3", "192.0.2.4"]
    for count in range(MAX_NAMES + 3):
        names.learn(DnsAnswer((f"m{count}.org",), ("192.0.2.4",), 60), 10.0)
    assert names["192.0.2.4"] == tuple(f"m{count}.org" for count in range(3, MAX_NAMES + 3))
