"""`sojourn monitor`: networks, applications, flows by rate and the latest moves, live on a terminal.

Samples are taken once in `--every` seconds, and never for more than a fifth of the time: a large anchor is asked
less often. A daemon that is restarted meanwhile is waited for.
"""

import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from sojourn.api.client import Client
from sojourn.api.messages import ApiError
from sojourn.cli import output
from sojourn.cli.monitor_view import Sample, Table, headline, tables, view
from sojourn.cli.options import client, json_option, socket_option

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

LOG_LINES: Final = 30
REST: Final = 4.0
"""Times as long as a sample took there is none at least."""
LOOK: Final = 0.05
"""Seconds within which another size of the terminal is noticed."""


@click.command()
@click.option("--once", is_flag=True, help="Print one picture and end; so it is in a pipe.")
@click.option("--every", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds.")
@socket_option
@json_option
def monitor(once: bool, every: float, socket: str | None, as_json: bool) -> None:
    """Watch networks, applications, flows and moves, of a host or (--socket) an anchor; Ctrl-C ends it.

    With --json one object a line; rates are bytes a second.
    """
    daemon = client(socket)
    first = sample(daemon)
    once = once or not (as_json or sys.stdout.isatty())
    try:
        if once:
            time.sleep(every)
            _print(view(first, sample(daemon)), as_json)
        elif as_json:
            _stream(daemon, first, every)
        else:
            _Screen(daemon, first, every).run()
    except KeyboardInterrupt:
        return  # that is how one leaves


def sample(daemon: Client) -> Sample:
    """Ask a daemon for everything. Raises ApiError."""
    role = str(daemon.call("about").get("role"))
    status = daemon.call("status")
    if role not in ("host", "anchor"):
        return Sample(time.monotonic(), role, status, [], [])
    flows, log = daemon.call("flows"), list(daemon.stream("log", limit=LOG_LINES))
    return Sample(time.monotonic(), role, status, flows, log)


def _print(shown: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.emit_json_line(shown)
        return
    output.line(headline(shown))
    for table in tables(shown):
        output.line()
        output.table(table.columns, table.rows, title=table.title)


def _stream(daemon: Client, before: Sample, every: float) -> None:
    took = 0.0
    while True:
        time.sleep(max(every, REST * took))
        began = time.monotonic()
        now = sample(daemon)
        took = now.at - began
        output.emit_json_line(view(before, now))
        before = now


class _Screen:
    """The terminal, drawn anew for each sample and whenever its size changes."""

    def __init__(self, daemon: Client, first: Sample, every: float) -> None:
        self._daemon = daemon
        self._last = first
        self._shown = view(None, first)
        self._every = every
        self._trouble = ""
        self._resized = False

    def run(self) -> None:
        """Draw until interrupted; the terminal is then as it was before."""
        from rich.console import Console
        from rich.live import Live

        console = Console()
        earlier = signal.signal(signal.SIGWINCH, self._winch)
        try:
            with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
                took = 0.0
                while True:
                    live.update(draw(self._shown, console, self._trouble), refresh=True)
                    if self._wait(max(self._every, REST * took)):
                        continue
                    began = time.monotonic()
                    self._look()
                    took = time.monotonic() - began
        finally:
            signal.signal(signal.SIGWINCH, earlier)

    def _winch(self, _number: int, _frame: object) -> None:
        self._resized = True

    def _wait(self, seconds: float) -> bool:
        """Wait, and say whether that ended early because the terminal has another size."""
        until = time.monotonic() + seconds
        while not self._resized and (left := until - time.monotonic()) > 0:
            time.sleep(min(LOOK, left))
        resized, self._resized = self._resized, False
        return resized

    def _look(self) -> None:
        try:
            now = sample(self._daemon)
        except ApiError as error:  # restarted, most likely: what was seen last stays, and the first line says so
            self._trouble = error.message
            return
        self._shown, self._last, self._trouble = view(self._last, now), now, ""


def draw(shown: dict[str, Any], console: "Console", trouble: str = "") -> "RenderableType":
    """Return the picture for a terminal of this size."""
    from rich.console import Group
    from rich.text import Text

    head = Text(f"sojourn  {time.strftime('%H:%M:%S')}  {headline(shown)}", style="bold", no_wrap=True)
    parts: list[RenderableType] = [head]
    if trouble:
        parts.append(Text(f"{trouble}; trying again", style="red", no_wrap=True))
    parts += [_grid(table) for table in tables(shown, console.height - len(parts))]
    return Group(*parts)


def _grid(table: Table) -> "RenderableType":
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, expand=True, padding=(0, 1, 0, 0), border_style="dim"
    )
    for index, name in enumerate(table.columns):
        heading, right = name.removeprefix(">"), name.startswith(">")
        grid.add_column(
            heading, justify="right" if right else "left", no_wrap=True, overflow="ellipsis",
            ratio=1 if index == table.wide else None,
        )  # fmt: skip
    for row in table.rows:
        cells = (output.cell(value) for value in row)
        grid.add_row(*(Text(word, output.style(word), no_wrap=True, overflow="ellipsis") for word in cells))
    return grid
