"""`sojourn cleanup`: what a daemon that was killed has left in the kernel goes, and nothing else."""

import asyncio

import click

from sojourn.api.client import Client
from sojourn.api.messages import ANCHOR_SOCKET, HOST_SOCKET, ApiError, ErrorKind
from sojourn.cli import output
from sojourn.cli.options import config_option, json_option, socket_option, socket_path
from sojourn.control.config import AnchorConfig
from sojourn.errors import ConfigError
from sojourn.store.config_dir import ConfigDir

DEVICES = ("sojourn0", AnchorConfig("localhost").device)
"""The devices' names unless a configuration says otherwise."""


@click.command()
@config_option
@socket_option
@json_option
@click.option("--force", is_flag=True, help="Even though a daemon is running.")
def cleanup(config_dir: str, socket: str | None, as_json: bool, force: bool) -> None:
    """Remove routes, rules, nftables tables and devices of Sojourn's that no daemon looks after any more."""
    from sojourn.linux.cleanup import cleanup as clean

    if not force:
        _refuse_while_running(socket)
    try:
        removed = asyncio.run(clean(_devices(config_dir)))
    except OSError as error:
        message = f"the kernel refused: {(error.strerror or str(error)).lower()}"
        raise ApiError(message, "Run it as root.", ErrorKind.NO_PERMISSION) from error
    if as_json:
        output.emit_json({"version": 1, "removed": removed})
    else:
        for what in removed:
            output.line(f"removed {what}")
        output.line("Nothing of Sojourn's is left." if removed else "There was nothing to remove.")


def _devices(config_dir: str) -> list[str]:
    directory, names = ConfigDir(config_dir), set(DEVICES)
    for read in (directory.host, directory.anchor):
        try:
            names.add(read().device)
        except ConfigError:
            continue  # none there, or unreadable: its device has the usual name then
    return sorted(names)


def _refuse_while_running(socket: str | None) -> None:
    for path in sorted({socket_path(socket, HOST_SOCKET), socket_path(socket, ANCHOR_SOCKET)}):
        try:
            about = Client(path).call("about")
        except ApiError as error:
            if error.kind is ErrorKind.NOT_RUNNING:
                continue
            raise
        remedy = "Stop it first (SIGTERM cleans up by itself), or give --force."
        raise ApiError(f"a daemon is running (process {about.get('pid')}, {path})", remedy)
