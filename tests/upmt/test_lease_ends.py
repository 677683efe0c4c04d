"""Which lease ends next."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sojourn.upmt.lease_ends import Subscribers
from sojourn.upmt.records import Subscriber

USERS = tuple("abcd")


def record(user: str, until: float | None) -> Subscriber:
    return replace(Subscriber(user, user), lease_until=until)


def test_the_earliest_end_is_known_through_renewals_and_departures() -> None:
    book = Subscribers({"a": record("a", 50.0), "b": record("b", 40.0), "c": record("c", None)})
    assert book.next_end() == 40.0
    book["b"] = record("b", 90.0)
    assert book.next_end() == 50.0
    book["a"] = record("a", None)
    assert book.next_end() == 90.0
    book["c"] = record("c", 70.0)
    book.pop("b")
    assert book.next_end() == 70.0


def test_ended_leases_are_told_in_their_order_until_they_are_ended() -> None:
    book = Subscribers({"a": record("a", 50.0), "b": record("b", 40.0), "c": record("c", 60.0)})
    assert [each.user for each in book.ended(50.0)] == ["b", "a"]
    assert [each.user for each in book.ended(50.0)] == ["b", "a"]
    book["b"] = record("b", None)
    assert [each.user for each in book.ended(60.0)] == ["a", "c"]


def test_ten_thousand_renewals_leave_no_more_behind_than_there_are_hosts() -> None:
    book = Subscribers({user: record(user, 1.0) for user in USERS})
    for at in range(10000):
        book["a"] = record("a", float(at))
    assert len(book._ends) <= 2 * len(USERS) + 64
    assert book.next_end() == 1.0


step_s = st.tuples(st.sampled_from(USERS), st.none() | st.sampled_from([1.0, 2.0, 3.0, 4.0]), st.booleans())


@given(st.lists(step_s, max_size=30), st.sampled_from([0.0, 2.0, 4.0]))
def test_it_knows_what_a_look_at_all_of_them_finds(steps: list[tuple[str, float | None, bool]], unix: float) -> None:
    book = Subscribers({})
    for user, until, stays in steps:
        if stays:
            book[user] = record(user, until)
        else:
            book.pop(user, None)
        ends = [each.lease_until for each in book.values() if each.lease_until is not None]
        assert book.next_end() == min(ends, default=None)
    found = book.ended(unix)
    assert {each.user for each in found} == {
        each.user for each in book.values() if each.lease_until is not None and each.lease_until <= unix
    }
    assert len(found) == len({each.user for each in found})
    assert [each.lease_until for each in found] == sorted(each.lease_until or 0.0 for each in found)
