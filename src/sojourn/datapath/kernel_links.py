"""Where the programs of the kernel path are attached: the TUN's way out, both ways of networks' interfaces.

By tcx links, whose descriptors control holds, too: the death of one process changes nothing, and with both they end.
Where the kernel has no tcx, by filters, which `close` and `sojourn cleanup` remove.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Collection, Mapping
from typing import Final

from sojourn.linux import joiner
from sojourn.linux.bpf_tc import attach_filter, attach_tcx, detach_filter, has_ethernet_header
from sojourn.linux.descriptors import Descriptors

_NO_TCX: Final = frozenset((errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS))


class Links:
    """The attachments of one data path. Methods raise OSError when the kernel refuses."""

    def __init__(
        self,
        programs: Mapping[str, int],
        descriptors: Descriptors,
        prefix: str,
        *,
        tcx: bool = True,
        say: Callable[[str, str], None] = lambda _level, _text: None,
    ) -> None:
        """`prefix`: what the names of held descriptors begin with; `tcx`: links may be used."""
        self._programs = programs
        self._descriptors = descriptors
        self._prefix = prefix
        self._say = say
        self.tcx = tcx
        self._links: dict[tuple[int, bool], int | None] = {}
        """By interface and direction (True: egress); None = a filter."""
        self.joiner: tuple[int, bytes] = (0, b"")
        """Of the pair of interfaces that joins TCP packets, the first's index and the second's address; 0 = none."""
        self._joins_for = ""
        self._joined = 0
        self._device = 0

    def leave(self, device: int) -> None:
        """Take what leaves by the capturing device, the TUN, of index `device`."""
        self._device = device
        self._attach(self._programs[f"leave_{_form(device)}"], device, egress=True)

    def arrive(self, interface: int) -> None:
        """Take what arrives on an interface, and see by which hardware addresses packets leave there."""
        form = _form(interface)
        self._attach(self._programs[f"arrive_{form}"], interface, egress=False)
        if form == "ethernet":
            self._attach(self._programs["depart_ethernet"], interface, egress=True)

    def join(self, device: int) -> None:
        """Have the TCP packets of the capturing device joined. Where that cannot be, they go on singly."""
        name = socket.if_indextoname(device)
        try:
            into, self._joined, address = joiner.create(name)
            self._attach(self._programs["joined_ethernet"], self._joined, egress=False)
        except OSError as error:
            self._say("info", f"packets of plain tunnels are not joined: {error.strerror or error}")
            return
        self.joiner, self._joins_for = (into, address), name

    def keep(self, interfaces: Collection[int]) -> None:
        """Leave other networks' interfaces than these alone."""
        for interface, egress in list(self._links):
            if interface not in interfaces and interface not in (self._device, self._joined):
                self._detach(interface, egress=egress)

    def close(self) -> None:
        """Leave nothing attached."""
        for interface, egress in list(self._links):
            self._detach(interface, egress=egress)
        if self._joins_for:
            with contextlib.suppress(OSError):
                joiner.remove(self._joins_for)

    def _attach(self, program: int, interface: int, *, egress: bool) -> None:
        place = interface, egress
        if place in self._links:
            return
        name = self._name(interface, egress)
        link = self._descriptors.take(name)
        if link is None and self.tcx:
            try:
                link = attach_tcx(program, interface, egress=egress)
            except OSError as error:
                if error.errno not in _NO_TCX:
                    raise
                self.tcx = False
            else:
                self._descriptors.hold(name, link)
        if link is None:
            attach_filter(program, interface, egress=egress)
        self._links[place] = link

    def _detach(self, interface: int, *, egress: bool) -> None:
        link = self._links.pop((interface, egress))
        if link is not None:
            self._descriptors.release(self._name(interface, egress))
            os.close(link)
        else:
            with contextlib.suppress(OSError):  # the interface has gone, and the filter with it
                detach_filter(interface, egress=egress)

    def _name(self, interface: int, egress: bool) -> str:
        return f"{self._prefix}/{'egress' if egress else 'ingress'}/{interface}"


def _form(interface: int) -> str:
    return "ethernet" if has_ethernet_header(socket.if_indextoname(interface)) else "bare"
