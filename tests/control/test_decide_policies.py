"""The decision over several policies: who goes where, who leaves when it suffers, and who stays."""

import pytest

from sojourn.control.decide import GRACE, Decide, Preferences
from sojourn.control.network_facts import NetworkFacts
from sojourn.control.questions import AnswerGiven
from sojourn.model import TCP, Endpoint, Flow
from sojourn.policy.rules import Order, Otherwise, Policy, Require, Rule, Subject, Via
from sojourn.policy.spans import LocalTime
from sojourn.upmt.commands import Everything
from sojourn.upmt.host_events import (
    FlowGone,
    Handover,
    PathGone,
    PathOpened,
    PathRecovered,
    PathTested,
    PlanRow,
    RuleRow,
)
from tests.control.networks import PHONE, SSH, WIFI, WIRE, flows, silent, works
from tests.control.policies import BACKUP, CALL, REST, SYNC, VOICE, both, decide_with, labelled, pass_by, places, rules


def test_the_first_network_carries_everything_and_the_rules_are_told_with_it() -> None:
    decide = decide_with(CALL, BACKUP, REST)
    (first,) = decide.handle(PathOpened(WIFI), 1.0)
    assert first == Handover(
        (PlanRow(Everything(), "home"),), "a network is there", None, rules(call="home", backup="home", rest="home")
    )
    assert decide.handle(PathTested("home", 0.02), 1.02) == []


def test_each_policy_goes_where_it_may_and_one_that_may_not_waits() -> None:
    decide = decide_with(CALL, BACKUP, REST)
    (first,) = decide.handle(PathOpened(PHONE), 1.0)
    assert places(decide) == {"call": "phone", "backup": None, "": "phone"}
    assert first.plan == (labelled("", "phone"), labelled("call", "phone"))
    (held,) = decide.handle(PathTested("phone", 0.05), 1.1)
    assert held == Handover((labelled("backup", None),), "a network is there", None)
    assert decide.handle(PathOpened(WIFI), 2.0) == []
    assert decide.handle(PathTested("home", 0.02), 2.1) == [
        Handover((labelled("backup", "home"),), "home fits now", None, rules(call="phone", backup="home", rest="phone"))
    ]
    (better,) = decide.tick(3.2)
    assert better.plan == (PlanRow(Everything(), "home"),) or {row.network for row in better.plan} == {"home"}
    assert places(decide) == {"call": "home", "backup": "home", "": "home"}


# Degradation.


def test_a_call_leaves_a_wifi_that_loses_ten_percent_within_a_second_and_the_backup_stays() -> None:
    decide, wifi, _ = both()
    now, quiet = pass_by(decide, wifi, 100.0, 20.0)
    assert quiet == []
    assert decide.deadline() is None
    after, moved = pass_by(decide, wifi, now, 1.0, loss=0.1)
    assert after <= now + 1.0 + 1e-6
    (left,) = moved
    assert left.plan == (labelled("call", "phone"),)
    assert left.reason.startswith("home: its loss is ")
    assert left.reason.endswith("above 2%")
    assert left.came_from == "home"
    assert left.rules == rules(call="phone", backup="home", rest="home")
    assert "loss" in decide.facts(after)["home"]
    _, more = pass_by(decide, wifi, after, 30.0, loss=0.1)
    assert more == []
    assert places(decide) == {"call": "phone", "backup": "home", "": "home"}


def test_single_lost_packets_do_not_matter() -> None:
    decide, wifi, _ = both()
    now = 100.0
    for _ in range(60):
        now, moved = pass_by(decide, wifi, now, 2.8)
        assert moved == []
        now += 0.2
        assert decide.handle(wifi.report(10, 1), now) == []


def test_a_call_goes_back_when_the_wifi_has_been_well_for_ten_seconds_and_twice_as_long_the_next_time() -> None:
    decide, wifi, _ = both()
    now = 100.0
    for patience in (10.0, 20.0, 40.0):
        now, (left,) = pass_by(decide, wifi, now, 1.0, loss=0.1)
        assert left.plan == (labelled("call", "phone"),)
        well, moved = pass_by(decide, wifi, now, patience - 0.8)
        assert moved == []
        now, moved = pass_by(decide, wifi, well, 12.0)
        assert [handover.plan for handover in moved] == [(labelled("call", "home"),)]
        assert moved[0].reason == "home is preferred to phone"


def test_a_network_that_was_left_is_measured_while_it_is_waited_for() -> None:
    decide, wifi, _ = both()
    assert decide.to_measure(100.0) == []
    now, _ = pass_by(decide, wifi, 100.0, 1.0, loss=0.1)
    assert decide.to_measure(now) == ["home"]
    assert decide.to_measure(now + 0.1) == []
    assert decide.deadline() is not None
    for flow in (VOICE, SYNC):
        decide.handle(FlowGone(flow), now)
    assert decide.to_measure(now + 60.0) == [], "nobody would be there"


def test_a_call_that_suffers_everywhere_stays_where_it_is() -> None:
    decide, wifi, phone = both()
    pass_by(decide, phone, 95.0, 5.0, loss=0.1)
    _, moved = pass_by(decide, wifi, 100.0, 10.0, loss=0.1)
    assert moved == []


def test_a_delay_above_the_bound_is_a_reason_too() -> None:
    decide, wifi, _ = both()
    wifi.rtt = 0.2
    (left,) = decide.handle(wifi.report(10), 100.0)
    assert left.reason == "home: its RTT is 200ms, above 150ms"


def test_what_fails_moves_all_that_is_there_and_leaves_the_rest() -> None:
    decide, wifi, _ = both()
    now, _ = pass_by(decide, wifi, 100.0, 1.0, loss=0.1)
    assert decide.handle(silent("home"), now + 1) == [
        Handover(
            (labelled("", "phone"), labelled("backup", None)), "home: no answer for 250 ms", "home",
            rules(call="phone", backup=None, rest="phone"),
        )
    ]  # fmt: skip


def test_all_lanes_on_one_network_that_dies_move_by_one_row() -> None:
    decide, _, _ = both(CALL, REST)
    (away,) = decide.handle(silent("home"), 200.0)
    assert away.plan == (PlanRow(Everything(), "phone"),)
    assert away.reason == "home: no answer for 250 ms"


def test_an_address_that_changes_is_given_its_grace_by_every_lane() -> None:
    decide, _, _ = both()
    assert decide.handle(PathOpened(WIFI), 200.0) == []
    assert decide.deadline() == 200.0 + GRACE
    assert decide.handle(PathTested("home", 0.02), 200.2) == []


# Going back gently.


def test_flows_that_run_stay_where_they_are_and_new_ones_use_the_better_network() -> None:
    long = Policy("backup", BACKUP.subject, ("ethernet", "wifi", "cellular"), stay=True)
    decide, _, _ = both(long, REST)
    decide.handle(PathOpened(WIRE), 200.0)
    decide.handle(PathTested("wire", 0.001), 200.0)
    (better,) = decide.tick(201.0)
    assert better.plan == ()
    assert better.rules is not None
    assert {row.rule.label: row.network for row in better.rules} == {"backup": "wire", "": "home"}
    assert places(decide) == {"backup": "wire", "": "home"}
    away = decide.handle(silent("home"), 300.0)
    assert {row for handover in away for row in handover.plan} == {labelled("", "wire"), labelled("backup", "wire")}


def test_of_what_stayed_behind_on_several_networks_only_what_suffers_moves() -> None:
    long = Policy("backup", BACKUP.subject, ("ethernet", "wifi", "cellular"), stay=True)
    decide = decide_with(long, REST)
    works(decide, PHONE)
    decide.flows.seen(SYNC, "phone", "backup")
    works(decide, WIFI, at=100.0)
    decide.flows.seen(SSH, "home", "backup")
    works(decide, WIRE, at=200.0)
    assert places(decide)["backup"] == "wire"
    moves = decide.handle(silent("home"), 300.0)
    assert flows("wire", SSH) in [row for handover in moves for row in handover.plan]
    (last,) = [row for handover in decide.handle(silent("phone"), 301.0) for row in handover.plan]
    assert last == labelled("backup", "wire")


def test_a_minimum_stay_delays_a_better_network_but_no_rescue() -> None:
    stay = Policy("call", CALL.subject, CALL.networks, minimum_stay=30.0)
    decide = decide_with(stay, REST)
    decide.handle(PathOpened(PHONE), 0.0)
    decide.handle(PathTested("phone", 0.05), 0.1)
    decide.handle(PathOpened(WIFI), 1.0)
    decide.handle(PathTested("home", 0.02), 1.1)
    decide.tick(2.2)
    assert places(decide) == {"call": "phone", "": "home"}
    assert decide.deadline() == pytest.approx(30.0)
    decide.tick(30.0)
    assert places(decide)["call"] == "home"
    decide.handle(silent("home"), 31.0)
    assert places(decide)["call"] == "phone"


# When none fits.


@pytest.mark.parametrize(
    ("otherwise", "row"),
    [(Otherwise.HOLD, labelled("backup", None)), (Otherwise.BLOCK, labelled("backup", None, block=True))],
)
def test_flows_that_no_network_fits_wait_or_are_refused(otherwise: Otherwise, row: PlanRow) -> None:
    decide, _, _ = both(Policy("backup", BACKUP.subject, ("wifi",), otherwise=otherwise), REST)
    moves = decide.handle(PathGone("home", "link down"), 200.0)
    assert row in [one for handover in moves for one in handover.plan]
    assert decide.lanes["backup"].blocked is (otherwise is Otherwise.BLOCK)
    decide.handle(PathOpened(WIFI), 300.0)
    decide.handle(PathTested("home", 0.02), 300.1)
    assert places(decide)["backup"] == "home"


def test_flows_that_any_network_will_do_for_go_on_over_one_that_does_not_fit() -> None:
    decide, _, _ = both(Policy("backup", BACKUP.subject, ("wifi",)), REST)
    decide.handle(PathGone("home", "link down"), 200.0)
    assert places(decide) == {"backup": "phone", "": "phone"}


def test_a_policy_that_blocks_refuses_from_the_first_packet() -> None:
    decide = decide_with(Policy("backup", BACKUP.subject, blocked=True), REST)
    moves = decide.handle(PathOpened(WIFI), 1.0)
    assert labelled("backup", None, block=True) in [row for handover in moves for row in handover.plan]
    assert moves[0].rules is not None
    assert moves[0].rules[0] == RuleRow(Rule("backup", BACKUP.subject), None, (), True)


def test_rules_that_are_direct_are_published_and_what_is_captured_of_them_follows_the_others() -> None:
    printer = Policy("printer", Subject(applications=("cups",)), via=Via.DIRECT)
    fallback = Policy("backup", BACKUP.subject, ("wifi",), otherwise=Otherwise.DIRECT)
    decide, _, _ = both(printer, fallback, REST)
    assert [rule.label for rule in decide.direct_rules()] == ["printer"]
    decide.handle(PathGone("home", "link down"), 200.0)
    assert [rule.label for rule in decide.direct_rules()] == ["printer", "backup"]
    assert places(decide) == {"printer": "phone", "backup": None, "": "phone"}
    decide.handle(PathOpened(WIFI), 300.0)
    decide.handle(PathTested("home", 0.02), 300.1)
    assert [rule.label for rule in decide.direct_rules()] == ["printer"]


def test_a_question_holds_flows_until_it_is_answered() -> None:
    ask = Policy("backup", BACKUP.subject, ("wifi",), otherwise=Otherwise.ASK, ask_timeout=30.0)
    decide, _, _ = both(ask, REST)
    decide.handle(PathGone("home", "link down"), 200.0)
    assert places(decide)["backup"] is None
    (question,) = decide.questions.open
    assert decide.deadline() == 230.0
    (chosen,) = decide.handle(AnswerGiven(question.id, "phone"), 205.0)
    assert chosen.plan == (labelled("backup", "phone"),)
    decide.handle(PathOpened(WIFI), 300.0)
    decide.handle(PathTested("home", 0.02), 300.1)
    decide.tick(306.0)
    assert places(decide)["backup"] == "home"


def test_a_question_nobody_answers_gets_its_default() -> None:
    ask = Policy("backup", BACKUP.subject, ("wifi",), otherwise=Otherwise.ASK, ask_default=Otherwise.ANY)
    decide, _, _ = both(ask, REST)
    decide.handle(PathGone("home", "link down"), 200.0)
    (chosen,) = decide.tick(230.0)
    assert chosen.plan == (labelled("backup", "phone"),)


# Copies.


def test_a_policy_with_copies_uses_as_many_networks_as_fit_and_settled() -> None:
    decide = decide_with(Policy("call", CALL.subject, CALL.networks, copies=2), REST)
    works(decide, WIFI)
    assert not decide.lanes["call"].copies
    decide.handle(PathOpened(PHONE), 100.0)
    assert decide.handle(PathTested("phone", 0.05), 100.0) == []
    assert decide.deadline() == pytest.approx(101.0)
    (more,) = decide.tick(101.0)
    assert more.plan == (labelled("call", "home", ("phone",)),)
    assert more.reason == "copies over phone"
    (dead,) = decide.handle(silent("home"), 200.0)
    assert labelled("call", "phone") in dead.plan or dead.plan == (PlanRow(Everything(), "phone"),)
    decide.handle(PathRecovered("home"), 201.0)
    decide.tick(207.0)
    assert (decide.lanes["call"].place, decide.lanes["call"].copies) == ("home", ("phone",))
    (less,) = decide.handle(silent("phone"), 300.0)
    assert less.plan == (labelled("call", "home"),)
    assert less.reason == "no copies over phone any more"


# Orders by measurement, time, facts.


def test_where_measurement_orders_networks_a_better_one_is_moved_to_only_when_it_stays_better() -> None:
    decide, wifi, phone = both(Policy("call", CALL.subject, order=Order.PERFORMANCE), REST)
    wifi.rtt = 0.08
    decide.handle(wifi.report(10), 100.0)
    assert places(decide)["call"] == "home"
    now = 100.0
    for _ in range(30):
        now += 0.2
        decide.handle(phone.report(1), now)
        assert decide.handle(wifi.report(10), now) == [] or now > 105.0
    decide.tick(now)
    assert places(decide) == {"call": "phone", "": "home"}
    wifi.rtt = 0.045
    now, moved = pass_by(decide, wifi, now, 60.0)
    assert moved == [], "hardly better is not better"


def test_a_policy_of_office_hours_is_looked_at_each_minute() -> None:
    policy = Policy("backup", BACKUP.subject, ("*",), Require(time=("22:00-06:00",)), otherwise=Otherwise.HOLD)
    clock = {"offset": 21 * 3600 + 59 * 60.0}
    decide = Decide(
        Preferences(("wifi", "*")), (policy, REST), local_time=lambda now: LocalTime(0, int(now + clock["offset"]))
    )
    works(decide, WIFI)
    assert places(decide)["backup"] == "home", "60 s have passed, and it is 22:00"
    early = Decide(Preferences(), (policy, REST), local_time=lambda now: LocalTime(0, int(now + clock["offset"])))
    early.handle(PathOpened(WIFI), 0.0)
    early.handle(PathTested("home", 0.02), 0.5)
    assert places(early)["backup"] is None
    assert early.deadline() == pytest.approx(60.5)
    assert [handover.plan for handover in early.tick(60.5)] == [(labelled("backup", "home"),)]


def test_what_networks_are_said_to_be_counts() -> None:
    told = {"home": NetworkFacts("home", "wlan0", "wifi"), "phone": NetworkFacts("phone", "wwan0", "cellular")}
    policy = Policy("backup", BACKUP.subject, require=Require(metered=False), otherwise=Otherwise.HOLD)
    decide = Decide(Preferences(), (policy, REST), describe=lambda network: told[network.name])
    works(decide, WIFI, PHONE)
    assert places(decide)["backup"] == "home"
    told["home"] = NetworkFacts("home", "wlan0", "wifi", metered=True, cost="metered")
    (moved,) = decide.tick(100.0)
    assert moved.plan == (labelled("backup", "phone"),)
    assert moved.reason == "home: it is metered"


# Other policies.


def test_policies_are_replaced_while_all_runs_and_unchanged_ones_keep_their_patience() -> None:
    decide, wifi, _ = both()
    now, _ = pass_by(decide, wifi, 100.0, 1.0, loss=0.1)
    work = Policy("work", Subject(match=CALL.subject.match), ("cellular",))
    (changed,) = decide.replace_policies((work, BACKUP, REST), now)
    assert changed.rules is not None
    assert [row.rule.label for row in changed.rules] == ["work", "backup", ""]
    assert places(decide) == {"work": "phone", "backup": "home", "": "home"}
    assert labelled("work", "phone") in changed.plan
    assert decide.replace_policies((work, BACKUP, REST), now) == []
    gone = decide.replace_policies((REST,), now + 1)
    assert gone[0].rules == ()
    assert {row.network for handover in gone for row in handover.plan} == {"home"}


def test_ten_thousand_flows_that_stayed_behind_are_found_by_their_rule() -> None:
    decide, _, _ = both()
    for port in range(10000):
        decide.flows.seen(Flow(TCP, Endpoint("10.201.0.2", port), Endpoint("192.0.2.9", 873)), "home", "backup")
    assert decide.flows.count("backup") == 10001
    decide.handle(silent("home"), 100.0)
    assert decide.flows.on("backup", "home") == ()


def test_no_deadline_lies_in_the_past_once_ticked() -> None:
    ask = Policy("ask", Subject(users=(1,)), ("ethernet",), otherwise=Otherwise.ASK)
    fast = Policy("fast", Subject(users=(2,)), order=Order.VOIP, copies=2, stay=True)
    decide, wifi, phone = both(CALL, BACKUP, ask, fast, REST)
    now = 100.0
    for step in range(400):
        now, _ = pass_by(decide, wifi if step % 3 else phone, now, 0.2, loss=0.3 if step % 50 < 20 else 0.0)
        if step % 40 == 5:
            decide.handle(silent("home" if step % 80 == 5 else "phone"), now)
        if step % 40 == 15:
            decide.handle(PathRecovered("home" if step % 80 == 15 else "phone"), now)
        decide.tick(now)
        due = decide.deadline()
        assert due is None or due > now, step
