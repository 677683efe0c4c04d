"""The past of a mobile host: samples of each network, data used per application, older entries of the log.

verb         arguments                       result
history      from, until, points, network    object: columns by network (store/history.py)
usage        months                          object: rows of month, application, network
log_before   before, limit                   object: entries
"""

import asyncio
import contextlib
import datetime
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.api.server import Arguments, Peer, Server
from sojourn.control.app_usage import AppUsage, Carried, Used
from sojourn.daemon.driver import Tasks, now
from sojourn.errors import ConfigError
from sojourn.model import TunnelId
from sojourn.policy.names import application_name
from sojourn.store import config_dir
from sojourn.store.history import SAMPLE_SECONDS, History, Sample
from sojourn.upmt.events import AnyEvent, FlowEnded, FlowsMoved, State
from sojourn.upmt.mobile_host import HostNetwork
from sojourn.upmt.peer_commands import HOME, PEERS
from sojourn.upmt.peer_events import RendezvousMoved

if TYPE_CHECKING:
    from sojourn.daemon.host import HostDaemon

WRITE_EVERY: Final = 6
"""Samples of each network that are written together: a laptop's disk may sleep."""
LOOK_EVERY: Final = 30.0
"""Seconds between two looks at the counters of all flows, and no less than..."""
SPARING: Final = 200.0
"""...so many times what one look takes."""
MOVES_EVERY: Final = 1.0
"""Seconds between two looks of which a move is the reason, and no less than..."""
SPARING_MOVES: Final = 20.0
"""...so many times what one look takes."""
MAX_LOG: Final = 1000
HOUR: Final = 3600

_log = structlog.get_logger(__name__)


class HostPast:
    """Samples while the daemon runs; `close` writes down what is left."""

    def __init__(self, daemon: "HostDaemon", folder: Path) -> None:
        self._daemon = daemon
        self._history = History(folder / "host.history")
        self._writing = asyncio.Lock()
        self._pending: list[Sample] = []
        self._counters: dict[str, tuple[float, int | None, int, int]] = {}
        """By network: when, its tunnel, and that tunnel's counters at the last sample."""
        self._usage_file = folder / "host.apps"
        self._looked_at = self._saved_at = float("-inf")
        self._moved = asyncio.Event()
        self._usage = AppUsage(_stored(self._usage_file))

    def start(self, tasks: Tasks) -> None:
        """Begin."""
        if self._daemon.data_path is not None and self._daemon.data_path.adopted is None:
            self._usage.fresh()
        tasks.start(self._sample(), "history")
        tasks.start(self._look(), "usage of applications")

    def close(self) -> None:
        """Write down what is left."""
        self._history.add(self._pending)
        self._history.close()
        self._save()

    def see(self, event: AnyEvent) -> None:
        """Take in an event of the data path, before control does."""
        if isinstance(event, State):
            if now() - self._looked_at < LOOK_EVERY / 2:
                return
            self._looked_at, rows = now(), event.rows
            network = {row.tunnel: self._daemon.peers.network_of(row.tunnel) or "" for row in rows}
            carried = (
                Carried(row.flow, application_name(row.origin) or "", network[row.tunnel], row.bytes_in, row.bytes_out)
                for row in rows
            )
            self._usage.look(carried, _month())
        elif isinstance(event, FlowsMoved | RendezvousMoved):
            self._looked_at = float("-inf")
            self._moved.set()
        elif isinstance(event, FlowEnded) and (event.bytes_in or event.bytes_out):
            known = self._daemon.control.decide.flows.get(event.flow)
            name = application_name(known.origin) if known is not None else None
            place = self._place(event, known.network if known is not None else None)
            self._usage.ended(event.flow, event.bytes_in, event.bytes_out, name or "", place, _month())

    # -- verbs

    async def history(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Tell what was measured."""
        today = int(time.time())  # noqa: TID251 - people ask for times of day
        until = _number(arguments, "until", today)
        since, points = _number(arguments, "from", until - HOUR), _number(arguments, "points", 300)
        network = arguments.get("network")
        if until <= since or (network is not None and not isinstance(network, str)):
            raise ApiError("history: from is before until, network is a name", kind=ErrorKind.USAGE)
        await self._write()
        async with self._writing:
            told = await asyncio.to_thread(self._history.between, since, until, points, network)
        return {"version": 1, **told}

    async def usage(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Tell what applications have used."""
        months = _number(arguments, "months", 6)
        rows = [
            {**msgspec.to_builtins(one), "application": one.application or None, "network": one.network or None}
            for one in self._usage.rows(max(1, months))
        ]
        return {"version": 1, "month": _month(), "rows": rows}

    async def log_before(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Tell older entries of the roaming log."""
        before, limit = _number(arguments, "before", 1 << 62), _number(arguments, "limit", 200)
        entries = self._daemon.log.before(before, min(limit, MAX_LOG))
        return {"version": 1, "entries": [msgspec.to_builtins(entry) for entry in entries]}

    # -- what is kept

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            at, today = now(), int(time.time())  # noqa: TID251 - a date for people
            self._pending += [self._one(held.network.name, held.tunnel, at, today) for held in self._works()]
            present = {held.network.name for held in self._works()}
            self._counters = {name: counted for name, counted in self._counters.items() if name in present}
            if len(self._pending) >= WRITE_EVERY * max(1, len(present)):
                await self._write()

    def _works(self) -> list[HostNetwork]:
        return [held for held in self._daemon.control.host.networks.values() if held.state == "works"]

    def _one(self, name: str, tunnel: TunnelId | None, at: float, today: int) -> Sample:
        measured = self._daemon.measured.get(tunnel) if tunnel is not None else None
        if measured is None:
            return Sample(today, name, None, None, None, None, None)
        known = [loss for loss in self._daemon.control.decide.measures.of(name).loss(at) if loss is not None]
        since, before, came, went = self._counters.get(name, (at, None, 0, 0))
        self._counters[name] = (at, tunnel, measured.bytes_in, measured.bytes_out)
        in_bps = out_bps = None
        if before == tunnel and at > since and measured.bytes_in >= came and measured.bytes_out >= went:
            in_bps, out_bps = (
                (new - old) * 8 / (at - since) for new, old in ((measured.bytes_in, came), (measured.bytes_out, went))
            )
        rtt, jitter = measured.srtt, measured.jitter
        return Sample(
            today, name, None if rtt is None else rtt * 1000, max(known, default=None),
            None if jitter is None else jitter * 1000, in_bps, out_bps,
        )  # fmt: skip

    async def _write(self) -> None:
        async with self._writing:
            pending, self._pending = self._pending, []
            await asyncio.to_thread(self._history.add, pending)

    async def _look(self) -> None:
        """Have the counters of all flows told now and then, and after each move; `see` counts whatever is told."""
        while True:
            self._moved.clear()
            began, spent = time.thread_time(), 0.0
            if self._daemon.carries:
                try:
                    await self._daemon.inquiry.snapshot()
                except TimeoutError:
                    _log.debug("the data path is being replaced")
                spent = time.thread_time() - began
            if now() - self._saved_at >= LOOK_EVERY:
                self._saved_at = now()
                await asyncio.to_thread(self._save)
            await asyncio.sleep(max(MOVES_EVERY, SPARING_MOVES * spent))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), max(LOOK_EVERY, SPARING * spent))

    def _save(self) -> None:
        if not self._usage.changed:
            return
        try:
            config_dir.write(self._usage_file, msgspec.json.encode(self._usage.remembered()), private=True)
        except ConfigError as error:  # a full disk costs counting, never the daemon
            _log.warning("usage of applications not written", why=str(error))

    def _place(self, ended: FlowEnded, network: str | None) -> str:
        if ended.association == HOME:
            network = self._daemon.peers.network_of(PEERS)
        return network or ""


def register(server: Server, past: HostPast) -> None:
    """Let the server answer for this past."""
    for verb in ("history", "usage", "log_before"):
        server.register(verb, getattr(past, verb))


def _number(arguments: Arguments, name: str, default: int) -> int:
    value = arguments.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -(2**53) < value < 2**62 + 1:
        raise ApiError(f"{name} is no number", kind=ErrorKind.USAGE)
    return int(value)


def _month() -> str:
    return datetime.date.today().strftime("%Y-%m")


def _stored(file: Path) -> list[Used]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Used])
    except (OSError, msgspec.DecodeError):
        return []
