import msgspec
import pytest
from rich.console import Console

from sojourn.lab.report import Happened
from sojourn.lab.runner import Moment, Observer
from sojourn.lab.stage import SILENT, UP, Condition, Sample, Stage
from sojourn.lab.timeline import Lanes, PlainObserver, carried
from sojourn.lab.topology import Lab, Topology
from sojourn.lab.traffic import Stream


def stage() -> Stage:
    stage = Stage(Lab(Topology(prefix="drawn")), None)
    stage.conditions = [Condition(0.0, "wifi", UP), Condition(0.0, "cellular", UP), Condition(5.0, "wifi", SILENT)]
    stage.samples = [
        Sample(float(n), {"wifi": 20000 * min(n, 5), "cellular": 20000 * max(0, n - 5)}) for n in range(11)
    ]
    return stage


def test_bytes_between_two_readings_are_spread_evenly() -> None:
    samples = [Sample(0.0, {"wifi": 0}), Sample(2.0, {"wifi": 400})]
    assert carried("wifi", 0.5, 1.0, samples) == 100.0
    assert carried("cellular", 0.5, 1.0, samples) == 0.0


def test_the_lanes_show_who_carries_and_what_is_missing() -> None:
    arrivals = [0.02 * n for n in range(250)] + [7.0 + 0.02 * n for n in range(150)]
    moment = Moment(10.4, [Stream("voice up", "voice", arrivals, [], [])], stage(), 0.0)
    console = Console(width=60, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - the console keeps it
    lanes = Lanes(10.0, 40)
    lanes.advance(msgspec.structs.replace(moment, elapsed=4.0))
    lanes.advance(moment)
    console.print(lanes.picture("a run", moment, [Happened(5.0, "falls silent")]))
    console.file.close()
    title, wifi, cellular, voice, marks, event = console.export_text().splitlines()
    assert "10.4 of 10 s" in title
    assert wifi == "wifi          " + "━" * 20 + "x" * 20
    assert cellular == "cellular      " + "─" * 20 + "━" * 20
    assert voice == "voice up      " + "█" * 20 + "·" * 8 + "▒" + "█" * 11
    assert marks.index("▲") == 14 + 20
    assert "falls silent" in event


def test_in_a_pipe_an_event_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    plain: Observer = PlainObserver()
    plain.step("building")
    plain.happened(Happened(12.0, "cable pulled (wifi)"))
    assert capsys.readouterr().err == "-- building\n  12.0 s  cable pulled (wifi)\n"
