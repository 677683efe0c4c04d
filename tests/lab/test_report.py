from sojourn.lab import tables
from sojourn.lab.gaps import Packet
from sojourn.lab.report import Happened, Result, build, sender_unevenness
from sojourn.lab.scenarios import Limits, Scenario
from sojourn.lab.stage import Condition, Sample
from sojourn.lab.traffic import Stream

START = 1000.0


def voice(lost: set[int] = frozenset(), until: int = 200, doubled: set[int] = frozenset()) -> Stream:  # type: ignore[assignment]
    """Return 4 s of voice: packet n at 20 n ms, 5 ms under way; `until` = the first one of silence to the end."""
    sent = [(n, START + 0.02 * n) for n in range(200)]
    packets = [
        Packet(n, at, at + 0.005) for n, at in sent if n not in lost and n < until for _ in range(1 + (n in doubled))
    ]
    arrivals = [packet.arrived for packet in packets]
    return Stream("voice up", "voice", arrivals, sent, packets, ended=START + 4.0, ok=until == 200, why="")


def result(stream: Stream, limits: Limits, samples: tuple[Sample, ...] = ()) -> Result:
    scenario = Scenario("test", "a test", 4.0, (), limits)
    happened = [Happened(1.0, "first"), Happened(3.0, "second")]
    return build(
        scenario, sojourn=True, start=START, end=START + 4.0, streams=[stream], happened=happened,
        conditions=[Condition(START - 5.0, "wifi", "up")], samples=samples,
    )  # fmt: skip


def test_a_clean_run_meets_everything() -> None:
    clean = result(voice(), Limits(gap_ms=40.0, lost=0, return_ms={0: 50.0}))
    assert clean.met
    assert clean.broken == []
    assert [event.lost for event in clean.events] == [0, 0]
    assert clean.events[0].back_ms == 5.0
    assert clean.conditions == (Condition(0.0, "wifi", "up"),)


def test_a_loss_belongs_to_the_event_before_it() -> None:
    lossy = result(voice(lost=set(range(60, 70))), Limits(lost=0))
    assert [event.lost for event in lossy.events] == [10, 0]
    assert lossy.events[0].longest_gap_ms == 220.0
    assert [check.what for check in lossy.checks if not check.met] == ["packets lost"]


def test_a_gap_over_the_limit_is_missed_and_one_at_the_sender_is_not_the_paths_fault() -> None:
    stream = voice(lost=set(range(60, 65)))
    assert not result(stream, Limits(gap_ms=100.0)).met
    stream.sent = [(n, at) for n, at in stream.sent if not 60 <= n < 65]
    assert round(sender_unevenness(stream, START, START + 4.0), 3) == 0.1
    assert result(stream, Limits(gap_ms=100.0)).met


def test_a_doubled_packet_is_missed() -> None:
    assert [check.what for check in result(voice(doubled={7}), Limits()).checks if not check.met] == ["packets doubled"]


def test_a_flow_that_broke_is_blamed_on_the_event_at_which_it_fell_silent() -> None:
    broken = result(voice(until=51), Limits())
    assert broken.broken == ["voice"]
    assert [event.broken for event in broken.events] == [("voice",), ()]
    assert broken.events[1].back_ms is None
    assert "1 of 1 flows broke: voice" in tables.verdict(broken)


def test_flows_that_do_not_stay_are_missed() -> None:
    def samples(on_cellular: int) -> tuple[Sample, ...]:
        return tuple(Sample(START + n, {"wifi": 1000 * n, "cellular": on_cellular * n}) for n in range(8))

    assert result(voice(), Limits(stay="wifi"), samples(50)).met
    assert not result(voice(), Limits(stay="wifi"), samples(500)).met


def test_the_tables_have_a_cell_for_every_heading() -> None:
    some = result(voice(), Limits(gap_ms=40.0))
    for headings, rows in (tables.events(some), tables.streams(some), tables.checks(some)):
        assert rows
        assert all(len(row) == len(headings) for row in rows)
