"""What `sojourn doctor` says of applications, where all is well and where each thing is missing."""

import os
from pathlib import Path

import pytest

from sojourn.errors import NotSupported
from sojourn.linux import bpf, cgroups, owner_programs, processes
from sojourn.linux.owner_checks import LOST, owner_checks

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF programs")
needs_btf = pytest.mark.skipif(
    not Path("/sys/kernel/btf/vmlinux").exists(), reason="needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF)"
)


@needs_btf
def test_all_is_well_here() -> None:
    (check,) = owner_checks()
    assert check.ok, check.found
    assert "for certain" in check.found


def test_programs_that_were_not_built_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(owner_programs, "OBJECT", tmp_path / "owner.bpf.o")
    (check,) = owner_checks()
    assert (check.ok, check.needed) == (False, False)
    assert LOST in check.found
    assert "owner.bpf.o, which was not built" in check.found


def test_a_machine_without_the_library_is_told_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "LIBRARY", "libbpf-that-is-not-there.so")
    monkeypatch.setattr(bpf._Library, "_loaded", None)
    (check,) = owner_checks()
    assert "libbpf-that-is-not-there.so" in check.found
    assert "apt install libbpf1" in check.remedy


def test_a_machine_without_cgroup2_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise NotSupported("classification by cgroup-BPF", "cgroup2 to be mounted")

    monkeypatch.setattr(cgroups, "open_root", refuse)
    (check,) = owner_checks()
    assert "cgroup2 to be mounted" in check.found


@needs_btf
def test_a_container_is_told_what_its_numbers_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "numbers_are_the_kernels", lambda: False)
    (check,) = owner_checks()
    assert check.ok
    assert "names come from cgroups alone" in check.found
