"""`sojourn version`."""

import platform

import click

from sojourn import __version__
from sojourn.cli import output
from sojourn.cli.options import json_option


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print the version of Sojourn, of Python and of the kernel."""
    if as_json:
        facts = {
            "version": 1,
            "sojourn": __version__,
            "python": platform.python_version(),
            "kernel": platform.release(),
        }
        output.emit_json(facts)
    else:
        output.line(f"sojourn {__version__} (Python {platform.python_version()}, Linux {platform.release()})")
