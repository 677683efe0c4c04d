"""What every store promises, asked of both of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from sojourn.model import TCP, UDP, TunnelId
from sojourn.packet.seal import Aead, Secret
from sojourn.store.base import AnchorRecords, MemoryStore, Store
from sojourn.store.sqlite import SqliteStore
from sojourn.upmt.records import PortForward, Subscriber

LAPTOP = Subscriber(
    "laptop",
    "laptop",
    ha1="a" * 64,
    tid="0123",
    vipa="10.201.0.2",
    vipa6="fd00::2",
    tunnels=tuple(TunnelId(number) for number in range(0xFFFFF0, 0x1000000)),
    secrets=(Secret(1, bytes(32), 0), Secret(2, bytes(range(32)), 7, Aead.CHACHA20_POLY1305)),
    move=1 << 40,
    lease_until=1.8e9,
    created=1.7e9,
)
PHONE = Subscriber("phone", "phone", ha1_once="b" * 64)
SSH = PortForward(TCP, 2222, "laptop", 22)
SIP = PortForward(UDP, 5060, "phone", 5060)

Make = Callable[[], Store]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Return what opens the store; a second call finds what the first has written."""
    if request.param == "memory":
        store = MemoryStore()
        return lambda: store
    return lambda: SqliteStore(str(tmp_path / "anchor.db"))


def test_a_new_store_is_empty(make: Make) -> None:
    assert make().load() == AnchorRecords({}, (), {})


def test_everything_is_there_after_a_restart(make: Make) -> None:
    store = make()
    store.put(LAPTOP, PHONE)
    store.put_forward(SSH)
    store.put_forward(SIP)
    store.put_meta("nonce", b"\x00secret")
    store.close()
    expected = AnchorRecords({"laptop": LAPTOP, "phone": PHONE}, (SSH, SIP), {"nonce": b"\x00secret"})
    assert make().load() == expected


def test_what_is_put_again_is_replaced(make: Make) -> None:
    store = make()
    store.put(LAPTOP)
    moved = replace(LAPTOP, move=LAPTOP.move + 1, secrets=())
    store.put(moved)
    store.put_forward(SSH)
    store.put_forward(replace(SSH, user="phone"))
    store.put_meta("k", b"1")
    store.put_meta("k", b"2")
    assert store.load() == AnchorRecords({"laptop": moved}, (replace(SSH, user="phone"),), {"k": b"2"})


def test_a_user_goes_with_its_port_forwards(make: Make) -> None:
    store = make()
    store.put(LAPTOP, PHONE)
    store.put_forward(SSH)
    store.put_forward(SIP)
    store.remove("laptop")
    store.remove("nobody")
    assert store.load() == AnchorRecords({"phone": PHONE}, (SIP,), {})


def test_a_port_forward_is_removed_by_protocol_and_public_port(make: Make) -> None:
    store = make()
    store.put_forward(SSH)
    store.remove_forward(UDP, 2222)
    assert store.load().forwards == (SSH,)
    store.remove_forward(TCP, 2222)
    assert store.load().forwards == ()
