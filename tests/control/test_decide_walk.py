"""The decision over long times: measurements that wander about their bounds, and a working day."""

import random
from collections.abc import Callable

import pytest

from sojourn.model import UDP, Endpoint, Flow, Network
from sojourn.policy.rules import Order, Policy, Require
from sojourn.upmt.commands import Labelled
from sojourn.upmt.host_events import Handover, PathGone, PathOpened, PathRecovered, PathTested
from tests.control.networks import PHONE, WIFI, WIRE, silent, works
from tests.control.policies import BACKUP, CALL, REST, Meter, decide_with, places

VOICE = Flow(UDP, Endpoint("10.201.0.2", 40010), Endpoint("192.0.2.1", 5004))
MOST_MOVES = 12
"""In ten minutes, of one policy, with both networks about its bounds all the time."""


class Walk:
    """Two networks whose loss and delay wander, a call on one of them, and reports as a data path gives them."""

    def __init__(self, seed: int, policy: Policy) -> None:
        self.random = random.Random(seed)
        self.decide = decide_with(policy, BACKUP, REST)
        works(self.decide, WIFI, PHONE)
        self.decide.flows.seen(VOICE, "home", "call")
        self.meters = {name: Meter(name) for name in ("home", "phone")}
        self.loss = dict.fromkeys(self.meters, 0.02)
        self.rtt = dict.fromkeys(self.meters, 0.12)
        self.watched = dict.fromkeys(self.meters, 0.0)
        self.now = 100.0
        self.moves: list[tuple[float, Handover]] = []

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self.now < until:
            self.now += 0.2
            for name in self.decide.to_measure(self.now):
                self.watched[name] = self.now + 2.0
            for name in self.meters:
                self._wander(name)
            due = self.decide.deadline()
            if due is not None and due <= self.now:
                self._note(self.decide.tick(self.now))

    def _wander(self, name: str) -> None:
        self.loss[name] = min(max(self.loss[name] + self.random.gauss(0, 0.002), 0.0), 0.06)
        self.rtt[name] = min(max(self.rtt[name] + self.random.gauss(0, 0.004), 0.02), 0.25)
        packets = 11 if self.decide.lanes["call"].place == name else int(self.now < self.watched[name])
        if packets:
            lost = [sum(self.random.random() < self.loss[name] for _ in range(packets)) for _ in range(2)]
            self.meters[name].rtt = self.rtt[name]
            self._note(self.decide.handle(self.meters[name].report(packets, *lost), self.now))

    def _note(self, handovers: list[Handover]) -> None:
        self.moves += [(self.now, handover) for handover in handovers]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "policy",
    [CALL, Policy("call", CALL.subject, order=Order.PERFORMANCE), Policy("call", CALL.subject, order=Order.VOIP)],
    ids=["bounds", "performance", "voip"],
)
def test_measurements_that_wander_about_their_bounds_for_ten_minutes_make_nothing_flap(
    seed: int, policy: Policy
) -> None:
    walk = Walk(seed, policy)
    walk.run(600.0)
    moves = [at for at, handover in walk.moves if handover.plan]
    assert len(moves) <= MOST_MOVES
    assert {row.select for _, handover in walk.moves for row in handover.plan} <= {Labelled("call")}
    for _, handover in walk.moves:
        assert handover.reason


def test_a_loss_that_hovers_at_the_bound_moves_the_call_once_in_a_while() -> None:
    walk = Walk(5, Policy("call", CALL.subject, CALL.networks, Require(loss=0.02)))
    walk.run(20.0)
    for minute in range(10):
        walk.loss = {"home": 0.019 if minute % 2 else 0.021, "phone": 0.001}
        walk.run(60.0)
    assert len(walk.moves) <= MOST_MOVES


# A day.


class Day:
    """A laptop from morning to evening: what happens to its networks, told in the words of the roaming log."""

    def __init__(self, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.decide = decide_with(CALL, BACKUP, REST)
        self.decide.flows.seen(VOICE, None, "call")
        self.meters = {network.name: Meter(network.name) for network in (WIFI, WIRE, PHONE)}
        self.loss = {"home": 0.001, "wire": 0.0, "phone": 0.003}
        self.meters["phone"].rtt = 0.06
        self.now = 0.0
        self.story: list[str] = []

    def at(self, clock: str, *happens: Callable[[float], list[Handover]], **loss: float) -> None:
        """Let time pass until a time of the day, and then something happen."""
        hours, minutes = clock.split(":")
        until = int(hours) * 3600.0 + int(minutes) * 60.0
        self.now = self.now or until - 5.0
        while self.now < until - 1e-6:
            self._five_seconds()
        self.loss.update(loss)
        for one in happens:
            self._tell(one(self.now))

    def _five_seconds(self) -> None:
        self.now += 5.0
        decide, used = self.decide, {lane.place for lane in self.decide.lanes.values()}
        used |= set(decide.to_measure(self.now))
        for name, meter in self.meters.items():
            if name in used and name in decide.paths and decide.paths[name].works:
                lost = [sum(self.random.random() < self.loss[name] for _ in range(250)) for _ in range(2)]
                self._tell(decide.handle(meter.report(250, *lost), self.now))
        due = decide.deadline()
        if due is not None and due <= self.now:
            self._tell(decide.tick(self.now))
        self._check()

    def _check(self) -> None:
        """Hold the conditions that hold all day."""
        paths, where = self.decide.paths, places(self.decide)
        assert where["backup"] != "phone", "a backup never costs money"
        for label, place in where.items():
            assert place is None or place in paths, f"{label} is on a network that is not there"
        if any(path.works for path in paths.values()):
            assert where[""] is not None
            assert paths[where[""]].works, "what works is used"

    def _tell(self, handovers: list[Handover]) -> None:
        clock = f"{int(self.now) // 3600:02}:{int(self.now) // 60 % 60:02}"
        for handover in handovers:
            for row in handover.plan:
                who = (row.select.label or "others") if isinstance(row.select, Labelled) else "everything"
                self.story.append(f"{clock} {who} to {row.network or 'nowhere'}: {handover.reason}")

    def up(self, network: Network) -> Callable[[float], list[Handover]]:
        """Let a network come, and answer at once."""
        return lambda now: [
            *self.decide.handle(PathOpened(network), now), *self.decide.handle(PathTested(network.name, 0.02), now)
        ]  # fmt: skip

    def down(self, network: Network, why: str) -> Callable[[float], list[Handover]]:
        """Let a network go."""
        return lambda now: self.decide.handle(PathGone(network.name, why), now)

    def quiet(self, network: Network) -> Callable[[float], list[Handover]]:
        """Let a network fall silent."""
        return lambda now: self.decide.handle(silent(network.name), now)

    def back(self, network: Network) -> Callable[[float], list[Handover]]:
        """Let it answer again."""
        return lambda now: self.decide.handle(PathRecovered(network.name), now)


def test_a_working_day_reads_like_a_story() -> None:
    day = Day()
    day.at("07:30", day.up(WIFI), day.up(PHONE))
    day.at("08:10", day.down(WIFI, "out of reach"))
    day.at("08:25", day.quiet(PHONE))
    day.at("08:26", day.back(PHONE))
    day.at("09:00", day.up(WIRE))
    day.at("10:00", day.up(WIFI), day.down(WIRE, "cable pulled"))
    day.at("10:20", home=0.1)
    day.at("10:40", home=0.001)
    day.at("11:00", day.up(WIRE))
    day.at("17:45", day.down(WIRE, "cable pulled"), day.down(WIFI, "out of reach"))
    day.at("18:30", day.up(WIFI))
    day.at("19:00")
    assert day.story == [
        "07:30 everything to home: a network is there",
        "08:10 others to phone: home: out of reach",
        "08:10 backup to nowhere: home: out of reach",
        "08:10 call to phone: home: out of reach",
        "09:00 backup to wire: wire fits now",
        "09:00 others to wire: wire is preferred to phone",
        "09:00 call to wire: wire is preferred to phone",
        "10:00 everything to home: wire: cable pulled",
        "10:20 call to phone: home: its loss is 7.7%, above 2%",
        "10:40 call to home: home is preferred to phone",
        "17:45 others to phone: home: out of reach",
        "17:45 backup to nowhere: home: out of reach",
        "17:45 call to phone: home: out of reach",
        "18:30 backup to home: home fits now",
        "18:30 others to home: home is preferred to phone",
        "18:30 call to home: home is preferred to phone",
    ]


def test_no_day_of_any_kind_makes_lanes_flap() -> None:
    for seed in range(2):
        day, chance = Day(seed), random.Random(seed)
        minute = 8 * 60
        there: set[str] = set()
        while minute < 12 * 60:
            minute += chance.randrange(1, 15)
            network = chance.choice((WIFI, WIRE, PHONE))
            clock = f"{minute // 60}:{minute % 60:02}"
            loss = {network.name: chance.choice((0.0, 0.0, 0.01, 0.03, 0.1))}
            if network.name not in there:
                there.add(network.name)
                day.at(clock, day.up(network), **loss)
            elif chance.random() < 0.3:
                there.discard(network.name)
                day.at(clock, day.down(network, "no carrier"), **loss)
            else:
                day.at(clock, day.quiet(network), **loss)
                day.at(clock, day.back(network))
        events = (minute - 8 * 60) / 8
        assert len(day.story) <= 6 * events + 20
