"""Programs that talk like people's: each with some connections, and rates of its own that rise and fall.

`python -m sojourn.lab.chatter serve PORT` answers; `... talk ADDRESS PORT CONNECTIONS DOWN UP` opens connections, asks
for DOWN bit/s on each and sends UP bit/s. What is sent means nothing. Both say "ready" and go on until they are ended.
"""

import argparse
import contextlib
import math
import socket
import threading

from sojourn.lab.processes import now

TICK = 0.05
"""Seconds between two portions."""
SWELL = 0.7
"""By how much of itself a rate rises and falls..."""
SWELL_OVER = 11.0
"""...in so many seconds."""
CONNECT_PATIENCE = 10.0
MAX_LINE = 32


def portion(rate: float, at: float, phase: float) -> int:
    """Return how many bytes a sender of `rate` bit/s sends in the tick at `at` (seconds)."""
    swell = 1 + SWELL * math.sin(2 * math.pi * at / SWELL_OVER + phase) * math.sin(at / 3 + phase)
    return max(0, round(rate * TICK / 8 * swell))


def speak(link: socket.socket, rate: float, phase: float, stop: threading.Event) -> None:
    """Send at a rate until the connection ends or `stop` is set."""
    with contextlib.suppress(OSError):
        while not stop.wait(TICK):
            link.sendall(bytes(portion(rate, now(), phase)))
    stop.set()


def listen(link: socket.socket, stop: threading.Event) -> None:
    """Take in what comes until the connection ends."""
    with contextlib.suppress(OSError):
        while link.recv(1 << 16):
            pass
    stop.set()


def answer(link: socket.socket) -> None:
    """Serve one connection: its first line is the rate that it wants."""
    with link, contextlib.suppress(OSError, ValueError):
        line = b""
        while not line.endswith(b"\n") and len(line) < MAX_LINE:
            line += link.recv(1) or b"\n"
        stop = threading.Event()
        threading.Thread(target=listen, args=(link, stop), daemon=True).start()
        speak(link, float(line), link.getpeername()[1], stop)


def serve(port: int) -> None:
    """Answer every connection, for ever."""
    with socket.create_server(("0.0.0.0", port), backlog=1024) as server:
        print("ready", flush=True)
        while True:
            link, _ = server.accept()
            threading.Thread(target=answer, args=(link,), daemon=True).start()


def talk(address: str, port: int, connections: int, down: float, up: float) -> None:
    """Open connections and talk on each, until all of them have ended."""
    threads = []
    for number in range(connections):
        link = socket.create_connection((address, port), CONNECT_PATIENCE)
        link.settimeout(None)
        link.sendall(b"%d\n" % down)
        stop = threading.Event()
        threading.Thread(target=listen, args=(link, stop), daemon=True).start()
        threads.append(threading.Thread(target=speak, args=(link, up, float(number), stop)))
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.join()


def main(arguments: list[str] | None = None) -> None:
    """Run one end."""
    parser = argparse.ArgumentParser()
    ends = parser.add_subparsers(dest="end", required=True)
    ends.add_parser("serve").add_argument("port", type=int)
    talker = ends.add_parser("talk")
    talker.add_argument("address")
    for name in ("port", "connections"):
        talker.add_argument(name, type=int)
    for name in ("down", "up"):
        talker.add_argument(name, type=float)
    options = parser.parse_args(arguments)
    if options.end == "serve":
        serve(options.port)
    else:
        talk(options.address, options.port, options.connections, options.down, options.up)


if __name__ == "__main__":
    main()
