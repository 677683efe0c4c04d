"""Stacks, multicast, anycast, and what bounds them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.i3.forwarding import MAX_LOOKS, Outcome, forward
from sojourn.i3.identifier import Identifier
from sojourn.i3.packet import MAX_COPIES, MAX_HOPS, MAX_STACK, Data, parse_data
from sojourn.i3.table import Trigger, TriggerTable

NOW = 1000.0
OWNER = ("192.0.2.9", 1)


def i(name: str) -> Identifier:
    return Identifier(name.encode().ljust(32, b"."))


def table(**leads: list[str]) -> TriggerTable:
    """Return a table; "x=['y z', '1']" leads x to the identifiers y, z, and to port 1."""
    made = TriggerTable()
    for name, targets in leads.items():
        for target in targets:
            address = ("192.0.2.1", int(target)) if target.isdigit() else None
            stack = () if address is not None else tuple(map(i, target.split()))
            made.add(Trigger(i(name), address, stack, address or OWNER), NOW)
    return made


def sent(outcome: Outcome) -> dict[int, Data]:
    return {address[1]: parse_data(data) for data, address in outcome.sends}


def test_an_address_gets_the_packet_with_one_hop_less() -> None:
    outcome = forward(table(x=["1"]), Data((i("x"), i("y")), b"p", 5, 7), NOW)
    assert sent(outcome) == {1: Data((i("x"), i("y")), b"p", 4, 7)}


def test_a_stack_takes_the_place_of_the_identifier_that_led_to_it() -> None:
    """The receiver's choice: what is sent to x passes the service s first (i3, service composition)."""
    there = table(x=["s r"], s=["1"], r=["2"])
    assert sent(forward(there, Data((i("x"), i("z"))), NOW)) == {1: Data((i("s"), i("r"), i("z")), b"", MAX_HOPS - 2)}
    assert sent(forward(there, Data((i("r"), i("z"))), NOW))[2].stack == (i("r"), i("z"))


def test_where_nobody_is_the_next_of_the_stack_is_tried() -> None:
    assert sent(forward(table(y=["1"]), Data((i("x"), i("y"))), NOW))[1].stack == (i("y"),)
    assert forward(table(), Data((i("x"), i("y"))), NOW).refused == ["no-trigger"]


def test_several_triggers_are_multicast_and_share_the_budget_of_copies() -> None:
    outcome = forward(table(x=["1", "2", "y"], y=["3", "4"]), Data((i("x"),)), NOW)
    assert {port: data.copies for port, data in sent(outcome).items()} == {1: 21, 2: 22, 3: 10, 4: 11}


def test_with_a_small_budget_the_rest_is_left_out_and_counted() -> None:
    outcome = forward(table(x=["1", "2", "3"]), Data((i("x"),), copies=2), NOW)
    assert len(outcome.sends) == 2
    assert outcome.refused == ["copies"]


def test_an_anycast_packet_goes_to_the_nearest_member_alone() -> None:
    there = TriggerTable()
    for port, suffix in ((1, 0x10), (2, 0xF0)):
        of = Identifier(b"g" * 31 + bytes((suffix,)))
        there.add(Trigger(of, ("192.0.2.1", port), (), OWNER), NOW)
    assert set(sent(forward(there, Data((Identifier(b"g" * 31 + b"\x13"),)), NOW))) == {1}
    assert set(sent(forward(there, Data((Identifier(b"g" * 31 + b"\xfe"),)), NOW))) == {2}
    assert forward(there, Data((Identifier(b"h" + b"g" * 31),)), NOW).refused == ["no-trigger"]


def test_a_loop_of_stacks_ends_by_its_hops() -> None:
    """No rule lets two identifiers lead to each other; a rest of a stack that comes round again is another matter."""
    outcome = forward(table(x=["y"], y=["x"]), Data((i("x"),)), NOW)
    assert (outcome.sends, outcome.refused, outcome.looks) == ([], ["hops"], MAX_HOPS + 1)
    assert forward(table(x=["gone x"]), Data((i("x"),)), NOW).refused == ["hops"]


def test_a_loop_that_multiplies_ends_by_its_copies_and_by_its_work() -> None:
    outcome = forward(table(x=["x", "x 1", "x 2", "x 3", "x 4"]), Data((i("x"),)), NOW)
    assert outcome.sends == []
    assert outcome.looks <= MAX_LOOKS + MAX_STACK
    assert "work" in outcome.refused


def test_a_stack_that_grows_too_long_is_dropped() -> None:
    there = table(x=["a b c d"])
    assert forward(there, Data((i("x"), *[i("r")] * 5)), NOW).refused == ["stack"]


NAMES = st.sampled_from("abcdef")
LEADS = st.dictionaries(
    NAMES, st.lists(st.integers(1, 9).map(str) | st.lists(NAMES, min_size=1, max_size=4).map(" ".join), max_size=9)
)  # fmt: skip


@settings(deadline=None)
@given(LEADS, st.lists(NAMES, min_size=1, max_size=MAX_STACK), st.integers(0, MAX_HOPS), st.integers(1, MAX_COPIES))
def test_whatever_triggers_there_are_no_packet_becomes_more_than_its_budget(
    leads: dict[str, list[str]], stack: list[str], hops: int, copies: int
) -> None:
    packet = Data(tuple(map(i, stack)), b"p", hops, copies)
    outcome = forward(table(**leads), packet, NOW)
    made = [parse_data(data) for data, _ in outcome.sends]
    assert sum(one.copies for one in made) <= copies
    assert all(one.hops < hops and len(one.stack) <= MAX_STACK and one.payload == b"p" for one in made)
    assert outcome.looks <= MAX_LOOKS + MAX_STACK
    assert outcome.sends or outcome.refused
