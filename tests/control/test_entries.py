"""Lines of the roaming log: decisions with their flows, and what came of them."""

from sojourn.control.entries import MAX_EFFECTS, Effects, Entry, of_handover
from sojourn.model import AssociationId
from sojourn.paft import MoveResult
from sojourn.policy.rules import Rule, Subject
from sojourn.upmt.commands import Everything
from sojourn.upmt.events import FlowsMoved, GapMeasured
from sojourn.upmt.host_events import Handover, PlanRow, RuleRow
from tests.control.policies import labelled

ME = AssociationId(1)


def test_a_decision_names_the_policies_whose_flows_move_and_where_they_part() -> None:
    one = Handover((labelled("call", "phone"),), "wifi: its loss is 5%, above 2%", "wifi")
    assert of_handover(one) == Entry("handover", "phone", one.reason, {"from": "wifi", "policies": "call"})
    two = Handover((labelled("", "phone"), labelled("backup", None), labelled("p2p", None, block=True)), "x", "wifi")
    assert of_handover(two).details["policies"] == (
        "others to phone, backup to nowhere (they wait), p2p to nowhere (refused)"
    )
    copies = Handover((labelled("call", "phone", ("wifi",)),), "x", "wifi")
    assert of_handover(copies).details["policies"] == "call with copies over wifi"
    assert of_handover(Handover((PlanRow(Everything(), "phone"),), "x")).details == {"from": None}


def test_a_decision_for_flows_to_come_says_where_those_go() -> None:
    rules = (RuleRow(Rule("call", Subject()), "wifi"), RuleRow(Rule("", Subject()), None))
    entry = of_handover(Handover((), "wifi is preferred to phone", "phone", rules))
    assert entry == Entry(
        "new flows", None, "wifi is preferred to phone", {"call": "wifi", "others": "nowhere (they wait)"}
    )


def test_an_effect_tells_flows_and_gap_once() -> None:
    effects = Effects()
    effects.ordered(7, "phone")
    effects.moved(FlowsMoved(ME, 7, ({MoveResult.MOVED: 3, MoveResult.UNCHANGED: 1}, {MoveResult.MOVED: 1})))
    (entry,) = effects.gap(GapMeasured(7, 0.0421, 1))
    assert (entry.event, entry.network, entry.reason) == ("moved", "phone", "move 7: heard on the new path")
    assert (entry.flows, entry.gap_ms, entry.words()) == (4, 42.1, "")
    assert effects.gap(GapMeasured(7, 0.1, 1)) == []


def test_an_effect_without_a_packet_says_so() -> None:
    effects = Effects()
    effects.ordered(8, None)
    (entry,) = effects.gap(GapMeasured(8, None))
    assert (entry.flows, entry.gap_ms) == (0, None)
    assert "nothing was heard" in entry.reason


def test_effects_that_never_come_are_forgotten() -> None:
    effects = Effects()
    for number in range(MAX_EFFECTS + 1):
        effects.ordered(number, "phone")
    effects.moved(FlowsMoved(ME, 0, ({MoveResult.MOVED: 1},)))
    assert effects.gap(GapMeasured(0, 0.1)) == []
    assert len(effects.gap(GapMeasured(1, 0.1))) == 1
