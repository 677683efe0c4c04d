"""`sojourn rendezvous`: run a rendezvous node."""

import click

from sojourn.api.messages import RENDEZVOUS_SOCKET
from sojourn.cli.options import config_option, socket_option, socket_path
from sojourn.control.rendezvous_config import given, parse_rendezvous
from sojourn.store.config_dir import ConfigDir, read


@click.command()
@config_option
@socket_option
@click.option("--listen", metavar="ADDR[:PORT]", multiple=True, help="UDP address, instead of D/rendezvous.toml.")
@click.option("--address", metavar="ADDR[:PORT]", multiple=True, help="With --listen: how hosts reach this node.")
@click.option("--store", metavar="URL", multiple=True, help="With --listen: Redis or Valkey that nodes share.")
def rendezvous(
    config_dir: str, socket: str | None, listen: tuple[str, ...], address: tuple[str, ...], store: tuple[str, ...]
) -> int:
    """Run a rendezvous node in the foreground, until SIGTERM: hosts find each other there by identifiers."""
    if listen:
        config = given(listen, address, store)
    elif address or store:
        raise click.UsageError("--address and --store go with --listen")
    else:
        path = ConfigDir(config_dir).rendezvous_toml
        fix = 'Write it, with one line: listen = ["ADDRESS"]; or use --listen ADDRESS.'
        config = parse_rendezvous(read(path, fix), str(path))
    from sojourn.daemon.rendezvous import run

    code: int = run(config, socket_path(socket, RENDEZVOUS_SOCKET))
    return code
