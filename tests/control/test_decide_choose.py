"""What is known of networks, as the choice and people are told it."""

from sojourn.control.decide_choose import Chooser
from sojourn.control.decide_lanes import MARGIN, Lane
from sojourn.control.decide_paths import Path, PathState
from sojourn.control.flows import FlowBook
from sojourn.control.measures import Measures
from sojourn.control.network_facts import NetworkFacts
from sojourn.control.questions import Questions
from tests.control.networks import PHONE, WIFI
from tests.control.policies import CALL, Meter


def chooser(measures: Measures, **told: NetworkFacts) -> tuple[Chooser, dict[str, Path]]:
    """Return one over Wi-Fi that works and cellular that is silent."""
    paths = {network.name: Path(network, 0.0) for network in (WIFI, PHONE)}
    paths["home"].become(PathState.WORKS, "answers", 1.0)
    paths["phone"].become(PathState.SILENT, "no answer for 250 ms", 1.0)
    describe = (lambda network: told[network.name]) if told else None
    return Chooser(paths, measures, Questions(), FlowBook(), describe, None), paths


def test_without_anybody_who_describes_networks_the_kernel_and_the_counters_do() -> None:
    measures, wifi = Measures(), Meter("home", 0.0213)
    for step in range(20):
        measures.take(wifi.report(50, size=1000), 10.0 + 0.2 * step)
    made, paths = chooser(measures)
    facts = made.facts(paths["home"], 14.0)
    assert (facts.name, facts.kind, facts.interface, facts.works, facts.cost) == ("home", "wifi", "wlan0", True, "free")
    assert (facts.rtt, facts.loss, facts.jitter) == (0.0213, 0.0, 0.001)
    assert facts.rate is not None
    assert made.facts(paths["phone"], 14.0).cost == "metered"
    assert made.words(paths["phone"], 14.0) == "silent (no answer for 250 ms), metered"
    assert made.words(paths["home"], 14.0).startswith("works, rtt 21.3ms, loss 0%")


def test_what_networks_are_said_to_be_goes_before_what_the_kernel_says() -> None:
    told = NetworkFacts("home", "wlan0", "wifi", "Cafe", True, 0.61, "metered", ("open",), used=9, cap=5)
    made, paths = chooser(Measures(), home=told)
    facts = made.facts(paths["home"], 1.0)
    assert (facts.label, facts.metered, facts.signal, facts.security, facts.over_cap) == (
        "Cafe", True, 0.61, ("open",), True,
    )  # fmt: skip
    assert made.words(paths["home"], 1.0) == "works, signal 61%, metered, over its cap"


def test_a_lane_looks_at_a_network_that_it_left_more_strictly() -> None:
    made, paths = chooser(Measures())
    facts = made.facts(paths["home"], 1.0)
    lane = Lane(CALL)
    assert lane.judged(facts, 1.0) is facts
    lane.leave_unfit("home", 1.0)
    stricter = lane.judged(type(facts)("home", rtt=0.1, loss=0.01, rate=10e6), 2.0)
    assert (stricter.rtt, stricter.loss, stricter.rate) == (0.1 * MARGIN, 0.01 * MARGIN, 10e6 / MARGIN)
    lane.go("home", "it fits again", 20.0)
    assert lane.judged(facts, 21.0) is facts
