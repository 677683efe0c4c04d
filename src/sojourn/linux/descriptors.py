"""The TUN device and UDP sockets of a data path, by name, so that they outlive the process that opened them.

Control and the data-path process each hold them (DESIGN §2). An engine does three things:

    fd = descriptors.take(name)      # handed over by a predecessor? the engine's own from now on
    if fd is None: fd = open...; descriptors.hold(name, fd)
    descriptors.release(name); close(fd)

A name says everything that must be equal for the descriptor to be usable, the address and
interface of a socket included: a tunnel that has moved gets a new name and a new socket.
"""

import array
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from sojourn.errors import RemoteProtocolError
from sojourn.linux.pins import Pins
from sojourn.model import Endpoint
from sojourn.upmt.commands import OpenTunnel
from sojourn.upmt.peer_commands import OpenRendezvous

MAX_QUEUED: Final = 253
"""Descriptors received and not yet claimed by a message (the kernel's SCM_MAX_FD)."""


def tun_name(device: str) -> str:
    """Name the TUN device `device`."""
    return f"tun/{device}"


def queue_name(device: str, number: int) -> str:
    """Name a further queue of the TUN device `device`, from 1 on."""
    return f"tun/{device}/{number}"


def tunnel_name(command: OpenTunnel) -> str:
    """Name the UDP socket of one tunnel over one network."""
    return f"tunnel/{command.tunnel:06x}/{command.interface}/{command.local.address}/{command.local.port}"


def rendezvous_name(command: OpenRendezvous) -> str:
    """Name the UDP socket for peers over one network."""
    return f"rendezvous/{command.network}/{command.interface}/{command.local.address}/{command.local.port}"


def listen_name(endpoint: Endpoint) -> str:
    """Name the UDP socket on which an anchor's tunnels arrive at `endpoint`."""
    return f"listen/{endpoint.address}/{endpoint.port}"


class Descriptors:
    """What an engine was given and what it holds. The engine owns the numbers; this only knows them."""

    def __init__(
        self,
        given: Mapping[str, int] | None = None,
        *,
        on_hold: Callable[[str, int], None] | None = None,
        on_release: Callable[[str], None] | None = None,
    ) -> None:
        self.given: dict[str, int] = dict(given or {})
        """Of a predecessor, not yet taken."""
        self.held: dict[str, int] = {}
        """In use by the engine."""
        self._on_hold = on_hold
        self._on_release = on_release

    def give(self, name: str, fd: int) -> None:
        """Put a predecessor's descriptor ready for `take`."""
        previous = self.given.pop(name, None)
        if previous is not None:
            os.close(previous)
        self.given[name] = fd

    def take(self, name: str) -> int | None:
        """Return the descriptor of this name, which is the caller's from now on, or None: open one then."""
        fd = self.given.pop(name, None)
        if fd is not None:
            self.held[name] = fd
            # Whoever gave it holds its copy; only another control, later, asks for one.
        return fd

    def hold(self, name: str, fd: int) -> None:
        """Note a descriptor that the caller has opened and goes on owning."""
        self.held[name] = fd
        if self._on_hold is not None:
            self._on_hold(name, fd)

    def release(self, name: str) -> None:
        """Note that the caller is about to close what has this name. Unknown names are harmless."""
        if self.held.pop(name, None) is not None and self._on_release is not None:
            self._on_release(name)

    def drop_given(self) -> list[str]:
        """Close what nobody has taken, and return its names."""
        names = list(self.given)
        for fd in self.given.values():
            with contextlib.suppress(OSError):
                os.close(fd)
        self.given.clear()
        return names


class HeldDescriptors:
    """Copies that control keeps for a data path's successor; what can be pinned is also there for its own."""

    def __init__(self) -> None:
        self.by_name: dict[str, int] = {}
        self._pins: Pins | None = None

    def pin(self, pins: Pins) -> None:
        """Pin what is held, and what will be."""
        self._pins = pins
        for name, fd in self.by_name.items():
            pins.keep(name, fd)

    def keep(self, name: str, fd: int) -> None:
        """Keep `fd`, which is ours from now on, in the place of what had this name."""
        self._close(name)
        self.by_name[name] = fd
        if self._pins is not None:
            self._pins.keep(name, fd)

    def drop(self, name: str) -> None:
        """Close what has this name, if anything has."""
        if self._close(name) and self._pins is not None:
            self._pins.drop(name)

    def close(self, *, leave_pins: bool) -> None:
        """Close all. `leave_pins`: somebody else goes on with what is pinned."""
        for name in list(self.by_name):
            self._close(name)
        pins, self._pins = self._pins, None
        if pins is not None and not leave_pins:
            pins.remove()

    def _close(self, name: str) -> bool:
        fd = self.by_name.pop(name, None)
        if fd is None:
            return False
        os.close(fd)
        return True


class DescriptorQueue:
    """Descriptors as they came in by SCM_RIGHTS, waiting for the messages that name them."""

    def __init__(self) -> None:
        self._waiting: deque[int] = deque()

    def receive(self, connection: socket.socket, max_bytes: int) -> bytes:
        """Read once from a connection (recvmsg) and keep the descriptors that come along; b"" at its end."""
        space = socket.CMSG_SPACE(MAX_QUEUED * array.array("i").itemsize)
        data, ancillary, flags, _ = connection.recvmsg(max_bytes, space, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                self._waiting.extend(fds)
        if flags & socket.MSG_CTRUNC or len(self._waiting) > MAX_QUEUED:
            self.close()
            raise RemoteProtocolError("more descriptors than were announced", reason="datapath")
        return data

    def claim(self) -> int:
        """Return the descriptor that belongs to the next message that names one."""
        if not self._waiting:
            raise RemoteProtocolError("a descriptor was announced and did not come", reason="datapath")
        return self._waiting.popleft()

    def close(self) -> None:
        """Close what nobody has claimed."""
        while self._waiting:
            with contextlib.suppress(OSError):
                os.close(self._waiting.popleft())


def send_with(connection: socket.socket, data: bytes | memoryview, fd: int) -> int:
    """Send `data` with one descriptor beside its first byte; return how many bytes went (sendmsg)."""
    rights = array.array("i", [fd])
    return connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
