"""`sojourn init`: everything that an anchor needs, and the first join token."""

import ipaddress
import json
import secrets
import time

import click

from sojourn.cli import output
from sojourn.cli.options import config_option, json_option, user_name
from sojourn.control.config import SIP_TLS_PORT, TUNNEL_PORT, AnchorConfig, parse_anchor
from sojourn.control.subscribers import invite
from sojourn.control.token import SECRET_BYTES
from sojourn.errors import ConfigError
from sojourn.store import keys
from sojourn.store.config_dir import ConfigDir, write
from sojourn.store.sqlite import SqliteStore

_TEMPLATE = """\
# This machine is a Sojourn anchor. Every key but `address` may be left out.
address = {address}          # how mobile hosts reach this machine; it stands in the join tokens
sip_port = {port}                # TCP: association (TLS)
tunnel_port = {tunnel_port}             # UDP: tunnels
pool = {pool}        # what virtual addresses are lent from
pool6 = {pool6}
uplink = "auto"                # the interface that leads to the internet
resolver = "auto"              # the DNS server for mobile hosts
isolate = true                 # mobile hosts do not reach each other
# allow = ["192.168.1.0/24"]   # private networks that mobile hosts may reach; all others are closed
# [[expose]]                   # a port of this machine that leads to one of a mobile host
# host = "laptop"
# port = "tcp/22"
# as = 2222
"""


@click.command()
@config_option
@click.option("--address", required=True, metavar="ADDR", help="Address or name by which hosts reach this machine.")
@click.option("--pool", default="10.201.0.0/16", show_default=True, metavar="CIDR", help="Virtual IPv4 addresses.")
@click.option("--pool6", metavar="CIDR", help="Virtual IPv6 addresses; default: a new unique local /64.")
@click.option("--port", default=SIP_TLS_PORT, show_default=True, type=click.IntRange(1, 65535), help="TLS port.")
@click.option(
    "--tunnel-port", default=TUNNEL_PORT, show_default=True, type=click.IntRange(1, 65535), help="UDP port of tunnels."
)
@click.option("--name", default="host", show_default=True, callback=user_name, help="Name of the first mobile host.")
@click.option("--force", is_flag=True, help="Replace an anchor that is there: its hosts must join again.")
@json_option
def init(
    config_dir: str, address: str, pool: str, pool6: str | None, port: int, tunnel_port: int, name: str, force: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Make this machine an anchor, and print the first join token as the last line."""
    directory = ConfigDir(config_dir)
    text = _TEMPLATE.format(
        address=json.dumps(address),
        port=port,
        tunnel_port=tunnel_port,
        pool=json.dumps(pool),
        pool6=json.dumps(pool6 or _local_prefix()),
    )
    try:
        config = parse_anchor(text, "command line")
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    _refuse_overwriting(directory, force)
    token = _make(directory, config, text, name)
    if as_json:
        output.emit_json_line({"version": 1, "config_dir": config_dir, "name": name, "token": token})
        return
    output.line(f"This machine is an anchor now: {directory.anchor_toml}")
    output.line(f"Run it:                   sojourn anchor --config-dir {config_dir}")
    output.line(f"Open in its firewall:     TCP {port} and UDP {tunnel_port}")
    output.line("Then, on the mobile host: sojourn join TOKEN, with this token (it works once):")
    output.line(token)


def _make(directory: ConfigDir, config: AnchorConfig, text: str, name: str) -> str:
    identity = keys.make(directory, config.address)
    secret, public = secrets.token_bytes(SECRET_BYTES), (identity.spki, identity.socks_key)
    subscriber, token = invite(config, {}, name, secret, public, time.time())  # noqa: TID251 - a date for people
    for suffix in ("", "-wal", "-shm"):
        directory.database.with_name(directory.database.name + suffix).unlink(missing_ok=True)
    store = SqliteStore(str(directory.database))
    store.put(subscriber)
    store.close()
    write(directory.anchor_toml, text)  # last: an anchor.toml means that all of the rest is there
    return str(token)


def _refuse_overwriting(directory: ConfigDir, force: bool) -> None:
    standing = [path for path in (directory.anchor_toml, directory.anchor_key, directory.database) if path.exists()]
    if standing and not force:
        fix = "For one more host: sojourn anchor token --name NAME. To start anew: --force (all hosts must join again)."
        raise ConfigError(str(standing[0]), "exists already", fix)


def _local_prefix() -> str:
    """Return a new unique local /64: 40 random bits (RFC 4193 §3.2), subnet 0."""
    return str(ipaddress.ip_network((b"\xfd" + secrets.token_bytes(5) + bytes(10), 64)))
