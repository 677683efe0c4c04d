"""One engine in a process of its own, driven over its standard streams: for tests that want nothing else.

    python -m tests.net.engine_end

Each line on standard input is a JSON array of commands, each line on standard output an event.
It ends with its input.
"""

import os

import msgspec

from sojourn.datapath import process
from sojourn.datapath.epochs import EpochStore
from sojourn.linux.descriptors import Descriptors
from sojourn.upmt.commands import AnyCommand
from sojourn.upmt.events import AnyEvent

_commands = msgspec.json.Decoder(tuple[AnyCommand, ...])


def main() -> None:
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
