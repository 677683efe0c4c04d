"""What a mobile host must remember over its own death: its secret, its place in the order of moves, its slots."""

import asyncio
import os
import time
from pathlib import Path

import msgspec
import structlog

from sojourn.control.config import Credentials
from sojourn.errors import ConfigError
from sojourn.linux.failures import explained
from sojourn.store.config_dir import ConfigDir
from sojourn.upmt.host_events import HostState

CREDENTIALS_AGAIN = 10.0
"""Seconds after which a secret that could not be stored is written again."""

_log = structlog.get_logger(__name__)


class HostMemory:
    """Files of one configuration directory. A disk that is full costs what is in them, never the daemon."""

    def __init__(self, directory: ConfigDir, *, with_anchor: bool) -> None:
        """Read the secret, which only an anchor asks for. Raises ConfigError where there is none."""
        self._directory = directory
        self.credentials = directory.read_credentials() if with_anchor else Credentials("no anchor")
        self._state: Path = directory.path / "host.state"

    def read_state(self) -> HostState:
        """Return what the predecessor has left."""
        try:
            return msgspec.json.decode(self._state.read_bytes(), type=HostState)
        except (OSError, msgspec.DecodeError):
            # Move numbers must be above all that this host has used before its memory was lost.
            return HostState(move=int(time.time()))  # noqa: TID251

    def write_state(self, state: HostState) -> None:
        """Store what a successor goes on from; without it, it goes on from what the anchor knows (Lease.move)."""
        temporary = self._state.with_suffix(".new")
        try:
            temporary.write_bytes(msgspec.json.encode(state))
            os.replace(temporary, self._state)
        except OSError as error:
            _log.error("not stored", what=str(self._state), error=str(explained(error)))

    def issued(self, secret: str) -> None:
        """Keep the secret that the anchor has given us in exchange for the token's."""
        self.credentials = msgspec.structs.replace(self.credentials, secret=secret, one_time=False)
        self._write_credentials()

    def _write_credentials(self) -> None:
        """Store our secret: nobody else knows it, so that this is tried until it succeeds."""
        try:
            self._directory.write_credentials(self.credentials)
        except ConfigError as error:
            need = "the anchor knows this host by it from now on: make room before this daemon ends"
            _log.error("not stored", error=str(error), need=need)
            asyncio.get_running_loop().call_later(CREDENTIALS_AGAIN, self._write_credentials)
