"""Places at the door: newcomers take the oldest visitor's, a user has a share, and strangers take none of the own."""

from hypothesis import given
from hypothesis import strategies as st

from sojourn.window.door import MOST_VISITORS, OWN_PLACES, STRANGER_SHARE, STRANGERS_PLACES, Door

ME, ROOT, EVE = 1000, 0, 1001


def door() -> Door[int]:
    return Door({ME, ROOT})


def test_a_user_s_newest_visitor_takes_the_place_of_that_user_s_oldest() -> None:
    strangers = door()
    out = [strangers.enter(visitor, EVE) for visitor in range(STRANGER_SHARE + 3)]
    assert out == [None] * STRANGER_SHARE + [0, 1, 2]
    own = door()
    out = [own.enter(visitor, ME) for visitor in range(OWN_PLACES + 2)]
    assert out == [None] * OWN_PLACES + [0, 1]


def test_many_users_together_have_the_strangers_places_and_no_more() -> None:
    crowded = door()
    crowded.enter(-1, ME)
    out = [crowded.enter(visitor, 100_000 + visitor) for visitor in range(STRANGERS_PLACES + 2)]
    assert out == [None] * STRANGERS_PLACES + [0, 1]
    assert crowded.waits(-1)


def test_one_that_has_left_or_shown_the_token_is_turned_out_by_nobody() -> None:
    busy = door()
    busy.enter(1, EVE)
    busy.leave(1)
    busy.leave(1)
    assert not busy.waits(1)
    out = {busy.enter(visitor, EVE) for visitor in range(2, 100)}
    assert 1 not in out


@given(st.lists(st.tuples(st.sampled_from([ME, ROOT, EVE, EVE + 1, None]), st.booleans()), max_size=400))
def test_whatever_comes_the_own_page_finds_a_place_and_there_are_never_too_many(
    comings: list[tuple[int | None, bool]],
) -> None:
    some, inside = door(), dict[int, int | None]()
    for visitor, (user, leaves) in enumerate(comings):
        out = some.enter(visitor, user)
        inside[visitor] = user
        assert some.waits(visitor), "who comes now is served"
        if out is not None:
            assert (inside.pop(out) in (ME, ROOT)) == (user in (ME, ROOT)), "nobody goes for somebody else's sort"
            assert not some.waits(out)
        if leaves:
            some.leave(visitor)
            del inside[visitor]
        assert len(inside) <= MOST_VISITORS
        assert all(some.waits(one) for one in inside)
