"""The decision alone: facts about paths in, whole lists of handovers out, with their reasons."""

import pytest

from sojourn.control.decide import FORGIVE, GRACE, Decide, PathState, Preferences, ranked
from sojourn.control.decide_paths import SETTLE_NEW
from sojourn.upmt.host_events import (
    Handover,
    HandoverWanted,
    HostFact,
    PathBlocked,
    PathFailed,
    PathGone,
    PathOpened,
    PathRecovered,
    PathSilent,
    PathTested,
)
from tests.control.networks import HTTP, OTHER_WIFI, PHONE, SSH, WIFI, WIRE, everything, silent, works


def test_the_first_network_is_used_before_it_is_tested() -> None:
    decide = Decide(Preferences())
    assert decide.handle(PathOpened(WIFI), 1.0) == [everything("home", "a network is there", None)]
    assert decide.handle(PathTested("home", 0.02), 1.02) == []
    assert decide.active == "home"
    assert decide.deadline() is None


def test_a_better_network_is_moved_to_when_it_has_worked_for_a_second() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI)
    assert decide.handle(PathOpened(WIRE), 100.0) == []
    assert decide.deadline() is None
    assert decide.handle(PathTested("wire", 0.01), 100.1) == []
    assert decide.deadline() == pytest.approx(101.1)
    assert decide.tick(101.0) == []
    assert decide.tick(decide.deadline() or 0.0) == [everything("wire", "wire is preferred to home", "home")]
    assert decide.deadline() is None


def test_a_worse_network_changes_nothing() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI)
    assert decide.handle(PathOpened(PHONE), 100.0) == []
    assert decide.handle(PathTested("phone", 0.05), 100.1) == []
    assert decide.deadline() is None
    assert decide.tick(1000.0) == []


def test_networks_that_the_owner_prefers_alike_are_not_moved_between() -> None:
    decide = Decide(Preferences(("wifi", "*")))
    works(decide, WIFI)
    works(decide, OTHER_WIFI, at=100.0)
    assert decide.active == "home"
    assert decide.deadline() is None


@pytest.mark.parametrize(
    ("order", "best_first"),
    [
        (("ethernet", "wifi", "cellular", "*"), ["wire", "cafe", "home", "phone"]),
        (("phone", "*"), ["phone", "cafe", "home", "wire"]),
        (("home", "cafe", "ethernet"), ["home", "cafe", "wire", "phone"]),
        (("wwan0", "wifi", "*"), ["phone", "cafe", "home", "wire"]),
        (("*", "wire"), ["cafe", "home", "phone", "wire"]),
        ((), ["cafe", "home", "phone", "wire"]),
    ],
)
def test_the_owners_order_names_networks_interfaces_kinds_or_all_that_are_left(
    order: tuple[str, ...], best_first: list[str]
) -> None:
    assert [network.name for network in ranked(Preferences(order), [WIRE, WIFI, PHONE, OTHER_WIFI])] == best_first


def test_silence_moves_everything_at_once_to_the_best_network_that_works() -> None:
    decide = Decide(Preferences())
    works(decide, WIRE, PHONE, WIFI)
    assert decide.handle(PathSilent("wire", 0.2504), 100.0) == [
        everything("home", "wire: no answer for 250 ms", "wire")
    ]


def test_a_link_that_is_pulled_moves_everything_at_once() -> None:
    decide = Decide(Preferences())
    works(decide, WIRE, WIFI)
    assert decide.handle(PathGone("wire", "link down"), 100.0) == [everything("home", "wire: link down", None)]


def test_a_path_that_the_system_refuses_moves_everything_at_once() -> None:
    decide = Decide(Preferences())
    works(decide, WIRE, WIFI)
    refused = PathFailed("wire", "Network is unreachable")
    assert decide.handle(refused, 100.0) == [everything("home", "wire: Network is unreachable", "wire")]


def test_a_network_that_lets_no_tunnel_through_gives_way_when_another_one_works() -> None:
    decide = Decide(Preferences())
    decide.handle(PathOpened(WIRE), 0.0)
    decide.handle(PathOpened(WIFI), 0.0)
    assert decide.handle(PathBlocked("wire", "no answer"), 3.0) == [everything("home", "wire: no answer", "wire")]
    assert decide.handle(PathTested("home", 0.02), 3.1) == []
    assert decide.handle(PathTested("wire", 0.02), 50.0) == []
    assert decide.tick(51.0) == [everything("wire", "wire is preferred to home", "home")]


def test_news_of_a_network_that_is_not_there_changes_nothing() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI)
    for fact in (PathTested("x", 0.1), PathRecovered("x"), silent("x"), PathBlocked("x", "y"), PathGone("x", "y")):
        assert decide.handle(fact, 100.0) == []
    assert decide.active == "home"


# Going back.


def test_a_network_that_failed_must_work_for_5_s_before_flows_return_and_twice_as_long_each_further_time() -> None:
    decide = Decide(Preferences())
    works(decide, WIRE, WIFI)
    now = 100.0
    for patience in (5.0, 10.0, 20.0, 40.0, 60.0, 60.0):
        assert decide.handle(silent("wire"), now) == [everything("home", "wire: no answer for 250 ms", "wire")]
        assert decide.handle(PathRecovered("wire"), now + 1.0) == []
        assert decide.deadline() == pytest.approx(now + 1.0 + patience)
        assert decide.tick(now + 0.9 + patience) == []
        back = [everything("wire", "wire is preferred to home", "home")]
        assert decide.tick(now + 1.0 + patience) == back
        now += 1.0 + patience


def test_old_failures_are_forgiven() -> None:
    decide = Decide(Preferences())
    works(decide, WIRE, WIFI)
    for now in (100.0, 110.0):
        decide.handle(silent("wire"), now)
        decide.handle(PathRecovered("wire"), now + 1.0)
    decide.tick(200.0)
    later = 110.0 + FORGIVE
    decide.handle(silent("wire"), later)
    decide.handle(PathRecovered("wire"), later + 1.0)
    assert decide.deadline() == pytest.approx(later + 6.0)


def test_what_the_user_takes_away_and_gives_back_is_used_again_as_if_it_were_new() -> None:
    decide = Decide(Preferences())
    works(decide, WIRE, WIFI)
    for now in (100.0, 110.0, 120.0):
        assert decide.handle(PathGone("wire", "paused by the user", wanted=True), now) != []
        decide.handle(PathOpened(WIRE), now + 5.0)
        decide.handle(PathTested("wire", 0.01), now + 5.1)
        assert decide.tick(now + 5.1 + SETTLE_NEW) == [everything("wire", "wire is preferred to home", "home")]


def test_a_network_that_comes_and_goes_does_not_take_the_flows_along() -> None:
    decide = Decide(Preferences())
    works(decide, WIRE, WIFI)
    moves: list[Handover] = []
    now = 100.0
    for _ in range(20):
        moves += decide.handle(PathGone("wire", "link down"), now)
        moves += decide.handle(PathOpened(WIRE), now + 1.0)
        moves += decide.handle(PathTested("wire", 0.01), now + 1.1)
        now += 4.0
        moves += decide.tick(now)
    assert moves == [everything("home", "wire: link down", None)]


def test_a_network_that_was_pulled_is_returned_to_after_5_s() -> None:
    decide = Decide(Preferences())
    works(decide, WIRE, WIFI)
    decide.handle(PathGone("wire", "link down"), 100.0)
    decide.handle(PathOpened(WIRE), 110.0)
    assert decide.handle(PathTested("wire", 0.01), 110.1) == []
    assert decide.deadline() == pytest.approx(115.1)
    assert decide.tick(115.1) == [everything("wire", "wire is preferred to home", "home")]


def test_a_better_network_that_fails_before_it_has_settled_is_not_moved_to() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI)
    decide.handle(PathOpened(WIRE), 100.0)
    decide.handle(PathTested("wire", 0.01), 100.1)
    assert decide.handle(silent("wire"), 100.9) == []
    assert decide.deadline() is None
    assert decide.tick(101.1) == []


def test_patience_ends_where_the_present_network_ends() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI)
    decide.handle(PathOpened(PHONE), 100.0)
    decide.handle(PathTested("phone", 0.1), 100.1)
    assert decide.handle(silent("home"), 100.2) == [everything("phone", "home: no answer for 250 ms", "home")]


# A new address.


def test_a_network_whose_address_changed_keeps_its_flows_when_it_answers_soon() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    assert decide.handle(PathOpened(WIFI), 100.0) == []
    assert decide.deadline() == 100.0 + GRACE
    assert decide.handle(PathTested("home", 0.02), 100.1) == []
    assert decide.deadline() is None


def test_a_network_whose_address_changed_loses_its_flows_when_it_does_not_answer() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    decide.handle(PathOpened(WIFI), 100.3)
    due = decide.deadline()
    assert due is not None
    assert decide.tick(due - 0.01) == []
    assert decide.tick(due) == [everything("phone", "home: address changed", "home")]
    assert decide.handle(PathTested("home", 0.02), 101.0) == []
    assert decide.tick(102.0) == [everything("home", "home is preferred to phone", "phone")]


def test_a_changed_address_is_waited_for_when_nothing_else_works() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI)
    assert decide.handle(PathOpened(WIFI), 100.0) == []
    assert decide.deadline() is None
    assert decide.tick(110.0) == []
    assert decide.active == "home"


# Nothing works.


def test_with_nothing_that_works_a_network_of_a_moment_ago_is_tried_unseen() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI)
    assert decide.handle(silent("home"), 100.0) == []
    assert decide.handle(PathOpened(PHONE), 105.0) == [everything("phone", "home: no answer for 250 ms", "home")]


def test_of_several_untested_networks_the_preferred_one_is_tried() -> None:
    decide = Decide(Preferences())
    works(decide, WIRE)
    decide.handle(PathOpened(PHONE), 100.0)
    decide.handle(PathOpened(WIFI), 100.0)
    assert decide.handle(PathGone("wire", "link down"), 100.1) == [everything("home", "wire: link down", None)]


def test_both_lost_and_one_back_moves_what_waited_to_it() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    assert decide.handle(PathGone("home", "no carrier"), 100.0) == [everything("phone", "home: no carrier", None)]
    assert decide.handle(PathGone("phone", "address lost"), 101.0) == []
    assert decide.active is None
    assert decide.tick(600.0) == []
    assert decide.handle(PathOpened(WIFI), 700.0) == [everything("home", "phone: address lost", None)]
    assert decide.handle(PathTested("home", 0.02), 700.1) == []


def test_both_silent_and_the_worse_one_back_moves_to_it_at_once() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    decide.handle(silent("phone"), 100.0)
    assert decide.handle(silent("home"), 101.0) == []
    assert decide.handle(PathRecovered("phone"), 700.0) == [everything("phone", "home: no answer for 250 ms", "home")]


def test_a_silent_network_is_better_than_one_that_the_system_refuses() -> None:
    decide = Decide(Preferences())
    works(decide, WIFI, PHONE)
    decide.handle(silent("phone"), 100.0)
    refused = PathFailed("home", "No route to host")
    assert decide.handle(refused, 101.0) == [everything("phone", "home: No route to host", "home")]


def test_the_deadline_never_lies_in_the_past_once_ticked() -> None:
    """A deadline that ticking does not clear would spin its driver."""
    facts: list[HostFact | HandoverWanted] = [
        PathOpened(WIFI), PathTested("home", 0.02), PathOpened(WIRE), PathTested("wire", 0.01),
        HandoverWanted("home"), HandoverWanted("home", (SSH,)), PathOpened(WIRE), PathTested("wire", 0.01),
        silent("home"), PathRecovered("home"), PathOpened(PHONE), PathTested("phone", 0.1),
        HandoverWanted("phone", match=HTTP), PathOpened(PHONE), silent("wire"), PathRecovered("wire"),
        PathGone("phone", "x"), PathFailed("wire", "y"), PathOpened(WIRE), PathGone("home", "z"),
        PathBlocked("wire", "w"),
    ]  # fmt: skip
    decide, now = Decide(Preferences()), 0.0
    for fact in facts:
        for later in (0.0, 0.1, GRACE - 0.1, 2.0, 50.0):
            decide.tick(now + later)
            due = decide.deadline()
            assert due is None or due > now + later, (fact, later)
        now += 50.0
        decide.handle(fact, now)
    assert decide.paths["wire"].state is PathState.BLOCKED
