"""`sojourn doctor`: what this machine has and lacks, each lack with its remedy. Changes nothing."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from sojourn.api.messages import ANCHOR_SOCKET, HOST_SOCKET, ApiError, ErrorKind
from sojourn.cli import output
from sojourn.cli.options import client, config_option, json_option, socket_option
from sojourn.control.config import AnchorConfig
from sojourn.errors import ConfigError
from sojourn.store.config_dir import ConfigDir

if TYPE_CHECKING:
    from sojourn.linux.checks import Check


@click.command()
@click.option("--host", "as_host", is_flag=True, help="Check for a mobile host; default: what the directory holds.")
@click.option("--anchor", "as_anchor", is_flag=True, help="Check for an anchor; default: what the directory holds.")
@config_option
@socket_option
@json_option
def doctor(as_host: bool, as_anchor: bool, config_dir: str, socket: str | None, as_json: bool) -> None:
    """Say what is missing on this machine, and how to mend it. Exit code 1 if anything needed is missing."""
    checks = examine(ConfigDir(config_dir), socket, as_host=as_host, as_anchor=as_anchor)
    failed = [check for check in checks if check.needed and not check.ok]
    if as_json:
        output.emit_json({"version": 1, "ok": not failed, "checks": checks})
    else:
        output.table(("CHECK", "STATE", "FOUND", "REMEDY"), [_row(check) for check in checks])
    if failed:
        names = ", ".join(check.name for check in failed)
        raise ApiError(f"{len(failed)} of {len(checks)} checks found a problem: {names}", "Their remedies stand above.")


def examine(
    directory: ConfigDir, socket: str | None, *, as_host: bool = False, as_anchor: bool = False
) -> list["Check"]:
    """Look at the machine; without a role, for what the directory holds."""
    if not as_host and not as_anchor:
        as_anchor = directory.anchor_toml.exists()
        as_host = directory.host_toml.exists() or not as_anchor
    checks = (_host(directory, socket) if as_host else []) + (_anchor(directory, socket) if as_anchor else [])
    return list(dict.fromkeys(checks))  # what both need is said once


def _row(check: "Check") -> tuple[str, str, str, str]:
    state = "ok" if check.ok else "problem" if check.needed else "warning"
    return check.name, state, check.found, "" if check.ok else check.remedy


def _host(directory: ConfigDir, socket: str | None) -> list["Check"]:
    from sojourn.linux import checks, desktop_checks, owner_checks

    found = [*checks.host_checks(), _core(), *owner_checks.owner_checks(), *desktop_checks.desktop_checks()]
    found.append(_configuration("host.toml", directory.host))
    found += _identity(directory)
    found.append(_daemon("host", socket, HOST_SOCKET))
    return found


def _identity(directory: ConfigDir) -> list["Check"]:
    """Check what proves this host to its anchor, and to its peers."""
    from sojourn.store import home_key

    try:
        config = directory.host()
    except ConfigError:
        return [_configuration("credentials", directory.read_credentials)]
    found = [_configuration("credentials", directory.read_credentials)] if config.anchor else []
    return found + ([_configuration("home.key", lambda: home_key.load(directory))] if config.rendezvous else [])


def _anchor(directory: ConfigDir, socket: str | None) -> list["Check"]:
    from sojourn.linux import checks
    from sojourn.store import keys

    try:
        config = directory.anchor()
    except ConfigError:
        config = AnchorConfig("localhost")
    found = checks.anchor_checks(config.device, tunnel_port=config.tunnel_port, sip_port=config.sip_port)
    found.append(_core())
    if config.socks.port is not None:
        found.append(_splice(config))
    found.append(_configuration("anchor.toml", directory.anchor))
    found.append(_configuration("anchor's keys", lambda: keys.load(directory)))
    found.append(_daemon("anchor", socket, ANCHOR_SOCKET))
    return found


def _splice(config: AnchorConfig) -> "Check":
    """Say whether the SOCKS proxy splices, and who has decided that."""
    from sojourn.control import socks_splice
    from sojourn.linux import splice_checks
    from sojourn.linux.checks import Check

    try:
        asked = socks_splice.choose(config.socks, os.environ)
    except ConfigError as error:
        return Check(splice_checks.NAME, False, f"{error.where}: {error.why}", error.fix, needed=True)
    if not asked.splice:
        return Check(splice_checks.NAME, True, f"not asked for, the proxy relays ({asked.why})", needed=False)
    return splice_checks.splice_check(asked.why)


def _core() -> "Check":
    """Say which engine a data path that is started from here would have, and why."""
    from sojourn.datapath.choose import CORE, choose
    from sojourn.errors import NotSupported
    from sojourn.linux.checks import Check

    remedy = "Install a wheel for this machine, or gcc, libssl-dev and python3-dev and the package again"
    try:
        chosen = choose(os.environ)
    except (ConfigError, NotSupported) as error:
        return Check("C core", False, str(error), remedy, needed=True)
    if chosen.name == CORE:
        return Check("C core", True, f"sealed tunnels with {chosen.why}", needed=False)
    return Check("C core", False, f"the Python engine serves: {chosen.why}", remedy, needed=False)


def _configuration(name: str, read: Callable[[], object]) -> "Check":
    from sojourn.linux.checks import Check

    try:
        read()
    except ConfigError as error:
        return Check(name, False, f"{error.where}: {error.why}", error.fix)
    return Check(name, True, "complete")


def _daemon(role: str, socket: str | None, default: str) -> "Check":
    """Say whether the daemon answers; one that is not running is no fault of the machine's."""
    from sojourn.linux.checks import Check

    name, daemon = f"{role} daemon", client(socket, default)
    try:
        about = daemon.call("about")
        state = daemon.call("status")
    except ApiError as error:
        absent = error.kind is ErrorKind.NOT_RUNNING
        return Check(name, False, error.message, error.remedy, needed=not absent)
    if about.get("role") != role:
        return Check(
            name, False, f"the {about.get('role')} answers at {daemon.path}", "Name its --socket", needed=False
        )
    if role == "host" and state.get("state") not in ("associated", "reachable"):
        found = f"{state.get('state')}: {state.get('reason') or 'no reason is known'}"
        return Check(name, False, found, "`sojourn log` says what was tried")
    return Check(name, True, str(state.get("state")))
