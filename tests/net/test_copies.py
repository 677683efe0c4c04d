"""A call over two networks at once, with the real daemons: one dies silently, and nothing is lost or doubled.

mh --- nat0 (wifi) ------ core --- an (anchor)
  \\-- nat1 (cellular) --/  \\---- ch (voice at 50 packets/s)
"""

import re
from itertools import pairwise

import pytest

from sojourn.lab.copied import copied
from sojourn.lab.report import Happened
from sojourn.lab.runner import Run
from sojourn.lab.timeline import PlainObserver

pytestmark = [pytest.mark.net, pytest.mark.timed]


DEATH = 5.0
SILENCE_S = 0.175
"""What it takes to notice a silent death (upmt/constants.py)."""
ANY_PAUSE_MS = 1000.0
"""The longest gap of the whole call is bench/copies.py's, on a machine of its own."""


class Listener(PlainObserver):
    """Keeps what the events said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def happened(self, event: Happened) -> None:
        super().happened(event)
        self.said.append(event.text)


@pytest.mark.parametrize("network", ["wifi", "cellular"])
def test_a_network_that_dies_silently_costs_a_copied_call_nothing(network: str, prefix: str) -> None:
    observer = Listener()
    result = Run(copied(network), prefix, observer, slack_ms=ANY_PAUSE_MS).run()
    assert [(check.what, check.measured) for check in result.checks if not check.met] == []
    for arrivals in result.arrivals.values():
        around = [at for at in arrivals if DEATH - 0.1 < at < DEATH + 0.4]
        assert max(after - before for before, after in pairwise(around)) < SILENCE_S, "nobody waited for the silence"
    sent, dropped = map(int, re.findall(r"(\d+) copies sent, (\d+) dropped", observer.said[-1])[0])
    assert sent > 100, "it was copied while both networks lived"
    assert dropped > 100, "both ways"
