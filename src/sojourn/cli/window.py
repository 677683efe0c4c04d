"""`sojourn window`: the local web page that shows every flow, and moves it."""

import click

from sojourn.api.messages import ANCHOR_SOCKET, HOST_SOCKET
from sojourn.cli.options import client, socket_option, socket_path


@click.command()
@click.option("--anchor", is_flag=True, help="The anchor's window, for its administrator.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), metavar="PORT",
              help="On 127.0.0.1; default: a free one.")  # fmt: skip
@click.option("--no-browser", is_flag=True, help="Print the address instead of opening it. It holds a secret.")
@click.option("--no-notices", is_flag=True, help="No desktop notifications of questions.")
@socket_option
def window(anchor: bool, port: int, no_browser: bool, no_notices: bool, socket: str | None) -> int:
    """Show this computer's networks and flows in the browser, live, and steer them.

    It runs until Ctrl-C, as a process without rights of its own; the page is served on 127.0.0.1 to whoever knows
    the secret in its address, which is another one each time.
    """
    path = socket_path(socket, ANCHOR_SOCKET if anchor else HOST_SOCKET)
    role = client(path).call("about")["role"]  # before anything else: is somebody there, and may we ask?
    from sojourn.window.server import run

    return run(path, port, browser=not no_browser, notices=not no_notices and role == "host")
