"""`sojourn handover`: move flows to another network, by order."""

import click

from sojourn.api.messages import HOST_SOCKET
from sojourn.cli import output
from sojourn.cli.options import client, json_option, socket_option
from sojourn.errors import RemoteProtocolError
from sojourn.policy import match


@click.command()
@click.option("--flow", metavar="ID", help="One flow, by its ID in `sojourn flows`.")
@click.option("--app", metavar="NAME", help="All flows of an application, and those to come.")
@click.option("--match", "matching", metavar="'IPTABLES'", help="All flows that it covers, e.g. '-p tcp --dport 22'.")
@click.option("--all", "everything", is_flag=True, help="All flows, and those to come.")
@click.option("--to", metavar="NETWORK", help="Its name in `sojourn networks`; or policy, hold, block, direct.")
@click.option("--undo", is_flag=True, help="Take the last order back (also of networks and policies).")
@socket_option
@json_option
def handover(
    flow: str | None,
    app: str | None,
    matching: str | None,
    everything: bool,
    to: str | None,
    undo: bool,
    socket: str | None,
    as_json: bool,
) -> None:
    """Move flows to another network. They stay there until that network goes or another order comes.

    `--to policy` ends such an order: the flows go where the policies want them. `--to hold` lets them wait,
    `--to block` refuses them, and `--to direct` sends an application's flows to come past Sojourn.
    """
    if undo:
        _undo(socket, as_json)
        return
    if to is None:
        raise click.UsageError("Say where: --to NETWORK. Or take the last order back with --undo.")
    arguments = _selection(flow, app, matching, everything)
    result = client(socket, HOST_SOCKET).call("handover", to=to, **arguments)
    if as_json:
        output.emit_json(result)
        return
    counts = [f"{result[key]} {key}" for key in ("unchanged", "stale", "unknown", "waiting") if result.get(key)]
    output.line(f"{result.get('moved', 0)} flows {_done(to)}" + (f" ({', '.join(counts)})" if counts else ""))


def _done(to: str) -> str:
    words = {"policy": "moved where the policies want them", "hold": "held", "block": "blocked"}
    return words.get(to, "moved to be direct, and those to come" if to == "direct" else f"moved to {to}")


def _undo(socket: str | None, as_json: bool) -> None:
    told = client(socket, HOST_SOCKET).call("undo")
    if as_json:
        output.emit_json(told)
    else:
        output.line(f"Taken back: {told['undone']}.")


def _selection(flow: str | None, app: str | None, matching: str | None, everything: bool) -> dict[str, object]:
    given: dict[str, object] = {
        key: value
        for key, value in (("flow", flow), ("app", app), ("match", matching), ("all", everything or None))
        if value is not None
    }
    if len(given) != 1:
        raise click.UsageError("Say which flows: exactly one of --flow ID, --app NAME, --match 'IPTABLES', --all.")
    if matching is not None:
        try:
            match.parse(matching)
        except RemoteProtocolError as error:
            raise click.BadParameter(f"{error}. Write it like '-p tcp --dport 22'.", param_hint="--match") from error
    return given
