"""Options that many commands share, and the connection that they lead to."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sojourn.api.client import Client
from sojourn.api.messages import ANCHOR_SOCKET, HOST_SOCKET, RENDEZVOUS_SOCKET
from sojourn.store.config_dir import DEFAULT

F = TypeVar("F", bound=Callable[..., Any])

CONFIG_DIR = DEFAULT


def socket_option(function: F) -> F:
    """Add `--socket`."""
    text = "Control socket of the daemon (or SOJOURN_SOCKET)."
    # The environment is read in `socket_path`: click would let it win over the group's own --socket.
    return click.option("--socket", metavar="PATH", help=text)(function)


def json_option(function: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON with stable keys.")(function)


def config_option(function: F) -> F:
    """Add `--config-dir`."""
    text = f"Where configuration and keys are (default {DEFAULT})."
    return click.option("--config-dir", metavar="D", default=DEFAULT, help=text)(function)


def user_name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Check a host's name while the command line is read (it stands in SIP headers)."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", value):
        why = "Letters, digits, '.', '_' and '-', at most 63, the first a letter or a digit."
        raise click.BadParameter(f"{value!r} cannot be a name. {why}", context, parameter)
    return value


def share_socket(given: str | None) -> None:
    """Let the commands below this group use the socket that was named to it, if one was."""
    context = click.get_current_context()
    if given:
        context.obj = {**(context.obj or {}), "socket": given}


def named_socket(given: str | None) -> str | None:
    """Return the socket that the user has named: to the command, to the group, or in the environment."""
    context = click.get_current_context(silent=True)
    shared = (context.obj or {}).get("socket") if context is not None else None
    chosen = given or shared or os.environ.get("SOJOURN_SOCKET")
    return str(chosen) if chosen else None


def socket_path(given: str | None, default: str | None = None) -> str:
    """Return the socket to use: the command's, the group's, the environment's, or the daemon that is there.

    `default` is the role's own; without it a machine's host daemon goes before its anchor, and that before its node.
    """
    chosen = named_socket(given) or default
    if chosen:
        return chosen
    there = (path for path in (HOST_SOCKET, ANCHOR_SOCKET, RENDEZVOUS_SOCKET) if Path(path).exists())
    return next(there, HOST_SOCKET)


def client(given: str | None, default: str | None = None) -> Client:
    """Return the client of the daemon that a command talks to."""
    return Client(socket_path(given, default))
