"""MSOCKS after a silent death under traffic, and after an order: for how long an application hears nothing.

mh (sojourn socks; one message each 10 ms) ── nat0, nat1 ── core ── an (the proxy) ── ch (sends each back)

Each round lets the network in use die without a word; the gap is the longest time between two answers, and its limit
300 ms + 2 RTT. RTT is the way that the session goes over afterwards, as `sojourn socks` says. Then the session is
ordered from network to network, each `DELAY_MS` away in each direction: `resumed_ms` is from the order to the first
byte that can leave over the new leg; limit: 2 RTT. RTT is there what a TCP connection to the proxy over that network
takes in the same second (the median of PROBES before and after the move): TCP's handshake is the first of the two round
trips, and meets the same machine. `own_ms` is what is more than two of them, `gap_ms` for
how long the application heard nothing.

Ends after --limit seconds at the latest, and leaves nothing behind.
"""

import argparse
import contextlib
import itertools
import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from bench._bounded import bounded
from bench._ground import machine, until
from sojourn.api.client import Client
from sojourn.lab import namespaces
from sojourn.lab.topology import CELLULAR, WIFI, Lab, Topology, own_prefix
from sojourn.msocks import socks5
from sojourn.msocks.socks5 import Address, Command, Request

LIMIT_MS = 300.0
DELAY_MS = 20.0
PORT, PROXY_PORT, PEER_PORT, BYTES, PACE = 1081, 1080, 9000, 20, 0.01
PROBES = 5
"""TCP connections for a round trip, before a move and after it."""


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def echo(listening: socket.socket) -> None:
    sock, _ = listening.accept()
    with sock, contextlib.suppress(OSError):  # it ends with the lab
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := sock.recv(65536):
            sock.sendall(data)


def start(lab: Lab) -> Client:
    """Set both ends up; return the client's control socket."""
    words = [sys.executable, "-m", "sojourn"]
    an, mh = str(lab.folder / "an"), str(lab.folder / "mh")
    token = lab.run("an", *words, "init", "--config-dir", an, "--address", lab.topology.anchor.address).split()[-1]
    with open(f"{an}/anchor.toml", "a") as file:
        file.write("[socks]\nport = 1080\n")
    lab.run("mh", *words, "join", token, "--config-dir", mh)
    path = str(lab.folder / "socks.sock")
    for role, name, rest in (
        ("an", "proxy", ["anchor", "--only", "socks", "--config-dir", an, "--socket", f"{lab.folder}/an.sock"]),
        ("mh", "client", ["socks", "--config-dir", mh, "--socket", path, "--listen", f"127.0.0.1:{PORT}"]),
    ):
        lab.start(role, name, [*words, *rest]).wait_for("ready", 20.0)
    return Client(path)


def connected(lab: Lab) -> socket.socket:
    listening = namespaces.inside(lab.namespace("ch"), lambda: socket.create_server(("", PEER_PORT)))
    threading.Thread(target=echo, args=(listening,), daemon=True).start()
    sock = namespaces.inside(lab.namespace("mh"), lambda: socket.create_connection(("127.0.0.1", PORT), 20.0))
    sock.sendall(socks5.greeting(socks5.NO_LOGIN))
    exactly(sock, 2)
    sock.sendall(socks5.request(Request(Command.CONNECT, Address(lab.topology.correspondent.address, PEER_PORT))))
    assert exactly(sock, 10)[1] == 0
    return sock


class Answers(threading.Thread):
    """Times of what comes back."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(daemon=True)
        self.sock, self.times = sock, [time.monotonic()]
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                exactly(self.sock, BYTES)
                self.times.append(time.monotonic())

    def gap(self, since: float) -> float:
        times = [at for at in self.times if at >= since - 1.0]
        return max(after - before for before, after in itertools.pairwise(times))


def talk(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            sock.sendall(bytes(BYTES))
            time.sleep(PACE)


def up(client: Client) -> dict[str, float]:
    return {row["name"]: row["rtt_ms"] for row in client.call("networks") if row["state"] == "up"}


def both_up(lab: Lab, client: Client) -> None:
    until(lambda: len(up(client)) == len(lab.links), "both networks are up", 30.0)


def probed(lab: Lab, network: str) -> list[float]:
    """Return the milliseconds that TCP connections to the proxy take over a network now."""

    def connect() -> float:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, network.encode())
            began = time.monotonic()
            sock.connect((lab.topology.anchor.address, PROXY_PORT))
            return (time.monotonic() - began) * 1000

    return [namespaces.inside(lab.namespace("mh"), connect) for _ in range(PROBES)]


def ordered(lab: Lab, client: Client, answers: Answers, count: int) -> list[dict[str, Any]]:
    for link in lab.links.values():
        link.set_delay(DELAY_MS)
    time.sleep(3.0)
    found = []
    for _ in range(count):
        both_up(lab, client)
        (before,) = client.call("flows")
        target = next(name for name in up(client) if name != before["network"])
        probes, at = probed(lab, target), time.monotonic()
        client.call("handover", to=target)
        time.sleep(0.3)
        (after,) = client.call("flows")
        rtt = statistics.median(probes + probed(lab, target))
        own = after["gap_ms"] - 2 * rtt
        time.sleep(1.0)
        found.append(
            {"resumed_ms": after["gap_ms"], "gap_ms": round(answers.gap(at) * 1000, 1), "rtt_ms": round(rtt, 1),
             "own_ms": round(own, 1), "round_trips": round(after["gap_ms"] / rtt, 2), "to": target,
             "moved": after["moves"] > before["moves"], "met": own <= 0}
        )  # fmt: skip
    return found


def silent(lab: Lab, client: Client, answers: Answers, count: int) -> list[dict[str, Any]]:
    found = []
    for _ in range(count):
        both_up(lab, client)
        time.sleep(1.5)
        (flow,) = client.call("flows")
        link, died = lab.links[flow["network"]], time.monotonic()
        link.set_silent(True)
        time.sleep(2.0)
        gap = answers.gap(died) * 1000
        (now,) = client.call("flows")
        rtt = up(client).get(now["network"])
        link.set_silent(False)
        if rtt is None:  # a false alarm on the machine's side: neither a figure nor a limit
            found.append({"gap_ms": round(gap, 1), "rtt_ms": None, "from": flow["network"], "to": now["network"]})
            continue
        met = gap <= LIMIT_MS + 2 * rtt
        found.append(
            {"gap_ms": round(gap, 1), "rtt_ms": rtt, "from": flow["network"], "to": now["network"], "met": met}
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--limit", type=float, default=300.0)
    given = parser.parse_args()
    networks = tuple(replace(network, relayed=True) for network in (WIFI, CELLULAR))
    lab = Lab(Topology(prefix=own_prefix("sjb"), access=networks))
    with bounded(given.limit, lab.folder, [lab.namespace(role) for role in lab.roles]), standing(lab):
        result = {"bench": "socks_silence", **machine()}
        client = start(lab)
        both_up(lab, client)
        sock = connected(lab)
        answers = Answers(sock)
        threading.Thread(target=talk, args=(sock,), daemon=True).start()
        result["silent"] = silent(lab, client, answers, given.rounds)
        result["ordered"] = ordered(lab, client, answers, given.rounds)
        print(json.dumps(result, indent=1))


@contextlib.contextmanager
def standing(lab: Lab) -> Iterator[None]:
    try:
        lab.up()
        yield
    finally:
        lab.down()


if __name__ == "__main__":
    main()
