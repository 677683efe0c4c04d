"""The decision under the user's orders: what goes apart, what follows, and what comes back."""

from sojourn.control.decide import GRACE, MAX_MATCHED, Decide, Preferences
from sojourn.control.decide_orders import BLOCK, DIRECT, HOLD
from sojourn.policy.match import parse
from sojourn.upmt.commands import Everything, Exactly, Labelled, Matching
from sojourn.upmt.host_events import (
    FlowGone,
    Handover,
    HandoverWanted,
    PathGone,
    PathOpened,
    PathRecovered,
    PathTested,
    PlanRow,
)
from tests.control.networks import HTTP, PHONE, SSH, WEB, WIFI, WIRE, everything, flows, silent, works


def test_the_users_order_holds_while_its_network_works() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    assert decide.handle(HandoverWanted("phone"), 100.0) == [everything("phone", "ordered by the user", "home")]
    assert decide.deadline() is None, "the better network is no reason to wake up"
    assert decide.tick(1000.0) == []
    works(decide, WIRE, at=1000.0)
    assert decide.active == "phone"


def test_the_users_order_ends_with_its_network() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    decide.handle(HandoverWanted("phone"), 100.0)
    assert decide.handle(silent("phone"), 200.0) == [everything("home", "phone: no answer for 250 ms", "phone")]
    assert decide.handle(PathRecovered("phone"), 201.0) == []
    assert decide.tick(1000.0) == []
    assert decide.active == "home"


def test_the_users_order_outlives_a_change_of_address() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    decide.handle(HandoverWanted("phone"), 100.0)
    assert decide.handle(PathOpened(PHONE), 200.0) == []
    assert decide.handle(PathTested("phone", 0.1), 200.2) == []
    assert decide.tick(1000.0) == []
    assert decide.active == "phone"


def test_an_order_for_where_everything_is_already_is_carried_out_again() -> None:
    """Rows that strayed, by learning at the anchor, come back."""
    decide = Decide(Preferences())
    works(decide, WIFI)
    order = HandoverWanted("home", reason="by the window")
    assert decide.handle(order, 100.0) == [everything("home", "ordered by the window", "home")]


def test_an_order_for_a_network_that_has_just_gone_changes_nothing() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI)
    assert decide.handle(HandoverWanted("phone"), 100.0) == []
    assert decide.handle(HandoverWanted("phone", (SSH,)), 100.0) == []
    assert decide.handle(HandoverWanted("phone", match=HTTP), 100.0) == []
    assert decide.active == "home"


def test_everything_is_not_ordered_from_a_network_that_works_to_one_that_does_not() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    decide.handle(silent("phone"), 100.0)
    assert decide.handle(HandoverWanted("phone"), 101.0) == []
    assert decide.handle(silent("home"), 102.0) == []
    order = everything("phone", "ordered by the user", "home")
    assert decide.handle(HandoverWanted("phone"), 103.0) == [order], "nothing works: the user may know better"


def test_a_pinned_flow_ordered_to_a_network_that_does_not_work_goes_there_when_it_does() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    decide.handle(silent("phone"), 100.0)
    stays = Handover((flows("home", SSH),), "ordered by the user", "home")
    assert decide.handle(HandoverWanted("phone", (SSH,)), 101.0) == [stays]
    goes = Handover((flows("phone", SSH),), "phone works again", "home")
    assert decide.handle(PathRecovered("phone"), 102.0) == [goes]


def test_a_pinned_flow_goes_alone_and_stays_where_the_user_put_it() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    order = HandoverWanted("phone", (SSH,))
    assert decide.handle(order, 100.0) == [Handover((flows("phone", SSH),), "ordered by the user", "home")]
    works(decide, WIRE, at=200.0)
    assert decide.active == "wire"
    assert decide.pinned == {SSH: "phone"}


def test_a_move_of_everything_leaves_pinned_flows_and_matches_where_they_are() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    decide.handle(HandoverWanted("phone", (SSH,)), 100.0)
    decide.handle(HandoverWanted("phone", match=HTTP), 100.0)
    decide.handle(PathOpened(WIRE), 200.0)
    decide.handle(PathTested("wire", 0.01), 200.0)
    rows = (PlanRow(Everything(), "wire"), PlanRow(Matching(HTTP), "phone"), flows("phone", SSH))
    assert decide.tick(201.0) == [Handover(rows, "wire is preferred to home", "home")]


def test_pinned_flows_follow_the_others_while_their_network_is_silent_and_return_when_it_works() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    decide.handle(HandoverWanted("phone", (SSH, WEB)), 100.0)
    away = Handover((flows("home", SSH, WEB),), "phone: no answer for 250 ms", "phone")
    assert decide.handle(silent("phone"), 200.0) == [away]
    back = Handover((flows("phone", SSH, WEB),), "phone works again", "home")
    assert decide.handle(PathRecovered("phone"), 210.0) == [back]
    assert decide.tick(220.0) == []


def test_a_matched_order_follows_the_others_while_its_network_is_gone_and_returns_when_it_works() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    order = HandoverWanted("phone", match=HTTP)
    row = PlanRow(Matching(HTTP), "phone")
    assert decide.handle(order, 100.0) == [Handover((row,), "ordered by the user", "home")]
    away = Handover((PlanRow(Matching(HTTP), "home"),), "phone: link down", "phone")
    assert decide.handle(PathGone("phone", "link down"), 200.0) == [away]
    assert decide.handle(PathOpened(PHONE), 300.0) == []
    assert decide.handle(PathTested("phone", 0.1), 300.1) == [Handover((row,), "phone works again", "home")]
    assert decide.tick(400.0) == []


def test_a_network_whose_address_changed_keeps_its_pinned_flows_for_a_moment_too() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    decide.handle(HandoverWanted("phone", (SSH,)), 100.0)
    assert decide.handle(PathOpened(PHONE), 200.0) == []
    assert decide.deadline() == 200.0 + GRACE
    assert decide.handle(PathTested("phone", 0.1), 200.2) == []
    decide.handle(PathOpened(PHONE), 300.0)
    away = Handover((flows("home", SSH),), "phone: address changed", "phone")
    assert decide.tick(300.0 + GRACE) == [away]


def test_when_the_active_network_fails_only_pinned_flows_on_another_that_works_stay_apart() -> None:
    decide = Decide(Preferences())
    works(decide, WIRE, WIFI, PHONE)
    decide.handle(HandoverWanted("phone", (SSH,)), 100.0)
    decide.handle(HandoverWanted("wire", (WEB,)), 100.0)
    rows = (PlanRow(Everything(), "home"), flows("phone", SSH))
    assert decide.handle(silent("wire"), 200.0) == [Handover(rows, "wire: no answer for 250 ms", "wire")]


def test_an_order_for_everything_ends_all_orders_before_it() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    decide.handle(HandoverWanted("phone", (SSH,)), 100.0)
    decide.handle(HandoverWanted("phone", match=HTTP), 100.0)
    assert decide.handle(HandoverWanted("home"), 101.0) == [everything("home", "ordered by the user", "home")]
    assert decide.handle(silent("phone"), 102.0) == []
    assert decide.handle(PathRecovered("phone"), 103.0) == []


def test_a_flow_that_ended_is_not_moved_any_more() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    decide.handle(HandoverWanted("phone", (SSH,)), 100.0)
    assert decide.handle(FlowGone(SSH), 150.0) == []
    assert decide.handle(silent("phone"), 200.0) == []


def test_orders_by_match_are_bounded() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    for port in range(1, MAX_MATCHED + 11):
        decide.handle(HandoverWanted("phone", match=parse(f"-p tcp --dport {port}")), 100.0)
    assert len(decide.matched) == MAX_MATCHED
    assert parse("-p tcp --dport 10") not in decide.matched
    assert parse("-p tcp --dport 11") in decide.matched


def test_a_flow_that_is_held_waits_and_one_that_is_blocked_is_refused_until_they_are_released() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    assert decide.handle(HandoverWanted(HOLD, (SSH,)), 100.0) == [
        Handover((PlanRow(Exactly((SSH,)), None),), "ordered by the user", "home")
    ]
    assert decide.handle(HandoverWanted(BLOCK, (WEB,)), 101.0) == [
        Handover((PlanRow(Exactly((WEB,)), None, block=True),), "ordered by the user", "home")
    ]
    (moved,) = decide.handle(silent("home"), 200.0)
    assert set(moved.plan) == {
        PlanRow(Everything(), "phone"), PlanRow(Exactly((SSH,)), None), PlanRow(Exactly((WEB,)), None, block=True),
    }  # fmt: skip
    (back,) = decide.handle(HandoverWanted(None, (SSH, WEB)), 300.0)
    assert back.plan == (flows("phone", SSH, WEB),)


def test_an_application_that_is_blocked_held_or_direct_has_a_rule_of_its_own() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    (blocked,) = decide.handle(HandoverWanted(BLOCK, application="curl"), 100.0)
    assert blocked.plan == (PlanRow(Labelled("user:curl"), None, block=True),)
    assert blocked.rules is not None
    first = blocked.rules[0]
    assert (first.rule.label, first.network, first.block) == ("user:curl", None, True)
    (held,) = decide.handle(HandoverWanted(HOLD, application="curl"), 110.0)
    assert held.plan == (PlanRow(Labelled("user:curl"), None),)
    decide.handle(HandoverWanted(DIRECT, application="curl"), 120.0)
    assert [rule.label for rule in decide.direct_rules()] == ["user:curl"]
    assert decide.lanes["user:curl"].place == "home", "what runs stays in the tunnels"
    decide.handle(HandoverWanted(None, application="curl"), 130.0)
    assert decide.direct_rules() == ()
    assert list(decide.lanes) == [""]


def test_a_word_outlives_every_network() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI)
    decide.handle(HandoverWanted(BLOCK, application="curl"), 100.0)
    decide.handle(PathGone("home", "the interface is gone"), 200.0)
    decide.tick(200.0 + 2 * 3600)
    works(decide, PHONE, at=9000.0)
    assert decide.lanes["user:curl"].blocked
