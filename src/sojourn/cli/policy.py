"""`sojourn policy`: which rules hold, what they do to the flows, and what other ones would do."""

import sys
from pathlib import Path
from typing import Any

import click

from sojourn.api.messages import HOST_SOCKET, ApiError, ErrorKind
from sojourn.cli import output
from sojourn.cli.options import client, config_option, json_option, socket_option
from sojourn.control.policies import PolicyBook
from sojourn.linux.users import user_id
from sojourn.policy.problems import Problem
from sojourn.store.config_dir import ConfigDir, read

_STATES = {
    "held": "held: no network fits",
    "waiting": "waiting: no network works",
    "blocked": "blocked",
    "asked": "waiting for your answer (`sojourn ask`)",
    "direct": "direct, without a tunnel",
}


@click.group()
def policy() -> None:
    """Show, test and explain the rules that say which application uses which network."""


@policy.command("list")
@socket_option
@json_option
def list_policies(socket: str | None, as_json: bool) -> None:
    """List the rules in their order, with how many flows each has and where those are now."""
    rows = client(socket, HOST_SOCKET).call("policy_list")
    if as_json:
        output.emit_json(rows)
        return
    output.table(
        (">#", "POLICY", "FROM", "COVERS", "NETWORKS", ">FLOWS", "NOW"),
        [
            [
                row.get("place"),
                row.get("name") or "(default)",
                row.get("from"),
                row.get("covers"),
                ", ".join(row.get("networks") or ()),
                row.get("flows"),
                _where(row),
            ]
            for row in rows
        ],
    )


def _where(row: dict[str, Any]) -> str:
    if row.get("state") != "carried":
        return str(row.get("state"))
    on = row.get("flows_on") or {}
    elsewhere = [f"{count} on {name}" for name, count in sorted(on.items()) if name != row.get("network")]
    return str(row.get("network")) + (f" ({', '.join(elsewhere)})" if elsewhere else "")


@policy.command()
@socket_option
@json_option
def show(socket: str | None, as_json: bool) -> None:
    """Show what holds now as TOML, presets expanded, with where each rule comes from; and mistakes in the file."""
    told = client(socket, HOST_SOCKET).call("policy_show")
    if as_json:
        output.emit_json(told)
        return
    output.line(f"# {told.get('file')}; in force: {told.get('in_force')}")
    for problem in told.get("errors") or ():
        output.line(f"# MISTAKE  {problem.get('text')}")
    for problem in told.get("warnings") or ():
        output.line(f"# warning  {problem.get('text')}")
    push = told.get("push") or {}
    if push.get("version"):
        accepted = ", ".join(told.get("accept") or ()) or "nothing"
        output.line(f"# the anchor offers policies, costs or an order; accepted: {accepted}")
    for name, cost in sorted((push.get("costs_used") or {}).items()):
        output.line(f"# from the anchor: {name} is {cost}")
    for problem in push.get("errors") or ():
        output.line(f"# left out  {problem.get('text')}")
    output.line()
    for text in str(told.get("toml") or "").splitlines():
        output.line(text)


@policy.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@config_option
@socket_option
@json_option
def test(file: Path | None, config_dir: str, socket: str | None, as_json: bool) -> int:
    """Check FILE (default: host.toml) and say which flows would move. Nothing is applied.

    FILE is a whole host.toml, or only [[policy]] tables; "-" is standard input. It is checked also where no daemon
    runs. Exit code 1: it has mistakes.
    """
    path, text = _text_of(file, config_dir)
    checked = PolicyBook(path, user_id).examine(text, partial=True).reading
    result: dict[str, Any] = {
        "version": 1, "file": path, "daemon": False, "policies": max(0, len(checked.policies) - 1),
        "errors": [_problem(one) for one in checked.errors], "warnings": [_problem(one) for one in checked.warnings],
        "moves": None, "flows": None,
    }  # fmt: skip
    if not checked.errors:
        try:
            told = client(socket, HOST_SOCKET).call("policy_test", text=text)
            result |= {"daemon": True, **{key: told[key] for key in ("warnings", "moves", "flows")}}
        except ApiError as error:
            if error.kind not in (ErrorKind.NOT_RUNNING, ErrorKind.NO_PERMISSION):
                raise
    if as_json:
        output.emit_json(result)
    else:
        _print_test(result)
    return 1 if checked.errors else 0


def _text_of(file: Path | None, config_dir: str) -> tuple[str, str]:
    if file is not None and str(file) == "-":
        return "standard input", sys.stdin.read()
    path = file or ConfigDir(config_dir).host_toml
    data = read(path, "Name the file, or the directory with --config-dir.")
    try:
        return str(path), data.decode()
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{path} is not UTF-8 text (byte {error.start}).") from error


def _problem(problem: Problem) -> dict[str, Any]:
    return {"line": problem.line, "key": problem.key, "why": problem.why, "fix": problem.fix, "text": str(problem)}


def _print_test(result: dict[str, Any]) -> None:
    for problem in result["errors"]:
        output.line(problem["text"])
    for problem in result["warnings"]:
        output.line(f"warning: {problem['text']}")
    if result["errors"]:
        return
    count = result["policies"]
    output.line(f"{result['file']}: {count} {'policy' if count == 1 else 'policies'}, no mistakes")
    moves = result["moves"]
    if moves is None:
        output.line("No daemon could be asked: which flows would move is not known.")
        return
    if not moves:
        output.line(f"None of {result['flows']} flows would move.")
        return
    count = len(moves)
    verb = "This flow" if count == 1 else f"These {count} flows"
    output.line(f"{verb} would move (of {result['flows']}):")
    output.table(
        (">ID", "APPLICATION", "REMOTE", "FROM", "TO", "WHY"),
        [
            [
                *(output.get(move, "flow", key) for key in ("id", "application", "remote")),
                *(move.get(key) or "-" for key in ("from", "to")),
                move.get("why"),
            ]
            for move in moves
        ],
    )


@policy.command()
@click.argument("what", metavar="FLOW|APP")
@socket_option
@json_option
def explain(what: str, socket: str | None, as_json: bool) -> None:
    """Say which rule put a flow where it is, why not elsewhere, and what it would take to move it.

    FLOW is an ID of `sojourn flows`; APP an application (patterns like 'fire*' too) or the name of a policy.
    """
    told = client(socket, HOST_SOCKET).call("policy_explain", what=what)
    if as_json:
        output.emit_json(told)
        return
    seen: dict[str, list[str]] = {}
    first: dict[str, dict[str, Any]] = {}
    for one in told.get("explanations") or ():
        key = str([one.get(name) for name in ("policy", "network", "state", "reason", "ordered")])
        first.setdefault(key, one)
        seen.setdefault(key, []).append(_flow(one.get("flow")))
    for key, one in first.items():
        _print_explanation(one, [name for name in seen[key] if name], what)


def _flow(flow: dict[str, Any] | None) -> str:
    if flow is None:
        return ""
    return f"{flow.get('application') or 'unknown program'} to {flow.get('remote')} ({flow.get('id')})"


def _print_explanation(one: dict[str, Any], flows: list[str], what: str) -> None:
    for name in flows[:10]:
        output.line(name)
    if len(flows) > 10:
        output.line(f"and {len(flows) - 10} more flows, alike")
    if not flows:
        output.line(f"{what}: no flow now; new ones would be treated like this")
    origin = {"user": "yours", "anchor": "pushed by the anchor", "order": "an order by hand", "default": "the default"}
    line = f", line {one['line']}" if one.get("line") is not None else ""
    named = f"{one.get('policy') or 'the general order'} ({origin.get(str(one.get('came_from')))}{line})"
    output.line(f"  policy    {named}: {one.get('covers')}")
    state = _STATES.get(str(one.get("state")))
    where = state or f"{one.get('network') or 'none'}"
    if state is None and one.get("copies"):
        where += f", copies over {', '.join(one['copies'])}"
    since = f", for {output.duration(one['since_s'])}" if state is None and one.get("since_s") is not None else ""
    output.line(f"  network   {where}{since}")
    output.line(f"  because   {one.get('reason')}")
    for place, verdict in enumerate(one.get("networks") or (), 1):
        words = "in use" if verdict.get("in_use") else "; ".join(verdict.get("why") or ()) or "fits"
        if verdict.get("in_use") and verdict.get("why"):
            words += f", although {'; '.join(verdict['why'])}"
        score = f" [score {verdict['score']:g}]" if verdict.get("score") is not None else ""
        output.line(f"  {'networks' if place == 1 else '':<8}  {place}. {verdict.get('network')}{score}: {words}")
    for place, text in enumerate(one.get("to_move") or ()):
        output.line(f"  {'to move' if place == 0 else '':<8}  {text}")


@policy.command()
@socket_option
@json_option
def reload(socket: str | None, as_json: bool) -> int:
    """Read host.toml again now. The daemon does so by itself within a second of a change."""
    told = client(socket, HOST_SOCKET).call("policy_reload")
    if as_json:
        output.emit_json(told)
    elif told.get("ok"):
        output.line(f"{told.get('policies')} policies hold now.")
    else:
        for problem in told.get("errors") or ():
            output.line(problem.get("text") or "")
        output.line("The old policies stay.")
    return 0 if told.get("ok") else 1
