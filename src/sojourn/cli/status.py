"""`sojourn status` and `sojourn networks`: the verdict first, then the details."""

from collections.abc import Sequence
from typing import Any

import click

from sojourn.api.messages import HOST_SOCKET, ApiError, ErrorKind
from sojourn.cli import output
from sojourn.cli.options import client, json_option, socket_option


@click.command()
@socket_option
@json_option
@click.option("--check", is_flag=True, help="Exit with 5 unless the host is associated.")
def status(socket: str | None, as_json: bool, check: bool) -> None:
    """Show the association, the networks and their tunnels."""
    result = client(socket).call("status")
    if as_json:
        output.emit_json(result)
    elif "hosts" in result:
        _print_anchor(result)
    else:
        _print_host(result)
    if check and "hosts" not in result and result.get("state") != "associated":
        remedy = "`sojourn log` says what was tried; `sojourn doctor` what is missing."
        raise ApiError(f"not associated: {result.get('state')}", remedy, ErrorKind.NOT_ASSOCIATED)


@click.command()
@socket_option
@json_option
def networks(socket: str | None, as_json: bool) -> None:
    """List the networks with their state, address and tunnel."""
    rows = client(socket, HOST_SOCKET).call("networks")
    if as_json:
        output.emit_json(rows)
    else:
        _print_networks(rows)


def _print_host(result: dict[str, Any]) -> None:
    addresses = ", ".join(address for key in ("vipa", "vipa6") if (address := result.get(key)))
    what = f" as {addresses}" if addresses else ""
    output.line(f"{result.get('state')}: anchor {result.get('anchor')}{what}, {result.get('flows', 0)} flows")
    if result.get("reason"):
        output.line(f"  {result['reason']}")
    output.line()
    _print_networks(result.get("networks", []))


def _print_networks(rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        output.line("No network is up.")
        return
    output.table(
        ("NETWORK", "STATE", "ADDRESS", ">RTT", ">LOSS", ">MTU", ">IN", ">OUT", "REMARK"),
        [_network(row) for row in rows],
    )


def _network(row: dict[str, Any]) -> list[object]:
    tunnel = row.get("tunnel")
    return [
        f"{'* ' if row.get('default') else ''}{row.get('name')}",
        row.get("state"),
        row.get("address"),
        output.milliseconds(output.get(tunnel, "rtt_ms")),
        output.percent(output.get(tunnel, "loss")),
        output.get(tunnel, "mtu"),
        output.size(output.get(tunnel, "bytes_in")),
        output.size(output.get(tunnel, "bytes_out")),
        row.get("reason"),
    ]


def _print_anchor(result: dict[str, Any]) -> None:
    hosts = result.get("hosts", [])
    present = sum(1 for host in hosts if host.get("state") == "associated")
    address, flows = result.get("address"), result.get("flows", 0)
    output.line(f"{result.get('state')}: anchor {address}, {present} of {len(hosts)} hosts associated, {flows} flows")
    output.line()
    output.table(
        ("HOST", "STATE", "VIPA", "VIPA6", ">LEASE"),
        [
            [
                host.get("name"),
                host.get("state"),
                host.get("vipa"),
                host.get("vipa6"),
                output.duration(host.get("lease_s")),
            ]
            for host in hosts
        ],
    )
