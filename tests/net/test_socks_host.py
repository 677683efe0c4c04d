r"""`sojourn socks` and `sojourn.socket` where a host daemon runs: its tunnels and its policies carry them.

mh (sojourn host, sojourn socks, programs) --- nat0, nat1 --- core --- an (sojourn anchor) --- ch
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sojourn.api.client import Client
from sojourn.lab import namespaces
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Topology
from sojourn.msocks import socks5
from sojourn.msocks.socks5 import Address, Command, Request
from tests.net.socks_lab import PEER_PORT, exactly, hang_up
from tests.net.standing import PATIENCE, eventually, own_prefix, standing

pytestmark = pytest.mark.net

LOCAL_PORT = 1081
POLICY = """
[[policy]]
application = "backup"
networks = ["cellular"]
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Daemons]:
    with standing(Topology(prefix=own_prefix())) as lab:
        daemons = Daemons(lab)
        daemons.set_up()
        daemons.append("mh", POLICY)
        daemons.start()
        child = lab.start("mh", "entrance", [
            sys.executable, "-m", "sojourn", "socks", "--config-dir", str(daemons.host_folder),
            "--listen", f"127.0.0.1:{LOCAL_PORT}", "--socket", str(lab.folder / "socks.sock"),
            "--host-socket", str(daemons.host_socket),
        ])  # fmt: skip
        child.wait_for("ready", PATIENCE)
        echo = Echo(lab.namespace("ch"))
        try:
            yield daemons
        finally:
            echo.close()
            assert child.stop(PATIENCE) == 0
            daemons.stop()


class Echo:
    """The correspondent: sends back what it hears."""

    def __init__(self, namespace: str) -> None:
        self._listening = namespaces.inside(namespace, lambda: socket.create_server(("0.0.0.0", PEER_PORT)))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    @staticmethod
    def _serve(sock: socket.socket) -> None:
        with sock:
            try:
                while data := sock.recv(65536):
                    sock.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        hang_up(self._listening)
        self._thread.join(5.0)


def flows(place: Daemons, application: str) -> list[dict[str, Any]]:
    rows = place.call("flows")
    return [row for row in rows if row["application"] == application and row["protocol"] == "tcp"]


def through(place: Daemons, name: str) -> socket.socket:
    """Connect through the entrance as the application `name`."""
    where, to = ("127.0.0.1", LOCAL_PORT), Address(place.lab.topology.correspondent.address, PEER_PORT)
    sock = namespaces.inside(place.lab.namespace("mh"), lambda: socket.create_connection(where, PATIENCE))
    sock.sendall(socks5.greeting(socks5.PASSWORD))
    assert exactly(sock, 2) == b"\5\2"
    sock.sendall(socks5.password(name, "x"))
    assert exactly(sock, 2) == b"\1\0"
    sock.sendall(socks5.request(Request(Command.CONNECT, to)))
    assert exactly(sock, 10)[1] == 0
    return sock


def test_the_user_name_is_the_applications_in_the_daemons_table(place: Daemons) -> None:
    status = Client(str(place.lab.folder / "socks.sock")).call
    with through(place, "backup") as backup, through(place, "browser") as browser:
        for sock in (backup, browser):
            sock.sendall(b"hello")
            assert exactly(sock, 5) == b"hello"
        assert status("status")["carried_by"] == "tunnels"
        eventually("both are known by their names", lambda: flows(place, "backup") and flows(place, "browser"))
        (row,) = flows(place, "backup")
        assert (row["policy"], row["network"]) == ("backup", "cellular")
        assert flows(place, "browser")[0]["network"] == "wifi"
        place.call("handover", to="cellular", app="browser")
        eventually("an order moves it", lambda: flows(place, "browser")[0]["network"] == "cellular")
        assert flows(place, "backup")[0]["network"] == "cellular"
        browser.sendall(b"again")
        assert exactly(browser, 5) == b"again"
        place.call("handover", to="policy", app="browser")
    assert status("status")["sessions"] == []


PROGRAM = """
import hashlib, json, random, sys, threading, time
import sojourn.socket as socket
sock = socket.create_connection((sys.argv[1], 9000), 20)
told = []
sock.sendall(b"x"); sock.recv(1)
while sock.network is None:
    time.sleep(0.05)
sock.on_handover(lambda *move: told.append(move))
first = sock.network
names = [network["name"] for network in socket.networks() if network["state"] == "up"]
other = next(name for name in names if name != first)
data = random.Random(3).randbytes(2_000_000)
def send():
    for at in range(0, len(data), 50_000):
        sock.sendall(data[at:at + 50_000]); time.sleep(0.03)
sender = threading.Thread(target=send); sender.start()
sock.move(other)
seen = bytearray()
while len(seen) < len(data):
    seen += sock.recv(65536)
sender.join()
until = time.time() + 5
while not told and time.time() < until:
    time.sleep(0.05)
print(json.dumps({"first": first, "other": other, "now": sock.network, "told": told, "right": bytes(seen) == data,
                  "outer": sock.outer}))
"""


def test_the_drop_in_uses_the_tunnels_and_moves_by_the_daemon(place: Daemons) -> None:
    environment = {**os.environ, "SOJOURN_HOST_SOCKET": str(place.host_socket)}
    words = [sys.executable, "-c", PROGRAM, place.lab.topology.correspondent.address]
    done = subprocess.run(
        namespaces.entering(place.lab.namespace("mh"), words), capture_output=True, env=environment, timeout=60.0,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    assert said["right"]
    assert said["now"] == said["other"] != said["first"]
    assert [move[:2] for move in said["told"]] == [[said["first"], said["other"]]]
    assert said["outer"] is None
