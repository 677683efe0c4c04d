"""`sojourn socks`: a local proxy for applications, whose connections survive changes of network. No root."""

import re

import click

from sojourn.api.messages import HOST_SOCKET
from sojourn.cli.options import config_option
from sojourn.control.socks_config import SOCKS_PORT
from sojourn.model import Endpoint
from sojourn.store.config_dir import ConfigDir


def _listen(context: click.Context, parameter: click.Parameter, value: str) -> Endpoint:
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([0-9.]+)):([0-9]{1,5})", value)
    if match is None or int(match[3]) > 65535:
        raise click.BadParameter("Write it like 127.0.0.1:1080 or [::1]:1080.", context, parameter)
    return Endpoint(match[1] or match[2], int(match[3]))


@click.command()
@config_option
@click.option("--listen", default=f"127.0.0.1:{SOCKS_PORT}", show_default=True, callback=_listen, metavar="ADDR:PORT",
              help="Where applications find the proxy. Whoever reaches it may use it.")  # fmt: skip
@click.option("--port", default=SOCKS_PORT, show_default=True, type=click.IntRange(1, 65535),
              help="The anchor's SOCKS port.")  # fmt: skip
@click.option("--socket", metavar="PATH", help="Answer `status`, `flows`, `handover`, `policy list` and `log` there.")
@click.option("--host-socket", metavar="PATH", default=HOST_SOCKET, show_default=True,
              help="The host daemon whose tunnels are used where it runs.")  # fmt: skip
def socks(config_dir: str, listen: Endpoint, port: int, socket: str | None, host_socket: str) -> int:
    """Run a local SOCKS5 and HTTP proxy in the foreground: TCP through it survives changes of network."""
    directory = ConfigDir(config_dir)
    directory.host()
    directory.read_credentials()
    from sojourn.daemon.socks_entrance import run

    return run(config_dir, listen, port, socket, host_socket)
