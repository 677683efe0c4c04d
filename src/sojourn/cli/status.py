"""`sojourn status`: the verdict first, then the details."""

from collections.abc import Sequence
from typing import Any

import click

from sojourn.api.messages import ApiError, ErrorKind
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
    elif "triggers" in result:
        _print_rendezvous(result)
    else:
        _print_host(result)
    if check and result.get("state") not in ("associated", "reachable", "running"):
        remedy = "`sojourn log` says what was tried; `sojourn doctor` what is missing."
        raise ApiError(f"not associated: {result.get('state')}", remedy, ErrorKind.NOT_ASSOCIATED)


def _print_host(result: dict[str, Any]) -> None:
    addresses = ", ".join(address for key in ("vipa", "vipa6") if (address := result.get(key)))
    what = f" as {addresses}" if addresses else ""
    lead = f"anchor {result['anchor']}{what}" if result.get("anchor") else "peers alone"
    output.line(f"{result.get('state')}: {lead}, {result.get('flows', 0)} flows")
    if (peers := result.get("peers")) is not None:
        met = sum(peer.get("state") == "met" for peer in peers["peers"])
        where = f"over {peers['network']}" if peers.get("network") else "over no network yet"
        direct = sum((peer.get("direct") or {}).get("state") == "on" for peer in peers["peers"])
        how = f" ({direct} directly)" if direct else ""
        output.line(f"  peers: {met} of {len(peers['peers'])} met{how}, {where}, home address {peers['home']}")
    if result.get("reason"):
        output.line(f"  {result['reason']}")
    output.line()
    print_networks(result.get("networks", []))


def print_networks(rows: Sequence[dict[str, Any]], *, access: bool = False) -> None:
    """Print networks as a table. `access`: also what kind of access each is, and what it may cost."""
    if not rows:
        output.line("No network is up.")
        return
    columns = ("NETWORK", "STATE", "ADDRESS", ">RTT", ">LOSS", ">MTU", ">IN", ">OUT", *(["ACCESS"] if access else []))
    output.table((*columns, "REMARK"), [_network(row, access=access) for row in rows])


def _network(row: dict[str, Any], *, access: bool) -> list[object]:
    tunnel, label = row.get("tunnel"), row.get("label")
    name = f"{row.get('name')} ({label})" if label and label != row.get("name") else row.get("name")
    return [
        f"{'* ' if row.get('default') else ''}{name}",
        row.get("state"),
        row.get("address"),
        output.milliseconds(output.get(tunnel, "rtt_ms")),
        output.percent(output.get(tunnel, "loss")),
        output.get(tunnel, "mtu"),
        output.size(output.get(tunnel, "bytes_in")),
        output.size(output.get(tunnel, "bytes_out")),
        *([_access(row)] if access else []),
        row.get("reason"),
    ]


def _access(row: dict[str, Any]) -> str:
    """Say what a network is, as "wifi 72 %, open, metered, 1.2 GB of 5.0 GB"."""
    signal, cap, used = row.get("signal"), row.get("cap_bytes"), row.get("used_bytes")
    parts = [
        " ".join(str(word) for word in (row.get("kind"), row.get("technology")) if word)
        + (f" {signal * 100:.0f} %" if signal is not None else ""),
        row.get("operator"),
        row.get("security"),
        "trusted" if row.get("trusted") else None,
        "roaming" if row.get("roaming") else None,
        "metered" if row.get("metered") else None,
        f"{output.size(used)} of {output.size(cap)}" if cap is not None else None,
        "over its cap" if row.get("over_cap") else None,
    ]
    return ", ".join(str(part) for part in parts if part)


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


def _print_rendezvous(result: dict[str, Any]) -> None:
    totals, where = result.get("totals", {}), ", ".join(result.get("listen", []))
    triggers, most = result.get("triggers", 0), result.get("triggers_max", 0)
    output.line(f"{result.get('state')}: rendezvous node at {where}, {triggers} of {most} triggers")
    store = result.get("store")
    if store is not None:
        output.line(f"  nodes that share them: {', '.join(store.get('nodes', [])) or 'not known'}")
        for server in store.get("servers", []):
            why = f" ({server['reason']})" if server.get("reason") else ""
            output.line(f"  store {server.get('address')}: {server.get('state')}{why}")
    output.line()
    rows = [[name, count] for name, count in totals.items()]
    rows += [[f"refused: {reason}", count] for reason, count in result.get("refused", {}).items()]
    output.table(("WHAT", ">COUNT"), rows)
