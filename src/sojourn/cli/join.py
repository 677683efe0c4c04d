"""`sojourn join`: the whole set-up of a mobile host, from one token."""

import json
import re
import secrets
import socket
import sys

import click

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.cli import output
from sojourn.cli.options import config_option, json_option
from sojourn.control import socks_account
from sojourn.control.config import Credentials, parse_host
from sojourn.control.token import MAX_TOKEN_CHARACTERS, JoinToken, parse
from sojourn.errors import ConfigError, RemoteProtocolError
from sojourn.store.config_dir import ConfigDir, write

_TEMPLATE = """\
# This computer is a mobile host of the Sojourn anchor named here. The secret is in `credentials`.
name = {name}
anchor = {anchor}
port = {port}
spki = "{spki}"  # who the anchor is, whatever its address
user = {user}
tid = "{tid}"
order = ["ethernet", "wifi", "cellular", "*"]  # networks by name or kind, the preferred first
dns = "anchor"        # or "network": each network's own resolver
kill_switch = false   # true: captured traffic never leaves outside a tunnel
"""


@click.command()
@click.argument("token")
@config_option
@click.option("--name", help="What to call this computer; default: its host name.")
@click.option("--force", is_flag=True, help="Replace the host.toml and the credentials that are there.")
@json_option
def join(token: str, config_dir: str, name: str | None, force: bool, as_json: bool) -> None:
    """Make this machine a mobile host, with the TOKEN that the anchor printed ("-": from standard input)."""
    joined = _read(token)
    directory = ConfigDir(config_dir)
    if not force:
        for path in (directory.host_toml, directory.credentials):
            if path.exists():
                raise ConfigError(str(path), "exists already", "Give --force to join anew, or another --config-dir.")
    text = _TEMPLATE.format(
        name=json.dumps(name or _host_name()),
        anchor=json.dumps(joined.address),
        port=joined.port,
        spki=joined.spki.hex(),
        user=json.dumps(joined.user),
        tid=secrets.token_hex(8),
    )
    try:
        parse_host(text, "--name")
    except ConfigError as error:
        raise click.BadParameter(f"{name!r}: {error.why}", param_hint="--name") from error
    directory.write_credentials(
        Credentials(
            joined.password,
            socks_key=joined.socks_key.hex(),
            socks_secret=socks_account.secret_of(joined.secret).hex(),
            socks_static=secrets.token_bytes(32).hex(),
        )
    )
    write(directory.host_toml, text)
    if as_json:
        output.emit_json({"version": 1, "config_dir": config_dir, "anchor": joined.address, "user": joined.user})
        return
    output.line(f"Joined the anchor {joined.address} as {joined.user!r}: {directory.host_toml}")
    output.line(f"Now run: sojourn host --config-dir {config_dir}")


def _read(token: str) -> JoinToken:
    text = sys.stdin.read(2 * MAX_TOKEN_CHARACTERS) if token == "-" else token
    try:
        return parse(text)
    except RemoteProtocolError as error:
        remedy = "Copy the whole last line of `sojourn init` or `sojourn anchor token`."
        raise ApiError(str(error), remedy, ErrorKind.USAGE) from error


def _host_name() -> str:
    name = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname().partition(".")[0])[:63].lstrip("._-")
    return name or "host"
