from dataclasses import dataclass, field

from sojourn.datapath.core_activity import Activity, in_order, replay


@dataclass
class Heard:
    """Stands for a tunnel: what is told to it, in order."""

    told: list[tuple[str, float, int]] = field(default_factory=list)

    def heard(self, now: float, packets: int, size: int) -> None:
        self.told.append(("in", now, packets))

    def sent(self, now: float, packets: int, size: int) -> None:
        self.told.append(("out", now, packets))

    def answered_elsewhere(
        self, now: float, reported: int, incoming: tuple[int, int], outgoing: tuple[int, int]
    ) -> None:
        self.told.append(("answered", now, reported + incoming[0] + outgoing[0]))


def replayed(activity: Activity) -> list[tuple[str, float, int]]:
    tunnel = Heard()
    replay(tunnel, activity)
    return tunnel.told


def test_what_happened_is_told_in_the_order_in_which_it_happened() -> None:
    # in at 1 and 4, out at 2, 5 and 9: the first one out after the last one in is what an answer is expected to.
    told = replayed(Activity(7, 1.0, 4.0, 2.0, 5.0, 9.0, 3, 300, 5, 500))
    assert told == [("in", 1.0, 3), ("out", 2.0, 5), ("in", 4.0, 0), ("out", 5.0, 0), ("out", 9.0, 0)]


def test_a_single_packet_is_told_once() -> None:
    assert replayed(Activity(7, 0.0, 0.0, 2.0, 2.0, 2.0, 0, 0, 1, 100)) == [("out", 2.0, 1)]
    assert replayed(Activity(7, 3.0, 3.0, 0.0, 0.0, 0.0, 1, 100, 0, 0)) == [("in", 3.0, 1)]


def test_answered_probes_are_told_once_where_they_belong() -> None:
    assert replayed(Activity(7, 0.0, 0.0, 0.0, 0.0, 0.0, 2, 84, 2, 186, 3.0, 5)) == [("answered", 3.0, 9)]
    # What went out after the answer is something that is expected to be answered; what went out before it was.
    told = replayed(Activity(7, 0.0, 0.0, 2.0, 4.0, 5.0, 1, 42, 3, 300, 3.0))
    assert told == [("out", 2.0, 3), ("answered", 3.0, 1), ("out", 4.0, 0), ("out", 5.0, 0)]


def test_whoever_was_heard_last_is_told_last() -> None:
    told = in_order([
        (1, 2.0, 9.0, 0.0, 0.0, 0.0, 1, 1, 0, 0, 0.0, 0),
        (2, 1.0, 3.0, 0.0, 0.0, 0.0, 1, 1, 0, 0, 0.0, 0),
        (3, 0.0, 0.0, 0.0, 0.0, 0.0, 1, 1, 1, 1, 4.0, 0),
    ])  # fmt: skip
    assert [each.tunnel for each in told] == [2, 3, 1]
