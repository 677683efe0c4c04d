"""`sojourn log`: the roaming log."""

import datetime
from collections.abc import Iterator
from typing import Any

import click

from sojourn.cli import output
from sojourn.cli.options import client, json_option, socket_option


@click.command()
@click.option("-n", "--limit", type=click.IntRange(0), default=50, show_default=True, help="Newest entries to show.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new entries as they come.")
@socket_option
@json_option
def log(limit: int, follow: bool, socket: str | None, as_json: bool) -> None:
    """Show what happened to the networks, what was decided, and why. With --follow, JSON is one object a line."""
    entries: Iterator[dict[str, Any]] = client(socket).stream("log", limit=limit, follow=follow)
    if as_json and not follow:
        output.emit_json(list(entries))
        return
    for entry in entries:
        if as_json:
            output.emit_json_line({"version": 1, **entry})
        else:
            output.flush_line(_line(entry))


def _line(entry: dict[str, Any]) -> str:
    # The user's own time zone: that is what their clock shows.
    when = datetime.datetime.fromtimestamp(float(entry.get("time") or 0)).astimezone()
    words = [when.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3], f"{entry.get('event', ''):<14}"]
    words += [f"{entry.get('network') or '-':<10}"]
    words += [str(entry[key]) for key in ("decision",) if entry.get(key)]
    if entry.get("flows") is not None:
        words.append(f"{entry['flows']} flows")
    if entry.get("gap_ms") is not None:
        words.append(f"[gap {output.milliseconds(entry['gap_ms'])}]")
    if entry.get("reason"):
        words.append(f"({entry['reason']})")
    if isinstance(entry.get("known"), dict):
        words.append("[" + "; ".join(f"{name}: {what}" for name, what in entry["known"].items()) + "]")
    return " ".join(words).rstrip()
