"""A token bucket: a burst, then so much a second."""

from sojourn.bucket import Bucket, Buckets


def test_a_share_is_full_after_a_second_and_holds_no_more() -> None:
    share = Bucket(5.0, 5.0)
    assert [share.take(100.0) for _ in range(6)] == [True] * 5 + [False]
    assert [share.take(1000.0) for _ in range(6)] == [True] * 5 + [False]
    assert share.take(1000.2)


def test_an_allowance_fills_again() -> None:
    allowance = Bucket(2.0, 3.0)
    assert [allowance.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert allowance.take(0.5)
    assert not allowance.take(0.5)


def test_each_has_its_own_and_the_one_that_was_silent_for_longest_is_forgotten() -> None:
    shares: Buckets[str] = Buckets(1.0, 1.0, 2)
    assert [shares.take(who, 0.0) for who in "aabab"] == [True, False, True, False, False]
    assert shares.take("c", 0.0)
    assert len(shares) == 2
    assert not shares.take("b", 0.0)
    assert shares.take("a", 0.0), "forgotten"
