"""What the experiment `roam` says of a session."""

from sojourn.lab.journal import Line
from sojourn.lab.roam import LIMIT_MS, judge

STEADY = [Line(100.0 + number * 0.05, "got", number) for number in range(200)]
MOVES = [(102.0, "both lose their Wi-Fi", "gone"), (106.0, "both move by order", "planned")]
WHERE: dict[str, str | None] = {"a": "wifi", "b": "wifi"}


def test_a_session_that_held_without_long_gaps_is_met() -> None:
    result = judge(MOVES, [*STEADY, Line(110.0, "end", ok=True)], WHERE)
    assert result.met
    assert [event.gap_ms for event in result.events] == [50.0, 50.0]
    assert result.lines == 200


def test_a_gap_counts_where_it_was_and_is_measured_by_its_own_limit() -> None:
    lines = [line for line in STEADY if not 106.1 < line.t < 106.1 + LIMIT_MS["planned"] / 1000]
    result = judge(MOVES, [*lines, Line(110.0, "end", ok=True)], WHERE)
    assert [event.met for event in result.events] == [True, False]
    assert not result.met


def test_a_session_that_broke_or_never_ended_is_not_met() -> None:
    broken = judge(MOVES, [*STEADY, Line(110.0, "end", why="ssh ended with 255")], WHERE)
    assert broken.broken == "ssh ended with 255"
    assert not judge(MOVES, STEADY, WHERE).met
