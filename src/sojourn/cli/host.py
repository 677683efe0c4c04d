"""`sojourn host`, `sojourn up`, `sojourn down`: run the mobile host, and switch its capture."""

import click

from sojourn.api.messages import HOST_SOCKET
from sojourn.cli import output
from sojourn.cli.options import client, config_option, json_option, socket_option, socket_path
from sojourn.store.config_dir import ConfigDir


@click.command()
@config_option
@socket_option
@click.option("--replace", is_flag=True, help="Take over from the host that runs here; no flow breaks.")
def host(config_dir: str, socket: str | None, replace: bool) -> int:
    """Run the mobile host in the foreground, until SIGTERM (SIGUSR2: make way for a successor)."""
    directory = ConfigDir(config_dir)
    if directory.host().anchor:  # a bad configuration is told before anything is imported or started
        directory.read_credentials()
    from sojourn.daemon.host import run

    code: int = run(config_dir, socket_path(socket, HOST_SOCKET), replace=replace)
    return code


@click.command()
@socket_option
@json_option
def up(socket: str | None, as_json: bool) -> None:
    """Carry this machine's traffic through the anchor (again)."""
    _switch("up", socket, as_json)


@click.command()
@socket_option
@json_option
def down(socket: str | None, as_json: bool) -> None:
    """Give the traffic back to the ordinary routes. The daemon stays; flows in tunnels wait for `up`."""
    _switch("down", socket, as_json)


def _switch(verb: str, socket: str | None, as_json: bool) -> None:
    result = client(socket, HOST_SOCKET).call(verb)
    if as_json:
        output.emit_json(result)
    else:
        output.line(f"{verb}: {output.get(result, 'state') or 'done'}")
