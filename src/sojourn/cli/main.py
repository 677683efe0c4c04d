"""The `sojourn` command: a list of nouns, each in a module that is imported when it is used.

Exit codes: 0 ok, 1 failed, 2 usage, 3 daemon not running, 4 no permission, 5 not associated.
Every error is one line on stderr that says what to do.
"""

import gc
import importlib
import os
import sys
from typing import Final, NoReturn

import click

from sojourn import __version__
from sojourn.cli.failure import exit_code, sentence
from sojourn.errors import SojournError

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "init": ("sojourn.cli.init", "Make this machine an anchor, and print the first join token."),
    "join": ("sojourn.cli.join", "Make this machine a mobile host of an anchor."),
    "anchor": ("sojourn.cli.anchor", "Run the anchor; make and revoke join tokens."),
    "host": ("sojourn.cli.host", "Run the mobile host."),
    "rendezvous": ("sojourn.cli.rendezvous", "Run a rendezvous node: hosts find each other there."),
    "socks": ("sojourn.cli.socks", "Run a local proxy whose connections move; no root needed."),
    "up": ("sojourn.cli.host", "Carry this machine's traffic through the anchor (again)."),
    "down": ("sojourn.cli.host", "Give the traffic back to the ordinary routes; the daemon stays."),
    "status": ("sojourn.cli.status", "Show the association, the networks and their tunnels."),
    "networks": ("sojourn.cli.networks", "List the networks; log in to a captive one (`open`)."),
    "flows": ("sojourn.cli.flows", "List the flows and the network that carries each."),
    "apps": ("sojourn.cli.flows", "List the applications that have flows."),
    "peers": ("sojourn.cli.peers", "List, show, add and remove peers: hosts that are reached without an anchor."),
    "handover": ("sojourn.cli.handover", "Move flows to another network."),
    "policy": ("sojourn.cli.policy", "Show, test and explain which application uses which network."),
    "ask": ("sojourn.cli.ask", "Answer what policies leave to you."),
    "run": ("sojourn.cli.run", "Run a command under the name of an application."),
    "expose": ("sojourn.cli.expose", "Let the anchor's ports lead to this host's."),
    "window": ("sojourn.cli.window", "See every flow in the browser, live, and say where it goes."),
    "log": ("sojourn.cli.log", "Show what happened to the networks, what was decided, and why."),
    "monitor": ("sojourn.cli.monitor", "Watch networks, applications, flows and moves on the terminal."),
    "metrics": ("sojourn.cli.metrics", "Print the figures that Prometheus reads."),
    "doctor": ("sojourn.cli.doctor", "Say what is missing on this machine, and how to mend it."),
    "bugreport": ("sojourn.cli.bugreport", "Gather what a developer needs to know, without secrets."),
    "cleanup": ("sojourn.cli.cleanup", "Remove all that a daemon that died has left: routes, rules, devices."),
    "lab": ("sojourn.cli.lab", "A small internet in network namespaces: demo and experiments."),
    "version": ("sojourn.cli.version", "Print the version."),
}
"""Name -> (module that has a click command of that name, one line of help)."""
GARBAGE_EVERY: Final = 50_000
"""New objects between two looks for cycles: by default a fifth of a start goes into looking at what is imported."""


class LazyGroup(click.Group):
    """Knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        try:
            command = getattr(importlib.import_module(module), cmd_name)
        except ModuleNotFoundError as error:
            remedy = "Install Sojourn with all its parts: `pip install sojourn`, or `make setup` in a checkout."
            raise click.ClickException(f"`sojourn {cmd_name}` cannot run: {error}. {remedy}") from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list for `--help` from the table, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", prog_name="sojourn")
@click.option("--socket", metavar="PATH", help="Control socket of the daemon to talk to (or SOJOURN_SOCKET).")
@click.pass_context
def sojourn(context: click.Context, socket: str | None) -> None:
    """Keep every TCP and UDP flow of this computer alive while it changes networks."""
    context.obj = {"socket": socket}


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    gc.set_threshold(GARBAGE_EVERY)
    try:
        result = sojourn.main(prog_name="sojourn", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        sys.stdout.flush()
    except click.ClickException as error:
        _complain(_usage_sentence(error))
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except SojournError as error:
        _complain(sentence(error))
        code = exit_code(error)
    except BrokenPipeError:  # `sojourn log | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:  # no permission for a file, a full disk, a name too long
        denied = isinstance(error, PermissionError)
        what, fix = error.filename or "the output cannot be written", "Run it as root." if denied else ""
        _complain(f"{what}: {(error.strerror or str(error)).lower()}. {fix}")
        if error.filename is None:  # what is left of it is not tried again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 4 if denied else 1
    sys.exit(code)


def _usage_sentence(error: click.ClickException) -> str:
    text = error.format_message().rstrip(".") + "."
    if isinstance(error, click.UsageError) and error.ctx is not None:
        text += f" See `{error.ctx.command_path} --help`."
    return text


def _complain(text: str) -> None:
    from sojourn.cli.output import cell

    print(f"sojourn: {cell(' '.join(text.split()))}", file=sys.stderr)
