"""`make bench`: every program in a process of its own, what it prints kept in bench-out/NAME-N.json, then the page.

    python -m bench._run --runs 3 --only "sealed kernel"

Each round runs every program once, so that a bad minute of the machine is not one program's alone. A program's first
success takes the place of what an earlier call has left of it; one that fails, or has not ended in time, loses nothing
and is named at the end, with exit code 1. In time means SIGTERM, which unwinds the program as an error would: it takes
its namespaces down itself.
"""

import argparse
import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final

from bench import _machine, _page

OUT: Final = Path("bench-out")
LIMITS: Final = {"scale": 900.0, "sealed": 400.0, "splice": 345.0}
LIMIT: Final = 300.0
"""Seconds that a program may take; those above take longer by their nature. All aim at four minutes at most."""
UNWINDING: Final = 60.0


def programs() -> list[str]:
    """Return the names of all programs of this folder."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def keep(folder: Path, name: str, record: dict[str, Any], *, first: bool) -> Path:
    """Write one run; the first one of a call takes the place of all that was there."""
    folder.mkdir(exist_ok=True)
    before = sorted(folder.glob(f"{name}-[0-9]*.json"))
    place = folder / f"{name}-{1 if first else len(before) + 1}.json"
    written = place.with_suffix(".new")
    written.write_text(json.dumps({"bench": name, **record}, indent=1) + "\n")
    for old in before if first else ():
        old.unlink()
    written.rename(place)
    return place


def measured(name: str, limit: float) -> dict[str, Any]:
    """Run one program; return its record. Raises RuntimeError that says why there is none."""
    machine, began = _machine.described(), time.monotonic()
    at, before = time.strftime("%Y-%m-%dT%H:%M:%S%z"), _machine.stolen()
    argv = [sys.executable, "-m", "bench._run", "--program", name]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            said, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=UNWINDING)
            process.kill()
            raise RuntimeError(f"not done within {limit:g} s") from None
    try:
        result = json.loads(said)
    except ValueError:
        raise RuntimeError(f"exit code {process.returncode}, and no JSON") from None
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}")
    stolen, busy = (after - was for after, was in zip(_machine.stolen(), before, strict=True))
    return {
        "began": at, "took_s": round(time.monotonic() - began, 1), "machine": machine,
        "stolen_percent": round(100 * stolen / busy, 1) if busy else 0.0, "result": result,
    }  # fmt: skip


def all_of(names: list[str], runs: int, failed: dict[str, str], folder: Path = OUT) -> None:
    """Run them, round by round; `failed` gets why some have not succeeded, by name and round."""
    kept: set[str] = set()
    for number in range(1, runs + 1):
        for name in names:
            print(f"== {name}, run {number} of {runs}", file=sys.stderr, flush=True)
            try:
                record = measured(name, LIMITS.get(name, LIMIT))
            except RuntimeError as error:
                failed[f"{name}, run {number}"] = str(error)
                print(f"   {error}", file=sys.stderr, flush=True)
                continue
            place = keep(folder, name, record, first=name not in kept)
            kept.add(name)
            print(f"   {place}: {record['took_s']:g} s", file=sys.stderr, flush=True)


def alone(name: str) -> None:
    """Be the process of one program; SIGTERM ends it as an error would, in its own `finally` blocks."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(f"ended by signal {number}")

    signal.signal(signal.SIGTERM, end)
    sys.argv = [name]
    runpy.run_module(f"bench.{name}", run_name="__main__", alter_sys=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", default="", help="names with blanks between; all else")
    parser.add_argument("--program", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.program:
        alone(given.program)
        return 0
    names, known = given.only.split() or programs(), programs()
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"no program is called {', '.join(unknown)}; there are {', '.join(known)}")
    os.environ["PYTHONUNBUFFERED"] = "1"
    failed: dict[str, str] = {}
    try:
        all_of(names, given.runs, failed)
    finally:  # what an interrupted call has measured is on the page, too
        _page.write()
    for what, why in failed.items():
        print(f"bench: {what}: {why}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
