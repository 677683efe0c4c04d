"""Builds the fuzzers of the C core with ASan and UBSan, and runs each for a bounded time.

    python -m tests.fuzz.core_fuzzers [--seconds N | --runs N] [NAME...]

Needs clang with its sanitizers (Debian: clang, libclang-rt-dev). What is found is left in build/fuzz/NAME/.
"""

import argparse
import atexit
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE, FUZZ, BUILD = ROOT / "src/sojourn/datapath/core", ROOT / "tests/fuzz/core", ROOT / "build/fuzz"
NAMES = ("packet", "send", "receive", "begin")
PARTS = ("packet", "hash", "seal", "rules", "births", "table", "notice", "send", "open", "answer", "receive", "line")
SANITIZE = "-fsanitize=fuzzer,address,undefined"
FLAGS = (
    "-std=gnu11", "-g", "-O1", "-D_GNU_SOURCE", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", "-Wall",
    "-Wno-unused-parameter",
)  # fmt: skip


@functools.cache
def core() -> list[str]:
    """Compile what is fuzzed, once for all fuzzers of this process; return the objects."""
    folder = BUILD / f"core-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    words = [*FLAGS, SANITIZE.replace("fuzzer", "fuzzer-no-link"), "-c"]  # its main() comes with the linking
    subprocess.run(["clang", *words, *(str(CORE / f"{part}.c") for part in PARTS)], cwd=folder, check=True)
    return [str(folder / f"{part}.o") for part in PARTS]


def build(name: str) -> Path:
    """Compile one fuzzer and return it."""
    made = BUILD / f"fuzz_{name}"
    words = [*FLAGS, SANITIZE, f"-I{CORE}", f"-I{FUZZ}", str(FUZZ / f"fuzz_{name}.c"), *core()]
    subprocess.run(["clang", *words, "-o", str(made), "-lcrypto", "-lpthread"], check=True)
    return made


def run(name: str, limits: list[str]) -> bool:
    """Run one fuzzer from its seeds on; say whether it found nothing."""
    corpus = BUILD / name
    corpus.mkdir(parents=True, exist_ok=True)
    options = [f"-artifact_prefix={corpus}/", "-max_len=4096", "-timeout=10"]
    command = [str(build(name)), *limits, *options, str(corpus), str(FUZZ / "seeds" / name)]
    # Leaks: one core lives as long as the process.
    done = subprocess.run(command, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}, capture_output=True, text=True)
    last = next((line for line in reversed(done.stderr.splitlines()) if "cov:" in line), "")
    sys.stdout.write(f"{name}: {'nothing found' if not done.returncode else done.stderr[-6000:]} {last}\n")
    return not done.returncode


def main() -> int:
    """Run those that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--runs", type=int)
    parser.add_argument("names", nargs="*", default=NAMES)
    given = parser.parse_args()
    if shutil.which("clang") is None:
        sys.exit("clang is needed (Debian: apt-get install clang libclang-rt-dev)")
    limits = [f"-runs={given.runs}", "-seed=1"] if given.runs else [f"-max_total_time={given.seconds}"]
    return 0 if all([run(name, limits) for name in given.names]) else 1


if __name__ == "__main__":
    sys.exit(main())
