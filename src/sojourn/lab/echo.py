"""A TCP conversation that both ends count: numbered lines every 50 ms, each sent back.

`python -m sojourn.lab.echo ADDRESS PORT SECONDS JOURNAL` asks; `... echo - PORT SECONDS JOURNAL` sends back, on one
connection, and then says how many bytes it saw. The asking side checks that every line comes back once and in order.
"""

import argparse
import select
import socket
from pathlib import Path
from typing import Protocol

from sojourn.lab.journal import Journal
from sojourn.lab.processes import now

INTERVAL = 0.05
ASLEEP = 0.5
PATIENCE = 20.0
"""Seconds for which the last lines are waited for: TCP may just have doubled its timer."""
LINE_BYTES = 16


class Pipe(Protocol):
    """Where lines go and come back: a socket, or a process's standard input and output."""

    def fileno(self) -> int:
        """Return what to wait on for answers."""
        ...

    def send(self, line: bytes) -> None:
        """Send a whole line."""
        ...

    def receive(self) -> bytes:
        """Return what has come, b'' at the end. Called when there is something."""
        ...

    def finish(self) -> None:
        """Say that no more lines will come."""
        ...


class Connection:
    """A pipe that is a TCP connection."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._link.fileno()

    def send(self, line: bytes) -> None:
        """Send a line."""
        self._link.sendall(line)

    def receive(self) -> bytes:
        """Return what has come."""
        return self._link.recv(65536)

    def finish(self) -> None:
        """Close our direction."""
        self._link.shutdown(socket.SHUT_WR)


def converse(pipe: Pipe, journal: Journal, seconds: float) -> str:
    """Send lines for `seconds`, check that each comes back; return what was wrong, or ''."""
    due = now()
    until = due + seconds
    sent = back = 0
    rest = b""
    open_still = True
    while open_still or back < sent:
        at = now()
        if at > until + PATIENCE:
            return f"{sent - back} of {sent} lines never came back"
        if open_still and at >= until:
            pipe.finish()
            open_still = False
        elif open_still and at >= due:
            pipe.send(b"%0*d\n" % (LINE_BYTES - 1, sent))
            sent += 1
            due = (at if at - due > ASLEEP else due) + INTERVAL
        readable, _, _ = select.select([pipe], [], [], max(0.0, min(due, until) - at) if open_still else 1.0)
        if not readable:
            continue
        data = pipe.receive()
        if not data:
            return f"the connection ended after {back} lines" if open_still or back < sent else ""
        journal.got(len(data))
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if int(line.split()[0]) != back:
                return f"line {back} was expected, {line[:40]!r} came"
            back += 1
    return ""


def send_back(link: socket.socket, journal: Journal) -> str:
    """Return every byte to its sender until it is done; say how many there were."""
    count = 0
    while data := link.recv(65536):
        journal.got(len(data))
        link.sendall(data)
        count += len(data)
    return f"{count} bytes sent back"


def listen(port: int, journal: Journal) -> str:
    """Wait for one caller on a port and serve it."""
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        print("ready", flush=True)
        link, _ = server.accept()
        with link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return send_back(link, journal)


def call(address: str, port: int, seconds: float, journal: Journal) -> str:
    """Connect and converse; return what was wrong, or ''."""
    with socket.create_connection((address, port), timeout=10.0) as link:
        link.settimeout(None)  # a full send buffer waits for as long as the outage lasts, as any program's does
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return converse(Connection(link), journal, seconds)


def main() -> None:
    """Run from the command line, as the module's docstring says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("journal", type=Path)
    options = parser.parse_args()
    journal = Journal(options.journal)
    try:
        if options.address == "-":
            journal.end(True, listen(options.port, journal))
        else:
            wrong = call(options.address, options.port, options.seconds, journal)
            journal.end(not wrong, wrong or "every line came back once, in order")
    except OSError as error:
        journal.end(False, str(error))


if __name__ == "__main__":
    main()
