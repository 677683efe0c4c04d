"""Why a flow is where it is, and what it would take to move it."""

from sojourn.control.decide import Decide, Preferences
from sojourn.control.explain import Explanation, Verdict, explain
from sojourn.model import UDP, Endpoint, Flow
from sojourn.policy.match import parse
from sojourn.policy.rules import DEFAULT, Otherwise, Policy, Require, Subject
from sojourn.upmt.host_events import HandoverWanted, PathOpened, PathTested
from tests.control.networks import PHONE, SSH, WIFI, silent, works

CALL = Policy("call", Subject(match=(parse("-p udp --dport 5004"),)), ("wifi", "cellular"), Require(rtt=0.15), line=3)
BACKUP = Policy("backup", Subject(applications=("rsync",)), ("wifi",), otherwise=Otherwise.HOLD)
VOICE = Flow(UDP, Endpoint("10.201.0.2", 40010), Endpoint("192.0.2.1", 5004))


def decided(*policies: Policy) -> Decide:
    decide = Decide(Preferences(("wifi", "cellular")), policies)
    works(decide, WIFI, PHONE)
    return decide


def test_a_flow_on_the_best_network_says_that_and_what_would_move_it() -> None:
    told = explain(decided(CALL), "call", 60.0, VOICE, "home")
    assert told == Explanation(
        policy="call", came_from="user", line=3, covers="protocol udp, port 5004", network="home", state="carried",
        reason=told.reason, since_s=told.since_s, copies=(), ordered=None,
        networks=(
            Verdict("home", True, True, ()),
            Verdict("phone", False, True, ("it fits, and home is preferred to it",)),
        ),
        to_move=("away from home: it stops to work, or to fit",),
    )  # fmt: skip


def test_networks_before_the_one_in_use_say_why_they_were_not_taken() -> None:
    decide = decided(CALL)
    decide.handle(silent("home"), 60.0)
    told = explain(decide, "call", 61.0)
    assert (told.network, told.state) == ("phone", "carried")
    assert told.networks[0] == Verdict("phone", True, True, ())
    (wifi,) = [one for one in told.networks if one.network == "home"]
    assert not wifi.fits
    assert wifi.why == (f"it does not work now: {decide.paths['home'].why}",)
    assert told.reason.startswith("home: ")


def test_a_better_network_that_is_new_has_to_prove_itself_first() -> None:
    decide = Decide(Preferences(("wifi", "cellular")), (CALL,))
    works(decide, PHONE)
    decide.handle(PathOpened(WIFI), 60.0)
    decide.handle(PathTested("home", 0.02), 60.1)
    told = explain(decide, "call", 60.2)
    assert (told.networks[0].network, told.network) == ("home", "phone")
    assert told.networks[0].why[0].startswith("it fits, and is used when it has proved itself, in ")
    assert told.to_move[0].startswith("to home: it fits, and is used when")


def test_flows_that_are_held_say_what_would_have_to_change() -> None:
    decide = decided(BACKUP)
    decide.handle(silent("home"), 60.0)
    told = explain(decide, "backup", 61.0)
    assert (told.network, told.state) == (None, "held")
    assert "to phone: this would have to change: it is not among the policy's networks (wifi)" in told.to_move


def test_a_policy_that_asks_names_the_command() -> None:
    asking = Policy("x", Subject(applications=("x",)), ("ethernet",), otherwise=Otherwise.ASK, ask_timeout=600.0)
    decide = decided(asking)
    assert explain(decide, "x", 60.0).state == "held"
    decide.flows.seen(VOICE, None, "x")
    decide.tick(61.0)
    told = explain(decide, "x", 62.0)
    assert told.state == "asked"
    assert told.to_move[-1] == "an answer to the question: `sojourn ask`"


def test_blocked_flows_say_that_the_policy_does_it() -> None:
    told = explain(decided(Policy("x", Subject(applications=("x",)), blocked=True)), "x", 60.0)
    assert (told.state, told.to_move) == (
        "blocked", ("the policy blocks these flows: change it, or put another one above it",),
    )  # fmt: skip


def test_the_default_covers_everything_else_and_an_unknown_label_is_its() -> None:
    told = explain(decided(CALL), "gone", 60.0)
    assert (told.policy, told.came_from, told.covers) == (DEFAULT, "default", "everything else")
    assert told.to_move[-1] == "away from home: it stops to work"


def test_what_the_user_ordered_is_named_as_the_reason() -> None:
    decide = decided(CALL)
    decide.handle(HandoverWanted("phone", (SSH,)), 60.0)
    told = explain(decide, DEFAULT, 61.0, SSH, "phone")
    assert told.reason == "ordered by the user: this flow to phone"
    assert told.to_move[0].startswith("the user's order (this flow to phone) comes first")
    decide.handle(HandoverWanted("phone"), 62.0)
    assert explain(decide, "call", 63.0).ordered == "everything to phone"


def test_a_running_flow_that_stayed_behind_says_so() -> None:
    stay = Policy("stay", Subject(match=CALL.subject.match), ("wifi", "cellular"), stay=True)
    decide = Decide(Preferences(("wifi", "cellular")), (stay,))
    works(decide, PHONE)
    decide.flows.seen(VOICE, "phone", "stay")
    decide.handle(PathOpened(WIFI), 60.0)
    decide.handle(PathTested("home", 0.02), 60.1)
    decide.tick(90.0)
    told = explain(decide, "stay", 91.0, VOICE, "phone")
    assert told.reason == "it was there before, and the policy lets running flows stay (new ones go to home)"
