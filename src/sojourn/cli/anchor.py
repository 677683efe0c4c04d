"""`sojourn anchor`: run the anchor, and say who may join it.

`token` and `revoke` ask the running anchor; where none runs they change its records directly.
"""

import secrets
import time
from typing import Any

import click

from sojourn.api.client import Client
from sojourn.api.messages import ANCHOR_SOCKET, ApiError, ErrorKind
from sojourn.cli import output
from sojourn.cli.options import config_option, json_option, socket_option, socket_path, user_name
from sojourn.control import subscribers
from sojourn.control.socks_account import password_of
from sojourn.control.token import SECRET_BYTES
from sojourn.errors import ConfigError
from sojourn.store import keys
from sojourn.store.config_dir import DEFAULT, ConfigDir
from sojourn.store.sqlite import SqliteStore


@click.group(invoke_without_command=True)
@config_option
@socket_option
@click.option("--replace", is_flag=True, help="Take over from the anchor that runs here; no flow breaks.")
@click.option("--only", type=click.Choice(["socks"]), help="Run the SOCKS proxy alone: no tunnels, no root.")
@click.pass_context
def anchor(context: click.Context, config_dir: str, socket: str | None, replace: bool, only: str | None) -> int:
    """Run the anchor in the foreground, until SIGTERM (SIGUSR2: make way); or do what the subcommand says."""
    context.meta["config_dir"], context.meta["socket"] = config_dir, socket
    if context.invoked_subcommand is not None:
        return 0
    ConfigDir(config_dir).anchor()  # a bad configuration is told before anything is imported or started
    if only is not None:
        from sojourn.daemon.socks_anchor import run as run_socks

        return run_socks(config_dir, socket_path(socket, ANCHOR_SOCKET), replace=replace)
    from sojourn.daemon.anchor import run

    code: int = run(config_dir, socket_path(socket, ANCHOR_SOCKET), replace=replace)
    return code


@anchor.command("token")
@click.option("--name", required=True, callback=user_name, help="Name of the mobile host that the token is for.")
@config_option
@socket_option
@json_option
@click.pass_context
def token_command(context: click.Context, name: str, config_dir: str, socket: str | None, as_json: bool) -> None:
    """Print a join token for one more mobile host. It works once."""
    directory, daemon = _where(context, config_dir, socket)
    text = daemon.call("token", name=name)["token"] if daemon is not None else _invite(directory, name)
    if as_json:
        output.emit_json({"version": 1, "name": name, "token": text})
    else:
        output.line(text)


@anchor.command("revoke")
@click.argument("name")
@config_option
@socket_option
@json_option
@click.pass_context
def revoke_command(context: click.Context, name: str, config_dir: str, socket: str | None, as_json: bool) -> None:
    """End the association and the credentials of the mobile host NAME."""
    directory, daemon = _where(context, config_dir, socket)
    if daemon is not None:
        daemon.call("revoke", name=name)
    else:
        store = _store(directory)
        store.put(subscribers.revoke(store.load().subscribers, name))
        store.close()
    if as_json:
        output.emit_json({"version": 1, "name": name, "revoked": True})
    else:
        output.line(f"{name} is revoked: it cannot associate any more.")


@anchor.command("password")
@click.argument("name")
@config_option
@json_option
@click.pass_context
def password_command(context: click.Context, name: str, config_dir: str, as_json: bool) -> None:
    """Print the password with which plain SOCKS5 clients of NAME log in to the proxy."""
    directory, _ = _where(context, config_dir, None)
    store = _store(directory)
    known = store.load().subscribers.get(name)
    store.close()
    if known is None or known.revoked or not known.socks_secret:
        fix = f"Make it a token: sojourn anchor token --name {name}."
        raise ConfigError(f"name {name!r}", "may not use the SOCKS proxy here", fix)
    word = password_of(known.socks_secret)
    if as_json:
        output.emit_json({"version": 1, "name": name, "password": word})
    else:
        output.line(word)


@anchor.command("hosts")
@config_option
@socket_option
@json_option
@click.pass_context
def hosts_command(context: click.Context, config_dir: str, socket: str | None, as_json: bool) -> None:
    """List the mobile hosts that may join or have joined."""
    directory, daemon = _where(context, config_dir, socket)
    rows: list[dict[str, Any]] = daemon.call("hosts") if daemon is not None else _hosts(directory)
    if as_json:
        output.emit_json(rows)
        return
    output.table(
        ("NAME", "STATE", "VIPA", "VIPA6"),
        [[row.get(key) for key in ("name", "state", "vipa", "vipa6")] for row in rows],
    )


def _where(context: click.Context, config_dir: str, socket: str | None) -> tuple[ConfigDir, Client | None]:
    """Return the directory and, if the anchor that runs is this directory's, its client."""
    if config_dir == DEFAULT:
        config_dir = context.meta["config_dir"]
    directory = ConfigDir(config_dir)
    named = socket or context.meta["socket"]
    client = Client(socket_path(named, ANCHOR_SOCKET))
    try:
        about = client.call("about")
    except ApiError as error:
        if error.kind is ErrorKind.NOT_RUNNING:
            return directory, None
        raise
    if (
        about.get("role") == "anchor"
        and ConfigDir(str(about.get("config_dir"))).path.resolve() == directory.path.resolve()
    ):
        return directory, client
    if named and config_dir == DEFAULT:
        return directory, client  # the socket was named and the directory was not: the socket it is
    return directory, None


def _store(directory: ConfigDir) -> SqliteStore:
    directory.anchor()
    return SqliteStore(str(directory.database))


def _invite(directory: ConfigDir, name: str) -> str:
    store = _store(directory)
    try:
        identity = keys.load(directory)
        subscriber, token = subscribers.invite(
            directory.anchor(),
            store.load().subscribers,
            name,
            secrets.token_bytes(SECRET_BYTES),
            (identity.spki, identity.socks_key),
            time.time(),  # noqa: TID251 - a date for people
        )
        store.put(subscriber)
    finally:
        store.close()
    return str(token)


def _hosts(directory: ConfigDir) -> list[dict[str, Any]]:
    store = _store(directory)
    known = store.load().subscribers.values()
    store.close()
    return [
        {
            "name": subscriber.name,
            "user": subscriber.user,
            "state": "revoked" if subscriber.revoked else "invited" if subscriber.ha1 is None else "unknown",
            "vipa": subscriber.vipa,
            "vipa6": subscriber.vipa6,
        }
        for subscriber in sorted(known, key=lambda subscriber: subscriber.name)
    ]
