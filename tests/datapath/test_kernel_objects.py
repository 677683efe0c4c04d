"""Loading the programs, lending them, and the reasons why there are none."""

import os
import struct
from pathlib import Path

import pytest

from sojourn.datapath import kernel_objects
from sojourn.datapath.kernel_layout import MAPS, PROGRAMS
from sojourn.datapath.lending import lend
from sojourn.errors import NotSupported
from sojourn.linux.bpf import close_all
from sojourn.linux.descriptors import Descriptors
from sojourn.model import Endpoint
from sojourn.upmt.commands import Role, Setup

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF programs")
PLAIN = Setup(Role.HOST, "sojourn0", 1420, plain=True)


@needs_root
def test_what_control_lends_is_what_the_data_path_takes() -> None:
    setup, lent = lend(PLAIN, (), {})
    assert setup == PLAIN
    assert len(lent) == len(PROGRAMS) + len(MAPS)
    descriptors = Descriptors(lent)
    assert set(kernel_objects.obtain(descriptors, Role.HOST)) == {*PROGRAMS, *MAPS}
    assert descriptors.held == lent
    assert lend(PLAIN, descriptors.held, {}) == (PLAIN, {}), "once is enough"
    close_all(lent.values())


@needs_root
def test_where_nothing_was_lent_the_data_path_loads_for_itself() -> None:
    descriptors = Descriptors()
    found = kernel_objects.obtain(descriptors, Role.ANCHOR)
    assert set(descriptors.held.values()) == set(found.values())
    close_all(found.values())


@pytest.mark.parametrize("engine", ["python", "core", " Python"])
def test_nothing_is_lent_where_another_engine_is_asked_for(engine: str) -> None:
    setup, lent = lend(PLAIN, (), {"SOJOURN_ENGINE": engine})
    assert setup.without_kernel == f"SOJOURN_ENGINE={engine.strip().lower()}"
    assert not lent


def test_nothing_is_lent_where_all_tunnels_are_sealed() -> None:
    sealed = Setup(Role.ANCHOR, "sojourn0", 1420, listen=(Endpoint("127.0.0.1", 1800),))
    assert lend(sealed, (), {}) == (sealed, {})


def test_an_object_that_was_not_built_is_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernel_objects, "OBJECT", tmp_path / "plain.bpf.o")
    setup, lent = lend(PLAIN, (), {})
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
    setup, lent = lend(PLAIN, (), {})
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
    setup, lent = lend(PLAIN, (), {})
    assert setup.without_kernel.startswith("plain.bpf.o: ")
    assert not lent
