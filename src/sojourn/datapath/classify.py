"""Who made a flow, as the data path asks it: one look at what BPF programs wrote before the packet came.

Control loads the programs and sends descriptors of their maps and links ("bpf/DIGEST/..."); while this process
lives, they work on without control. States: without programs, with them. Timers: none.

Without programs, and for sockets that are older than they, the kernel's socket table gives inode and user; then
control is asked for the rest (`OriginUnknown`), and what it says is not `exact`.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from sojourn.errors import RemoteProtocolError
from sojourn.linux.bpf import close_all
from sojourn.linux.bpf_ring import BpfRing
from sojourn.linux.owner_programs import PASSED_BYTES
from sojourn.linux.owners import KEY4_BYTES, KEY6_BYTES, OwnerMaps, User, user_of
from sojourn.linux.sock_diag import SocketTable
from sojourn.model import Origin
from sojourn.paft import FlowKey
from sojourn.policy.names import names_of

PREFIX: Final = "bpf/"
MOST_USERS: Final = 4096
PASSED_PER_TURN: Final = 32
"""Flows that are named anew between two turns of the packet loop: two programs that send on one socket by turns make
records as fast as packets."""


class Classifier:
    """Answers `classify`. `on_passed` is called with the keys of flows that another program has taken over."""

    def __init__(
        self,
        say: Callable[[str, str], None],
        watch: Callable[[int, Callable[[int], None]], None],
        unwatch: Callable[[int], None],
    ) -> None:
        """`say(level, text)` takes a line for the log, `watch(fd, callback)` and `unwatch(fd)` lend the loop."""
        self.on_passed: Callable[[FlowKey], None] | None = None
        self.on_maps: Callable[[int], None] | None = None
        """Called with the descriptor of the map flow -> user, -1 for none, before the one of before is closed."""
        self.record: bytes | None = None
        """What that map said of the flow that was asked about last, None where it said nothing."""
        self.digest = ""
        """Which version of the programs is in use; "" = none is."""
        self._say, self._watch, self._unwatch = say, watch, unwatch
        self._sets: dict[str, dict[str, int]] = {}
        self._maps: OwnerMaps | None = None
        self._ring: BpfRing | None = None
        self._origins: OrderedDict[User, Origin] = OrderedDict()
        self._sockets = SocketTable()

    # Descriptors.

    def offer(self, name: str, fd: int) -> list[str] | None:
        """Take a descriptor that is ours by its name; return the names of those that it replaces. None: not ours."""
        if not name.startswith(PREFIX):
            return None
        digest, _, rest = name.removeprefix(PREFIX).partition("/")
        kept = self._sets.setdefault(digest, {})
        previous = kept.pop(rest, None)
        if previous is not None:
            close_all([previous])
        kept[rest] = fd
        if previous is None and digest == self.digest:
            return []
        return self._use(digest, kept)

    def _use(self, digest: str, kept: dict[str, int]) -> list[str]:
        maps = {name.removeprefix("map/"): fd for name, fd in kept.items() if name.startswith("map/")}
        if not {*OwnerMaps.NEEDED, "passed"} <= set(maps):
            return []
        try:
            ring = BpfRing(maps["passed"], PASSED_BYTES)
            self._maps = OwnerMaps(maps)
        except OSError as error:
            self._say("warning", f"flows can't be told apart by their programs: {error}")
            return []
        self._drop_ring()
        self._ring, self.digest = ring, digest
        self._watch(ring.fd, self._read_passed)
        self._tell_maps(maps["flows"])
        self._origins.clear()
        gone = [other for other in self._sets if other != digest]
        names = [f"{PREFIX}{other}/{rest}" for other in gone for rest in self._sets[other]]
        for other in gone:
            close_all(self._sets.pop(other).values())
        return names

    def _tell_maps(self, fd: int) -> None:
        if self.on_maps is not None:
            self.on_maps(fd)

    def _drop_ring(self) -> None:
        if self._ring is not None:
            self._unwatch(self._ring.fd)
            self._ring.close()
            self._ring = None

    # Questions.

    def classify(self, key: FlowKey) -> Origin | None:
        """Return who made the flow of this key, which has just sent a packet; None where nobody can tell.

        An origin without executable is to be looked at by control.
        """
        maps, self.record = self._maps, None
        if maps is not None:
            try:
                self.record = maps.record(key)
                if self.record is not None:
                    return self._origin(maps, user_of(self.record))
            except (OSError, RemoteProtocolError) as error:
                self._without(error)
        holder = self._sockets.holder(key)
        # A negative number is no execution's: sockets are known by their inode.
        return None if holder is None else Origin(-holder.inode, uid=holder.uid, exact=False)

    def origin_of(self, record: bytes) -> Origin | None:
        """Return who is meant by a record that the core has read in the map flow -> user."""
        try:
            return self._origin(self._maps, user_of(record)) if self._maps is not None else None
        except (OSError, RemoteProtocolError) as error:
            self._without(error)
            return None

    def _without(self, error: Exception) -> None:
        self._say("warning", f"flows can't be told apart by their programs any more: {error}")
        self._maps, self.record = None, None
        self._tell_maps(-1)

    def _origin(self, maps: OwnerMaps, user: User) -> Origin:
        known = self._origins.get(user)
        if known is not None:
            return known
        origin = maps.origin(user)
        if user.foreign and needs_look(origin):
            origin = Origin(
                origin.owner, "", origin.script, origin.command, origin.pid, origin.uid, origin.cgroup, origin.name
            )
        self._origins[user] = origin
        if len(self._origins) > MOST_USERS:
            self._origins.popitem(last=False)
        return origin

    def _read_passed(self, _: int = 0) -> None:
        """Hand on the flows that have changed hands."""
        records = self._ring.read(PASSED_PER_TURN) if self._ring is not None else ()
        for record in dict.fromkeys(records):
            if self.on_passed is not None:
                self.on_passed(record[: KEY4_BYTES if not any(record[KEY4_BYTES:]) else KEY6_BYTES])

    def close(self) -> None:
        """Close all that was offered."""
        self._drop_ring()
        self._tell_maps(-1)
        for kept in self._sets.values():
            close_all(kept.values())
        self._sets.clear()
        self._maps = None
        self._sockets.close()


def needs_look(origin: Origin) -> bool:
    """Say whether a program of another mount namespace has a name that its cgroup does not tell.

    System services have mount namespaces of their own, too, and are called by their unit.
    """
    names = names_of(origin.cgroup)
    known = origin.name or names.flatpak or names.snap or names.container
    return not known and not origin.cgroup.startswith("/system.slice/")
