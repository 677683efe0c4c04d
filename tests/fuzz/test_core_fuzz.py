"""The fuzzers of the C core, for a moment: `make fuzz` runs them for longer."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fuzz import core_fuzzers

SANITIZERS = "the sanitizers of clang (Debian: libclang-rt-dev)"


def has_sanitizers() -> bool:
    clang = shutil.which("clang")
    if clang is None:
        return False
    where = subprocess.run([clang, "-print-resource-dir"], capture_output=True, text=True, check=True).stdout.strip()
    return any(Path(where).rglob("libclang_rt.fuzzer*.a"))


@pytest.mark.skipif(not has_sanitizers(), reason=f"needs {SANITIZERS}")
@pytest.mark.parametrize("name", core_fuzzers.NAMES)
def test_nothing_is_found_in_a_moment(name: str) -> None:
    assert core_fuzzers.run(name, ["-runs=20000", "-seed=1"])
