"""What an anchor lends, as changes of records: Vipas, tunnel indices, secrets."""

from itertools import count

import pytest

from sojourn.model import Endpoint, TunnelId
from sojourn.packet.seal import Aead
from sojourn.upmt.lease import SECRET_BYTES, SLOTS
from sojourn.upmt.leases import EPOCHS_PER_GENERATION, Leases, Terms
from sojourn.upmt.records import Subscriber
from sojourn.upmt.vipa import PoolExhausted, VipaPool

TERMS = Terms((Endpoint("203.0.113.1", 1800),), ("10.201.0.1",), "10.201.0.1", 20.0, 1400)
UNIX = 1_700_000_000.0


class Counting:
    """Random bytes that count up, so that none comes twice."""

    def __init__(self) -> None:
        self._count = count(1)

    def __call__(self, size: int) -> bytes:
        return next(self._count).to_bytes(size)


def lender(*subscribers: Subscriber, pool: str = "10.201.0.0/29", pool6: str | None = None) -> Leases:
    return Leases(VipaPool(pool, pool6), TERMS, Counting(), subscribers)


def test_a_first_lease_has_everything_that_sealed_tunnels_need() -> None:
    leases = lender(pool6="fd00:1::/64")
    renewed, lease = leases.grant(Subscriber("a", "A"), None, 600.0, UNIX)
    assert (lease.vipa, lease.vipa6, lease.expires) == ("10.201.0.2", "fd00:1::2", 600.0)
    assert len(lease.tunnels) == len(set(lease.tunnels)) == SLOTS
    assert lease.secret is not None
    assert (lease.secret.generation, lease.secret.from_epoch) == (1, EPOCHS_PER_GENERATION)
    assert len(lease.secret.key) == SECRET_BYTES
    assert (lease.endpoints, lease.inner_addresses) == (TERMS.endpoints, TERMS.inner_addresses)
    assert (lease.resolver, lease.keep_alive, lease.mtu) == (TERMS.resolver, TERMS.keep_alive, TERMS.mtu)
    assert (renewed.vipa, renewed.vipa6, renewed.tunnels) == (lease.vipa, lease.vipa6, lease.tunnels)
    assert renewed.secrets == (lease.secret,)
    assert renewed.lease_until == UNIX + 600.0


def test_a_refresh_keeps_the_address_and_the_tunnels_and_gives_a_new_secret() -> None:
    leases = lender()
    first, lease = leases.grant(Subscriber("a", "A"), None, 600.0, UNIX)
    second, again = leases.grant(first, "10.201.0.5", 600.0, UNIX + 400.0, Aead.CHACHA20_POLY1305)
    assert (again.vipa, again.tunnels) == (lease.vipa, lease.tunnels)
    assert again.secret is not None
    assert (again.secret.generation, again.secret.aead) == (2, Aead.CHACHA20_POLY1305)
    assert again.secret.from_epoch == 2 * EPOCHS_PER_GENERATION
    assert second.secrets == (lease.secret, again.secret), "the host may never get the new one"
    assert second.lease_until == UNIX + 1000.0


def test_a_lease_without_a_secret_erases_those_of_before_and_keeps_their_number() -> None:
    leases = lender()
    sealed, _ = leases.grant(Subscriber("a", "A"), None, 600.0, UNIX)
    plain, lease = leases.grant(sealed, None, 600.0, UNIX, None)
    assert (lease.secret, [secret.key for secret in plain.secrets]) == (None, [b""])
    _, lease = leases.grant(plain, None, 600.0, UNIX)
    assert lease.secret is not None
    assert lease.secret.generation == 2, "no epoch is used twice"


def test_a_secret_that_was_never_used_gives_way_and_its_number_is_never_used_again() -> None:
    leases = lender()
    record = Subscriber("a", "A")
    for _ in range(4):
        record, lease = leases.grant(record, None, 600.0, UNIX)
    assert [secret.generation for secret in record.secrets] == [1, 4]
    ended = leases.end(record)
    record, lease = leases.grant(ended, None, 600.0, UNIX)
    assert lease.secret is not None
    assert lease.secret.generation == 5
    assert lease.secret.key != b""


def test_an_association_outside_of_tls_gets_no_secret() -> None:
    renewed, lease = lender().grant(Subscriber("a", "A"), None, 600.0, UNIX, aead=None)
    assert lease.secret is None
    assert renewed.secrets == ()


def test_the_end_takes_everything_back_but_the_number_of_the_last_secret() -> None:
    leases = lender(pool="10.201.0.0/30")
    record, _ = leases.grant(Subscriber("a", "A", ha1="x", tid="t"), None, 600.0, UNIX)
    with pytest.raises(PoolExhausted):
        leases.grant(Subscriber("b", "B"), None, 600.0, UNIX)
    ended = leases.end(record)
    assert (ended.vipa, ended.vipa6, ended.tunnels, ended.lease_until) == (None, None, (), None)
    assert [secret.key for secret in ended.secrets] == [b""]
    assert (ended.ha1, ended.tid) == ("x", "t")
    assert leases.grant(Subscriber("b", "B"), None, 600.0, UNIX)[1].vipa == "10.201.0.2"
    assert leases.end(Subscriber("c", "C")).vipa is None, "one that has nothing gives nothing back"


def test_what_stands_in_the_records_is_not_lent_again() -> None:
    tunnels = tuple(TunnelId(number) for number in range(1, SLOTS + 1))
    old = Subscriber("a", "A", vipa="10.201.0.2", tunnels=tunnels)
    leases = lender(old)
    _, lease = leases.grant(Subscriber("b", "B"), "10.201.0.2", 600.0, UNIX)
    assert lease.vipa == "10.201.0.3"
    assert not set(lease.tunnels) & set(tunnels)


def test_a_wanted_address_is_lent_when_it_is_free() -> None:
    assert lender().grant(Subscriber("a", "A"), "10.201.0.5", 600.0, UNIX)[1].vipa == "10.201.0.5"


def test_an_address_of_a_pool_of_before_is_replaced_and_takes_no_place() -> None:
    """The owner has changed `pool`: the old address would not be routed or translated."""
    old = [Subscriber(name, name, vipa=f"10.99.0.{place}") for place, name in enumerate("abc", 2)]
    leases = lender(*old, pool="10.201.0.0/30")
    renewed, lease = leases.grant(old[0], "10.99.0.2", 600.0, UNIX)
    assert lease.vipa == renewed.vipa == "10.201.0.2"
    with pytest.raises(PoolExhausted):
        leases.grant(old[1], None, 600.0, UNIX)


def test_an_index_of_zero_or_of_another_host_is_never_drawn() -> None:
    numbers = iter([0, 5, 5, *range(6, 40)])
    taken = Subscriber("b", "B", tunnels=(TunnelId(6),))
    pool = VipaPool("10.201.0.0/29")
    leases = Leases(pool, TERMS, lambda size: next(numbers).to_bytes(size), [taken])
    record, _ = leases.grant(Subscriber("a", "A"), None, 600.0, UNIX, aead=None)
    assert record.tunnels == (5, *range(7, 22))


def test_a_lease_tells_the_highest_move_number_that_the_anchor_has_seen() -> None:
    _, lease = lender().grant(Subscriber("a", "A", move=41), None, 600.0, UNIX)
    assert lease.move == 41


def test_plain_tunnels_have_room_for_larger_packets() -> None:
    _, plain = lender().grant(Subscriber("a", "A"), None, 600.0, UNIX, None)
    assert plain.mtu == TERMS.mtu + 24
