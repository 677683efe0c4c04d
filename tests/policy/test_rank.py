"""In which order a policy puts networks, and what it says of those that do not fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sojourn.policy.rank import LOSS_COST, performance_score, position_of, rank, unmet, voip_score
from sojourn.policy.rules import Facts, Order, Policy, Require
from sojourn.policy.spans import LocalTime

CABLE = Facts("eth0", "ethernet", rtt=0.010, loss=0.0, rate=1e9)
WIFI = Facts("wlan0", "wifi", "Home", signal=0.7, security=("encrypted",), rtt=0.020, loss=0.0)
CELL = Facts("wwan0", "cellular", metered=True, cost="metered", rtt=0.060, loss=0.01)
ALL = (CELL, WIFI, CABLE)
NOON = LocalTime(0, 12 * 3600)


def order(policy: Policy, in_use: str | None = None, facts: tuple[Facts, ...] = ALL) -> tuple[str, ...]:
    return rank(policy, facts, in_use, NOON).fitting


def test_networks_come_in_the_order_that_the_policy_lists_by_name_label_or_kind() -> None:
    assert order(Policy("x", networks=("cellular", "Home"))) == ("wwan0", "wlan0")
    assert order(Policy("x", networks=("eth0", "*"))) == ("eth0", "wlan0", "wwan0")
    assert order(Policy("x", networks=("eth0", "*")), "wwan0") == ("eth0", "wwan0", "wlan0")


def test_a_name_says_more_than_a_kind_and_the_ipv6_half_has_its_brothers_name() -> None:
    assert position_of(("wifi", "*", "wlan0"), WIFI) == 2
    assert position_of(("cable",), replace(CABLE, name="cable-6", interface="enp0s1")) == 0
    assert position_of(("enp0s1",), replace(CABLE, name="cable", interface="enp0s1")) == 0
    assert position_of(("cellular",), WIFI) is None


def test_a_network_that_is_not_listed_or_does_not_work_is_told_why() -> None:
    facts = (replace(CABLE, works=False), WIFI, CELL)
    ranking = rank(Policy("backup", networks=("wifi", "ethernet")), facts, None, NOON)
    assert ranking.fitting == ("wlan0",)
    assert ranking.working == ("wwan0",)
    (cable, cell) = (ranking.place("eth0"), ranking.place("wwan0"))
    assert cable is not None
    assert cell is not None
    assert cable.why_not == ("it does not work now",)
    assert cell.why_not == ("it is not among the policy's networks (wifi, ethernet)",)
    assert ranking.place("nothing") is None


@pytest.mark.parametrize(
    ("require", "facts", "why"),
    [
        (Require(rtt=0.05), CELL, ["its RTT is 60ms, above 50ms"]), (Require(rtt=0.06), CELL, []),
        (Require(loss=0.005), CELL, ["its loss is 1%, above 0.5%"]), (Require(jitter=0.001), CELL, []),
        (Require(jitter=0.01), replace(WIFI, jitter=0.02), ["its jitter is 20ms, above 10ms"]),
        (Require(rate=5e6), CELL, ["its rate is not known, and must be at least 5Mbit/s"]),
        (Require(rate=5e6), CABLE, []), (Require(rate=5e9), CABLE, ["its rate is 1Gbit/s, below 5Gbit/s"]),
        (Require(signal=0.8), WIFI, ["its signal is 70%, below 80%"]),
        (Require(signal=0.1), CABLE, ["its signal is not known, and must be at least 10%"]),
        (Require(metered=False), CELL, ["it is metered"]), (Require(metered=True), WIFI, ["it is not metered"]),
        (Require(cost=("free",)), CELL, ["its cost is metered, not free"]), (Require(cost=("free",)), WIFI, []),
        (Require(security=("trusted", "encrypted")), WIFI, []),
        (Require(security=("trusted", "encrypted")), CABLE, ["its security is not known, not trusted or encrypted"]),
        (Require(under_cap=True), replace(CELL, over_cap=True), ["its data cap of this month is used up"]),
        (Require(under_cap=True), CELL, []), (Require(time=("mon-fri 08:00-18:00",)), CELL, []),
        (Require(time=("sat,sun",)), CELL, ["it is not sat,sun now"]), (Require(), CELL, []),
    ],
)  # fmt: skip
def test_each_condition_that_is_not_met_is_one_sentence(require: Require, facts: Facts, why: list[str]) -> None:
    assert unmet(require, facts, NOON) == why


def test_what_nobody_has_measured_yet_meets_bounds_on_delay_and_loss_alone() -> None:
    unknown = Facts("new0")
    assert unmet(Require(rtt=0.001, loss=0.0, jitter=0.001), unknown, NOON) == []
    assert len(unmet(Require(rate=1.0, signal=0.1, security=("open",)), unknown, NOON)) == 3
    assert unmet(Require(time=("00:00-24:00",)), unknown, None) == ["it is not 00:00-24:00 now"]


def test_slack_makes_bounds_harder_for_coming_back_and_softer_for_staying() -> None:
    require = Require(rtt=0.065, rate=1e9)
    assert unmet(Require(rtt=0.065), CELL, NOON) == []
    assert unmet(Require(rtt=0.065), CELL, NOON, 0.8) == ["its RTT is 60ms, above 52ms"]
    assert unmet(require, replace(CABLE, rate=0.9e9), NOON, 1.25) == []


def test_a_blocked_policy_fits_nowhere() -> None:
    ranking = rank(Policy("x", blocked=True), ALL, None, NOON)
    assert ranking.fitting == ()
    assert all(place.why_not[0] == "the policy blocks these flows" for place in ranking.places)


def test_sticky_keeps_what_is_in_use_as_long_as_it_fits() -> None:
    sticky = Policy("x", networks=("ethernet", "*"), order=Order.STICKY)
    assert order(sticky)[0] == "eth0"
    assert order(sticky, "wwan0")[0] == "wwan0"
    assert order(sticky, "wwan0", (replace(CELL, works=False), WIFI, CABLE))[0] == "eth0"


def test_performance_prefers_small_delay_and_loss_and_puts_the_unmeasured_last() -> None:
    policy = Policy("x", order=Order.PERFORMANCE)
    assert order(policy) == ("eth0", "wlan0", "wwan0")
    lossy = replace(CABLE, loss=0.10)
    assert order(policy, None, (lossy, WIFI, Facts("new0", works=True))) == ("wlan0", "eth0", "new0")
    assert performance_score(lossy) == pytest.approx(10 + 10 * LOSS_COST)


@pytest.mark.parametrize(
    ("rtt_ms", "loss_percent", "score"),
    [
        (100, 3, 3.0), (199.9, 0, 0.0), (200, 2, 2.0), (300, 2, 27.0), (400, 2, 52.0),
        (600, 4, (300**2 + 4**2) ** 0.5 + 55), (40, 0, 0.0),
    ],
)  # fmt: skip
def test_voip_performance_is_the_originals_formula(rtt_ms: float, loss_percent: float, score: float) -> None:
    facts = Facts("x", rtt=rtt_ms / 1000, loss=loss_percent / 100)
    assert voip_score(facts) == pytest.approx(score)
    assert voip_score(Facts("x", loss=0.1)) is None


def test_a_call_leaves_a_fast_lossy_network_for_a_slower_clean_one() -> None:
    call = Policy("call", order=Order.VOIP)
    assert order(call, "wlan0", (replace(WIFI, loss=0.1), replace(CELL, loss=0.0)))[0] == "wwan0"


facts_lists = st.lists(
    st.builds(
        Facts, st.sampled_from(["a", "b", "c", "d"]), st.sampled_from(["wifi", "ethernet"]), works=st.booleans(),
        metered=st.booleans(), rtt=st.none() | st.floats(0, 5), loss=st.none() | st.floats(0, 1),
    ),
    max_size=4, unique_by=lambda facts: facts.name,
)  # fmt: skip


@given(facts_lists, st.sampled_from(list(Order)), st.booleans(), st.sampled_from([None, "a"]))
def test_every_network_has_one_place_and_either_fits_or_says_why(
    facts: list[Facts], by: Order, free: bool, in_use: str | None
) -> None:
    policy = Policy("x", networks=("wifi",), order=by, require=Require(metered=False if free else None, rtt=1.0))
    ranking = rank(policy, facts, in_use, None)
    assert sorted(place.name for place in ranking.places) == sorted(one.name for one in facts)
    assert all(place.fits is (not place.why_not) for place in ranking.places)
    assert [place.fits for place in ranking.places] == sorted((p.fits for p in ranking.places), reverse=True)
    assert rank(policy, facts[::-1], in_use, None) == ranking
