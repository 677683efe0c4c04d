import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.upmt.vipa import PoolExhausted, VipaPool


def test_the_first_address_is_the_anchors() -> None:
    assert VipaPool("10.201.0.0/16", "fd00::/64").anchor == ("10.201.0.1", "fd00::1")
    assert VipaPool("10.201.0.0/16").anchor == ("10.201.0.1", None)


def test_addresses_are_lent_in_order_with_the_same_place_in_both_families() -> None:
    pool = VipaPool("10.201.0.0/24", "fd00::/64")
    assert [pool.lease() for _ in range(2)] == [("10.201.0.2", "fd00::2"), ("10.201.0.3", "fd00::3")]


def test_a_free_address_may_be_asked_for_and_a_lent_or_foreign_one_may_not() -> None:
    pool = VipaPool("10.201.0.0/24")
    assert pool.lease("10.201.0.77") == ("10.201.0.77", None)
    for wanted in ("10.201.0.77", "10.201.0.1", "10.201.0.0", "10.201.0.255", "192.0.2.1", "fd00::1", "nonsense"):
        vipa, _ = pool.lease(wanted)
        assert vipa != wanted
        assert vipa.startswith("10.201.0.")


def test_an_address_given_back_is_lent_again_last() -> None:
    pool = VipaPool("10.201.0.0/29")
    first, _ = pool.lease()
    pool.give_back(first)
    assert [pool.lease()[0] for _ in range(5)] == ["10.201.0.3", "10.201.0.4", "10.201.0.5", "10.201.0.6", first]


def test_an_exhausted_pool_says_so() -> None:
    pool = VipaPool("10.201.0.0/30")
    pool.lease()
    with pytest.raises(PoolExhausted, match=r"all 1 addresses of 10\.201\.0\.0/30 are lent"):
        pool.lease()
    pool.give_back("10.201.0.2")
    assert pool.lease() == ("10.201.0.2", None)


def test_giving_back_what_is_not_lent_changes_nothing() -> None:
    pool = VipaPool("10.201.0.0/24")
    for vipa in ("10.201.0.9", "192.0.2.1", "nonsense"):
        pool.give_back(vipa)
    assert len(pool) == 0


@pytest.mark.parametrize(
    ("cidr", "cidr6"), [("10.0.0.0/31", None), ("10.0.0.1/24", None), ("10.0.0.0/24", "fd00::/126")]
)
def test_a_pool_that_cannot_work_is_refused(cidr: str, cidr6: str | None) -> None:
    with pytest.raises(ValueError):
        VipaPool(cidr, cidr6)


@given(st.lists(st.integers(0, 15) | st.none(), max_size=60))
def test_no_address_is_ever_lent_twice(actions: list[int | None]) -> None:
    pool = VipaPool("10.201.0.0/28")
    lent: set[str] = set()
    for action in actions:
        if action is not None and f"10.201.0.{action}" in lent:
            lent.remove(f"10.201.0.{action}")
            pool.give_back(f"10.201.0.{action}")
            continue
        try:
            vipa, _ = pool.lease(None if action is None else f"10.201.0.{action}")
        except PoolExhausted:
            assert len(lent) == 13
            continue
        assert vipa not in lent | {"10.201.0.0", "10.201.0.1", "10.201.0.15"}
        lent.add(vipa)
        assert len(pool) == len(lent)
