"""The splice beside plain IP forwarding, the relay and dante, turn by turn on the same paths.

    mh (client) ── an (forwards, or is the proxy) ── ch (correspondent)

Every way has three namespaces of its own, all stand at once, and short slices of each follow one another: whatever else
the machine does meets all of them. One-byte ping-pong over TCP (microseconds; both ends pinned; the mean has the strays
in it, "trimmed" is without the slowest hundredth), one flow (Gbit/s and CPU-seconds of the whole machine per 10^9
bytes), what the program costs a packet, and a crowd of spliced sessions: memory of each, bytes a second with one and
with all. "masquerade" is forwarding with the address translation that a home router does; "forwarding" has none.
"""

import argparse
import json
import os
import resource
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench._bounded import bounded
from bench._ground import AN, ANCHOR, CH, MH, TARGET, Ground, busy_seconds, ground, machine
from bench._splice_cost import program_ns
from bench._turns import by_turns, sides
from bench.socks import PORT, dante, sojourn
from sojourn.api.client import Client
from sojourn.lab import namespaces
from sojourn.linux import bpf_pin

PEER_PORT, CHUNK = 9000, 1 << 20
HOWS = ("forwarding", "splice", "relay", "dante", "masquerade")
WITHOUT_PROXY = ("forwarding", "masquerade")
SLICE = 500
"""Ping-pongs of one way before it is the next one's turn."""
SLICE_BYTES = 1 << 30
WARM = 50


def connect(how: str) -> socket.socket:
    """Connect to the peer: directly, or by SOCKS."""
    if how in WITHOUT_PROXY:
        sock = socket.create_connection((TARGET, PEER_PORT), 20.0)
    else:
        sock = socket.create_connection((ANCHOR, PORT), 20.0)
        sock.sendall(b"\5\1\0" + b"\5\1\0\1" + socket.inet_aton(TARGET) + PEER_PORT.to_bytes(2))
        answer = b""
        while len(answer) < 12:
            answer += sock.recv(12 - len(answer))
        assert answer[3] == 0, answer
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def peer() -> None:
    """Serve: a connection's first byte says what it is for."""
    raise_limit()
    choose = selectors.DefaultSelector()
    listening = socket.create_server((TARGET, PEER_PORT), backlog=4096)
    choose.register(listening, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in choose.select():
            if key.fileobj is listening:
                sock, _ = listening.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                choose.register(sock, selectors.EVENT_READ)
            else:
                assert isinstance(key.fileobj, socket.socket)
                if not serve(key.fileobj):
                    choose.unregister(key.fileobj)
                    key.fileobj.close()


def serve(sock: socket.socket) -> bool:
    """Serve what a connection asks for; say whether it may ask for more."""
    try:
        word = sock.recv(1)
        if word == b"e":  # echo so many bytes
            for _ in range(int.from_bytes(sock.recv(4))):
                sock.send(sock.recv(1))
        elif word == b"d":  # so many pieces of data
            data = bytes(CHUNK)
            for _ in range(int.from_bytes(sock.recv(4))):
                sock.sendall(data)
    except OSError:
        return False
    return bool(word)


def client(how: str) -> None:
    """Do what the lines at the standard input say, one at a time."""
    os.sched_setaffinity(0, {0})
    pings, flow, space = connect(how), connect(how), bytearray(CHUNK)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        word, number = line.split()
        found = pingpong(pings, int(number)) if word == "ping" else drain(flow, int(number), space)
        print(json.dumps(found), flush=True)


def pingpong(sock: socket.socket, count: int) -> list[float]:
    """Return the microseconds of each; the first ones, which wake everything up, are left out."""
    sock.send(b"e" + (count + WARM).to_bytes(4))
    took = []
    for _ in range(count + WARM):
        began = time.perf_counter()
        sock.send(b"x")
        sock.recv(1)
        took.append((time.perf_counter() - began) * 1e6)
    return took[WARM:]


def drain(sock: socket.socket, size: int, space: bytearray) -> tuple[float, float]:
    """Return the seconds that so many bytes took, and the processors' seconds."""
    before, began = busy_seconds(), time.monotonic()
    sock.send(b"d" + (size // CHUNK).to_bytes(4))
    left = size // CHUNK * CHUNK
    while left:
        left -= sock.recv_into(space)
    return time.monotonic() - began, busy_seconds() - before


def crowd(count: int, seconds: float) -> dict[str, float]:
    """Open idle sessions beside one that carries; say what it carries without them and with them."""
    raise_limit()
    space, size = bytearray(CHUNK), round(seconds * 2e9)
    alone = size * 8e-9 / drain(connect("splice"), size, space)[0]
    kept = []
    began = time.monotonic()
    for _ in range(count):
        kept.append(connect("splice"))
    opened = time.monotonic() - began
    together = size * 8e-9 / drain(connect("splice"), size, space)[0]
    print(json.dumps({"opened": len(kept)}), file=sys.stderr, flush=True)
    result = {"alone_gbit_s": alone, "among_all_gbit_s": together, "sessions_per_s": count / opened}
    print(json.dumps(result), flush=True)
    sys.stdin.read(1)
    return result


def raise_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def summed(found: dict[str, list[Any]]) -> dict[str, float]:
    """Return what the slices of one way amount to."""
    pings = sorted(took for slice_of in found["ping"] for took in slice_of)
    seconds, busy = (sum(column) for column in zip(*found["drain"], strict=True))
    size = len(found["drain"]) * SLICE_BYTES
    return {
        "median_us": round(statistics.median(pings), 2), "mean_us": round(statistics.mean(pings), 2),
        "trimmed_us": round(statistics.mean(pings[: len(pings) * 99 // 100]), 2),
        "gbit_s": round(statistics.median(SLICE_BYTES * 8e-9 / one[0] for one in found["drain"]), 2),
        "gbit_s_mean": round(size * 8e-9 / seconds, 2), "cpu_s_per_gb": round(busy / (size / 1e9), 3),
    }  # fmt: skip


def side(how: str, limit: float) -> None:
    """Be the process of a way (`_turns.Side`)."""
    with ground(limit=limit) as built:
        begin(built, how)
        words = ["--role", "client", "--how", how]
        argv = namespaces.entering(MH, [sys.executable, "-m", "bench.splice", *words])
        subprocess.run(argv, check=True)


def begin(built: Ground, how: str) -> None:
    bpf_pin.place()
    if how == "dante":
        dante(built)
    elif how == "forwarding":
        namespaces.run(AN, "nft", "delete table ip bench")
        namespaces.ip(CH, ["route add 192.0.2.0/24 via 198.18.0.1"])
    elif how != "masquerade":
        os.environ["SOJOURN_SPLICE"] = "off" if how == "relay" else "on"
        sojourn(built, "sessions_per_user = 20000")
        mode = Client(f"{built.folder}/an.sock").call("status")["socks"]["mode"]
        assert mode == how, mode
    built.start(CH, "peer", "taskset", "-c", "1", sys.executable, "-m", "bench.splice", "--role", "peer")
    time.sleep(1.5)


def memory() -> int:
    """Return the kernel's memory that is neither free nor cache, and what the processes have, in bytes."""
    fields = {line.split(":")[0]: int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines()}
    return (fields["MemTotal"] - fields["MemAvailable"]) * 1024


def resident(built: Ground) -> int:
    child = next(child for child in built.children if child.name == "proxy")
    lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def many(count: int, seconds: float) -> dict[str, Any]:
    """Measure a crowd: what a session costs at the proxy's process and in all (both ends' sockets are here, too)."""
    with ground() as built:
        begin(built, "splice")
        before, own = memory(), resident(built)
        words = ["--role", "crowd", "--sessions", str(count), "--seconds", str(seconds)]
        argv = [sys.executable, "-m", "bench.splice", *words]
        with subprocess.Popen(namespaces.entering(MH, argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            found = json.loads(process.stdout.readline())
            status = Client(f"{built.folder}/an.sock").call("status")["socks"]
            found["spliced"] = status["splice"]["sessions"]
            found["proxy_bytes_per_session"] = round((resident(built) - own) / count)
            found["machine_bytes_per_session"] = round((memory() - before) / count)
            process.communicate(b"\n", timeout=60)
    return dict(found)


def duel(hows: list[str], runs: int, pings: int, slices: int) -> dict[str, dict[str, float]]:
    """Measure the ways turn by turn; every second turn the other way round."""
    program = [sys.executable, "-m", "bench.splice", "--role", "side", "--how"]
    with sides({how: [*program, how] for how in hows}) as (standing, _):
        for _ in range(runs):
            for turn in range(max(pings // SLICE, 1)):
                for one in by_turns(standing, turn):
                    one.ask("ping", SLICE)
            for turn in range(slices):
                for one in by_turns(standing, turn):
                    one.ask("drain", SLICE_BYTES)
        return {one.name: summed(one.found) for one in standing}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="of the crowd's flow")
    parser.add_argument("--count", type=int, default=10_000, help="ping-pongs of each way in a run")
    parser.add_argument("--slices", type=int, default=6, help="of a gigabyte, of each way in a run")
    parser.add_argument("--sessions", type=int, default=5_000)
    parser.add_argument("--hows", default=",".join(HOWS))
    parser.add_argument("--limit", type=float, default=345.0, help="seconds after which all ends, done or not")
    parser.add_argument("--role")
    parser.add_argument("--how", default="splice")
    given = parser.parse_args()
    if given.role == "crowd":
        crowd(given.sessions, given.seconds)
    elif given.role == "peer":
        peer()
    elif given.role == "client":
        client(given.how)
    elif given.role == "side":
        side(given.how, given.limit)
    if given.role is not None:
        return
    result: dict[str, Any] = {"bench": "splice", **machine(), "program_ns": program_ns()}
    hows = [how for how in given.hows.split(",") if how != "dante" or shutil.which("danted")]
    with tempfile.TemporaryDirectory() as folder, bounded(given.limit, Path(folder), []):
        ways = result["ways"] = duel(hows, given.runs, given.count, given.slices)
        result["splice / forwarding"] = {
            key: round(ways["splice"][key] / ways["forwarding"][key], 3) for key in ways["splice"]
        }  # fmt: skip
        if given.sessions:
            result["crowd"] = many(given.sessions, given.seconds)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
