"""`sojourn cleanup`: what a daemon that was killed has left in the kernel goes, and nothing else."""

import asyncio
from collections.abc import Iterable

import click

from sojourn.api.client import Client
from sojourn.api.messages import ApiError, ErrorKind
from sojourn.cli import output
from sojourn.cli.options import config_option, json_option, socket_option, socket_path
from sojourn.control.config import AnchorConfig
from sojourn.errors import ConfigError
from sojourn.linux import device, nft, routes
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
    if not force:
        _refuse_while_running(socket_path(socket))
    removed = asyncio.run(_clean(_devices(config_dir)))
    if as_json:
        output.emit_json({"version": 1, "removed": removed})
    else:
        for what in removed:
            output.line(f"removed {what}")
        output.line("Nothing of Sojourn's is left." if removed else "There was nothing to remove.")


async def _clean(devices: Iterable[str]) -> list[str]:
    removed = await routes.cleanup()
    if nft.remove_host():
        removed.append(f"table inet {nft.HOST_TABLE}")
    if nft.remove_anchor():
        removed.append(f"table inet {nft.ANCHOR_TABLE}")
    removed += [f"device {name}" for name in devices if await device.delete(name)]
    return removed


def _devices(config_dir: str) -> list[str]:
    directory, names = ConfigDir(config_dir), set(DEVICES)
    for read in (directory.host, directory.anchor):
        try:
            names.add(read().device)
        except ConfigError:
            continue  # none there, or unreadable: its device has the usual name then
    return sorted(names)


def _refuse_while_running(path: str) -> None:
    try:
        about = Client(path).call("about")
    except ApiError as error:
        if error.kind is ErrorKind.NOT_RUNNING:
            return
        raise
    remedy = "Stop it first (SIGTERM cleans up by itself), or give --force."
    raise ApiError(f"a daemon is running (process {about.get('pid')}, {path})", remedy)
