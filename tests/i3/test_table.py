"""The table against the obvious one: a list that is searched from front to back."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sojourn.i3.identifier import Identifier
from sojourn.i3.table import (
    MAX_ADDRESSES,
    MAX_STACKS,
    SLICE,
    TRIGGER_LIFE,
    UNPROVED_TRIGGERS,
    Crowd,
    Trigger,
    TriggerTable,
)

HERE = ("192.0.2.1", 4000)
SUFFIXES = st.integers(0, 15)


def ident(suffix: int, place: int = 0) -> Identifier:
    return Identifier(bytes((place,)) * 16 + bytes(15) + bytes((suffix,)))


def common(one: bytes, other: bytes) -> int:
    return 256 - (int.from_bytes(one) ^ int.from_bytes(other)).bit_length()


class Tables(RuleBasedStateMachine):
    """Two places, sixteen identifiers each, a few addresses; triggers come, are refreshed, removed and forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.model, self.now = TriggerTable(), list[Trigger](), 1000.0

    @rule(place=st.integers(0, 1), suffix=SUFFIXES, port=st.integers(1, 3))
    def insert(self, place: int, suffix: int, port: int) -> None:
        of, address = ident(suffix, place), (HERE[0], port)
        known = self.table.get(of, address)
        if known is not None:
            self.table.refresh(known, self.now)
            return
        trigger = Trigger(of, address, (), address)
        self.table.add(trigger, self.now)
        self.model.append(trigger)

    @precondition(lambda self: bool(self.model))
    @rule(which=st.integers(0, 100))
    def remove(self, which: int) -> None:
        trigger = self.model.pop(which % len(self.model))
        self.table.remove(trigger, 5, self.now)
        assert self.table.removed(trigger.identifier, trigger.target, trigger.owner, self.now) == 5

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        self.table.expire(self.now)
        self.model = [trigger for trigger in self.model if self.knows(trigger)]
        assert all(trigger.expires > self.now - 2.0 for trigger in self.model), "the wheel looks within two seconds"

    def knows(self, trigger: Trigger) -> bool:
        """Say whether the table has it still; it must, while it lives."""
        there = self.table.get(trigger.identifier, trigger.target) is trigger
        assert there or trigger.expires <= self.now
        return there

    @rule(place=st.integers(0, 1), suffix=SUFFIXES)
    def match(self, place: int, suffix: int) -> None:
        wanted = ident(suffix, place)
        living = [t for t in self.model if t.expires > self.now and t.identifier[:16] == wanted[:16]]
        found = self.table.match(wanted, self.now)
        self.model = [trigger for trigger in self.model if self.knows(trigger)]
        if not living:
            assert not found
            return
        best = max(common(trigger.identifier, wanted) for trigger in living)
        assert len({trigger.identifier for trigger in found}) == 1
        assert common(found[0].identifier, wanted) == best
        assert {id(t) for t in found} == {id(t) for t in living if t.identifier == found[0].identifier}

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.table) == len(self.model)


Tables.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTables = Tables.TestCase


@given(st.sets(SUFFIXES, min_size=1), SUFFIXES)
def test_the_longest_common_prefix_wins_and_the_same_bits_lead_to_the_same_place(there: set[int], wanted: int) -> None:
    crowd = Crowd()
    for suffix in there:
        crowd.add(Trigger(ident(suffix), HERE, (), HERE))
    found = crowd.nearest(wanted)
    assert found in there
    assert common(ident(found), ident(wanted)) == max(common(ident(one), ident(wanted)) for one in there)
    assert crowd.nearest(wanted) == found


def test_random_suffixes_load_the_members_of_a_group_evenly() -> None:
    crowd = Crowd()
    for suffix in (1, 2, 3):  # all begin with 00, so that three quarters of what is wanted fits all alike
        crowd.add(Trigger(ident(suffix), HERE, (), HERE))
    chosen = [crowd.nearest(wanted) for wanted in range(128, 256)]
    assert {suffix: chosen.count(suffix) for suffix in (1, 2, 3)} == {1: 43, 2: 43, 3: 42}


def test_a_trigger_lives_for_thirty_seconds_after_its_refresh_and_is_looked_at_by_the_wheel() -> None:
    table, trigger = TriggerTable(), Trigger(ident(1), HERE, (), HERE)
    table.add(trigger, 1000.2)
    table.refresh(trigger, 1020.0)
    assert table.expire(1000.2 + TRIGGER_LIFE + 1) == []
    assert table.match(ident(1), 1049.9) == [trigger]
    assert table.match(ident(1), 1050.1) == []
    assert table.expire(1051.5) == [trigger]
    assert table.deadline() is None


def test_many_triggers_that_end_at_once_are_worked_off_in_slices() -> None:
    table = TriggerTable()
    for number in range(2 * SLICE + 10):
        of = Identifier(number.to_bytes(4) + bytes(28))
        table.add(Trigger(of, HERE, (), HERE), 1000.0)
    assert [len(table.expire(1100.0)) for _ in range(4)] == [SLICE, SLICE, 10, 0]
    assert len(table) == 0


def test_an_identifier_leads_to_a_bounded_number_of_places() -> None:
    table = TriggerTable()
    for port in range(MAX_ADDRESSES):
        assert table.crowded(ident(1), on=False, unproved=True) is (port >= UNPROVED_TRIGGERS)
        table.add(Trigger(ident(1), (HERE[0], port), (), HERE), 1000.0)
    assert table.crowded(ident(1), on=False, unproved=False)
    assert not table.crowded(ident(1), on=True, unproved=False)
    for number in range(MAX_STACKS):
        table.add(Trigger(ident(1), None, (ident(number, 9),), HERE), 1000.0)
    assert table.crowded(ident(1), on=True, unproved=False)
    found = table.match(ident(1), 1000.0)
    assert [trigger.address is None for trigger in found] == [False] * MAX_ADDRESSES + [True] * MAX_STACKS
