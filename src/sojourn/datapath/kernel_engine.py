"""An engine with the kernel path beside it: it starts the path where plain tunnels may be, and takes what that leaves.

    python    datapath/engine.py alone
    kernel    plain tunnels by BPF programs, everything else by the engine

Where the programs cannot be had, the engine carries plain tunnels as well, and one line says why.

Sockets of plain tunnels have no UDP_GRO: the kernel would join datagrams before the programs see them, and a
super-packet that a neighbour's kernel path made is cut right only by a socket without it.
"""

import contextlib
import socket
from collections.abc import Sequence
from typing import Final

from sojourn.datapath import kernel_objects
from sojourn.datapath.engine import Engine
from sojourn.datapath.kernel import KernelPath, Way
from sojourn.datapath.kernel_links import Links
from sojourn.datapath.kernel_tables import KernelTables
from sojourn.datapath.loop import Timed
from sojourn.errors import NotSupported
from sojourn.linux.route_to import RouteTo, route_to
from sojourn.linux.udp import SOL_UDP, UDP_GRO, UdpSocket
from sojourn.model import Endpoint, TunnelId
from sojourn.upmt.commands import (
    AddAssociation,
    AnyCommand,
    CloseTunnel,
    OpenTunnel,
    RemoveAssociation,
    Report,
    Setup,
    Snapshot,
)
from sojourn.upmt.tunnel import Tunnel

_IP_PKTINFO: Final = 8
_ROUTE_FOR: Final = 5.0
"""Seconds for which the way to a tunnel's other end is believed."""
_NO_CHECK6_TX, _NO_CHECK6_RX = 101, 102
"""UDP_NO_CHECK6_TX, UDP_NO_CHECK6_RX (linux/udp.h)."""


class _TimedPath:
    """The deadlines of a forwarder and of its kernel path: what was carried is told before it is judged."""

    def __init__(self, engine: "KernelEngine", timed: Timed) -> None:
        self._engine = engine
        self._timed = timed

    def deadline(self) -> float | None:
        """When `tick` is wanted next. Asked before each wait: what the turn has changed is written down first."""
        due, kernel = self._timed.deadline(), self._engine.kernel
        if kernel is None:
            return due
        self._engine.flush()
        return kernel.deadline() if due is None else min(due, kernel.deadline())

    def tick(self, now: float) -> None:
        """Do what is due."""
        kernel = self._engine.kernel
        if kernel is None:
            self._timed.tick(now)
            return
        kernel.tick(now)
        self._timed.tick(now)

    def clock_jumped(self, gap: float, now: float) -> None:
        """Forgive `gap` seconds in which the process did not run."""
        self._timed.clock_jumped(gap, now)


class KernelEngine(Engine):
    """An `Engine` whose plain tunnels are the kernel's, where that can be."""

    kernel: KernelPath | None = None
    why_not = "no plain tunnels"
    """Why the kernel path does not serve."""

    def _timed(self) -> Timed:
        self._apart = False
        """Listening sockets have no UDP_GRO now."""
        self._interfaces: dict[TunnelId, str] = {}
        self._routes: dict[TunnelId, tuple[float, Endpoint, RouteTo | None]] = {}
        return _TimedPath(self, super()._timed())

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Carry out orders, now, and have them in the kernel when this returns."""
        for command in commands:
            kernel = self.kernel
            if kernel is not None:
                if isinstance(command, Report | Snapshot):
                    kernel.report(self._clock())
                kernel.touch(self._concerned(command))
            super().submit([command])
            if isinstance(command, Setup) and command.plain:
                for sock in self.outlets.listening:
                    if sock.six:
                        sock.socket.setsockopt(SOL_UDP, _NO_CHECK6_RX, int(command.zero_checksum6))
                self._start(command)
                self.forwarder.served_by["kernel"] = self.why_not
            self.flush()

    def _concerned(self, command: AnyCommand) -> set[TunnelId]:
        """Return the tunnels that an order may open, move or end. What else changes one tells (`Ends.changed`)."""
        forwarder = self.forwarder
        match command:
            case OpenTunnel():
                there = forwarder.plain_by_source.get(command.remote)  # it has to go from there
                return {command.tunnel, *([there.id] if there is not None else [])}
            case CloseTunnel():
                return {command.tunnel}
            case AddAssociation() | RemoveAssociation() if command.association in forwarder.associations:
                return set(forwarder.associations[command.association].tunnels)
        return set()

    def close(self) -> None:
        """Close every descriptor, and take the programs out."""
        if self.kernel is not None:
            self.kernel.close()
            self.kernel = None
        super().close()

    def _start(self, setup: Setup) -> None:
        """Start the kernel path, or say why it does not serve."""
        if self.kernel is not None or self.tun is None:
            return
        if setup.without_kernel:
            self._refuse(setup.without_kernel)
            return
        try:
            fds = kernel_objects.obtain(self.descriptors, setup.role)
            name = kernel_objects.prefix(setup.role)
            links = Links(fds, self.descriptors, name, tcx=self.features.tcx, say=self._say)
            device = socket.if_nametoindex(setup.device)
            links.leave(device)
            if self.features.gro:
                links.join(device)
            most = kernel_objects.MOST_ROWS[setup.role], kernel_objects.MOST_TUNNELS[setup.role]
            tables = KernelTables(fds, *most)
            self.kernel = KernelPath(
                self.forwarder, tables, links, self._way, device, self._clock(), zero_checksum6=setup.zero_checksum6
            )
        except (OSError, NotSupported) as error:
            self._refuse(kernel_objects.why_not(error))
            return
        self.why_not = ""
        self._loop.watch(tables.ring.fd, self._on_wake)

    def _refuse(self, why: str) -> None:
        if why != self.why_not:
            self._say("warning", f"plain tunnels are carried by the engine, not by the kernel: {why}")
        self.why_not = why

    def flush(self) -> None:
        """Write down what has changed, for the programs."""
        kernel = self.kernel
        if kernel is None:
            return
        kernel.flush()
        carries = kernel.tunnels > 0
        if carries is not self._apart and self.forwarder.is_anchor:
            self._apart = carries
            for sock in self.outlets.listening:
                self._join_datagrams(sock, not carries)

    def _on_wake(self) -> None:
        if self.kernel is not None:
            self.kernel.wake(self._clock())

    def _on_tun(self) -> None:
        super()._on_tun()
        if self.kernel is not None:
            self.kernel.rows.recheck()

    def _on_core(self) -> None:
        if self.kernel is not None:
            self.kernel.sync(self._clock())
        super()._on_core()  # type: ignore[misc]  # of core_engine.CoreEngine, with which alone this is called
        if self.kernel is not None:
            self.kernel.rows.recheck()

    def _on_udp(self, sock: UdpSocket, tunnel: TunnelId | None) -> None:
        if self.kernel is not None:
            self.kernel.sync(self._clock())  # control frames carry counts
        super()._on_udp(sock, tunnel)

    # Sockets.

    def open_socket(self, command: OpenTunnel) -> None:
        """Open a tunnel's socket, in place of the one that it had."""
        super().open_socket(command)
        self._interfaces[command.tunnel] = command.interface
        sock, setup = self.outlets.of_tunnel.get(command.tunnel), self.forwarder.setup
        if sock is not None and self.kernel is not None and not command.sealed:
            self._join_datagrams(sock, False)
            if setup is not None and setup.zero_checksum6 and sock.six:
                sock.socket.setsockopt(SOL_UDP, _NO_CHECK6_RX, 1)
                sock.socket.setsockopt(SOL_UDP, _NO_CHECK6_TX, 1)  # so that the anchor sees that we take such, too

    def _join_datagrams(self, sock: UdpSocket, wanted: bool) -> None:
        sock.socket.setsockopt(SOL_UDP, UDP_GRO, int(wanted and self.features.gro))

    def _way(self, tunnel: Tunnel) -> Way | None:
        """Say how a tunnel's packets leave (kernel.py)."""
        outer = tunnel.outer
        if outer is None or outer.address.startswith("fe80:"):
            return None
        if self.forwarder.is_anchor:
            return self._way_of_anchor(tunnel, outer)
        sock, interface = self.outlets.of_tunnel.get(tunnel.id), self._interfaces.get(tunnel.id, "")
        with contextlib.suppress(OSError):
            if sock is not None:
                return Way(socket.if_nametoindex(interface), sock.local)
        return None

    def _way_of_anchor(self, tunnel: Tunnel, outer: Endpoint) -> Way | None:
        outlet = self.outlets.find(tunnel.id, outer)
        if outlet is None:
            return None
        local = "" if outlet.socket.wildcard else outlet.socket.local.address
        if outlet.via is not None:
            _, kind, data = outlet.via
            local = socket.inet_ntop(*((socket.AF_INET, data[4:8]) if kind == _IP_PKTINFO else
                                       (socket.AF_INET6, data[:16])))  # fmt: skip
        now, known = self._clock(), self._routes.get(tunnel.id)
        if known is None or now > known[0] or known[1] != Endpoint(local, outer.port) or known[2] is None:
            known = self._routes[tunnel.id] = (now + _ROUTE_FOR, Endpoint(local, outer.port),
                                               route_to(outer.address, local))  # fmt: skip
        route = known[2]
        if route is None:
            return None
        return Way(route.interface, Endpoint(route.source, outlet.socket.local.port))


def with_kernel_path(engine: type[Engine]) -> type[Engine]:
    """Return an engine of that kind with the kernel path beside it."""
    if engine is Engine:
        return KernelEngine
    return type(f"Kernel{engine.__name__}", (KernelEngine, engine), {})
