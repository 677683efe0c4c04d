"""When a tunnel steps its epoch, and how far it may."""

import pytest

from sojourn.datapath.epochs import EpochStore
from sojourn.model import TunnelId
from sojourn.packet.seal import (
    PACKETS_PER_EPOCH,
    SECONDS_PER_EPOCH,
    SECONDS_PER_IDLE_EPOCH,
    Direction,
    KeySchedule,
    Opened,
    Sealer,
    Secret,
)
from sojourn.upmt.commands import Role
from sojourn.upmt.tunnel_keys import TunnelKeys

TUNNEL = TunnelId(7)
FIRST, SECOND = Secret(1, bytes(32), 10), Secret(2, bytes(range(32)), 1024)


def keys(role: Role = Role.HOST, store: EpochStore | None = None, *secrets: Secret) -> TunnelKeys:
    schedule = KeySchedule(FIRST)
    for secret in secrets:
        schedule.install(secret)
    return TunnelKeys(TUNNEL, role, schedule, store or EpochStore())


def epoch_of(tunnel: TunnelKeys) -> int:
    assert tunnel.sealer is not None
    return tunnel.sealer.epoch


def test_a_host_starts_at_the_secrets_epoch_and_every_later_process_one_further() -> None:
    store = EpochStore()
    for expected in (10, 11, 12):
        tunnel = keys(Role.HOST, store)
        assert not tunnel.begin(0.0)
        assert epoch_of(tunnel) == expected


def test_a_process_that_would_be_three_ahead_of_the_report_seals_nothing_and_asks_for_a_secret() -> None:
    store = EpochStore()
    for _ in range(3):
        keys(Role.HOST, store).begin(0.0)
    tunnel = keys(Role.HOST, store)
    assert tunnel.begin(0.0)
    assert not tunnel.may_seal()
    assert not tunnel.begin(1.0)  # Asked already; again after a while.
    assert tunnel.begin(11.0)
    assert store.used(TUNNEL) == 12


def test_a_report_of_the_peer_lets_the_sender_go_on_and_nonsense_does_not() -> None:
    store = EpochStore()
    tunnel = keys(Role.HOST, store)
    tunnel.begin(0.0)
    tunnel.reported(99)
    assert store.reported(TUNNEL) == 0
    tunnel.sent(0.0)
    assert not tunnel.sent(SECONDS_PER_EPOCH)
    tunnel.reported(11)
    assert store.reported(TUNNEL) == 11
    tunnel.reported(10)
    assert store.reported(TUNNEL) == 11


def test_an_epoch_ends_120_s_after_its_first_packet() -> None:
    tunnel = keys()
    tunnel.begin(0.0)
    tunnel.sent(1000.0)
    tunnel.sent(1000.0 + SECONDS_PER_EPOCH - 1)
    assert epoch_of(tunnel) == 10
    tunnel.sent(1000.0 + SECONDS_PER_EPOCH)
    assert epoch_of(tunnel) == 11


def test_an_epoch_of_control_frames_alone_lasts_an_hour_and_one_of_data_ends_with_the_next_frame() -> None:
    tunnel = keys()
    tunnel.begin(0.0)
    for at in range(0, int(SECONDS_PER_IDLE_EPOCH), 25):
        tunnel.frame_sent(1000.0 + at)
    assert epoch_of(tunnel) == 10
    tunnel.frame_sent(1000.0 + SECONDS_PER_IDLE_EPOCH)
    assert epoch_of(tunnel) == 11
    tunnel.reported(11)
    tunnel.frame_sent(5000.0)
    tunnel.sent(5010.0)
    tunnel.frame_sent(5010.0 + SECONDS_PER_EPOCH - 1)
    assert epoch_of(tunnel) == 11
    assert tunnel.frame_may_step(5010.0 + SECONDS_PER_EPOCH)
    tunnel.frame_sent(5010.0 + SECONDS_PER_EPOCH)
    assert epoch_of(tunnel) == 12


def test_an_epoch_ends_at_two_to_the_23_packets_and_without_permission_nothing_more_is_sealed() -> None:
    tunnel = keys()
    tunnel.begin(0.0)
    assert tunnel.sealer is not None
    for expected in (11, 12):
        tunnel.sealer.counter = PACKETS_PER_EPOCH
        assert not tunnel.sent(1.0)
        assert epoch_of(tunnel) == expected
    tunnel.sealer.counter = PACKETS_PER_EPOCH
    assert tunnel.sent(1.0)
    assert not tunnel.may_seal()


def test_a_host_seals_with_a_new_secret_at_once() -> None:
    tunnel = keys()
    tunnel.begin(0.0)
    tunnel.schedule.install(SECOND)
    assert not tunnel.installed(1.0)
    assert (epoch_of(tunnel), tunnel.sealer.generation if tunnel.sealer else 0) == (1024, 2)


def test_an_anchor_seals_with_a_new_secret_only_when_told_that_the_host_does() -> None:
    tunnel = keys(Role.ANCHOR)
    tunnel.begin(0.0)
    tunnel.schedule.install(SECOND)
    tunnel.installed(1.0)
    assert epoch_of(tunnel) == 10
    host = Sealer(KeySchedule(FIRST), TUNNEL, Direction.HOST_TO_ANCHOR, 10)
    assert not tunnel.in_use(tunnel.opener.open(host.seal(b"E")))
    host = Sealer(KeySchedule(SECOND), TUNNEL, Direction.HOST_TO_ANCHOR, 1025)
    assert tunnel.in_use(tunnel.opener.open(host.seal(b"E")))
    tunnel.adopt(2.0)
    assert epoch_of(tunnel) == 1024
    tunnel.adopt(3.0)
    assert epoch_of(tunnel) == 1024


@pytest.mark.parametrize(("role", "epoch"), [(Role.HOST, 1024), (Role.ANCHOR, 10)])
def test_with_two_secrets_at_start_a_host_uses_the_new_and_an_anchor_the_old_one(role: Role, epoch: int) -> None:
    tunnel = keys(role, None, SECOND)
    tunnel.begin(0.0)
    assert epoch_of(tunnel) == epoch


def test_old_keys_are_dropped_when_their_time_is_over() -> None:
    tunnel = keys(Role.ANCHOR)
    host = Sealer(KeySchedule(FIRST), TUNNEL, Direction.HOST_TO_ANCHOR, 10)
    late = host.seal(b"E")
    host.step()
    opened: Opened = tunnel.opener.open(host.seal(b"E"))
    assert (opened.epoch, tunnel.opened_new_epoch) == (11, True)
    tunnel.settle(5.0, 0.3)
    assert tunnel.drop_at == pytest.approx(5.3)
    tunnel.tick(5.2)
    assert tunnel.opener.open(late).stale
    tunnel.tick(5.3)
    assert not tunnel.opener.epochs[10 & 7]


def test_how_far_the_peer_has_come_is_stored() -> None:
    store = EpochStore()
    tunnel = keys(Role.ANCHOR, store)
    host = Sealer(KeySchedule(FIRST), TUNNEL, Direction.HOST_TO_ANCHOR, 11)
    first, second = host.seal(b"E"), host.seal(b"E")
    tunnel.opener.open(second)
    tunnel.opened()
    assert store.opened(TUNNEL) == (11, 1)
    successor = keys(Role.ANCHOR, store)
    assert (successor.opener.current, successor.opener.top()) == (11, 1)
    with pytest.raises(Exception, match="seen before"):
        successor.opener.open(first)
