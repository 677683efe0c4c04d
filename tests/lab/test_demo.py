from sojourn.lab.demo import BAD, OUTAGE, THREAD, carrier, draw, spans
from sojourn.lab.gaps import Packet
from sojourn.lab.picture import Line, Rectangle, Text
from sojourn.lab.report import Happened, Result, build
from sojourn.lab.scenarios import Limits, Scenario
from sojourn.lab.stage import GONE, UP, Condition, Sample
from sojourn.lab.traffic import Stream


def moved() -> Result:
    """Return a run of 10 s with a move from wifi to cellular at 5 s and a gap of 1 s there."""
    sent = [(n, 0.02 * n) for n in range(500)]
    packets = [Packet(n, at, at) for n, at in sent if not 5.0 <= at < 6.0]
    stream = Stream("voice up", "voice", [it.arrived for it in packets], sent, packets, ended=10.0, ok=True)
    samples = [Sample(float(n), {"wifi": 9000 * min(n, 5), "cellular": 9000 * max(0, n - 6)}) for n in range(11)]
    conditions = [Condition(0.0, "wifi", UP), Condition(0.0, "cellular", UP), Condition(5.0, "wifi", GONE)]
    return build(
        Scenario("demo", "a test", 10.0, (), Limits()), sojourn=True, start=0.0, end=10.0, streams=[stream],
        happened=[Happened(5.0, "cable pulled")], conditions=conditions, samples=samples,
    )  # fmt: skip


def test_the_network_in_use_is_the_one_that_carried_the_bytes() -> None:
    assert carrier(Sample(0, {"a": 0, "b": 0}), Sample(1, {"a": 9000, "b": 100})) == "a"
    assert carrier(Sample(0, {"a": 0, "b": 0}), Sample(1, {"a": 100, "b": 0})) is None
    assert carrier(Sample(0, {"a": 0, "b": 0}), Sample(1, {"a": 9000, "b": 9000})) is None


def test_a_network_has_a_state_at_every_time() -> None:
    assert spans(moved().conditions, "wifi", 10.0) == [(0.0, 5.0, UP), (5.0, 10.0, GONE)]


def test_the_picture_shows_the_gap_the_thread_and_the_table() -> None:
    shapes = draw(moved()).shapes
    (gap,) = [shape for shape in shapes if isinstance(shape, Rectangle) and shape.fill == BAD]
    assert not [shape for shape in shapes if isinstance(shape, Rectangle) and shape.fill == OUTAGE]
    assert round(gap.width) == round((1160 - 110 - 30) / 10 * 1.02)
    threads = [shape for shape in shapes if isinstance(shape, Line) and shape.colour == THREAD]
    assert len(threads) == 2
    assert threads[0].points[0][1] < threads[1].points[0][1]
    words = [shape.text for shape in shapes if isinstance(shape, Text)]
    assert "5.0 s  cable pulled" in words
    assert "1.02 s" in words
