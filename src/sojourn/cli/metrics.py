"""`sojourn metrics`: the figures that Prometheus reads, from the control socket; no port is needed for it."""

import sys

import click

from sojourn.cli import output
from sojourn.cli.options import client, json_option, socket_option


@click.command()
@socket_option
@json_option
def metrics(socket: str | None, as_json: bool) -> None:
    """Print the figures of the daemon in Prometheus' text format (docs/metrics.md)."""
    result = client(socket).call("metrics")
    if as_json:
        output.emit_json(result)
    else:
        sys.stdout.write(result["text"])
