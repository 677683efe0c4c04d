"""One control and its data path, driven over standard streams: for tests that kill either.

    python -m tests.net.control_end SOCKET EPOCHS

Each line on standard input is a JSON array of commands, or a word: "stop" ends both, "leave" ends control alone.
Each line on standard output is an event, or a `Note`.
"""

import asyncio
import os
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from sojourn.datapath.client import DataPathClient
from sojourn.upmt.commands import AnyCommand
from sojourn.upmt.events import AnyEvent

_commands = msgspec.json.Decoder(tuple[AnyCommand, ...])


class Note(Struct, frozen=True, tag=True):
    """What control itself has to say."""

    what: str
    pid: int = 0
    flows: int = 0
    seconds: float = 0.0


def write(event: AnyEvent | Note) -> None:
    os.write(1, msgspec.json.encode(event) + b"\n")


class LogToError:
    """Lines on standard error."""

    def info(self, event: str, **values: object) -> None:
        os.write(2, f"{event} {values}\n".encode())

    warning = info


async def main(path: Path, epochs: Path) -> None:
    reader = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    client = await DataPathClient.start(path, emit=write, epochs=epochs, log=LogToError())
    write(
        Note("adopted" if client.adopted else "started", client.pid, len(client.adopted.rows) if client.adopted else 0)
    )
    while line := (await reader.readline()).decode().strip():
        if line in {"stop", "leave"}:
            await client.close(stop=line == "stop")
            return
        if line == "who":
            write(Note("who", client.pid, client.restarts, client.last_gap))
            continue
        client.submit(_commands.decode(line))
    await client.close(stop=False)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
