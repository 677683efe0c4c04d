"""Runs a scenario of the lab as a test."""

from collections.abc import Sequence

import pytest

from sojourn.lab import tables
from sojourn.lab.runner import Run
from sojourn.lab.scenarios import Scenario
from sojourn.lab.timeline import PlainObserver

SLACK_MS = 60.0
"""Tests share the machine with others: three of the 20 ms intervals may go by until everybody had the processor.
The figures themselves are measured by `make bench`, on a machine of its own."""


def experiment(scenario: Scenario, prefix: str) -> None:
    """Run a scenario and fail with its tables unless all expectations are met."""
    result = Run(scenario, prefix, PlainObserver(), slack_ms=SLACK_MS).run()
    if not result.met:
        parts = (tables.checks(result), tables.streams(result), tables.events(result))
        pytest.fail("\n\n".join(_text(*part) for part in parts), pytrace=False)


def _text(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return "\n".join("  ".join(str(cell) for cell in row) for row in (headings, *rows))
