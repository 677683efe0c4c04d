"""Probes that the core answers, beside a twin whose Python answers them all: the same frames, and the same books."""

import select
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.datapath.core_activity import Activity
from sojourn.model import Endpoint
from sojourn.packet import frame as frames
from sojourn.packet.frame import Answer, EpochFrame, Probe
from sojourn.packet.ip import packed, udp_packet
from sojourn.packet.seal import SECONDS_PER_IDLE_EPOCH
from sojourn.upmt.tunnel import Tunnel
from tests.datapath import test_engine_receive as same
from tests.datapath.engine_pair import TUNNEL, source_at_host
from tests.harness.core_ends import CoreReceiver
from tests.harness.fakenet import Pair
from tests.packet.build import ends


@pytest.fixture(autouse=True, scope="module")
def _core() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(same, "Receiver", CoreReceiver)
        yield


@dataclass
class Answers(same.Bench):
    """The bench, with what leaves at both twins."""

    sent: list[bytes] = field(default_factory=list)
    sent_by_twin: list[bytes] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    """What was answered before the last `compare`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.node(self.pair).on_outer = lambda _tunnel, data, _to, _fragment: self.sent.append(data)
        self.node(self.twin).on_outer = lambda _tunnel, data, _to, _fragment: self.sent_by_twin.append(data)

    @property
    def core(self) -> CoreReceiver:
        assert isinstance(self.receiver, CoreReceiver)
        return self.receiver

    def tunnel(self, pair: Pair) -> Tunnel:
        return self.node(pair).forwarder.tunnels[TUNNEL]

    def probe(self, *sequences: int, opened: int | None = None, padding: bytes = b"") -> list[bytes]:
        """Seal probes as the peer would."""
        reported = self.reported() if opened is None else opened
        return [self.sealer.seal(bytes(Probe(reported, each, 1000 + each)) + padding) for each in sequences]

    def reported(self) -> int:
        keys = self.tunnel(self.pair).keys
        assert keys is not None
        return keys.schedule.newest().from_epoch

    def wait(self, seconds: float) -> None:
        """Let time pass in which nothing is due."""
        for pair in (self.pair, self.twin):
            pair.net.clock.now += seconds

    def settle(self) -> int:
        """Hold the twins against each other; return how many probes the core has answered since the last time."""
        self.compare()
        answered = len(self.core.answers)
        self.frames = frames_of(self.pair, self.sent + self.core.answers, self.inbound)
        assert self.frames == frames_of(self.twin, self.sent_by_twin, self.inbound)
        for each in (self.core.answers, self.sent, self.sent_by_twin):
            each.clear()
        here, there = self.tunnel(self.pair), self.tunnel(self.twin)
        assert (here.packets_out, here.bytes_out) == (there.packets_out, there.bytes_out)
        assert here.live.life is there.live.life
        assert here.live.last_heard == pytest.approx(there.live.last_heard, abs=1e-6)
        assert here.live.last_out == pytest.approx(there.live.last_out, abs=1e-6)
        assert (here.outer, here.credit, here.usable, here.fast) == (
            there.outer, there.credit, there.usable, there.fast,
        )  # fmt: skip
        epochs, others = self.node(self.pair).forwarder.epochs, self.node(self.twin).forwarder.epochs
        assert epochs.opened(TUNNEL) == others.opened(TUNNEL)
        return answered


def frames_of(pair: Pair, datagrams: list[bytes], inbound: bool) -> list[bytes]:
    """Open what a peer gets: frames in the order of the probes that they answer."""
    opener = (pair.anchor if inbound else pair.host).forwarder.tunnels[TUNNEL].opener
    assert opener is not None
    texts = [opener.open(datagram).plaintext for datagram in datagrams]
    return sorted(text for text in texts if text[0] < 0x10)


def prepared(inbound: bool) -> Answers:
    """Return a bench whose core knows how much Python has counted."""
    bench = Answers(inbound)
    for pair in (bench.pair, bench.twin):
        pair.net.clock.now = float(round(pair.now))  # and on by parts that floats have: both ends round alike
    bench.take(bench.probe(1))
    assert bench.settle() == 0
    return bench


both_ends = pytest.mark.parametrize("inbound", [False, True], ids=["anchor", "host"])


@both_ends
def test_a_probe_is_answered_in_the_core_and_says_what_pythons_answer_says(inbound: bool) -> None:
    bench = prepared(inbound)
    bench.wait(25.0)
    bench.take(bench.probe(2))
    assert bench.settle() == 1
    bench.take(bench.probe(3, 4, padding=bytes(1100)))
    assert bench.settle() == 2


def test_an_answer_counts_data_that_came_just_before_it_and_its_own_probe() -> None:
    bench = prepared(False)
    up = udp_packet(*ends(False), b"data")
    bench.take(bench.seal([up, up], hints=False) + bench.probe(2))
    assert bench.settle() == 1
    answer = frames.parse(bench.frames[0])
    assert isinstance(answer, Answer)
    there = bench.tunnel(bench.twin)
    assert (answer.packets_in, answer.packets_out) == (there.packets_in, there.packets_out)
    assert answer.seen == there.outer


def test_what_needs_a_decision_goes_up() -> None:
    bench = prepared(False)
    reported = bench.reported()
    for case in (
        bench.probe(3, padding=b"\0\1"),
        [bench.sealer.seal(bytes(Probe(reported, 4, 0))[:-1])],
        [bench.sealer.seal(bytes(EpochFrame(reported)))],
    ):
        bench.take(case)
        assert bench.settle() == 0


def test_which_epochs_of_ours_the_peer_has_opened_is_taken_over_unless_it_lies() -> None:
    bench = prepared(False)
    tunnel, epochs = bench.tunnel(bench.pair), bench.node(bench.pair).forwarder.epochs
    assert tunnel.sealer is not None
    assert epochs.reported(TUNNEL) < tunnel.sealer.epoch
    bench.take(bench.probe(2, opened=tunnel.sealer.epoch + 1))
    assert epochs.reported(TUNNEL) < tunnel.sealer.epoch
    bench.take(bench.probe(3, opened=tunnel.sealer.epoch))
    assert epochs.reported(TUNNEL) == tunnel.sealer.epoch
    assert bench.settle() == 2


def test_a_probe_from_elsewhere_moves_the_tunnel_as_ever_and_only_python_answers() -> None:
    bench = prepared(False)
    moved = Endpoint("198.51.100.77", 999)
    (datagram,) = bench.probe(2)
    bench.core.buffers[0][: len(datagram)] = datagram
    bench.core.take(len(datagram), len(datagram), moved, 0, bench.pair.now)
    bench.node(bench.twin).forwarder.from_outer(datagram, moved, bench.twin.now)
    assert bench.settle() == 0
    here = bench.tunnel(bench.pair)
    assert here.outer == moved
    assert here.credit is not None
    bench.take(bench.probe(3))
    assert bench.settle() == 0


def test_what_is_replayed_or_forged_is_not_answered() -> None:
    bench = prepared(False)
    (datagram,) = bench.probe(2)
    bench.take([datagram[:-1] + bytes((datagram[-1] ^ 1,)), datagram, datagram])
    assert bench.settle() == 1
    assert bench.core.forwarder.refused["forged"] == 1
    assert bench.core.forwarder.refused["replayed"] == 1


def by_python(bench: Answers) -> None:
    """Let Python send something in the tunnel, as the slow path does."""
    for pair in (bench.pair, bench.twin):
        tunnel = bench.tunnel(pair)
        assert tunnel.sealer is not None
        tunnel.sealer.seal(b"\x45" + bytes(30))
        tunnel.sent(pair.now, 1, 55)


def test_while_python_has_something_of_the_tunnel_to_count_its_probes_go_up() -> None:
    bench = prepared(False)
    by_python(bench)
    bench.take(bench.probe(2))
    assert bench.settle() == 0
    bench.take(bench.probe(3))
    assert bench.settle() == 1


def test_an_anchor_whose_host_only_probes_steps_its_keys_when_it_is_time() -> None:
    bench = prepared(False)
    sealer, answered = bench.tunnel(bench.pair).sealer, 0
    assert sealer is not None
    epoch = sealer.epoch
    for sequence in range(2, 9):
        bench.wait(25.0)
        bench.take(bench.probe(sequence))
        answered += bench.settle()
    assert bench.tunnel(bench.pair).sealer is sealer
    assert sealer.epoch == epoch
    bench.wait(SECONDS_PER_IDLE_EPOCH)
    bench.take(bench.probe(9))
    answered += bench.settle()
    assert sealer.epoch == epoch + 1
    assert answered == 8


def test_what_is_idle_is_taken_over_a_second_later_and_wakes_python_once() -> None:
    bench = prepared(False)
    core = bench.core.core
    core.poll(False)
    core.rest()
    for sequence in (2, 3):
        (datagram,) = bench.probe(sequence)
        source = source_at_host(bench.tunnel(bench.pair))
        where = packed(source.address), source.port, b"", 0, bench.pair.now
        core.drive_udp(bench.core.fd, datagram, len(datagram), *where)
        assert bool(select.select([core.fileno()], [], [], 0)[0]) is (sequence == 2)
        core.rest()
    assert core.poll(True) == []
    ((number, at, _, *counts, epoch, counter),) = core.quiet(10)
    opener = bench.tunnel(bench.pair).opener
    assert opener is not None
    assert number == opener.tunnel
    assert at == pytest.approx(bench.pair.now)
    assert counts == [2, 84, 2, 186]
    assert (epoch, counter) == (opener.current, opener.top())
    assert core.quiet(10) == []


def test_what_moved_data_is_told_whole_by_poll_and_counted_once() -> None:
    bench = prepared(False)
    core, tunnel = bench.core.core, bench.tunnel(bench.pair)
    bench.take(bench.seal([udp_packet(*ends(False), b"data")], hints=False))
    bench.settle()
    before, source = core.taken(tunnel.id), source_at_host(tunnel)
    where = packed(source.address), source.port, b"", 0, bench.pair.now
    for datagram in bench.probe(2) + bench.seal([udp_packet(*ends(False), b"data")], hints=False):
        core.drive_udp(bench.core.fd, datagram, len(datagram), *where)
    assert core.quiet(10) == []
    (told,) = core.poll(True)
    activity = Activity(*told)
    assert activity.frame_at > 0 < activity.first_in
    assert (activity.packets_in, activity.packets_out) == (2, 1)
    assert core.taken(tunnel.id) == (before[0] + 2, before[1] + 1)


steps = st.one_of(
    st.tuples(st.just("probe"), st.integers(0, 40)),
    st.tuples(st.just("reports"), st.integers(0, 3)),
    st.tuples(st.just("text"), st.integers(0, 40)),
    st.tuples(st.just("data"), st.integers(0, 3)),
    st.tuples(st.just("again"), st.integers(0, 5)),
    st.tuples(st.sampled_from(["wait", "python", "look"]), st.integers(0, 3)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=24), st.binary(min_size=41, max_size=41), st.booleans())
def test_any_sequence_of_frames_and_packets_leaves_both_ends_as_python_alone_would(
    taken: list[tuple[str, int]], noise: bytes, inbound: bool
) -> None:
    bench, waiting = prepared(inbound), list[bytes]()
    for sequence, (what, number) in enumerate([*taken, ("look", 0)], 2):
        match what:
            case "probe":
                waiting += bench.probe(sequence, padding=bytes(number))
            case "reports":
                waiting += bench.probe(sequence, opened=max(bench.reported() + number - 1, 0))
            case "text":
                waiting.append(bench.sealer.seal(b"\1\0" + noise[: number + 1]))
            case "data":
                waiting += bench.seal(same.train(False, False, 50 * (number + 1), 100, up=not inbound), hints=False)
            case "again" if waiting:
                waiting.append(waiting[number % len(waiting)])
            case "wait" | "look" | "python":
                bench.take(waiting)
                bench.settle()
                waiting.clear()
                if what == "python":
                    by_python(bench)
                bench.wait(number / 128 if what == "wait" else 0.0)
