"""The records of bpf/owner.h, and their maps: who made a flow, as the kernel's programs wrote it down.

`OwnerMaps.origin` is what the data path asks for each new flow. What programs and cgroups are called is read once
an owner; who used the socket (process, user, command name, cgroup) is read for each flow.
"""

import posixpath
import re
import struct
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, TypeVar

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.linux.bpf_map import BpfMap
from sojourn.model import Origin

PATH_BYTES: Final = 640
TEXT_BYTES: Final = 384
CGROUP_BYTES: Final = 768
KEY_BYTES: Final = 40
KEY4_BYTES, KEY6_BYTES = 13, 37
"""A flow key is padded with zeros to KEY_BYTES; of so many bytes it is (packet/ip.py)."""
COMMAND_BYTES: Final = 16
PIN_BYTES: Final = 64

_USER: Final = struct.Struct("=QQQIIII16s")
_EXECUTION: Final = struct.Struct(f"=QII{PATH_BYTES}s{TEXT_BYTES}s{PATH_BYTES}s")
_CGROUP: Final = struct.Struct(f"=II{CGROUP_BYTES}s")
_PROCESS: Final = struct.Struct("=QQQ")
_SETTINGS: Final = struct.Struct("=QQQIIIIIII4x")
_VERDICT: Final = struct.Struct(f"=II{COMMAND_BYTES}s")
_NUMBER: Final = struct.Struct("=Q")
SIZES: Final[Mapping[str, tuple[int, int]]] = {
    # map: bytes of a key, of a value
    "settings": (4, _SETTINGS.size), "counter": (4, 8), "processes": (4, _PROCESS.size),
    "executions": (8, _EXECUTION.size), "owners": (8, _EXECUTION.size), "cgroups": (8, _CGROUP.size),
    "flows": (KEY_BYTES, _USER.size), "names": (8, PIN_BYTES), "paths": (PATH_BYTES, 4),
    "verdicts": (_VERDICT.size, 4),
}  # fmt: skip

SCRIPT, ARGUMENT, VIA_ENV, PATH_CUT, TEXT_CUT, BASE_CUT, UNSEEN = (1 << bit for bit in range(7))
FOREIGN: Final = 1
CUT: Final = "…"
"""A path that was too long begins with this, and is therefore no one's."""
INTERPRETERS: Final = re.compile(
    r"^(python[0-9.]*|pypy[0-9.]*|perl[0-9.]*|ruby[0-9.]*|node|nodejs|deno|bun|php[0-9.]*|lua[0-9.]*|luajit|tclsh[0-9.]*"
    r"|wish[0-9.]*|Rscript|guile[0-9.]*|raku|groovy|(ba|da|z|k|mk|a|fi|tc|c|pd)?sh[0-9.]*)$"
)
"""Programs whose first argument, if it is no option, is the script that they run."""
MOST_KNOWN: Final = 4096

T = TypeVar("T")


class User(Struct, frozen=True):
    """Who used a socket last."""

    owner: int
    pin: int
    cgroup: int
    pid: int
    uid: int
    foreign: bool
    """In another mount namespace than the daemon, with another root: paths do not mean what they mean here."""
    command: str


class Settings(Struct, frozen=True):
    """What the programs must know of this daemon."""

    netns: int
    root: int
    inode: int
    system: int
    device: int
    mtu: int
    mounts: int
    mark: int
    mask: int
    direct: int = 0


def user_of(record: bytes) -> User:
    """Read a `struct user`; raise RemoteProtocolError for what is none."""
    try:
        owner, pin, cgroup, pid, uid, flags, _, command = _USER.unpack(record)
    except struct.error:
        raise RemoteProtocolError(f"a user record of {len(record)} bytes", reason="bpf") from None
    return User(owner, pin, cgroup, pid, uid, bool(flags & FOREIGN), _text(command))


def program_of(record: bytes) -> tuple[str, str]:
    """Read a `struct execution`: the program's path, and the script's where it runs one."""
    try:
        _, _, flags, path, text, base = _EXECUTION.unpack(record)
    except struct.error:
        raise RemoteProtocolError(f"an execution record of {len(record)} bytes", reason="bpf") from None
    executable = _path(path, bool(flags & PATH_CUT))
    return executable, _script(executable, flags, _text(text), base)


def cgroup_of(record: bytes) -> str:
    """Read a `struct cgroup_path`."""
    try:
        _, cut, path = _CGROUP.unpack(record)
    except struct.error:
        raise RemoteProtocolError(f"a cgroup record of {len(record)} bytes", reason="bpf") from None
    return _path(path, bool(cut)) or "/"


def _path(reversed_names: bytes, cut: bool) -> str:
    """Turn names round that were written from the inside out, each with a zero byte behind it."""
    names = reversed_names.rstrip(b"\0").split(b"\0")
    if names == [b""]:
        return ""
    return (CUT if cut else "") + "".join(f"/{name.decode(errors='backslashreplace')}" for name in reversed(names))


def _script(executable: str, flags: int, text: str, base: bytes) -> str:
    if not flags & (SCRIPT | ARGUMENT) or not text:
        return ""
    if flags & ARGUMENT and (text.startswith("-") or not INTERPRETERS.match(posixpath.basename(executable))):
        return ""
    if flags & TEXT_CUT:
        return CUT + text
    directory = _path(base, bool(flags & BASE_CUT))
    if text.startswith("/dev/fd/") and directory:  # execveat(2): "/dev/fd/3", "/dev/fd/3/name"
        rest = text.removeprefix("/dev/fd/").partition("/")[2]
        return posixpath.normpath(f"{directory}/{rest}")
    if not text.startswith("/"):
        text = f"{directory}/{text}"
    return posixpath.normpath(text).replace("//", "/", 1) if not text.startswith(CUT) else text


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode(errors="backslashreplace")


def script_path(path: str) -> bytes:
    """Return a script's whole path as a key of `paths`; b"" when it is too long."""
    key = path.encode()
    return key if len(key) < TEXT_BYTES else b""


def program_path(path: str) -> bytes:
    """Return a program's whole path as a key of `paths`; b"" when it is too long."""
    names = [name.encode() + b"\0" for name in reversed(path.split("/")) if name]
    key = b"".join(names)
    return key if len(key) <= PATH_BYTES - 256 else b""


def pack_settings(settings: Settings) -> bytes:
    """Return a `struct settings`."""
    one = settings
    return _SETTINGS.pack(
        one.netns, one.root, one.inode, one.system, one.device, one.mtu, one.mounts, one.mark, one.mask, one.direct
    )


def pack_process(owner: int, start: int, pin: int) -> bytes:
    """Return a `struct process`."""
    return _PROCESS.pack(owner, start, pin)


def process_of(record: bytes) -> tuple[int, int, int]:
    """Read a `struct process`: owner, start, pin."""
    owner, start, pin = _PROCESS.unpack(record)
    return owner, start, pin


BY_OWNER, BY_PIN, BY_COMMAND, BY_CGROUP, BY_USER, BY_ANYONE = range(1, 7)


UNDECIDED: Final = 0xFFFFFFFF


def verdict(rank: int, direct: bool) -> bytes:
    """Return what a rule says at its place in the order: of several verdicts the first rule's counts."""
    return struct.pack("=I", rank << 1 | direct)


def verdict_key(kind: int, value: int | str) -> bytes:
    """Return a `struct verdict`."""
    packed = value.encode()[: COMMAND_BYTES - 1] if isinstance(value, str) else _NUMBER.pack(value)
    return _VERDICT.pack(kind, 0, packed)


def number(value: int) -> bytes:
    """Return a number as a key or value of 8 bytes."""
    return _NUMBER.pack(value)


class OwnerMaps:
    """The maps that a reader needs, by descriptors which this owns."""

    NEEDED: Final = ("flows", "owners", "cgroups", "names")

    def __init__(self, descriptors: Mapping[str, int]) -> None:
        self._flows, self._owners, self._cgroups, self._names = (
            BpfMap(descriptors[name], *SIZES[name]) for name in self.NEEDED
        )
        self._programs: OrderedDict[int, tuple[str, str]] = OrderedDict()
        self._paths: OrderedDict[int, str] = OrderedDict()
        self._pins: OrderedDict[int, str] = OrderedDict()

    def record(self, key: bytes) -> bytes | None:
        """Return the `struct user` of who made the flow of a key (packet/ip.py), None where no program of ours saw it.

        Raises OSError.
        """
        return self._flows.look_up(key)

    def user(self, key: bytes) -> User | None:
        """Return the same, read."""
        record = self.record(key)
        return None if record is None else user_of(record)

    def origin(self, user: User) -> Origin:
        """Return all that the kernel's programs know of a user."""
        executable, script = self.program(user.owner)
        return Origin(
            user.owner, executable, script, user.command, user.pid, user.uid,
            self.cgroup(user.cgroup), self.name(user.pin) if user.pin else "",
        )  # fmt: skip

    def program(self, owner: int) -> tuple[str, str]:
        """Return paths of program and script."""
        known = self._programs.get(owner)
        if known is None:
            record = self._owners.look_up(number(owner))
            if record is None:
                return "", ""
            known = _remember(self._programs, owner, program_of(record))
        return known

    def cgroup(self, id_: int) -> str:
        """Return the path of a cgroup, also when it is gone."""
        known = self._paths.get(id_)
        if known is None:
            record = self._cgroups.look_up(number(id_))
            if record is None:
                return ""
            known = _remember(self._paths, id_, cgroup_of(record))
        return known

    def name(self, pin: int) -> str:
        """Return what `sojourn run --app` has called a process."""
        known = self._pins.get(pin)
        if known is None:
            record = self._names.look_up(number(pin))
            if record is None:
                return ""
            known = _remember(self._pins, pin, _text(record))
        return known


def _remember(kept: OrderedDict[int, T], key: int, value: T) -> T:
    kept[key] = value
    if len(kept) > MOST_KNOWN:
        kept.popitem(last=False)
    return value
