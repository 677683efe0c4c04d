"""What doctor says of the splice."""

import os
from pathlib import Path

import pytest

from sojourn.linux import splice_checks


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
    assert "[socks] splice = true" in check.found
    assert "CAP_BPF" in check.remedy
