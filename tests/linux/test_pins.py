"""Pins by name in the kernel's BPF file system."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.lab import namespaces
from sojourn.linux import bpf_pin, pins
from sojourn.linux.bpf import OBJECTS, BpfObject, close_all
from sojourn.linux.bpf_map import BpfMap
from sojourn.linux.descriptors import HeldDescriptors
from sojourn.linux.pins import Pins
from tests.linux.fresh import named_namespace, namespace, sh

__all__ = ["namespace"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF maps")


@pytest.fixture
def fd() -> Iterator[int]:
    """A map of tunnels' senders."""
    with BpfObject(OBJECTS / "plain.bpf.o", {"sources4": 16}) as loaded:
        made = loaded.map("sources4")
    yield made
    os.close(made)


def first_word(fd: int) -> int | None:
    value = BpfMap(fd, 12, 16).look_up(bytes(12))
    return struct.unpack_from("=I", value)[0] if value is not None else None


def test_what_was_kept_is_found_by_name_by_whoever_comes_later(namespace: None, fd: int) -> None:
    mine = Pins("my.tun")
    mine.keep("kernel/build/anchor/map", fd)
    mine.keep("tun/my.tun", fd)  # no BPF object: held, not pinned
    BpfMap(fd, 12, 16).update(bytes(12), struct.pack("=I12x", 4711))
    left = Pins("my.tun").left()
    assert list(left) == ["kernel/build/anchor/map"]
    assert first_word(left["kernel/build/anchor/map"]) == 4711
    assert Pins("other").left() == {}
    mine.drop("kernel/build/anchor/map")
    mine.drop("kernel/build/anchor/map")
    assert Pins("my.tun").left() == {}
    close_all(left.values())
    assert mine.remove() == []


def test_a_name_is_pinned_anew_in_the_place_of_what_had_it(namespace: None, fd: int) -> None:
    mine, held = Pins("tun7"), HeldDescriptors()
    held.keep("kernel/a", os.dup(fd))
    held.pin(mine)
    with BpfObject(OBJECTS / "plain.bpf.o", {"sources4": 8}) as loaded:
        other = loaded.map("sources4")
    BpfMap(other, 12, 16).update(bytes(12), struct.pack("=I12x", 12))
    held.keep("kernel/a", other)
    left = mine.left()
    assert first_word(left["kernel/a"]) == 12
    held.close(leave_pins=True)
    again = mine.left()
    assert list(again) == ["kernel/a"], "for a successor"
    close_all([*left.values(), *again.values()])
    assert len(mine.remove()) == 1


def test_cleanup_removes_the_pins_of_this_namespace(namespace: None, fd: int) -> None:
    Pins("one").keep("kernel/x/a", fd)
    Pins("two").keep("kernel/b", fd)
    assert len(pins.remove_all()) == 2
    assert pins.remove_all() == []
    assert Pins("one").left() == Pins("two").left() == {}


def test_a_lab_s_namespace_takes_what_was_pinned_in_it_away(fd: int) -> None:
    with named_namespace("pins") as name:
        number = Path("/run/netns", name).stat().st_ino
        path = bpf_pin.place() / f"sojourn-kernel-{number}-tun7" / "kernel" / "a"
        path.parent.mkdir(parents=True)
        bpf_pin.pin(fd, path)
        namespaces.delete([name])
        assert not path.parent.parent.exists()
        sh(f"ip netns add {name}")  # for the harness to remove


def test_what_somebody_else_has_put_there_is_not_taken(namespace: None, fd: int) -> None:
    said: list[str] = []
    mine = Pins("tun7", said.append)
    mine.keep("kernel/a", fd)
    (folder,) = bpf_pin.place().glob(f"sojourn-kernel-{bpf_pin.namespace()}-*")
    os.chown(folder, 12345, 12345)
    assert mine.left() == {}
    mine.keep("kernel/b", fd)
    assert said == [f"{folder} belongs to somebody else"]
    assert len(bpf_pin.remove(folder)) == 1


def test_where_nothing_can_be_pinned_it_is_said_once(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def nowhere() -> Path:
        raise OSError(1, "a BPF file system cannot be mounted")

    monkeypatch.setattr(bpf_pin, "place", nowhere)
    mine = Pins("tun7", said.append)
    mine.keep("kernel/a", fd)
    mine.keep("kernel/b", fd)
    assert said == ["a BPF file system cannot be mounted"]
