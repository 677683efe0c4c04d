"""How things are printed."""

import os
import pty
import subprocess
import sys

import pytest

from sojourn.cli import output

SCRIPT = "from sojourn.cli import output; output.table(('NAME', '>N'), [['eth0', 5], ['wlan0', 'up']])"


def on_terminal(**environment: str) -> bytes:
    """Run the script with a terminal for standard output and return what it drew."""
    master, slave = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", SCRIPT], stdout=slave, check=True, env={**os.environ, "TERM": "xterm", **environment}
    )
    os.close(slave)
    drawn = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # EIO: the other side is closed
            break
        if not chunk:
            break
        drawn += chunk
    os.close(master)
    return drawn


def test_in_a_pipe_a_table_is_aligned_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("NAME", ">N"), [["eth0", 5], ["wlan0", None]])
    assert capsys.readouterr().out == "NAME   N\neth0   5\nwlan0  -\n"


def test_on_a_terminal_it_is_drawn_with_colours_unless_no_color_is_set() -> None:
    assert b"\x1b[32m" in on_terminal(NO_COLOR="")
    plain = on_terminal(NO_COLOR="1")
    assert "─".encode() in plain
    assert b"\x1b[32m" not in plain


def test_control_characters_of_others_never_reach_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("A",), [["x\x1b]0;title\x07\n"]])
    output.line("y\x1b[2J")
    assert capsys.readouterr().out == "A\nx?]0;title??\ny?[2J\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (123456, "123 kB"),
        (5e9, "5.0 GB"),
        (7e15, "7000.0 TB"),
    ],
)
def test_sizes_have_units(value: float | None, text: str) -> None:
    assert output.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (5.2, "5s"), (65, "1m 5s"), (3700, "1h 1m"), (90000, "1d 1h")]
)
def test_spans_have_two_units(value: float | None, text: str) -> None:
    assert output.duration(value) == text


def test_other_figures_have_theirs() -> None:
    assert (output.milliseconds(1.234), output.milliseconds(250.4), output.milliseconds(None)) == (
        "1.2 ms",
        "250 ms",
        "-",
    )
    assert (output.percent(0.05), output.percent(None)) == ("5.0 %", "-")


def test_a_missing_step_on_the_way_is_none() -> None:
    assert output.get({"a": {"b": 1}}, "a", "b") == 1
    assert output.get({"a": None}, "a", "b") is None
