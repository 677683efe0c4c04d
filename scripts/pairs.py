"""Pairs source and test files: src/sojourn/A/b.py is tested by tests/A/test_b.py, or by another test that imports it.

A module that only serves one of its own package (tunnel_keys.py serves tunnel.py) is tested through that one.
Prints the modules that no test knows and exits with 1. Run by `make lint`.
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE, TESTS = ROOT / "src" / "sojourn", ROOT / "tests"

VALUES_ONLY = {
    "__main__.py", "errors.py", "machine.py", "model.py",
    "datapath/base.py", "upmt/association_events.py", "upmt/commands.py", "upmt/constants.py", "upmt/events.py",
    "upmt/events_network.py", "upmt/host_events.py", "upmt/records.py",
}  # fmt: skip
"""Modules that hold names and plain values, with no behaviour of their own to test."""

BY_NET_TESTS = {"daemon"}
"""Packages that only connect others: what they do is seen with real daemons (tests/net)."""


def imported(file: Path) -> set[str]:
    """Return the dotted names of all that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def module_of(path: Path) -> str:
    """Return the dotted name of a source file."""
    return ".".join(("sojourn", *path.relative_to(SOURCE).with_suffix("").parts))


def unknown_to_tests() -> list[str]:
    """Return the modules that no test file is named after, none imports, and no tested neighbour imports."""
    by_tests = set().union(*(imported(test) for test in TESTS.rglob("*.py")))
    sources = [path for path in SOURCE.rglob("*.py") if path.name != "__init__.py"]
    tested = {
        path
        for path in sources
        if (TESTS / path.relative_to(SOURCE).parent / f"test_{path.name}").exists() or module_of(path) in by_tests
    }
    through = {(path.parent, name) for path in tested for name in imported(path)}
    found = []
    for path in sorted(set(sources) - tested):
        source = path.relative_to(SOURCE)
        if str(source) in VALUES_ONLY or source.parts[0] in BY_NET_TESTS or (path.parent, module_of(path)) in through:
            continue
        found.append(f"src/sojourn/{source}: no test is named after it or imports it")
    return found


def main() -> int:
    """Print the complaints, one a line."""
    complaints = unknown_to_tests()
    complaints += [
        f"VALUES_ONLY names {name}, which is not there" for name in VALUES_ONLY if not (SOURCE / name).exists()
    ]
    for complaint in complaints:
        print(complaint, file=sys.stderr)  # noqa: T201 - a script's output
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
