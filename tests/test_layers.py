"""The rules of the house that a program can check: who may import whom, and how long things may be."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "sojourn"

LAYERS = (
    {"model", "errors"},
    {"machine", "packet", "paft", "bucket"},
    {"sip", "i3", "msocks", "policy"},
    {"upmt"},
    {"control"},
    {"linux"},
    {"datapath", "store"},
    {"api"},
    {"window", "socket"},
    {"daemon", "lab"},
    {"cli"},
    {"__main__"},
)
"""From left to right: a package imports from its own and from those before it, never from a neighbour in its layer."""

UNUSED = {("upmt", "i3"), ("upmt", "msocks")}
"""Imports that the order would allow and that are wrong all the same: upmt uses sip and policy."""

SANS_IO = {name for layer in LAYERS[:5] for name in layer}
WITH_THE_WORLD = {
    "asyncio", "os", "random", "secrets", "select", "selectors", "socket", "ssl", "subprocess", "threading", "time",
}  # fmt: skip
"""What is forbidden left of `linux`: clock, random bytes and addresses are arguments there."""

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

SOURCES = sorted(SOURCE.rglob("*.py"))
EVERYTHING = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "scripts").glob("*.py"))]


def package_of(path: Path) -> str:
    """Return the first name below `sojourn`: "sip" for sip/digest.py, "paft" for paft.py."""
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import hides its layer"
            assert node.module is not None
            if node.module == "sojourn":
                yield from ((node.lineno, f"sojourn.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module


def layer_of(package: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if package in layer)


def may_import(package: str, other: str) -> bool:
    if package == other or other == "__version__":
        return True
    if (package, other) in UNUSED:
        return False
    return layer_of(other) < layer_of(package)


def test_every_package_has_its_place_in_the_order_of_layers() -> None:
    known = {name for layer in LAYERS for name in layer}
    assert {package_of(path) for path in SOURCES} - {"__init__"} <= known


def test_no_module_imports_from_the_right_of_it() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {package_of(path)} must not import {name}"
        for path in SOURCES
        if path != SOURCE / "__init__.py"
        for line, name in imports_of(path)
        if name.startswith("sojourn.") and not may_import(package_of(path), name.split(".")[1])
    ]
    assert not wrong, "\n".join(wrong)


def test_left_of_linux_nothing_touches_the_world() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: imports {name}"
        for path in SOURCES
        if package_of(path) in SANS_IO
        for line, name in imports_of(path)
        if name.split(".")[0] in WITH_THE_WORLD
    ]
    assert not wrong, "\n".join(wrong)


def test_every_module_and_package_says_what_it_owns() -> None:
    bare = [str(path.relative_to(ROOT)) for path in SOURCES if not ast.get_docstring(ast.parse(path.read_bytes()))]
    assert not bare


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in EVERYTHING
        if (lines := len(path.read_text().splitlines())) > MAX_FILE_LINES
    }
    assert not long


def test_no_function_is_longer_than_a_screen() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": length
        for path in EVERYTHING
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert not long


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt", "requirements-bench.txt"])
def test_the_locks_carry_hashes_and_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    pinned = [line for line in text.splitlines() if "==" in line]
    assert pinned
    assert all(line.endswith("\\") for line in pinned), "a pin without hashes"
    assert "://" not in text
    assert not any(line.startswith("-") for line in text.splitlines()), "an option of pip's"


def test_all_that_the_program_needs_is_in_the_locks() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        "requirements.txt": project["dependencies"],
        "requirements-dev.txt": [*project["dependencies"], *project["optional-dependencies"]["dev"]],
        "requirements-bench.txt": [*project["dependencies"], *project["optional-dependencies"]["bench"]],
    }
    for lock, requirements in wanted.items():
        pinned = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / lock).read_text(), re.MULTILINE))
        names = {re.split(r"[^A-Za-z0-9_.-]", text)[0].lower().replace("_", "-") for text in requirements}
        assert names <= pinned, "run `make lock`"
