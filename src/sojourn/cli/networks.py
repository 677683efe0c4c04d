"""`sojourn networks`: list them; `networks open NAME` runs a browser on one of them alone, to log in to its portal.

The browser runs here, in the caller: the daemon only looks names up on that network. What puts it there is a proxy
in this process whose connections are bound to the network's interface; no root is needed for it.
"""

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click

from sojourn.api.client import Client
from sojourn.api.messages import HOST_SOCKET, ApiError
from sojourn.cli import output
from sojourn.cli.options import client, json_option, share_socket, socket_option
from sojourn.cli.status import print_networks

LOOK_EVERY = 2.0


@click.group(invoke_without_command=True)
@socket_option
@json_option
@click.pass_context
def networks(context: click.Context, socket: str | None, as_json: bool) -> None:
    """List the networks with their state, address and tunnel; or log in to a portal with `open`."""
    if context.invoked_subcommand is not None:
        share_socket(socket)
        return
    rows = client(socket, HOST_SOCKET).call("networks")
    if as_json:
        output.emit_json(rows)
    else:
        print_networks(rows, access=True)


def _use(name: str, use: str, socket: str | None, as_json: bool) -> None:
    told = client(socket, HOST_SOCKET).call("network_use", network=name, use=use)
    if as_json:
        output.emit_json(told)
    else:
        output.line(f"{told['network']}: {told['use']}" + (" already" if told["before"] == told["use"] else ""))


@networks.command()
@click.argument("name")
@socket_option
@json_option
def pause(name: str, socket: str | None, as_json: bool) -> None:
    """Do not use network NAME until `resume`, or until the daemon starts anew."""
    _use(name, "paused", socket, as_json)


@networks.command()
@click.argument("name")
@socket_option
@json_option
def exclude(name: str, socket: str | None, as_json: bool) -> None:
    """Do not use network NAME until `resume`, also after restarts."""
    _use(name, "excluded", socket, as_json)


@networks.command()
@click.argument("name")
@socket_option
@json_option
def resume(name: str, socket: str | None, as_json: bool) -> None:
    """Use network NAME again."""
    _use(name, "on", socket, as_json)


@networks.command(name="open")
@click.argument("name")
@click.option("--url", metavar="URL", help="The page to open; default: the portal's, where it is known.")
@click.option(
    "--command", metavar="COMMAND",
    help="What to run instead of $BROWSER or the first browser found; {url} and {proxy} in it are replaced.",
)  # fmt: skip
@socket_option
@click.pass_context
def open_network(context: click.Context, name: str, url: str | None, command: str | None, socket: str | None) -> None:
    """Run a browser on network NAME alone, and nothing else there; the network is used as soon as it is open."""
    context.exit(asyncio.run(_open(client(socket, HOST_SOCKET), name, url, command)))


async def _open(daemon: Client, name: str, url: str | None, command: str | None) -> int:
    from sojourn.linux import browsers
    from sojourn.linux.proxy import Proxy
    from sojourn.model import Network

    found = await asyncio.to_thread(daemon.call, "probe", network=name)
    network = Network(found["name"], found["interface"], found["address"])
    page = url or found["portal"] or found["url"]
    if not page:
        raise ApiError("no page is known", "Name one with --url: portal probes are turned off in host.toml.")

    async def resolve(host: str) -> list[str]:
        try:
            answer = await asyncio.to_thread(daemon.call, "resolve", network=network.name, name=host)
        except ApiError as error:
            raise OSError(error.message) from error
        return [str(address) for address in answer["addresses"]]

    _say(network.name, found)
    caller = browsers.owner()
    with tempfile.TemporaryDirectory(prefix="sojourn-portal-") as folder:
        if caller is not None:
            os.chown(folder, *caller)
        async with Proxy(network, resolve, caller[0] if caller else None) as proxy:
            root = os.geteuid() == 0 and caller is None
            run = browsers.invocation(command, page, proxy.port, Path(folder), os.environ, root=root)
            if not run.proxied:
                click.echo(f"sojourn: whether {run.argv[0]} heeds http_proxy is its own affair", err=True)
            watching = asyncio.ensure_future(_watch(daemon, network.name, captive=found["captive"]))
            try:
                code = await _run(run.argv, run.environment, caller)
            finally:
                watching.cancel()
    after = await asyncio.to_thread(daemon.call, "probe", network=network.name)
    if after["captive"]:
        output.line(f"{network.name} is still captive.")
    elif found["captive"]:
        output.line(f"{network.name} is open.")
    return code


def _say(name: str, found: dict[str, Any]) -> None:
    if not found["captive"]:
        output.line(f"{name} does not look captive; opening it all the same.")


async def _run(argv: tuple[str, ...], environment: dict[str, str], caller: tuple[int, int] | None) -> int:
    """Run the command, as whoever called sudo, and return its exit code."""
    as_whom: dict[str, Any] = {} if caller is None else {"user": caller[0], "group": caller[1], "extra_groups": []}
    try:
        process = await asyncio.create_subprocess_exec(*argv, env=environment, **as_whom)
    except (OSError, subprocess.SubprocessError) as error:
        raise ApiError(f"{argv[0]} cannot be run: {error}", "Name another --command.") from error
    return await process.wait()


async def _watch(daemon: Client, name: str, *, captive: bool) -> None:
    """Have the network asked while the browser runs, so that it is used the moment it is open."""
    while captive:
        await asyncio.sleep(LOOK_EVERY)
        try:
            captive = (await asyncio.to_thread(daemon.call, "probe", network=name))["captive"]
        except ApiError:
            return
