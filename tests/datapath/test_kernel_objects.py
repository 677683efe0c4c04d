"""Loading the programs, lending them, and the reasons why there are none."""

import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sojourn.datapath import kernel_objects
from sojourn.datapath.kernel_layout import MAPS, PROGRAMS, SETTINGS
from sojourn.datapath.kernel_tables import ATTENDED_FOR, KernelTables, slept
from sojourn.datapath.lending import lend
from sojourn.errors import NotSupported
from sojourn.linux.bpf import close_all
from sojourn.linux.bpf_map import BpfMap
from sojourn.linux.descriptors import Descriptors, HeldDescriptors
from sojourn.linux.pins import Pins
from sojourn.model import Endpoint
from sojourn.upmt.commands import Role, Setup

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF programs")
PLAIN = Setup(Role.HOST, "sojourn0", 1420, plain=True)
PINS = Pins("sojourn0")
ANCHOR = Setup(Role.ANCHOR, "lo", 1420, plain=True)
"""With a device that is there."""


@needs_root
def test_what_control_lends_is_what_the_data_path_takes() -> None:
    setup, lent = lend(PLAIN, (), PINS, {})
    assert setup == PLAIN
    assert len(lent) == len(PROGRAMS) + len(MAPS)
    descriptors = Descriptors(lent)
    assert set(kernel_objects.obtain(descriptors, Role.HOST)) == {*PROGRAMS, *MAPS}
    assert descriptors.held == lent
    assert lend(PLAIN, descriptors.held, PINS, {}) == (PLAIN, {}), "once is enough"
    close_all(lent.values())


@needs_root
def test_where_nothing_was_lent_the_data_path_loads_for_itself() -> None:
    descriptors = Descriptors()
    found = kernel_objects.obtain(descriptors, Role.ANCHOR)
    assert set(descriptors.held.values()) == set(found.values())
    close_all(found.values())


@pytest.fixture
def pins() -> Iterator[Pins]:
    """The pins of an anchor that has just been started, loaded all, and let its programs work."""
    held = HeldDescriptors()
    pins = Pins(ANCHOR.device)
    for name, fd in lend(ANCHOR, (), pins, {})[1].items():
        held.keep(name, fd)
    held.pin(pins)
    attend(held.by_name, ATTENDED_FOR)
    yield pins
    held.close(leave_pins=False)
    assert pins.left() == {}


def attend(fds: Mapping[str, int], seconds: float, device: str = ANCHOR.device) -> None:
    """Let the programs work for so long."""
    own = {name.rpartition("/")[2]: fd for name, fd in fds.items()}
    tables = KernelTables(own, kernel_objects.MOST_ROWS[Role.ANCHOR], kernel_objects.MOST_TUNNELS[Role.ANCHOR])
    tables.attend(time.monotonic() + slept() + seconds, socket.if_nametoindex(device), True)
    tables.close()


def settings_of(fds: Mapping[str, int]) -> bytes | None:
    (fd,) = (fd for name, fd in fds.items() if name.endswith("/settings"))
    return BpfMap(fd, 4, SETTINGS.size).look_up(bytes(4))


@needs_root
def test_a_new_anchor_takes_what_a_killed_one_has_pinned(pins: Pins) -> None:
    _, lent = lend(ANCHOR, (), pins, {})
    assert len(lent) == len(PROGRAMS) + len(MAPS)
    assert settings_of(lent) != bytes(SETTINGS.size), "not a new map: this one has been attended to"
    assert lend(ANCHOR, lent, pins, {}) == (ANCHOR, {}), "once is enough"
    close_all(lent.values())


@needs_root
def test_a_link_whose_interface_is_gone_is_not_taken(pins: Pins) -> None:
    left = pins.left()
    name = f"{kernel_objects.prefix(Role.ANCHOR)}/ingress/999999"
    pins.keep(name, next(iter(left.values())))
    _, lent = lend(ANCHOR, (), pins, {})
    assert name not in lent
    assert lent.keys() == left.keys()
    again = pins.left()
    assert name not in again
    close_all([*left.values(), *lent.values(), *again.values()])


@needs_root
@pytest.mark.parametrize("why", ["nobody attends to them any more", "the device is another", "a map is missing"])
def test_pins_that_are_of_no_use_go_and_all_is_loaded_anew(pins: Pins, why: str) -> None:
    left = pins.left()
    if why == "a map is missing":
        pins.drop(f"{kernel_objects.prefix(Role.ANCHOR)}/rows6")
    else:
        attend(left, -1.0 if why.startswith("nobody") else ATTENDED_FOR)
    with pytest.MonkeyPatch.context() as patch:
        if why == "the device is another":
            patch.setattr("socket.if_nametoindex", lambda _name: 4711)
        _, lent = lend(ANCHOR, (), pins, {})
    assert len(lent) == len(PROGRAMS) + len(MAPS)
    assert settings_of(lent) == bytes(SETTINGS.size), "a new map"
    assert pins.left() == {}
    close_all([*left.values(), *lent.values()])


@needs_root
def test_pins_go_where_another_engine_is_asked_for(pins: Pins) -> None:
    lend(ANCHOR, (), pins, {"SOJOURN_ENGINE": "core"})
    assert pins.left() == {}


@pytest.mark.parametrize("engine", ["python", "core", " Python"])
def test_nothing_is_lent_where_another_engine_is_asked_for(engine: str) -> None:
    setup, lent = lend(PLAIN, (), PINS, {"SOJOURN_ENGINE": engine})
    assert setup.without_kernel == f"SOJOURN_ENGINE={engine.strip().lower()}"
    assert not lent


def test_nothing_is_lent_where_all_tunnels_are_sealed() -> None:
    sealed = Setup(Role.ANCHOR, "sojourn0", 1420, listen=(Endpoint("127.0.0.1", 1800),))
    assert lend(sealed, (), PINS, {}) == (sealed, {})


def test_an_object_that_was_not_built_is_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernel_objects, "OBJECT", tmp_path / "plain.bpf.o")
    setup, lent = lend(PLAIN, (), PINS, {})
    assert "plain.bpf.o, which was not built" in setup.without_kernel
    assert not lent
    with pytest.raises(NotSupported):
        kernel_objects.obtain(Descriptors(), Role.HOST)


@needs_root
def test_a_program_that_the_verifier_refuses_is_the_reason_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refused = tmp_path / "plain.bpf.o"
    refused.write_bytes(reading_what_was_never_written(kernel_objects.OBJECT.read_bytes()))
    monkeypatch.setattr(kernel_objects, "OBJECT", refused)
    setup, lent = lend(PLAIN, (), PINS, {})
    assert setup.without_kernel.startswith("plain.bpf.o: ")
    assert "\n" not in setup.without_kernel
    assert len(setup.without_kernel) < 200
    assert not lent


def reading_what_was_never_written(elf: bytes) -> bytes:
    """Return a BPF object (ELF64) whose programs at tc begin with r0 = r9."""
    at, size, count, names = struct.unpack_from("<Q", elf, 40)[0], *struct.unpack_from("<HHH", elf, 58)
    sections = [struct.unpack_from("<IIQQQQ", elf, at + number * size) for number in range(count)]
    changed = bytearray(elf)
    (place,) = (each[4] for each in sections if elf[sections[names][4] + each[0] :].startswith(b"tc\0"))
    changed[place : place + 8] = b"\xbf\x90" + bytes(6)
    return bytes(changed)


@needs_root
def test_what_the_kernel_refuses_is_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "plain.bpf.o"
    broken.write_bytes(b"\x7fELF" + bytes(200))
    monkeypatch.setattr(kernel_objects, "OBJECT", broken)
    setup, lent = lend(PLAIN, (), PINS, {})
    assert setup.without_kernel.startswith("plain.bpf.o: ")
    assert not lent
