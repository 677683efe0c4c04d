"""Builds the C core with ThreadSanitizer and lets several threads at it: tests/fuzz/core/race.c says how.

    python -m tests.fuzz.core_race [--seconds N]

Needs gcc with libtsan, which Debian's has.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests.fuzz.core_fuzzers import BUILD, CORE, FUZZ, PARTS

FLAGS = (
    "-std=gnu11", "-g", "-O1", "-D_GNU_SOURCE", "-fno-omit-frame-pointer", "-fsanitize=thread", "-Wall", "-Wextra",
    "-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-tsan",
)  # fmt: skip
"""-Wno-tsan: fences are not understood by it. Where one stands, atomic operations beside it carry the order as well."""


def has_libtsan() -> bool:
    """Say whether gcc is here and finds the library."""
    try:
        done = subprocess.run(["gcc", "-print-file-name=libtsan.so"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return False
    return Path(done.stdout.strip()).is_absolute()


def build() -> Path:
    """Compile it and return where it is."""
    BUILD.mkdir(parents=True, exist_ok=True)
    made = BUILD / "race"
    sources = [FUZZ / "race.c", *(CORE / f"{part}.c" for part in PARTS)]
    subprocess.run(["gcc", *FLAGS, f"-I{CORE}", f"-I{FUZZ}", *map(str, sources), "-o", str(made), "-lcrypto",
                    "-lpthread"], check=True)  # fmt: skip
    return made


def run(seconds: float) -> tuple[bool, str]:
    """Run it; say whether nothing was found, and what was said."""
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=0 exitcode=66"}
    done = subprocess.run([str(build()), str(seconds)], env=environment, capture_output=True, text=True, check=False)
    return not done.returncode, done.stdout + done.stderr[-6000:]


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    good, said = run(parser.parse_args().seconds)
    sys.stdout.write(said)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
