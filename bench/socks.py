"""The proxy's relay: one TCP flow beside dante in one run, both directions; and the time a session takes to come back.

    mh (reads or writes) ── an (the proxy) ── ch (writes or reads)

Throughput in Gbit/s with CPU-seconds of the whole machine per 10^9 bytes; plain SOCKS5 for both proxies.
Reconnect: from the order, on a network that is up, to the first byte of the stream; beside it a new session.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench._ground import AN, ANCHOR, CH, MH, TARGET, Ground, busy_seconds, ground, machine, median
from sojourn.control.config import parse_credentials
from sojourn.msocks import client, socks5
from sojourn.msocks.client import Account, Answered, Replied, Return, Say, SetUp
from sojourn.msocks.frames import Reconnect
from sojourn.msocks.socks5 import Address, Command, Request

PORT, PEER_PORT, CHUNK = 1080, 9000, 1 << 20
LIMIT = 100.0
"""Seconds for one proxy's part of one run."""
DANTE = """
logoutput: stderr
internal: {anchor} port = 1080
external: an1
clientmethod: none
socksmethod: none
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
"""


def sojourn(built: Ground, settings: str = "") -> None:
    folder = str(built.folder / "an")
    words = [sys.executable, "-m", "sojourn"]
    token = built.run(AN, *words, "init", "--config-dir", folder, "--address", ANCHOR).split()[-1]
    with open(f"{folder}/anchor.toml", "a") as file:
        file.write(f'[socks]\nport = {PORT}\nanonymous = ["192.0.2.0/24"]\n{settings}\n')
    built.run(MH, *words, "join", token, "--config-dir", str(built.folder / "mh"))
    proxy = built.start(AN, "proxy", *words, "anchor", "--only", "socks", "--config-dir", folder,
                        "--socket", f"{built.folder}/an.sock")  # fmt: skip
    proxy.wait_for("ready", 20.0)


def dante(built: Ground) -> None:
    (built.folder / "danted.conf").write_text(DANTE.format(anchor=ANCHOR))
    built.start(AN, "danted", "danted", "-f", str(built.folder / "danted.conf"))
    time.sleep(1.0)


def work(role: str, seconds: float, reverse: bool) -> None:
    """Be one end: `peer` listens, `user` connects by the proxy. Prints bytes and seconds where they arrive."""
    if role == "peer":
        with socket.create_server((TARGET, PEER_PORT)) as listening:
            sock, _ = listening.accept()
    else:
        sock = socket.create_connection((ANCHOR, PORT), 20.0)
        sock.sendall(socks5.greeting(socks5.NO_LOGIN))
        _exactly(sock, 2)
        sock.sendall(socks5.request(Request(Command.CONNECT, Address(TARGET, PEER_PORT))))
        assert _exactly(sock, 10)[1] == 0
    if (role == "peer") == reverse:
        data, until = bytes(CHUNK), time.monotonic() + seconds
        while time.monotonic() < until:
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)
        return
    began, count, space = time.monotonic(), 0, bytearray(CHUNK)
    while got := sock.recv_into(space):
        count += got
    print(json.dumps({"bytes": count, "seconds": time.monotonic() - began}))


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += sock.recv(count - len(data))
    return data


def measure(built: Ground, seconds: float, reverse: bool) -> dict[str, float]:
    words = [sys.executable, "-m", "bench.socks", "--seconds", str(seconds), *(["--reverse"] if reverse else [])]
    peer = built.start(CH, "peer", *words, "--role", "peer")
    time.sleep(1.0)
    before = busy_seconds()
    said = built.run(MH, *words, "--role", "user", timeout=seconds + 60)
    peer.wait(20.0)
    busy = busy_seconds() - before
    found = json.loads(said or peer.output())
    return {"gbit_s": found["bytes"] * 8e-9 / found["seconds"], "cpu_s_per_gb": busy / (found["bytes"] / 1e9)}


def reconnects(built: Ground, count: int) -> dict[str, Any]:
    """Time new sessions and returning ones, one after the other, from inside the client's namespace."""
    built.start(CH, "echo", sys.executable, "-c", (
        "import socket\nl=socket.create_server(('', 9001),backlog=64)\nkept=[]\n"
        "while 1:\n s,_=l.accept(); s.sendall(b'x'*100); kept.append(s)"
    ))  # fmt: skip
    time.sleep(0.5)
    words = [sys.executable, "-m", "bench.socks", "--role", "mover", "--count", str(count)]
    return dict(json.loads(built.run(MH, *words, "--folder", str(built.folder), timeout=120.0)))


def move(folder: str, count: int) -> None:
    credentials = parse_credentials((Path(folder) / "mh" / "credentials").read_text())
    words = (credentials.socks_secret, credentials.socks_static, credentials.socks_key)
    account = Account("host", *(bytes.fromhex(word) for word in words))
    made, moved, tcp = [], [], []
    for _ in range(count):
        began = time.perf_counter()
        sock = socket.create_connection((ANCHOR, PORT))
        tcp.append(time.perf_counter() - began)
        setup = SetUp(account, os.urandom(32), Request(Command.CONNECT, Address(TARGET, 9001)))
        replied = _talk(sock, setup, Replied)
        made.append(time.perf_counter() - began)
        challenge = client.NO_CHALLENGE
        for generation in (1, 2):
            began = time.perf_counter()
            again = socket.create_connection((ANCHOR, PORT))
            back = Return(setup.key, Reconnect(replied.session, generation, 0, challenge))
            _talk(again, back, Answered)
            rest = back.rest or again.recv(1)
            assert rest[:1] == b"x"
            challenge = back._asked.challenge  # fresh: as a heartbeat's answer would have brought it
            if generation == 2:
                moved.append(time.perf_counter() - began)
            sock.close()
            sock = again
        sock.close()
    times = {"tcp_ms": tcp, "new_session_ms": made, "reconnect_ms": moved}
    print(json.dumps({name: round(statistics.median(all_of) * 1000, 3) for name, all_of in times.items()}))


def _talk(sock: socket.socket, machine: Any, until: type) -> Any:  # noqa: ANN401 - either of two machines and its event
    sock.sendall(machine.begin())
    while True:
        for event in machine.feed(sock.recv(4096)):
            if isinstance(event, Say):
                sock.sendall(event.data)
            elif isinstance(event, until):
                return event


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--role")
    parser.add_argument("--reverse", action="store_true")
    parser.add_argument("--folder", default="")
    given = parser.parse_args()
    if given.role == "mover":
        move(given.folder, given.count)
        return
    if given.role:
        work(given.role, given.seconds, given.reverse)
        return
    os.environ["SOJOURN_SPLICE"] = "off"  # bench/splice.py is the other one's; a spliced session keeps no bytes
    peers: dict[str, Callable[[Ground], None]] = {"sojourn": sojourn, "dante": dante}
    result: dict[str, Any] = {"bench": "socks", **machine(), "peers": {}}
    if shutil.which("danted") is None:
        result["peer missing"] = "danted (on Debian: dante-server)"
        del peers["dante"]
    rounds: dict[str, list[dict[str, float]]] = {f"{name} {way}": [] for name in peers for way in ("up", "down")}
    for turn in range(given.runs):
        for name, start in peers.items():
            with ground(limit=LIMIT) as built:
                start(built)
                for way in ("up", "down"):
                    rounds[f"{name} {way}"].append(measure(built, given.seconds, way == "down"))
                if name == "sojourn" and turn == 0:
                    result["reconnect"] = reconnects(built, given.count)
    result["peers"] = {
        name: {key: median([run[key] for run in runs]) for key in runs[0]} for name, runs in rounds.items()
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
