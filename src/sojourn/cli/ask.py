"""`sojourn ask`: the questions that policies leave to the user."""

import sys
from collections.abc import Callable
from typing import Any

import click

from sojourn.api.client import Client
from sojourn.api.messages import HOST_SOCKET, ApiError
from sojourn.cli import output
from sojourn.cli.options import client, json_option, share_socket, socket_option

REMEMBER = ("once", "session", "ever")


@click.group(invoke_without_command=True)
@click.option("-f", "--follow", is_flag=True, help="Go on with new questions as they come.")
@socket_option
@json_option
@click.pass_context
def ask(context: click.Context, follow: bool, socket: str | None, as_json: bool) -> None:
    """List what Sojourn asks you; on a terminal, answer it there. With --follow, JSON is one object a line."""
    if context.invoked_subcommand is not None:
        share_socket(socket)
        return
    connection = client(socket, HOST_SOCKET)
    if follow:
        _follow(connection, as_json)
        return
    questions = connection.call("questions")
    if as_json:
        output.emit_json(questions)
    elif not questions:
        output.line("No question is open.")
    elif interactive():
        for question in questions:
            _answer_here(connection, question, click.prompt)
    else:
        for question in questions:
            _print(question)


@ask.command()
@click.argument("question", metavar="ID", type=int)
@click.argument("choice")
@click.option("--remember", type=click.Choice(REMEMBER), default="once", show_default=True, help="How long it holds.")
@socket_option
@json_option
def answer(question: int, choice: str, remember: str, socket: str | None, as_json: bool) -> None:
    """Answer question ID with CHOICE (a network's name, hold or block).

    `once` holds until other networks work, `session` until the daemon ends, `ever` is written down.
    """
    result = client(socket, HOST_SOCKET).call("answer", id=question, choice=choice, remember=remember)
    if as_json:
        output.emit_json(result)
    else:
        output.line(f"{result.get('policy') or 'everything else'}: {result.get('choice')}")


@ask.command()
@socket_option
@json_option
def forget(socket: str | None, as_json: bool) -> None:
    """Forget all answers that were remembered."""
    result = client(socket, HOST_SOCKET).call("forget_answers")
    if as_json:
        output.emit_json(result)
    else:
        output.line(f"{result.get('forgotten')} answers forgotten.")


def interactive() -> bool:
    """Say whether a person sits at both ends."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _follow(connection: Client, as_json: bool) -> None:
    for item in connection.stream("ask", follow=True):
        if as_json:
            output.emit_json_line(item)
        elif item.get("event") != "question":
            choice = f": {item['choice']}" if item.get("choice") else ""
            output.flush_line(f"question {item.get('id')} {item.get('event')}{choice}")
        elif interactive():
            _answer_here(connection, item, click.prompt)
        else:
            _print(item)


def _print(question: dict[str, Any]) -> None:
    output.line(f"{question.get('id')}. {question.get('text')}")
    left = f"{question.get('seconds_left'):.0f} s" if question.get("seconds_left") is not None else "a while"
    output.flush_line(f"   one of {', '.join(question.get('choices') or ())}; {question.get('default')} in {left}")


def _answer_here(connection: Client, question: dict[str, Any], prompt: Callable[..., Any]) -> None:
    """Ask at the terminal. Who answers too late is told so, and goes on to the next question."""
    _print(question)
    choices = click.Choice(list(question.get("choices") or ()))
    chosen = prompt("   your choice", type=choices, default=question.get("default"), show_choices=False)
    remember = prompt("   remember it", type=click.Choice(REMEMBER), default="once")
    try:
        connection.call("answer", id=question.get("id"), choice=chosen, remember=remember)
    except ApiError as error:
        output.line(f"   too late: {error.message}")
