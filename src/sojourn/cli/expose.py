"""`sojourn expose`: ports of the anchor that lead to ports of a mobile host (the paper's static NAT).

sojourn expose tcp/22 --as 2222        the anchor's TCP port 2222 leads to the host's port 22
sojourn expose list
sojourn expose remove tcp/2222
"""

import click

from sojourn.cli import output
from sojourn.cli.options import client, json_option, socket_option
from sojourn.control.config import parse_service


@click.command()
@click.argument("what", metavar="tcp/PORT|udp/PORT|list|remove")
@click.argument("public", metavar="[PROTOCOL/PUBLIC_PORT]", required=False)
@click.option("--as", "public_port", type=click.IntRange(1, 65535), help="The anchor's port; default: the same.")
@click.option("--host", metavar="NAME", help="Which host's port; needed on an anchor with several.")
@socket_option
@json_option
def expose(
    what: str, public: str | None, public_port: int | None, host: str | None, socket: str | None, as_json: bool
) -> None:
    """Let a port of the anchor lead to a host's: `expose tcp/22 --as 2222`, `expose list`, `expose remove tcp/2222`."""
    if what != "remove" and public is not None:
        raise click.UsageError(f"Unexpected argument {public!r}.")
    if what != "list" and what != "remove":
        _add(what, public_port, host, socket, as_json)
    elif public_port is not None or host is not None:
        raise click.UsageError(f"`expose {what}` takes neither --as nor --host.")
    elif what == "list":
        _list(socket, as_json)
    else:
        _remove(public, socket, as_json)


def _add(what: str, public_port: int | None, host: str | None, socket: str | None, as_json: bool) -> None:
    protocol, port = _service(what)
    public_port = public_port or port
    result = client(socket).call("expose", protocol=protocol, port=port, public_port=public_port, host=host)
    if as_json:
        output.emit_json(result)
    else:
        output.line(f"The anchor's {what.partition('/')[0]}/{public_port} leads to {what} here now.")


def _remove(public: str | None, socket: str | None, as_json: bool) -> None:
    if public is None:
        raise click.UsageError("Say which: `sojourn expose remove tcp/2222` (`sojourn expose list` shows them).")
    protocol, port = _service(public)
    result = client(socket).call("expose_remove", protocol=protocol, public_port=port)
    if as_json:
        output.emit_json(result)
    else:
        output.line(f"{public} is closed.")


def _list(socket: str | None, as_json: bool) -> None:
    rows = client(socket).call("exposed")
    if as_json:
        output.emit_json(rows)
        return
    columns = ("protocol", "public_port", "host", "port")
    output.table(("PROTO", ">PUBLIC", "HOST", ">PORT"), [[row.get(key) for key in columns] for row in rows])


def _service(text: str) -> tuple[str, int]:
    try:
        parse_service(text)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    word, _, port = text.partition("/")
    return word.lower(), int(port)
