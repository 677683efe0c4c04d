"""What all tests have in common."""

import pytest
from hypothesis import settings

settings.register_profile("sojourn", deadline=None)  # how long one example takes says most about the machine
settings.load_profile("sojourn")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were tried again: what passed at the second try has failed at the first."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.write_sep("_", f"tried again: {report.nodeid}")
        terminalreporter.write_line("\n".join(report.longreprtext.splitlines()[-25:]))
