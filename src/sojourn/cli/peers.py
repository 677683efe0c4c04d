"""`sojourn peers`: hosts that are reached without an anchor, over rendezvous nodes; both ends may move."""

import contextlib
from typing import Any

import click

from sojourn.api.messages import HOST_SOCKET, ApiError, ErrorKind
from sojourn.cli import output
from sojourn.cli.options import client, config_option, json_option, socket_option
from sojourn.control import peer_config
from sojourn.control.config import HostConfig, parse_host
from sojourn.control.peer_config import PeerConfig
from sojourn.errors import ConfigError
from sojourn.store import home_key
from sojourn.store.config_dir import ConfigDir, read, write


@click.group(invoke_without_command=True)
@socket_option
@json_option
@click.pass_context
def peers(context: click.Context, socket: str | None, as_json: bool) -> None:
    """List the peers and how it stands with each; or `show`, `add` and `remove` them."""
    if context.invoked_subcommand is not None:
        context.obj = {**(context.obj or {}), **({"socket": socket} if socket else {})}
        return
    _list(socket, as_json)


@peers.command(name="list")
@socket_option
@json_option
@click.pass_context
def list_peers(context: click.Context, socket: str | None, as_json: bool) -> None:
    """List the peers and how it stands with each."""
    _list(socket or (context.obj or {}).get("socket"), as_json)


def _list(socket: str | None, as_json: bool) -> None:
    found = client(socket, HOST_SOCKET).call("peers")
    if as_json:
        output.emit_json(found)
        return
    where = f"over {found['network']}" if found.get("network") else "over no network yet"
    output.line(f"home address {found['home']}, {where}, rendezvous node {found.get('node')}")
    output.line()
    output.table(
        ("PEER", "HOME ADDRESS", "STATE", "PATH", ">HEARD", ">IN", ">OUT"), [_row(row) for row in found["peers"]]
    )


def _row(row: dict[str, Any]) -> list[object]:
    heard = row.get("heard_s")
    return [
        row.get("name") or "(anyone)", row.get("home"), row.get("state"), _path(row.get("direct") or {}),
        output.duration(heard) if heard is not None else "",
        output.size(row.get("bytes_in")), output.size(row.get("bytes_out")),
    ]  # fmt: skip


def _path(direct: dict[str, Any]) -> str:
    """Say by which way packets go, and why not directly where that is allowed."""
    if direct.get("state") == "on":
        rtt = direct.get("rtt_ms")
        return f"direct over {direct.get('network')}" + (f", {rtt:.0f} ms" if rtt is not None else "")
    return "node" if direct.get("state") != "no" else f"node: {direct.get('reason')}"


@peers.command()
@config_option
@json_option
def show(config_dir: str, as_json: bool) -> None:
    """Print this host's home address, and the line that makes it a peer of another host."""
    directory = ConfigDir(config_dir)
    identity = home_key.identity(directory)
    config = _config(directory)
    key = peer_config.key_text(identity.keys)
    nodes = list(config.rendezvous.nodes) if config is not None and config.rendezvous is not None else []
    name = config.name if config is not None else "host"
    given = "".join(f" --node {node}" for node in nodes)
    line = f"sojourn peers add {name} {key}{given}"
    if as_json:
        output.emit_json({"version": 1, "home": identity.address, "key": key, "nodes": nodes, "line": line})
        return
    output.line(f"Home address: {identity.address}")
    output.line(f"On the other host run: {line}")


@peers.command()
@click.argument("name")
@click.argument("key")
@click.option(
    "--direct", is_flag=True, help="Allow it to be spoken to without a node where that works: it learns our addresses."
)
@click.option("--node", "nodes", multiple=True, metavar="ADDR[:PORT]", help="A rendezvous node; repeat for several.")
@config_option
@socket_option
@json_option
@click.pass_context
def add(
    context: click.Context,
    name: str,
    key: str,
    nodes: tuple[str, ...],
    direct: bool,
    config_dir: str,
    socket: str | None,
    as_json: bool,
) -> None:
    """Make the host with this KEY (or home address) a peer, called NAME. Its `sojourn peers show` prints the line."""
    directory = ConfigDir(config_dir)
    text, config = _text(directory), _config(directory)
    home_key.identity(directory)
    if config is not None and name in config.peers:
        raise ApiError(f"there is a peer {name!r} already", f"`sojourn peers remove {name}` first.", ErrorKind.USAGE)
    if config is None or config.rendezvous is None:
        if not nodes:
            raise ApiError(
                "no rendezvous node is known", "Give --node ADDRESS, the same as the peer has.", ErrorKind.USAGE
            )
        text = peer_config.with_nodes(text, nodes)
    peer = PeerConfig(address=key, direct=direct) if ":" in key else PeerConfig(key=key, direct=direct)
    made = _write(directory, peer_config.added(text, name, peer))
    home = next(entry.home for entry in peer_config.entries(made.peers) if entry.name == name)
    running = _reload(socket or (context.obj or {}).get("socket"), first=config is None or config.rendezvous is None)
    if as_json:
        output.emit_json({"version": 1, "name": name, "home": home, "running": running})
        return
    output.line(f"{name} is a peer now: {home}")
    output.line(running or "This host has to be a peer there, too: `sojourn peers show` prints the line.")


@peers.command()
@click.argument("name")
@config_option
@socket_option
@json_option
@click.pass_context
def remove(context: click.Context, name: str, config_dir: str, socket: str | None, as_json: bool) -> None:
    """Take a peer out: it is not spoken to any more."""
    directory = ConfigDir(config_dir)
    text, config = _text(directory), _config(directory)
    if config is None or name not in config.peers:
        names = ", ".join(config.peers) if config is not None else ""
        raise ApiError(f"no peer {name!r}", f"Peers now: {names or 'none'}.", ErrorKind.USAGE)
    _write(directory, peer_config.removed(text, name))
    running = _reload(socket or (context.obj or {}).get("socket"), first=False)
    if as_json:
        output.emit_json({"version": 1, "name": name, "running": running})
        return
    output.line(f"{name} is no peer any more.")
    if running:
        output.line(running)


def _text(directory: ConfigDir) -> str:
    try:
        return read(directory.host_toml, "").decode()
    except ConfigError:
        if directory.host_toml.exists():
            raise
        return ""


def _config(directory: ConfigDir) -> HostConfig | None:
    return directory.host() if directory.host_toml.exists() else None


def _write(directory: ConfigDir, text: str) -> HostConfig:
    config = parse_host(text, str(directory.host_toml))
    write(directory.host_toml, text)
    return config


def _reload(socket: str | None, *, first: bool) -> str:
    """Tell the daemon, if it runs; return what is left to be done."""
    with contextlib.suppress(ApiError):
        client(socket, HOST_SOCKET).call("status")
        if first:
            return "Restart `sojourn host`: it has no rendezvous node yet."
        client(socket, HOST_SOCKET).call("peers-reload")
    return ""
