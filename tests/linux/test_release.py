"""The kernel's version, as those say it who build kernels."""

import os

import pytest

from sojourn.linux.release import kernel


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.1.0-18-amd64", (6, 1)), ("5.10.0-30-cloud-arm64", (5, 10)), ("6.18.44+", (6, 18)), ("6.2-rc13", (6, 2)),
     ("7", (7, 0)), ("unknown", (0, 0))],
)  # fmt: skip
def test_two_numbers_are_found_in_whatever_it_calls_itself(
    monkeypatch: pytest.MonkeyPatch, release: str, version: tuple[int, int]
) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "x", release, "#1", "x86_64")))
    assert kernel() == (release, version)
