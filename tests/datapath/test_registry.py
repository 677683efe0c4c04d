"""What a data path holds: tunnels and their timers, secrets and when they go."""

from collections.abc import Iterator

from sojourn.datapath.memory import MemoryDataPath
from sojourn.datapath.registry import DUE_AT_ONCE, Association
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.ip import udp_packet
from sojourn.packet.seal import Direction, KeySchedule, Sealer, Secret
from sojourn.upmt.commands import AddAssociation, AnyCommand, InstallSecret, Role, Setup
from tests.harness.fakenet import VIPA, Pair, Wire
from tests.harness.voice import CORRESPONDENT, Voice

A = TunnelId(0x10)
HOST = AssociationId(1)


def hosts(count: int) -> Iterator[AnyCommand]:
    for number in range(1, count + 1):
        vipa = f"10.201.{number >> 8}.{number & 255}"
        yield AddAssociation(AssociationId(number), vipa, None, (TunnelId(number),))
        yield InstallSecret(AssociationId(number), Secret(1, number.to_bytes(32), 1))


def test_a_thousand_idle_tunnels_cost_an_anchor_no_timer() -> None:
    node = MemoryDataPath(lambda: 0.0)
    node.submit([Setup(Role.ANCHOR, "sojourn0", 1448), *hosts(1000)])
    assert not node.forwarder.tunnels
    for number in range(1, 1001):
        keys = KeySchedule(Secret(1, number.to_bytes(32), 1))
        sealer = Sealer(keys, TunnelId(number), Direction.HOST_TO_ANCHOR, 1)
        inner = udp_packet(Endpoint(f"10.201.{number >> 8}.{number & 255}", 1), CORRESPONDENT, b"x")
        node.forwarder.from_outer(sealer.seal(inner), Endpoint("192.0.2.1", number), 0.0)
    assert len(node.forwarder.tunnels) == 1000
    for second in range(1, 11):
        for _ in range(1 + 1000 // DUE_AT_ONCE):
            node.forwarder.tick(float(second))  # Nobody answers a challenge: all addresses are given up.
    assert {tunnel.outer for tunnel in node.forwarder.tunnels.values()} == {None}
    assert {tunnel.deadline() for tunnel in node.forwarder.tunnels.values()} == {float("inf")}


def test_what_is_due_all_at_once_is_served_in_slices_between_which_sockets_are_read() -> None:
    node = MemoryDataPath(lambda: 0.0)
    node.submit([Setup(Role.ANCHOR, "sojourn0", 1448), *hosts(3 * DUE_AT_ONCE)])
    for number in range(1, 3 * DUE_AT_ONCE + 1):
        sealer = Sealer(KeySchedule(Secret(1, number.to_bytes(32), 1)), TunnelId(number), Direction.HOST_TO_ANCHOR, 1)
        inner = udp_packet(Endpoint(f"10.201.{number >> 8}.{number & 255}", 1), CORRESPONDENT, b"x")
        node.forwarder.from_outer(sealer.seal(inner), Endpoint("192.0.2.1", number), 0.0)
    for turn in (1, 2, 3):
        due = node.forwarder.deadline()
        assert due is not None
        assert due < 10.0
        node.forwarder.tick(10.0)  # Nobody has answered a challenge: addresses are given up.
        assert sum(tunnel.outer is None for tunnel in node.forwarder.tunnels.values()) == turn * DUE_AT_ONCE


def test_the_timers_of_a_busy_tunnel_do_not_pile_up() -> None:
    pair = Pair(Wire("wifi"))
    pair.open()
    Voice(pair).talk(20)
    pair.run(20)
    assert len(pair.host.forwarder._heap) < 20
    assert len(pair.anchor.forwarder._heap) < 20


def test_ticking_early_late_or_twice_is_harmless() -> None:
    pair = Pair(Wire("wifi"))
    pair.open()
    voice = Voice(pair)
    pair.net.every(0.003, lambda: pair.host.forwarder.tick(pair.now), pair.now + 10)
    pair.net.every(0.007, lambda: pair.anchor.forwarder.tick(pair.now), pair.now + 10)
    pair.run(1)
    voice.talk(8)
    pair.run(9)
    assert voice.lost() == (0, 0)
    assert pair.wires[A].passed_up < 500


def test_old_secrets_are_erased_at_both_ends_when_the_new_one_is_in_use() -> None:
    pair = Pair(Wire("wifi"))
    pair.open()
    pair.run(1)
    new = InstallSecret(HOST, Secret(2, bytes(32), 1024))
    for node in (pair.anchor, pair.host):
        node.submit([new])
    Voice(pair).both()
    pair.run(1)
    assert all(len(keys_of(node).secrets) == 2 for node in (pair.host, pair.anchor))
    pair.run(6)
    assert all(len(keys_of(node).secrets) == 1 for node in (pair.host, pair.anchor))
    voice = Voice(pair)
    voice.both()
    pair.run(1)
    assert (voice.heard_up()[-1], voice.heard_down()[-1]) == (0, 0)


def keys_of(node: MemoryDataPath) -> KeySchedule:
    keys = node.forwarder.associations[HOST].keys
    assert keys is not None
    return keys


def test_an_association_that_gets_other_tunnels_and_another_vipa_loses_the_old_ones() -> None:
    pair = Pair(Wire("wifi"))
    pair.open()
    pair.run(1)
    pair.anchor.submit([AddAssociation(HOST, "10.201.0.77", "fd00:201::77", (TunnelId(0x99),))])
    forwarder = pair.anchor.forwarder
    assert A not in forwarder.tunnels
    assert bytes((10, 201, 0, 2)) not in forwarder.by_vipa
    assert forwarder.by_vipa[bytes((10, 201, 0, 77))] is forwarder.associations[HOST]
    Voice(pair).say()
    pair.run(0.1)
    assert forwarder.refused["no-tunnel"] > 0
    assert not pair.to_correspondent


def test_an_association_knows_its_vipas_packed() -> None:
    association = Association(AddAssociation(HOST, VIPA, "fd00:201::2", (A,)))
    assert association.vipas == {bytes((10, 201, 0, 2)), bytes.fromhex("fd000201000000000000000000000002")}
