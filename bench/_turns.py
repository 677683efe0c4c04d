"""Ways between mh and ch that stand side by side and are measured turn by turn, in slices of some tenths of a second.

Whatever else the machine does meets all of them. Each `Side` is a process with three namespaces of its own, a peer at
ch (processor 1) and a client at mh (processor 0), which waits for orders:

    up BYTES, down BYTES    one TCP flow that goes on from slice to slice: (seconds, processors' seconds)
    small SECONDS           64-byte datagrams as fast as one sender can: (sent, seconds, the sender's processor seconds)
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from bench._ground import CH, MH, TARGET, Ground, busy_seconds, ground
from bench._peers import Missing
from sojourn.lab import namespaces

PEER_PORT, DISCARD = 9000, 9
CHUNK: Final = 1 << 17
"""Bytes of one call: iperf3's. A megabyte would not stay in the processor's cache."""
SMALL_BYTES: Final = 64
_DROP: Final = (
    "table ip bench { chain drop9 { type filter hook prerouting priority -300; udp dport 9 counter drop; }; }\n"
)


def peer() -> None:
    """Serve one connection: take so many pieces and say so, or send so many."""
    with socket.create_server((TARGET, PEER_PORT)) as listening:
        print("ready", flush=True)
        sock, _ = listening.accept()
    data, space = bytes(CHUNK), bytearray(CHUNK)
    while word := sock.recv(1):
        left = int.from_bytes(sock.recv(4, socket.MSG_WAITALL)) * CHUNK
        if word == b"d":
            for _ in range(left // CHUNK):
                sock.sendall(data)
            continue
        while left:
            left -= sock.recv_into(space, min(left, CHUNK))
        sock.send(b".")


def client() -> None:
    """Do what the lines at the standard input say, one at a time."""
    os.sched_setaffinity(0, {0})
    flow = socket.create_connection((TARGET, PEER_PORT), 20.0)
    flow.settimeout(None)
    flow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.connect((TARGET, DISCARD))
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        word, number = line.split()
        found = blast(datagrams, float(number)) if word == "small" else bulk(flow, word, int(number) // CHUNK)
        print(json.dumps(found), flush=True)


def bulk(flow: socket.socket, word: str, pieces: int) -> tuple[float, float]:
    """Send or receive so many pieces; return the seconds, and the processors' seconds."""
    space = bytearray(CHUNK)
    before, began = busy_seconds(), time.monotonic()
    flow.sendall(word[:1].encode() + pieces.to_bytes(4))
    if word == "up":
        for _ in range(pieces):
            flow.sendall(space)
        flow.recv(1)
    else:
        left = pieces * CHUNK
        while left:
            left -= flow.recv_into(space)
    return time.monotonic() - began, busy_seconds() - before


def blast(datagrams: socket.socket, seconds: float) -> tuple[int, float, float]:
    """Send for so long; the kernel does most of a datagram's way to ch in the sender's own time."""
    data, sent, send = b"x" * SMALL_BYTES, 0, datagrams.send
    send(data)
    time.sleep(0.1)
    began, used = time.monotonic(), time.process_time()
    end = began + seconds
    while time.monotonic() < end:
        for _ in range(200):
            try:
                send(data)
            except OSError:
                continue
            sent += 1
    return sent, time.monotonic() - began, time.process_time() - used


def serve(begin: Callable[[Ground], None], argv: list[str], limit: float) -> None:
    """Be the process of a `Side`; `argv` starts the client or, with "peer" for a last word, the peer."""
    with ground(limit=limit) as built:
        try:
            begin(built)
        except Missing as error:
            print(json.dumps({"missing": str(error)}), flush=True)
            return
        namespaces.run(CH, "nft", "-f", "-", stdin=_DROP)
        built.start(CH, "peer", "taskset", "-c", "1", *argv, "peer").wait_for("ready", 10)
        asked = namespaces.entering(MH, [*argv, "client"])
        with subprocess.Popen(asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            print(process.stdout.readline(), end="", flush=True)
            for line in sys.stdin:
                before = _arrived(built)
                process.stdin.write(line)
                process.stdin.flush()
                found = json.loads(process.stdout.readline())
                if line.startswith("small"):
                    time.sleep(0.05)
                    found.append(_arrived(built) - before)
                print(json.dumps(found), flush=True)


def _arrived(built: Ground) -> int:
    """Return how many packets ch's interface has received."""
    (line,) = (line for line in built.run(CH, "cat", "/proc/net/dev").splitlines() if line.strip().startswith("ch0:"))
    return int(line.partition(":")[2].split()[1])


class Side:
    """One way, by the process that serves it."""

    def __init__(self, name: str, argv: list[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.found: dict[str, list[list[float]]] = {}
        """What the slices gave, by order."""

    def answer(self) -> Any:  # noqa: ANN401 - JSON
        """Wait for it."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self.name} has ended"
        return json.loads(line)

    def ask(self, word: str, number: float) -> Any:  # noqa: ANN401 - JSON
        """Measure a slice; return what it gave, which `found` has, too."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word} {number}\n")
        self._process.stdin.flush()
        found = self.answer()
        self.found.setdefault(word, []).append(found)
        return found

    def close(self) -> None:
        """End it; its namespaces go with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def by_turns(standing: list[Side], turn: int) -> list[Side]:
    """Return them in the order of this turn: every second one is the other way round."""
    return standing if turn % 2 else standing[::-1]


@contextlib.contextmanager
def sides(argv: dict[str, list[str]]) -> Iterator[tuple[list[Side], dict[str, str]]]:
    """Build them one after the other, and remove them; also return why some are missing."""
    made: list[Side] = []
    missing: dict[str, str] = {}
    try:
        for name, words in argv.items():
            made.append(Side(name, words))
            said = made[-1].answer()
            if said != "ready":
                missing[name] = said["missing"]
                made.pop().close()
        yield made, missing
    finally:
        for one in made:
            one.close()
