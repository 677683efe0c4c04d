"""Who makes the host's flows: the kernel's programs loaded or taken over, and what only control may look up.

    start       programs of a predecessor from the data path, or new ones; their descriptors lent to the data path
    device_up   the programs learn which device is ours
    unknown     the data path asks: which flatpak is that, or (without BPF) whose socket
    pin         `sojourn run --app NAME` names the process that asks
    rules       by which flows go direct

Where the kernel does not allow the programs, `why` says so, and what is told of flows is not exact.
"""

import asyncio
import os
import time
from collections.abc import Iterable

import structlog
from msgspec.structs import replace

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.api.server import Arguments, Peer, Server
from sojourn.daemon.driver import Tasks
from sojourn.datapath.client import DataPathClient
from sojourn.errors import RemoteProtocolError, SojournError
from sojourn.linux import cgroups, processes
from sojourn.linux.bpf_map import BpfMap
from sojourn.linux.bpf_ring import BpfRing
from sojourn.linux.direct import DirectRules
from sojourn.linux.owner_programs import (
    SEEN_BYTES,
    OwnerPrograms,
    digest_of,
    settings_for,
    why_not,
)
from sojourn.linux.owners import PIN_BYTES, OwnerMaps, number, pack_process, process_of, user_of
from sojourn.model import Origin
from sojourn.policy.rules import Rule
from sojourn.upmt.commands import DescribeOrigin

MOST_PINS = 4096
MOST_LOOKS = 16
"""Owners that are looked at, or wait for it; a flow that is not looked at goes by what is known of it."""
SEEN_PER_TURN = 64

_log = structlog.get_logger(__name__)


def register(server: Server, owners: "HostOwners") -> None:
    """Answer the verb `pin` (name): the process that asks, and all that it starts, is called so from now on."""

    async def pin(arguments: Arguments, peer: Peer) -> dict[str, object]:
        name = str(arguments.get("name", ""))
        exact = owners.pin(peer, name)
        return {"version": 1, "name": name, "pid": peer.pid, "exact": exact, "why": owners.why}

    server.register("pin", pin)


class HostOwners:
    """One host's. `close` leaves the programs to the data path, if that goes on."""

    def __init__(self, device: str, tasks: Tasks) -> None:
        self.why = "it has not been tried yet"
        """Why flows can't be told apart exactly; "" = they can."""
        self._device = device
        self._tasks = tasks
        self._data_path: DataPathClient | None = None
        self._programs: OwnerPrograms | None = None
        self._maps: OwnerMaps | None = None
        self._processes: BpfMap | None = None
        self._direct: DirectRules | None = None
        self._ring: BpfRing | None = None
        self._root: int | None = None
        self._told: tuple[tuple[Rule, ...], frozenset[str]] = (), frozenset()
        self._pins: dict[processes.Pinned, str] = {}
        """Without programs: what was pinned."""
        self._looking = 0
        self._numbered: dict[str, int] | None = None
        """The numbers of names given, the one given last at the end; None: not read from the programs' map yet."""
        self._numbers = processes.numbers_are_the_kernels()

    async def start(self, data_path: DataPathClient) -> None:
        """Take over a predecessor's programs, or load them. A kernel that does not let us is no error."""
        self._data_path = data_path
        try:
            self._root = cgroups.open_root()
            programs = OwnerPrograms.adopt(data_path.held, digest_of())
            if programs is None:
                programs = await asyncio.to_thread(OwnerPrograms.load, self._root)
                data_path.lend({name: os.dup(fd) for name, fd in programs.descriptors.items()})
            self._use(programs, self._root)
        except (SojournError, OSError) as error:
            self.why = why_not(error)
            _log.warning("applications are not known for certain", why=self.why)

    def _use(self, programs: OwnerPrograms, root: int) -> None:
        self._programs, self.why = programs, ""
        self._maps = OwnerMaps(programs.maps)
        self._processes = programs.map("processes")
        self._direct = DirectRules(programs, root)
        self._tell_settings()
        self._ring = BpfRing(programs.maps["seen"], SEEN_BYTES)
        asyncio.get_running_loop().add_reader(self._ring.fd, self._read_seen)

    def close(self) -> None:
        """Give up our descriptors."""
        if self._ring is not None:
            asyncio.get_running_loop().remove_reader(self._ring.fd)
            self._ring.close()
        if self._programs is not None:
            self._programs.close()
        if self._root is not None:
            os.close(self._root)
            self._root = None
        self._programs = self._maps = self._processes = self._direct = self._ring = None

    def device_up(self) -> None:
        """Tell the programs which device is ours: it is there now."""
        self._tell_settings()

    def rules(self, rules: Iterable[Rule], direct: Iterable[str]) -> None:
        """Take over all rules, in their order, and the labels of those by which flows go direct now."""
        now = tuple(rules), frozenset(direct)
        if self._direct is None or now == self._told:
            return
        self._told = now
        try:
            self._direct.set(*now)
        except OSError as error:
            _log.warning("rules by which flows go direct are not all in force", why=str(error))
        self._tell_settings()

    def _tell_settings(self) -> None:
        if self._programs is not None and self._direct is not None and self._root is not None:
            settings = settings_for(self._device, self._root)
            self._programs.tell(replace(settings, direct=int(self._direct.wanted)))

    # -- programs that use the network, while there are rules by which flows go direct

    def _read_seen(self) -> None:
        if self._ring is None or self._maps is None or self._direct is None:
            return
        for record in self._ring.read(SEEN_PER_TURN):
            try:
                self._direct.see(self._maps.origin(user_of(record)))
            except (OSError, RemoteProtocolError) as error:
                _log.warning("a program was not looked at", why=str(error))

    # -- questions of the data path

    def unknown(self, origin: Origin) -> None:
        """Find out what the data path may not, and tell it. A look may take long: all of /proc is read, at worst."""
        if self._looking < MOST_LOOKS:
            self._looking += 1
            self._tasks.start(self._look(origin), f"look at owner {origin.owner}")

    async def _look(self, origin: Origin) -> None:
        try:
            found = await asyncio.to_thread(self._looked_at, origin)
        finally:
            self._looking -= 1
        if self._data_path is not None:
            self._data_path.submit([DescribeOrigin(found)])

    def _looked_at(self, origin: Origin) -> Origin:
        if origin.owner < 0:  # a socket, by its inode
            pid = processes.holder_of(-origin.owner)
            return origin if pid is None else processes.describe(origin, pid, self._pins)
        programs = self._programs
        if programs is None:
            return origin
        maps = OwnerMaps(programs.maps)  # not the loop's own: this is another thread
        executable, script = maps.program(origin.owner)
        name = self._flatpak(programs, origin) if self._numbers else ""
        return replace(origin, executable=executable, script=script, name=name or origin.name)

    @staticmethod
    def _flatpak(programs: OwnerPrograms, origin: Origin) -> str:
        """Read a flatpak's id, and make sure that it was this execution's: its process has its number all the while."""
        held = programs.map("processes")
        name = processes.flatpak_name(origin.pid)
        record = held.look_up(origin.pid.to_bytes(4, "little"))
        return name if record is not None and process_of(record)[0] == origin.owner else ""

    # -- names given

    def pin(self, peer: Peer, name: str) -> bool:
        """Call the process that asks, and all that it will start, by a name; say whether that is certain."""
        if not name or len(name.encode()) >= PIN_BYTES or not name.isprintable():
            raise ApiError(f"{name[:80]!r} can't be a name", f"1 to {PIN_BYTES - 1} bytes of text.", ErrorKind.USAGE)
        if self._programs is None or self._processes is None:
            self._pin_here(peer, name)
            return False
        key = peer.pid.to_bytes(4, "little")
        record = self._processes.look_up(key) if self._numbers else None
        if record is None:
            raise ApiError(
                "the kernel's programs do not know the process that asks",
                "Run `sojourn run` where the daemon runs, not in a container of its own.",
            )
        owner, start, _ = process_of(record)
        _make_sure_of(peer)  # what is written is of the process that was there before: `start` tells
        pin = self._number_of(self._programs.map("names"), name)
        if self._direct is not None:
            self._direct.pinned(pin, name)
        self._processes.update(key, pack_process(owner, start, pin))
        return True

    def _number_of(self, names: BpfMap, name: str) -> int:
        """Return a name's number, a new one where it has none; the name that was given longest ago makes room."""
        if self._numbered is None:
            known = sorted((int.from_bytes(key, "little"), names.look_up(key)) for key in list(names.keys()))
            self._numbered = {held.rstrip(b"\0").decode(): pin for pin, held in known if held is not None}
        pin = self._numbered.pop(name, None)
        if pin is None:
            while len(self._numbered) >= MOST_PINS:
                names.delete(number(self._numbered.pop(next(iter(self._numbered)))))
            pin = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            names.update(number(pin), name.encode())
        self._numbered[name] = pin
        return pin

    def _pin_here(self, peer: Peer, name: str) -> None:
        start = processes.start_of(peer.pid)
        _make_sure_of(peer)
        if start is None:
            return
        if len(self._pins) >= MOST_PINS:
            self._pins = {one: kept for one, kept in self._pins.items() if processes.start_of(one.pid) == one.start}
        while len(self._pins) >= MOST_PINS:
            del self._pins[next(iter(self._pins))]
        self._pins[processes.Pinned(peer.pid, start)] = name


def _make_sure_of(peer: Peer) -> None:
    """Refuse unless the process that connected is its user's still.

    The connection may have been passed on: then the number may be another one's by now, and nobody gives names to the
    programs of others.
    """
    if processes.user_of(peer.pid) != peer.uid:
        raise ApiError("the process that connected is gone", "Run `sojourn run` itself.", ErrorKind.NO_PERMISSION)
