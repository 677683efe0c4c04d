"""A network namespace whose way out is a TUN device that the test reads, with the owner programs told about it.

What programs in it send is seen here as the data path would see it: a packet, and then a look at who made its flow.
"""

import contextlib
import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec.structs import replace

from sojourn.errors import RemoteProtocolError
from sojourn.linux import cgroups
from sojourn.linux.owner_programs import OwnerPrograms, settings_for
from sojourn.linux.owners import OwnerMaps, Settings, User
from sojourn.linux.tun import Tun
from sojourn.model import Endpoint, Flow, Origin
from sojourn.packet import vnet
from sojourn.packet.ip import flow_key, flow_of, key_of
from tests.linux.fresh import fresh_namespace, sh

DEVICE = "bp0"
LOCAL, LOCAL6 = "10.9.0.2", "fd09::2"
REMOTE, REMOTE6 = "192.0.2.1", "2001:db8::1"
MTU = 1400


class Watched:
    """The device and the programs. The calling thread is in the namespace, and so is what it starts."""

    def __init__(self, programs: OwnerPrograms, root: int) -> None:
        self.tun = Tun.open(DEVICE)
        sh(
            f"ip addr add {LOCAL}/24 dev {DEVICE}\nip -6 addr add {LOCAL6}/64 dev {DEVICE} nodad\n"
            f"ip link set {DEVICE} up mtu {MTU}\n"
            f"ip route add default dev {DEVICE}\nip -6 route add default dev {DEVICE}"
        )
        self.programs = programs
        self.root = root
        self.programs.tell(self.settings())
        self.maps = OwnerMaps(programs.maps)
        self.packets: list[bytes] = []
        self.seen: dict[Flow, Origin | None] = {}
        self._started: list[subprocess.Popen[bytes]] = []

    def settings(self, direct: int = 0) -> Settings:
        """Return what the programs are told."""
        return replace(settings_for(DEVICE, self.root), direct=direct)

    def close(self) -> None:
        """End what was started and close what was opened; the programs are the caller's."""
        for process in self._started:
            process.kill()
            process.wait()
        self.tun.close()

    @property
    def index(self) -> int:
        """The device's number."""
        return socket.if_nametoindex(DEVICE)

    def key(self, protocol: int, local_port: int, remote_port: int) -> bytes:
        """Return the key of an IPv4 flow."""
        return key_of(Flow(protocol, Endpoint(LOCAL, local_port), Endpoint(REMOTE, remote_port)))

    def keys_to(self, port: int) -> list[bytes]:
        """Return the keys of the flows to a port that were seen."""
        return [key_of(flow) for flow in self.seen if flow.remote.port == port]

    def user(self, key: bytes) -> User | None:
        """Return who made the flow of a key."""
        return self.maps.user(key)

    def read(self, enough: Callable[[], bool], patience: float = 5.0) -> None:
        """Take packets, and ask of each new flow who made it, until there is enough."""
        until = time.monotonic() + patience
        while not enough() and time.monotonic() < until:
            if not select.select([self.tun.fd], [], [], 0.05)[0]:
                continue
            packet = os.read(self.tun.fd, 1 << 17)[vnet.HEADER_BYTES :]
            self.packets.append(packet)
            with contextlib.suppress(RemoteProtocolError):
                key = flow_key(packet)
                flow = flow_of(key)
                if not flow.remote.address.startswith("ff0"):  # not neighbour discovery
                    user = self.maps.user(key)
                    self.seen[flow] = self.maps.origin(user) if user is not None else None

    def read_more(self, patience: float) -> None:
        """Take packets until one has come."""
        count = len(self.packets)
        self.read(lambda: len(self.packets) > count, patience)

    def origin_to(self, port: int, patience: float = 5.0) -> Origin | None:
        """Wait for a flow to a port of the other side, and return who made it."""

        def found() -> list[Origin | None]:
            return [origin for flow, origin in self.seen.items() if flow.remote.port == port]

        self.read(lambda: bool(found()), patience)
        assert found(), f"nothing was sent to port {port}"
        return found()[-1]

    def run(self, *argv: str | Path, environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> int:
        """Start a program, which is ended with the test; return its process id."""
        process = subprocess.Popen(
            [str(word) for word in argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=cwd,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        self._started.append(process)
        return process.pid


@contextlib.contextmanager
def watched() -> Iterator[Watched]:
    """Be in such a namespace, with programs of one's own loaded."""
    with fresh_namespace(), contextlib.ExitStack() as stack:
        root = cgroups.open_root()
        stack.callback(os.close, root)
        programs = OwnerPrograms.load(root)
        stack.callback(programs.close)
        ground = Watched(programs, root)
        stack.callback(ground.close)
        yield ground


def program_at(path: Path, like: str = "/bin/bash") -> Path:
    """Put a copy of a program somewhere, under a name of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(like, path)
    path.chmod(0o755)
    return path


def script_at(path: Path, text: str) -> Path:
    """Put a script somewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path
