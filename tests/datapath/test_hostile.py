"""Packets that no rule allows, from outside and from inside: counted by reason, and everything stays as it was."""

from collections.abc import Callable, Sequence

import pytest

from sojourn.datapath.engine_receive import Receiver
from sojourn.datapath.memory import MemoryDataPath
from sojourn.model import AssociationId, Endpoint, Flow, TunnelId
from sojourn.packet.checksum import Buffer
from sojourn.packet.ip import udp_packet
from sojourn.packet.seal import Direction, KeySchedule, Sealer, Secret
from sojourn.paft import MoveResult
from sojourn.upmt.commands import (
    AddAssociation,
    Exactly,
    InstallSecret,
    Move,
    MoveFlows,
    Role,
    Setup,
)
from sojourn.upmt.events import (
    FlowsMoved,
)
from tests.harness.core_ends import CoreReceiver
from tests.harness.fakenet import ANCHOR, KEY, VIPA, Pair, Wire
from tests.harness.voice import CORRESPONDENT, Voice

A, B = TunnelId(0x10), TunnelId(0x11)
HOST, OTHER = AssociationId(1), AssociationId(2)
OTHER_VIPA = "10.201.0.3"
OTHER_TUNNEL = TunnelId(0x30)
LOCAL = Endpoint(VIPA, 4000)
engines = pytest.mark.parametrize("engine", [None, Receiver, CoreReceiver], ids=["forwarder", "python", "core"])
Engine = type[Receiver] | type[CoreReceiver] | None


def receiving(pair: Pair, engine: Engine) -> Callable[[bytes, Endpoint], None]:
    """Return what gives the anchor a datagram as an engine would; whatever it writes to the TUN is an error."""
    forwarder = pair.anchor.forwarder
    if engine is None:
        return lambda datagram, source: forwarder.from_outer(datagram, source, pair.now)

    def write(parts: Sequence[Buffer]) -> None:
        pytest.fail(f"it has let in {b''.join(parts)!r}")

    receiver = engine(forwarder, write, inbound=False)

    def take(datagram: bytes, source: Endpoint) -> None:
        receiver.buffers[0][: len(datagram)] = datagram
        receiver.take(len(datagram), len(datagram), source, 0, pair.now)
        receiver.flush()

    return take


def pair_at_work(*, refused: tuple[str, ...] = ("10.0.0.0/8",)) -> Pair:
    pair = Pair(Wire("wifi"))
    pair.anchor.submit(
        [
            Setup(Role.ANCHOR, "sojourn0", 1448, inner_addresses=("10.201.0.1",), refused=refused, inner_ports=(53,)),
            AddAssociation(OTHER, OTHER_VIPA, None, (OTHER_TUNNEL,)),
            InstallSecret(OTHER, Secret(1, bytes(32), 1)),
        ]
    )
    pair.open()
    pair.run(1)
    voice = Voice(pair)
    voice.both()
    pair.run(1)
    assert (voice.heard_up(), voice.heard_down()) == ([0], [0])
    return pair


def snapshot(node: MemoryDataPath) -> object:
    """Everything that hostile input must leave as it is."""
    forwarder = node.forwarder
    return (
        {
            number: (each.outer, each.credit, each.usable, each.packets_in, each.live.last_heard, each.path.proved)
            for number, each in forwarder.tunnels.items()
        },
        {
            key: (row.tunnel, row.packets_in, row.packets_out, row.last_used, row.move)
            for key, row in forwarder.paft.rows.items()
        },
        {number: association.last_heard for number, association in forwarder.associations.items()},
    )


def captured(pair: Pair, *, delivered: bool) -> bytes:
    """One authentic datagram of the host, seen on its way."""
    seen: list[bytes] = []
    original = pair.host.on_outer
    assert original is not None

    def tap(tunnel: TunnelId, datagram: bytes, destination: Endpoint, fragment: bool) -> None:
        seen.append(datagram)
        if delivered:
            original(tunnel, datagram, destination, fragment)

    pair.host.on_outer = tap
    Voice(pair).say()
    pair.host.on_outer = original
    if delivered:
        pair.run(0.1)
    return seen[0]


def sealer_of_host(pair: Pair) -> Sealer:
    """What an insider of the association could seal with: a sealer of the host, ahead of its counter."""
    sealer = Sealer(KeySchedule(Secret(1, KEY, 1)), A, Direction.HOST_TO_ANCHOR, 1)
    sealer.counter = 5000
    return sealer


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda datagram: datagram, "replayed"),
        (lambda datagram: datagram[:-1], "forged"),
        (lambda datagram: datagram[:20], "short"),
        (lambda datagram: datagram[:1], "short"),
        (lambda datagram: datagram[:-1] + bytes((datagram[-1] ^ 1,)), "forged"),
        (lambda datagram: datagram[:7] + bytes((datagram[7] ^ 0x80,)) + datagram[8:], "forged"),
        (lambda datagram: bytes((datagram[0] ^ 0x10,)) + datagram[1:], "replayed"),
        (lambda datagram: bytes((datagram[0] ^ 0x20,)) + datagram[1:], "version"),
        (lambda datagram: datagram[:1] + b"\xab\xcd\xef" + datagram[4:], "no-tunnel"),
        (lambda datagram: datagram[:1] + OTHER_TUNNEL.to_bytes(3) + datagram[4:], "forged"),
        (lambda _datagram: udp_packet(LOCAL, CORRESPONDENT, b"plain"), "no-tunnel"),
    ],
)
@pytest.mark.parametrize("from_elsewhere", [False, True])
@engines
def test_forged_replayed_and_truncated_datagrams_are_counted_by_reason_and_change_nothing(
    engine: Engine, damage: Callable[[bytes], bytes], reason: str, from_elsewhere: bool
) -> None:
    pair = pair_at_work()
    datagram = captured(pair, delivered=reason == "replayed")
    source = Endpoint("192.0.2.66", 6666) if from_elsewhere else Endpoint("198.51.100.1", 40001)
    take = receiving(pair, engine)
    pair.anchor.forwarder.slot(OTHER_TUNNEL, pair.now)
    before, heard, told = snapshot(pair.anchor), len(pair.to_correspondent), len(pair.anchor_events)
    counted = pair.anchor.forwarder.refused[reason]
    sent: list[bytes] = []
    pair.anchor.on_outer = lambda _tunnel, datagram, _destination, _fragment: sent.append(datagram)
    take(damage(datagram), source)
    assert pair.anchor.forwarder.refused[reason] == counted + 1
    assert snapshot(pair.anchor) == before
    assert (len(pair.to_correspondent), len(pair.anchor_events), sent) == (heard, told, [])


def test_an_empty_datagram_is_counted_too() -> None:  # an engine sees that nothing is in it, and hands it to nobody
    pair = pair_at_work()
    before = snapshot(pair.anchor)
    pair.inject(b"", Endpoint("192.0.2.66", 6666))
    assert pair.anchor.forwarder.refused == {"no-tunnel": 1}
    assert snapshot(pair.anchor) == before


def test_what_is_remembered_of_unauthenticated_senders_is_nothing() -> None:
    pair = pair_at_work()
    before = snapshot(pair.anchor)
    for number in range(2000):
        pair.inject(bytes((0x81,)) + number.to_bytes(3) + bytes(60), Endpoint("192.0.2.66", number))
    assert pair.anchor.forwarder.refused.total() == 2000
    after = snapshot(pair.anchor)
    assert isinstance(before, tuple)
    assert isinstance(after, tuple)
    assert after[1:] == before[1:]
    # Only the slots that control has named can get a tunnel, and these are few.
    assert set(after[0]) <= {A, OTHER_TUNNEL}
    assert len(pair.anchor.forwarder.plain_by_source) == 0


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (udp_packet(Endpoint(OTHER_VIPA, 4000), CORRESPONDENT, b"spoofed"), "inner-vipa"),
        (udp_packet(Endpoint("192.0.2.9", 4000), CORRESPONDENT, b"spoofed"), "inner-vipa"),
        (udp_packet(LOCAL, Endpoint(OTHER_VIPA, 80), b"neighbour"), "inner-destination"),
        (udp_packet(LOCAL, Endpoint("169.254.169.254", 80), b"metadata"), "inner-destination"),
        (udp_packet(LOCAL, Endpoint("127.0.0.1", 80), b"loopback"), "inner-destination"),
        (udp_packet(LOCAL, Endpoint("10.201.0.1", 22), b"the anchor's own"), "inner-port"),
        (udp_packet(LOCAL, CORRESPONDENT, b"short")[:-1], "length"),
        (udp_packet(LOCAL, CORRESPONDENT, b"long") + b"x", "length"),
        (b"\x45\x00", "short"),
        (b"\x10", "plaintext"),
        (b"\x10" + bytes(3), "plaintext"),
        (b"\x10" + bytes(40), "version"),
        (b"\x10" + bytes(3) + b"\x10" + bytes(40), "version"),
        (b"\x10" + bytes(3) + udp_packet(Endpoint(OTHER_VIPA, 4000), CORRESPONDENT, b"spoofed"), "inner-vipa"),
        (b"\x1f\xff\xff\xff" + udp_packet(LOCAL, Endpoint("127.0.0.1", 80), b"loopback"), "inner-destination"),
        (b"\x25" + bytes(40), "plaintext"),
        (b"\x06" + bytes(40), "frame-type"),
        (b"\x01\x00", "frame"),
    ],
)
@engines
def test_an_insiders_packets_that_no_rule_allows_are_counted_and_reach_nobody(
    engine: Engine, packet: bytes, reason: str
) -> None:
    pair = pair_at_work()
    take = receiving(pair, engine)
    rows, heard = dict(pair.anchor.forwarder.paft.rows), len(pair.to_correspondent)
    take(sealer_of_host(pair).seal(packet), Endpoint("198.51.100.1", 40001))
    assert pair.anchor.forwarder.refused[reason] == 1
    assert dict(pair.anchor.forwarder.paft.rows) == rows
    assert len(pair.to_correspondent) == heard


def test_the_host_takes_nothing_that_is_not_addressed_to_it() -> None:
    pair = pair_at_work()
    sealer = Sealer(KeySchedule(Secret(1, KEY, 1)), A, Direction.ANCHOR_TO_HOST, 1)
    sealer.counter = 5000
    heard = len(pair.to_host)
    stray = sealer.seal(udp_packet(CORRESPONDENT, Endpoint(OTHER_VIPA, 4000), b"not yours"))
    pair.host.forwarder.from_outer(stray, ANCHOR, pair.now, A)
    pair.host.forwarder.from_outer(stray, ANCHOR, pair.now, B)
    assert (pair.host.forwarder.refused["inner-vipa"], pair.host.forwarder.refused["wrong-tunnel"]) == (1, 1)
    assert len(pair.to_host) == heard


def test_the_tun_of_a_host_takes_only_its_own_source_and_that_of_an_anchor_only_known_vipas() -> None:
    pair = pair_at_work()
    pair.host.forwarder.from_inner(udp_packet(Endpoint("192.168.1.2", 1), CORRESPONDENT, b"bare"), pair.now)
    pair.anchor.forwarder.from_inner(udp_packet(CORRESPONDENT, Endpoint("10.201.9.9", 1), b"nobody"), pair.now)
    pair.anchor.forwarder.from_inner(b"\x45junk", pair.now)
    assert pair.host.forwarder.refused["inner-source"] == 1
    assert (pair.anchor.forwarder.refused["no-vipa"], pair.anchor.forwarder.refused["short"]) == (1, 1)


def test_an_answer_to_a_flow_that_came_from_a_refused_range_goes_out() -> None:
    pair = pair_at_work()
    neighbour = Endpoint("10.1.2.3", 5000)
    pair.anchor.forwarder.from_inner(udp_packet(neighbour, LOCAL, b"hello"), pair.now)
    pair.run(0.1)
    pair.host.forwarder.from_inner(udp_packet(LOCAL, neighbour, b"answer"), pair.now)
    pair.run(0.1)
    assert pair.to_correspondent[-1][1] == udp_packet(LOCAL, neighbour, b"answer")
    assert not pair.anchor.forwarder.refused


def test_an_exact_move_makes_no_row_for_a_destination_that_is_refused() -> None:
    pair = pair_at_work()
    flows = (Flow(17, LOCAL, Endpoint("127.0.0.1", 53)), Flow(17, LOCAL, Endpoint("192.0.2.7", 53)))
    pair.anchor.submit([MoveFlows(HOST, 1, (Move(Exactly(flows), A),))])
    (moved,) = pair.anchor_told(FlowsMoved)
    assert moved.results == ((MoveResult.UNKNOWN, MoveResult.MOVED),)


def test_a_captured_packet_sent_on_from_elsewhere_first_is_healed_by_the_hosts_next_packet() -> None:
    """An attacker on the path who is faster than the path: it diverts for one packet, and is told nothing."""
    pair = pair_at_work()
    pair.inject(captured(pair, delivered=False), Endpoint("192.0.2.66", 6666))
    tunnel = pair.anchor.forwarder.tunnels[A]
    assert tunnel.outer == Endpoint("192.0.2.66", 6666)
    assert tunnel.path.proved == Endpoint("198.51.100.1", 40001)
    assert tunnel.credit is not None
    # The old address is challenged, the host answers from it, and that is newer than what was stolen.
    pair.run(0.021)
    after = pair.anchor.forwarder.tunnels[A]
    assert (after.outer, after.credit) == (Endpoint("198.51.100.1", 40001), None)


def test_a_packet_of_an_epoch_left_behind_is_answered_once_a_second_by_no_more_than_it_was() -> None:
    pair = pair_at_work()
    sealer = sealer_of_host(pair)
    old = [sealer.seal(udp_packet(LOCAL, CORRESPONDENT, bytes((number,)))) for number in range(5)]
    sealer.step()
    source, elsewhere = Endpoint("198.51.100.1", 40001), Endpoint("192.0.2.66", 6666)
    sent: list[tuple[int, Endpoint]] = []
    pair.inject(sealer.seal(udp_packet(LOCAL, CORRESPONDENT, b"new")), source)
    pair.anchor.on_outer = lambda _tunnel, datagram, destination, _fragment: sent.append((len(datagram), destination))
    for datagram in old:
        pair.inject(datagram, elsewhere)
    assert sent == [(30, elsewhere)]
    tunnel = pair.anchor.forwarder.tunnels[A]
    assert (tunnel.outer, tunnel.credit) == (source, None)
