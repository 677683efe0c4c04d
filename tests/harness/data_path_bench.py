"""Real data-path processes around tests/harness/engine_double.py, and what their tests look at."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from sojourn.datapath.client import DataPathClient
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.seal import Secret
from sojourn.upmt import commands, events

DOUBLE = (str(Path(__file__).parent / "engine_double.py"),)
HOST, TUNNEL, OTHER = AssociationId(1), TunnelId(7), TunnelId(8)
SETUP = commands.Setup(commands.Role.HOST, "sojourn0", 1400)
ADDED = commands.AddAssociation(HOST, "10.201.0.2", None, (TUNNEL, OTHER))
SECRET = commands.InstallSecret(HOST, Secret(1, b"hunter2 " * 4, 1))
OPENED = commands.OpenTunnel(HOST, TUNNEL, "lo", Endpoint("127.0.0.1", 0), Endpoint("127.0.0.1", 9))
ORDERS: list[commands.AnyCommand] = [SETUP, ADDED, SECRET, OPENED, commands.SetDefault(HOST, TUNNEL)]


class Lines:  # a sojourn.datapath.log.Log
    """A log that a test can read."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, **values: object) -> None:
        self.lines.append((event, values))

    warning = info

    def names(self) -> list[str]:
        return [name for name, _ in self.lines]


class Bench:
    """One directory, and the clients that a test starts in it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "path.sock"
        self.epochs = directory / "epochs"
        self.events: list[events.AnyEvent] = []
        self.log = Lines()
        self.superseded = 0
        self.clients: list[DataPathClient] = []

    def _count(self) -> None:
        self.superseded += 1

    async def start(self, *, spare: bool = False, alone: float = 60.0) -> DataPathClient:
        client = await DataPathClient.start(
            self.path,
            emit=self.events.append,
            epochs=self.epochs,
            log=self.log,
            on_superseded=self._count,
            spare=spare,
            program=(*DOUBLE, "--alone", str(alone)),
        )
        self.clients.append(client)
        return client

    async def until(self, condition: Callable[[], object], patience: float = 10.0) -> None:
        end = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < end, (self.log.lines, self.events[-3:])
            await asyncio.sleep(0.005)

    async def state(self, client: DataPathClient) -> events.State:
        """Ask the process what it knows."""
        self.events.clear()
        client.submit([commands.Snapshot()])
        await self.until(lambda: any(isinstance(event, events.State) for event in self.events))
        return next(event for event in self.events if isinstance(event, events.State))

    async def turn(self, client: DataPathClient) -> None:
        """Wait until the process has read all that was sent to it."""
        client._ping()
        await self.until(lambda: client._pings == 0)

    def perform(self, client: DataPathClient, what: str) -> None:
        client.submit([commands.SendInner(TUNNEL, what.encode())])

    def seen(self) -> int:
        return sum(isinstance(event, events.FlowSeen) for event in self.events)


def alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in {"Z", "X"}


def in_directory(directory: Path, body: Callable[[Bench], Awaitable[None]]) -> None:
    """Run an async test; afterwards no process and no file but the epochs may be left."""

    async def run() -> list[int]:
        bench = Bench(directory)
        try:
            await body(bench)
        finally:
            pids = [client.pid for client in bench.clients]
            for client in bench.clients:
                await client.close()
        return pids

    pids = asyncio.run(run())
    assert not [pid for pid in pids if pid and alive(pid)]
    assert {path.name for path in directory.iterdir()} <= {"epochs"}


def with_bench(body: Callable[[Bench], Awaitable[None]]) -> Callable[[Path], None]:
    """Make an async test one that pytest can run."""

    def test(tmp_path: Path) -> None:
        in_directory(tmp_path, body)

    test.__name__, test.__module__, test.__doc__ = body.__name__, body.__module__, body.__doc__
    return test


def of_process(pid: int, name: str) -> str:
    """Read a file of /proc/PID."""
    return Path(f"/proc/{pid}/{name}").read_text()


def udp_inodes(pid: int) -> set[tuple[int, str]]:
    """Return (local port, inode) of each UDP socket that a process holds."""
    links = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.add(os.readlink(entry))
        except OSError:
            continue
    found = set()
    for line in Path(f"/proc/{pid}/net/udp").read_text().splitlines()[1:]:
        words = line.split()
        if f"socket:[{words[9]}]" in links:
            found.add((int(words[1].split(":")[1], 16), words[9]))
    return found
