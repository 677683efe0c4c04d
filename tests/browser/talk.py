"""A TCP flow that talks all the time, from the mobile host to the correspondent."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sojourn.lab import topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Lab

TALK = """
import socket, time
link = socket.create_connection(("{}", 7001), 10)
link.settimeout(60)
print("ready", flush=True)
while True:
    link.sendall(b"x" * 200)
    left = 200
    while left:
        left -= len(link.recv(left))
    time.sleep(0.05)
"""
SERVE = """
import socket, threading
def echo(link):
    while data := link.recv(1000):
        link.sendall(data)
server = socket.create_server(("0.0.0.0", 7001))
print("ready", flush=True)
while True:
    threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()
"""


def until(what: Callable[[], Any], seconds: float = 20.0) -> Any:  # noqa: ANN401
    """Return what becomes true, or fail."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)
    return found


@contextmanager
def talking(lab: Lab, daemons: Daemons) -> Iterator[str]:
    """Yield the id of the flow."""
    serving = lab.start(topology.CORRESPONDENT, "serve", [sys.executable, "-c", SERVE])
    serving.wait_for("ready", 10)
    address = lab.topology.correspondent.address

    def flows() -> set[str]:
        return {str(row["id"]) for row in daemons.call("flows") if row["remote"] == f"{address}:7001"}

    before = flows()  # of modules before this one: ended, and still listed
    client = lab.start(topology.MOBILE_HOST, "talk", [sys.executable, "-c", TALK.format(address)])
    client.wait_for("ready", 10)
    (flow,) = until(lambda: flows() - before)
    try:
        yield flow
    finally:
        client.stop()
        serving.stop()


def place(daemons: Daemons, flow: str) -> str | None:
    """Return the network that carries a flow now, as the data path says."""
    return next((row["network"] for row in daemons.call("flows") if row["id"] == flow), None)
