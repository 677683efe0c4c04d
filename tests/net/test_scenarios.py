"""The lab's scenarios with the real daemons: no flow breaks, and the figures are met.

mh --- nat0 (wifi) ------ core --- an (anchor)
  \\-- nat1 (cellular) --/  \\---- ch (voice at 50 packets/s, TCP echo)
"""

from collections.abc import Callable

import pytest

from sojourn.lab import scenarios
from sojourn.lab.scenarios import SCENARIOS, Scenario

pytestmark = [pytest.mark.net, pytest.mark.timed]

LASTING = {
    "both-lost-and-back": scenarios.both_lost_and_back(8.0),
    "lossy": scenarios.lossy(15.0),
    "suspend": scenarios.suspend(5.0),
}
"""The scenarios whose essential time a user may choose; here as short as they mean something."""


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "demo"])
def test_no_flow_breaks_and_the_figures_are_met(name: str, run: Callable[[Scenario], None]) -> None:
    run(LASTING.get(name) or SCENARIOS[name]())
