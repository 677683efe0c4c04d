"""`sojourn expose`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.control_socket import answers, serving, sojourn

ROW = {"protocol": "tcp", "public_port": 2222, "host": "laptop", "port": 22}
Asked = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def asked() -> Asked:
    return []


@pytest.fixture
def path(tmp_path: Path, asked: Asked) -> Iterator[str]:
    path = str(tmp_path / "a.sock")
    verbs = {"expose": {"version": 1, **ROW}, "exposed": [ROW], "expose_remove": {"version": 1, "removed": True}}
    with serving(path, {}, answers(verbs, asked)):
        yield path


def test_a_port_is_exposed_under_another_number_or_its_own(path: str, asked: Asked) -> None:
    assert sojourn("expose", "tcp/22", "--as", "2222", "--socket", path).code == 0
    assert sojourn("expose", "udp/5060", "--host", "phone", "--socket", path).code == 0
    assert asked == [
        ("expose", {"protocol": "tcp", "port": 22, "public_port": 2222, "host": None}),
        ("expose", {"protocol": "udp", "port": 5060, "public_port": 5060, "host": "phone"}),
    ]


def test_what_is_exposed_is_listed_and_removed(path: str, asked: Asked) -> None:
    assert json.loads(sojourn("expose", "list", "--json", "--socket", path).out) == [ROW]
    assert sojourn("expose", "list", "--socket", path).out.splitlines()[1].split() == ["tcp", "2222", "laptop", "22"]
    assert sojourn("expose", "remove", "tcp/2222", "--socket", path).out == "tcp/2222 is closed.\n"
    assert asked[-1] == ("expose_remove", {"protocol": "tcp", "public_port": 2222})


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["tcp"], ["tcp/0"], ["tcp/22", "tcp/23"], ["tcp/22", "--as", "70000"], ["list", "x"], ["remove"],
        ["remove", "2222"], ["list", "--as", "1"], ["remove", "tcp/1", "--host", "x"],
    ],
)  # fmt: skip
def test_wrong_words_are_usage_errors(path: str, asked: Asked, arguments: list[str]) -> None:
    ran = sojourn("expose", *arguments, "--socket", path)
    assert (ran.code, ran.out, asked) == (2, "", [])
    assert ran.err.count("\n") == 1
