"""The decision over several policies under the user's orders: applications, flows and everything."""

import pytest

from sojourn.policy.rules import Policy, Rule, Subject
from sojourn.upmt.commands import Everything
from sojourn.upmt.host_events import Handover, HandoverWanted, PathGone, PathRecovered, PlanRow, RuleRow
from tests.control.networks import SSH, WIRE, flows, silent, works
from tests.control.policies import REST, VOICE, ZOOM, both, labelled, pass_by, places, rules


def test_an_application_that_the_user_puts_on_a_network_is_there_with_its_flows_to_come() -> None:
    decide, _, _ = both()
    decide.flows.seen(SSH, "home", "", ZOOM)
    (order,) = decide.handle(HandoverWanted("phone", application="zoom"), 100.0)
    assert order.plan == (labelled("user:zoom", "phone"),)
    assert order.reason == "ordered by the user"
    assert order.rules is not None
    assert order.rules[0] == RuleRow(Rule("user:zoom", Subject(applications=("zoom",))), "phone")
    known = decide.flows.get(SSH)
    assert known is not None
    assert (known.label, known.network) == ("user:zoom", "phone")
    assert decide.tick(1000.0) == []
    away = decide.handle(silent("phone"), 1000.0)
    assert [row for handover in away for row in handover.plan] == [labelled("user:zoom", "home")]
    (back,) = decide.handle(PathRecovered("phone"), 1001.0)
    assert (back.plan, back.reason) == ((labelled("user:zoom", "phone"),), "phone works again")
    (released,) = decide.handle(HandoverWanted(None, application="zoom"), 1002.0)
    assert released.plan == (labelled("", "home"),)
    assert released.rules == rules(call="home", backup="home", rest="home")
    assert decide.handle(HandoverWanted(None, application="zoom"), 1003.0) == []


def test_an_order_for_an_application_ends_when_its_network_has_been_away_for_an_hour() -> None:
    decide, _, _ = both()
    decide.handle(HandoverWanted("phone", application="zoom"), 100.0)
    decide.handle(PathGone("phone", "unplugged"), 200.0)
    assert places(decide)["user:zoom"] == "home"
    due = decide.deadline()
    assert due == pytest.approx(3800.0)
    decide.tick(3800.0)
    assert "user:zoom" not in decide.lanes


def test_an_application_follows_the_policy_that_speaks_of_it_while_its_network_is_down() -> None:
    zoom = Policy("calls", Subject(applications=("zoom",)), ("ethernet", "cellular"))
    decide, _, _ = both(zoom, REST)
    works(decide, WIRE, at=100.0)
    assert places(decide)["calls"] == "wire"
    decide.handle(HandoverWanted("home", application="zoom"), 200.0)
    decide.handle(silent("home"), 201.0)
    assert places(decide)["user:zoom"] == "wire"


def test_an_order_for_everything_holds_over_all_policies_and_ends_orders_for_applications() -> None:
    decide, _, _ = both()
    decide.handle(HandoverWanted("home", application="zoom"), 100.0)
    (order,) = decide.handle(HandoverWanted("phone"), 101.0)
    assert order.plan == (PlanRow(Everything(), "phone"),)
    assert places(decide) == {"call": "phone", "backup": "phone", "": "phone"}
    assert decide.tick(900.0) == []
    decide.handle(HandoverWanted(None), 901.0)
    decide.tick(1000.0)
    assert places(decide) == {"call": "home", "backup": "home", "": "home"}


def test_pinned_flows_and_matches_are_released_to_where_the_others_are() -> None:
    decide, _, _ = both()
    decide.handle(HandoverWanted("phone", (VOICE,)), 100.0)
    assert decide.handle(HandoverWanted(None, (VOICE,)), 101.0) == [
        Handover((flows("home", VOICE),), "released by the user", None)
    ]
    assert decide.pinned == {}


def test_a_pinned_flow_follows_its_own_policy_while_its_network_does_not_work() -> None:
    decide, wifi, _ = both()
    works(decide, WIRE, at=100.0)
    pass_by(decide, wifi, 190.0, 5.0)
    now, _ = pass_by(decide, wifi, 200.0, 1.0, loss=0.1)
    assert places(decide)["call"] == "wire"
    decide.handle(HandoverWanted("phone", (VOICE,)), now)
    (away,) = decide.handle(silent("phone"), now + 1)
    assert away.plan == (flows("wire", VOICE),)
