import pytest

from sojourn.lab.scenarios import LASTING, SCENARIOS
from sojourn.lab.traffic import KINDS


@pytest.mark.parametrize("name", SCENARIOS)
def test_events_are_in_order_and_within_the_time(name: str) -> None:
    scenario = SCENARIOS[name]()
    times = [event.at for event in scenario.events]
    assert scenario.name == name
    assert times == sorted(times)
    assert times[0] >= 1.0
    assert times[-1] < scenario.seconds - 1.0
    assert set(scenario.traffic) <= set(KINDS)
    assert all(place < len(times) for place in scenario.limits.return_ms)


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_scenario_lasts_as_long_as_asked(name: str) -> None:
    assert LASTING[name](120.0).seconds > 120.0
