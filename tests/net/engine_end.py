"""One engine in a process of its own, driven over its standard streams: for tests that want nothing else.

    python -m tests.net.engine_end [--rows N]

`--rows`: how many the kernel path's maps hold.
Each line on standard input is a JSON array of commands, each line on standard output an event.
It ends with its input.
"""

import os
import sys

import msgspec

from sojourn.datapath import kernel_objects, process
from sojourn.datapath.epochs import EpochStore
from sojourn.linux.descriptors import Descriptors
from sojourn.upmt.commands import AnyCommand, Role
from sojourn.upmt.events import AnyEvent

_commands = msgspec.json.Decoder(tuple[AnyCommand, ...])


def main() -> None:
    if sys.argv[1:2] == ["--rows"]:
        kernel_objects.MOST_ROWS.update(dict.fromkeys(Role, int(sys.argv[2])))

    def say(level: str, text: str) -> None:
        os.write(2, f"{level} {text}\n".encode())

    def emit(event: AnyEvent) -> None:
        os.write(1, msgspec.json.encode(event) + b"\n")

    engine = process.real_engine()(emit, EpochStore(), Descriptors(), say)
    waiting = bytearray()

    def read() -> None:
        data = os.read(0, 1 << 20)
        if not data:
            engine.stop()
        waiting.extend(data)
        while b"\n" in waiting:
            line, _, rest = bytes(waiting).partition(b"\n")
            waiting[:] = rest
            engine.submit(_commands.decode(line))

    engine.watch(0, read)
    engine.run()
    engine.close()


if __name__ == "__main__":
    main()
