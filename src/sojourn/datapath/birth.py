"""How a data-path process comes to be: its command line, its wait as a spare, its last words when it cannot start."""

import argparse
import contextlib
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from sojourn.datapath.outbox import Outbox
from sojourn.datapath.wire import Said
from sojourn.errors import SojournError
from sojourn.linux.failures import explained

ALONE: Final = 60.0
"""Seconds for which a data path goes on without control."""


class Options(Struct, frozen=True):
    """The command line."""

    socket: Path
    epochs: Path | None = None
    control: int | None = None
    alone: float = ALONE


def parse_arguments(arguments: Sequence[str] | None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="sojourn.datapath.process", description="The data path of Sojourn.")
    parser.add_argument("--socket", type=Path, required=True, help="private Unix socket for control")
    parser.add_argument("--epochs", type=Path, help="file of used epochs")
    parser.add_argument("--control", type=int, help="descriptor of a connection to the control that starts us")
    parser.add_argument("--alone", type=float, default=ALONE, help="seconds to go on without control")
    given = parser.parse_args(arguments)
    return Options(given.socket, given.epochs, given.control, given.alone)


def wait_for_begin(control: socket.socket) -> bool:
    """Wait, as a spare, until control speaks; say whether it did before it went."""
    with contextlib.suppress(ConnectionResetError):
        return control.recv(1, socket.MSG_PEEK) != b""
    return False


def complain(control: socket.socket | None, error: SojournError | OSError) -> None:
    """Tell control why the process ends, or whoever reads its standard error where no control listens."""
    text = str(explained(error) if isinstance(error, OSError) else error)
    if control is None or control.fileno() < 0:
        sys.stderr.write(f"sojourn data path: {text}\n")
        return
    outbox = Outbox()
    outbox.put(Said("error", text))
    with contextlib.suppress(OSError):
        outbox.flush(control)
