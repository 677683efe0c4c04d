"""The structs of bpf/plain.h and their counterparts in Python."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.datapath import kernel_layout as layout
from sojourn.datapath.kernel_layout import Flag, TunnelEntry, flow_key_of, row_key, unpack_tunnel
from sojourn.linux.bpf import OBJECTS
from sojourn.model import Endpoint

SOURCE = (OBJECTS / "plain.h").read_text()
SIZES = {"__u8": 1, "__u16": 2, "__be16": 2, "__u32": 4, "__u64": 8}


def size_of(name: str) -> int:
    """Return the bytes of a struct in the C source; none of them has holes."""
    body = re.search(rf"^struct {name} {{\n(.*?)^}};", SOURCE, re.MULTILINE | re.DOTALL)
    assert body is not None
    size = 0
    for kind, fields in re.findall(r"^\s+(__\w+) ([^;]+);", body[1], re.MULTILINE):
        for field in fields.split(","):
            count = re.search(r"\[(\d+)\]", field)
            size += SIZES[kind] * (int(count[1]) if count else 1)
    return size


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("row_key4", layout.ROW_KEY_BYTES[4]), ("row_key6", layout.ROW_KEY_BYTES[6]),
        ("row", layout.ROW.size), ("counts", layout.COUNTS.size),
        ("tunnel", layout.TUNNEL.size), ("source4", layout.SOURCE[4].size), ("source6", layout.SOURCE[6].size),
        ("settings", layout.SETTINGS.size),
        ("woken", layout.WOKEN.size),
    ],
)  # fmt: skip
def test_both_sides_have_structs_of_one_size(name: str, size: int) -> None:
    assert size_of(name) == size


def test_both_sides_have_the_same_reasons() -> None:
    body = re.search(r"^enum reason {\n(.*?)^};", SOURCE, re.MULTILINE | re.DOTALL)
    assert body is not None
    assert len(re.findall(r"^\s+[A-Z_]+", body[1], re.MULTILINE)) - 1 == len(layout.REASONS)


endpoints = st.one_of(
    st.builds(lambda host, port: Endpoint(str(host), port), st.ip_addresses(v=4), st.integers(0, 65535)),
    st.builds(lambda host, port: Endpoint(str(host), port), st.ip_addresses(v=6), st.integers(0, 65535)),
)


@given(local=endpoints, remote=endpoints, number=st.integers(0, 0xFFFFFF), mtu=st.integers(1280, 9000))
def test_a_tunnel_comes_back_as_it_was_packed(local: Endpoint, remote: Endpoint, number: int, mtu: int) -> None:
    if (":" in local.address) is not (":" in remote.address):
        return
    entry = TunnelEntry(number, 1 << 40, 3, mtu, Flag.USABLE | Flag.MAY_FRAGMENT, local, remote)
    assert unpack_tunnel(entry.pack()) == entry
    assert len(entry.source()) == layout.SOURCE[entry.family].size


@given(key=st.one_of(st.binary(min_size=13, max_size=13), st.binary(min_size=37, max_size=37)))
def test_a_flow_key_comes_back_as_it_was_packed(key: bytes) -> None:
    assert len(row_key(key)) == layout.ROW_KEY_BYTES[layout.family_of(key)]
    assert flow_key_of(row_key(key)) == key
