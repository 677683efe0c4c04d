"""`sojourn run --app NAME -- COMMAND`: a command, and all that it starts, is NAME to every policy.

The daemon pins the name to this very process (SO_PEERCRED), which then becomes the command: nothing is executed
by the daemon, no rights are needed but to talk to it, and children inherit the name.
"""

import os
import signal

import click

from sojourn.api.messages import HOST_SOCKET, ApiError, ErrorKind
from sojourn.cli.options import client, socket_option


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--app", "name", metavar="NAME", required=True, help="What policies call it.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@socket_option
def run(name: str, command: tuple[str, ...], socket: str | None) -> None:
    """Run COMMAND as the application NAME: `sojourn run --app backup -- rsync -a /home server:`."""
    result = client(socket, HOST_SOCKET).call("pin", name=name)
    if not result.get("exact"):
        click.echo(f"sojourn: {name}: not certain for every flow: {result.get('why')}", err=True)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a command would inherit that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        remedy = "Is it installed, and in PATH?" if isinstance(error, FileNotFoundError) else "May you execute it?"
        raise ApiError(f"{command[0]}: {error.strerror}", remedy, ErrorKind.FAILED) from error
