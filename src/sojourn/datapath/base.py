"""The data-path interface: one vocabulary of commands and events for every data path.

Control (a mobile host or an anchor) says what should be (upmt/commands.py); the data path
moves packets and tells what it saw (upmt/events.py). The same structs cross a function call
(memory.py) or a Unix socket (process.py), so whatever is behind this file can be swapped:
the fake, the Python engine, the C core, the kernel path.

A data path is complete without control for a while: it answers probes, follows NAT
rebinding, steps epochs, keeps pinholes open and forwards by its table.
"""

from collections.abc import Sequence
from typing import Protocol

from sojourn.upmt.commands import AnyCommand


class DataPath(Protocol):
    """What control holds. Events come back through whatever callback the data path was built with."""

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Hand over orders; they take effect in this order, each between two packets."""
        ...
