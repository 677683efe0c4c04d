import random

from hypothesis import given
from hypothesis import strategies as st

from sojourn.lab.relay import QUEUE_FRAMES, Direction, Settings


def test_a_frame_comes_out_when_its_delay_is_over() -> None:
    direction = Direction(random.Random(1))
    direction.settings = Settings(delay_ms=20.0)
    direction.put(b"a", 1.0)
    assert direction.next_due() == 1.02
    assert direction.due(1.0199) == []
    assert direction.due(1.02) == [b"a"]
    assert direction.next_due() is None


@given(st.lists(st.floats(0, 0.3), max_size=50), st.floats(0, 100))
def test_jitter_holds_frames_up_but_keeps_their_order(pauses: list[float], jitter: float) -> None:
    direction = Direction(random.Random(2))
    direction.settings = Settings(delay_ms=5.0, jitter_ms=jitter)
    at = 1.0
    for number, pause in enumerate(pauses):
        at += pause
        direction.put(bytes([number]), at)
    assert direction.due(at + 1.0) == [bytes([number]) for number in range(len(pauses))]


def test_a_shorter_delay_does_not_let_later_frames_overtake() -> None:
    direction = Direction(random.Random(3))
    direction.settings = Settings(delay_ms=200.0)
    direction.put(b"slow", 1.0)
    direction.settings = Settings(delay_ms=1.0)
    direction.put(b"fast", 1.01)
    assert direction.due(1.1) == []
    assert direction.due(1.2) == [b"slow", b"fast"]


def test_a_full_cable_drops() -> None:
    direction = Direction(random.Random(4))
    assert all(direction.put(b"x", 1.0) for _ in range(QUEUE_FRAMES))
    assert not direction.put(b"x", 1.0)
