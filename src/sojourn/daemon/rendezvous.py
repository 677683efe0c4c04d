"""`sojourn rendezvous`: a rendezvous node wired to UDP sockets, one timer and a control socket.

One process, one thread. Sockets are read up to `BATCH` datagrams a wake-up, so that the control socket and expiring
triggers have their turn under any load. Whatever the node returns is sent at once, by the one socket of its family:
that is the address by which hosts, and the NATs before them, know this node.
"""

import asyncio
import errno
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import structlog

from sojourn.api.server import Arguments, Peer, Server
from sojourn.control.rendezvous_config import RendezvousConfig, written
from sojourn.daemon.anchor_metrics import NodeMeter
from sojourn.daemon.driver import Tasks, now
from sojourn.daemon.ending import Ending
from sojourn.daemon.metering import meter
from sojourn.errors import ConfigError
from sojourn.i3.forwarding import Send
from sojourn.i3.node import RendezvousNode
from sojourn.i3.node_shared import SharedNode
from sojourn.i3.shares import Rates
from sojourn.linux.datagrams import Address, DatagramSocket, runs

if TYPE_CHECKING:
    from sojourn.daemon.rendezvous_store import SharedTriggers

BATCH = 64
TICK_AT_MOST = 0.002
"""Seconds between two slices of triggers to be looked at, when more are due."""


class RendezvousDaemon:
    """One node. `run` returns the exit code."""

    def __init__(self, config: RendezvousConfig, socket_path: str) -> None:
        self.config = config
        rates = Rates(config.packets_per_sender, config.requests_per_sender)
        self.ending = Ending()
        self._tasks = Tasks(self.ending.fail)
        self._shared: SharedTriggers | None = None
        if config.store:
            shared = SharedNode(os.urandom(32), config.known_as, rates, config.triggers)
            self.node: RendezvousNode = shared
            self._shared = self._to_store(shared)
        else:
            self.node = RendezvousNode(os.urandom(32), config.known_as, rates, config.triggers)
        self._server = Server(socket_path, {"role": "rendezvous"})
        self._sockets: dict[bool, DatagramSocket] = {}
        """One of each family: True = IPv6."""
        self._timer: asyncio.TimerHandle | None = None
        self._started = now()

    def _to_store(self, node: SharedNode) -> "SharedTriggers":
        from sojourn.daemon.rendezvous_store import SharedTriggers  # a node that is alone needs none of it

        return SharedTriggers(node, self.config.store, self.config.store_prefix, self._send_all, self._tasks)

    async def run(self) -> int:
        """Work until told to end."""
        self.ending.listen()
        self._server.register("status", self._status)
        meter(self._server, self._tasks, self.config.metrics, NodeMeter(self))
        await self._server.start()
        try:
            if self._shared is not None:
                await self._shared.start()
            self._listen()
            sys.stderr.write("sojourn rendezvous: ready\n")
            await self.ending.wait()
        finally:
            await self._close()
        if self.ending.failed is not None:
            raise self.ending.failed
        return 0

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for place in self.config.listening:
            try:
                opened = DatagramSocket(place)
            except OSError as error:
                why = f"{written(place)} cannot be bound ({error.strerror})"
                fix = "`ss -lnup` shows who has the port."
                if error.errno == errno.EADDRNOTAVAIL:
                    fix = "Name an address of this machine, and with `address` the one that hosts send to."
                raise ConfigError("listen", why, fix) from error
            self._sockets[opened.six] = opened
            loop.add_reader(opened.socket, self._readable, opened)

    async def _close(self) -> None:
        for opened in self._sockets.values():
            asyncio.get_running_loop().remove_reader(opened.socket)
            opened.close()
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.close()
        if self._shared is not None:
            await self._shared.close()
        await self._server.close()

    # -- datagrams

    def _readable(self, opened: DatagramSocket) -> None:
        handle, at = self.node.handle, now()
        left = BATCH
        while left > 0 and (received := opened.receive()) is not None:
            datagrams, source = received
            left -= len(datagrams)
            if len(datagrams) == 1:
                for datagram, destination in handle(datagrams[0], source, at):
                    self._send(datagram, destination)
            else:
                self._send_all([send for each in datagrams for send in handle(each, source, at)])
        if self._shared is not None:
            self._shared.carry_out()
        if self._timer is None:
            self._arm()

    def _send_all(self, sends: list[Send]) -> None:
        for run, destination in runs(sends):
            by = self._sockets.get(":" in destination[0])
            for why in ("no-socket",) * len(run) if by is None else by.send_run(run, destination):
                self.node.refused[f"not-sent-{why}"] += 1

    def _send(self, datagram: bytes, destination: Address) -> None:
        by = self._sockets.get(":" in destination[0])
        why = "no-socket" if by is None else by.send(datagram, destination)
        if why is not None:
            self.node.refused[f"not-sent-{why}"] += 1

    # -- time

    def _arm(self) -> None:
        due = self.node.deadline()
        if due is not None:
            wait = max(due - now(), TICK_AT_MOST)
            self._timer = asyncio.get_running_loop().call_later(wait, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.node.tick(now())
        self._arm()

    # -- the control socket

    async def _status(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        node = self.node
        return {
            "version": 1,
            "state": "running",
            "role": "rendezvous",
            "listen": [written(opened.local) for opened in self._sockets.values()],
            "address": sorted(map(written, self.config.known_as)),
            "uptime_s": round(now() - self._started, 1),
            "triggers": node.triggers,
            "triggers_max": self.config.triggers,
            "senders": len(node.shares),
            "totals": node.totals,
            "refused": dict(sorted(node.refused.items())),
            **({"store": self._store(self._shared)} if self._shared is not None else {}),
        }

    def _store(self, shared: "SharedTriggers") -> dict[str, Any]:
        servers = shared.store.servers
        return {
            "servers": [
                {"address": name, "state": "up" if why is None else "down", "reason": why}
                for name, why in sorted(servers.items())
            ],
            "refused": dict(sorted(shared.store.refused.items())),
            "places_cached": shared.node.table.places,
            "nodes": sorted(shared.node.nodes),
        }


def run(config: RendezvousConfig, socket_path: str) -> int:
    """Run a node in the foreground until it is told to end; return the exit code."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)

    async def main() -> int:
        return await RendezvousDaemon(config, socket_path).run()

    return asyncio.run(main())
