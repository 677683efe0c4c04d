"""`sojourn flows` and `sojourn apps`: what is being carried, and by which network."""

import click

from sojourn.api.messages import HOST_SOCKET
from sojourn.cli import output
from sojourn.cli.options import client, json_option, socket_option


@click.command()
@socket_option
@json_option
def flows(socket: str | None, as_json: bool) -> None:
    """List the flows and the network that carries each."""
    rows = client(socket).call("flows")
    if as_json:
        output.emit_json(rows)
        return
    output.table(
        (">ID", "PROTO", "LOCAL", "REMOTE", "APPLICATION", "POLICY", "NETWORK", ">IN", ">OUT", ">AGE"),
        [
            [
                *(row.get(key) for key in ("id", "protocol", "local", "remote", "application", "policy")),
                row.get("network") or row.get("state"),
                output.size(row.get("bytes_in")),
                output.size(row.get("bytes_out")),
                output.duration(row.get("age_s")),
            ]
            for row in rows
        ],
    )


@click.command()
@socket_option
@json_option
def apps(socket: str | None, as_json: bool) -> None:
    """List the applications that have flows, and the networks that carry them."""
    rows = client(socket, HOST_SOCKET).call("apps")
    if as_json:
        output.emit_json(rows)
        return
    output.table(
        ("APPLICATION", ">FLOWS", "NETWORKS", ">IN", ">OUT"),
        [
            [
                row.get("application"),
                row.get("flows"),
                ", ".join(row.get("networks") or ()),
                output.size(row.get("bytes_in")),
                output.size(row.get("bytes_out")),
            ]
            for row in rows
        ],
    )
