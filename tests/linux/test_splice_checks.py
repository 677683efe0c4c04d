"""What doctor says of the splice."""

import errno
import os
import sys
from pathlib import Path

import pytest

from sojourn.linux import splice_checks, splice_tables


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF programs")
def test_a_kernel_that_takes_the_program_is_said_to() -> None:
    check = splice_checks.splice_check("[socks] splice = true")
    assert check.ok, check.found
    assert "BPF file system" in check.found


def test_what_is_missing_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(splice_checks, "OBJECT", tmp_path / "splice.bpf.o")
    check = splice_checks.splice_check("[socks] splice = true")
    assert not check.ok
    assert not check.needed
    assert "would relay" in check.found
    assert "\n" not in check.found
    assert "[socks] splice = true" in check.found
    assert "CAP_BPF" in check.remedy


CALL_BPF_LOOP = b"\x85\0\0\0" + (181).to_bytes(4, sys.byteorder)
CALL_NOTHING = b"\x85\0\0\0" + (9999).to_bytes(4, sys.byteorder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF programs")
def test_a_kernel_without_a_function_that_the_program_calls_is_none_that_splices(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = splice_tables.OBJECT.read_bytes()
    assert program.count(CALL_BPF_LOOP) == 1, "the newest of them, by its number"
    (tmp_path / "splice.bpf.o").write_bytes(program.replace(CALL_BPF_LOOP, CALL_NOTHING))
    monkeypatch.setattr(splice_checks, "OBJECT", tmp_path / "splice.bpf.o")
    check = splice_checks.splice_check("[socks] splice = true")
    assert not check.ok
    assert "would relay" in check.found
    assert "Linux 5.17" in check.remedy
    old = os.uname_result(("Linux", "x", "5.10.0-30-amd64", "#1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: old)
    assert splice_checks.splice_check("asked").found.endswith(
        "Linux 5.10.0-30-amd64 has no bpf_loop, 5.17 and newer have"
    )


def test_who_has_no_right_is_told_which_it_takes() -> None:
    said = splice_tables.refusal(OSError(errno.EPERM, "Operation not permitted"))
    assert said == "operation not permitted (it takes root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)"
