"""The splice beside plain IP forwarding, the relay and dante, on one path and in one run.

    mh (client) ── an (forwards, or is the proxy) ── ch (correspondent)

One-byte ping-pong over TCP (microseconds, mean and median, both ends pinned), one flow (Gbit/s, CPU-seconds of the
whole machine per 10^9 bytes), and a crowd of spliced sessions: memory of each, bytes a second with one and with all.
"""

import argparse
import json
import os
import resource
import selectors
import shutil
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from bench._ground import ANCHOR, CH, MH, TARGET, Ground, busy_seconds, ground, machine, median
from bench.socks import PORT, dante, sojourn
from sojourn.api.client import Client
from sojourn.linux import bpf_pin

PEER_PORT, CHUNK = 9000, 1 << 20
HOWS = ("forwarding", "splice", "relay", "dante")


def connect(how: str) -> socket.socket:
    """Connect to the peer: directly, or by SOCKS."""
    if how == "forwarding":
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
    data = bytes(CHUNK)
    while True:
        for key, _ in choose.select():
            if key.fileobj is listening:
                sock, _ = listening.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                choose.register(sock, selectors.EVENT_READ)
                continue
            sock = key.fileobj  # type: ignore[assignment]
            word = sock.recv(1)
            if word == b"e":  # echo, until the end
                while byte := sock.recv(1):
                    sock.send(byte)
            elif word == b"d":  # data, for as long as somebody listens
                try:
                    while True:
                        sock.sendall(data)
                except OSError:
                    pass
            if word != b"i":  # idle, until it is needed
                choose.unregister(sock)
                sock.close()


def pingpong(how: str, count: int) -> dict[str, float]:
    os.sched_setaffinity(0, {0})
    sock = connect(how)
    sock.send(b"e")
    time.sleep(0.5)
    took = []
    for _ in range(count):
        began = time.perf_counter()
        sock.send(b"x")
        sock.recv(1)
        took.append(time.perf_counter() - began)
    took = took[count // 10 :]
    return {"mean_us": statistics.mean(took) * 1e6, "median_us": statistics.median(took) * 1e6}


def drain(sock: socket.socket, seconds: float) -> dict[str, float]:
    sock.send(b"d")
    space, count = bytearray(CHUNK), 0
    sock.recv_into(space)
    before, began = busy_seconds(), time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        count += sock.recv_into(space)
    return {"gbit_s": count * 8e-9 / passed, "cpu_s_per_gb": (busy_seconds() - before) / (count / 1e9)}


def crowd(count: int, seconds: float) -> dict[str, float]:
    """Open idle sessions beside one that carries; say what it carries without them and with them."""
    raise_limit()
    alone = drain(connect("splice"), seconds)["gbit_s"]
    kept = []
    began = time.monotonic()
    for _ in range(count):
        kept.append(connect("splice"))
        kept[-1].send(b"i")
    opened = time.monotonic() - began
    together = drain(connect("splice"), seconds)["gbit_s"]
    print(json.dumps({"opened": len(kept)}), file=sys.stderr, flush=True)
    result = {"alone_gbit_s": alone, "among_all_gbit_s": together, "sessions_per_s": count / opened}
    print(json.dumps(result), flush=True)
    sys.stdin.read(1)
    return result


def raise_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def begin(built: Ground, how: str) -> None:
    bpf_pin.place()
    if how == "dante":
        dante(built)
    elif how != "forwarding":
        os.environ["SOJOURN_SPLICE"] = "off" if how == "relay" else "on"
        sojourn(built, "sessions_per_user = 20000")
        mode = Client(f"{built.folder}/an.sock").call("status")["socks"]["mode"]
        assert mode == how, mode
    built.start(CH, "peer", "taskset", "-c", "1", sys.executable, "-m", "bench.splice", "--role", "peer")
    time.sleep(1.5)


def ask(built: Ground, role: str, how: str, *words: str) -> dict[str, float]:
    argv = [sys.executable, "-m", "bench.splice", "--role", role, "--how", how, *words]
    return dict(json.loads(built.run(MH, *argv, timeout=180.0)))


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
    import subprocess

    from sojourn.lab import namespaces

    with ground() as built:
        begin(built, "splice")
        before, own = memory(), resident(built)
        words = ["--role", "crowd", "--count", str(count), "--seconds", str(seconds)]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--sessions", type=int, default=5_000)
    parser.add_argument("--role")
    parser.add_argument("--how", default="splice")
    given = parser.parse_args()
    if given.role == "peer":
        peer()
    elif given.role == "ping":
        print(json.dumps(pingpong(given.how, given.count)))
    elif given.role == "drain":
        print(json.dumps(drain(connect(given.how), given.seconds)))
    elif given.role == "crowd":
        crowd(given.count, given.seconds)
    if given.role:
        return
    result: dict[str, Any] = {"bench": "splice", **machine()}
    hows = [how for how in HOWS if how != "dante" or shutil.which("danted")]
    found: dict[str, list[dict[str, float]]] = {how: [] for how in hows}
    for turn in range(given.runs):
        for how in hows if turn % 2 == 0 else reversed(hows):
            with ground() as built:
                begin(built, how)
                ping = ask(built, "ping", how, "--count", str(given.count))
                found[how].append(ping | ask(built, "drain", how, "--seconds", str(given.seconds)))
    result["ways"] = {how: {key: median([one[key] for one in runs]) for key in runs[0]} for how, runs in found.items()}
    plain, ours = result["ways"]["forwarding"], result["ways"]["splice"]
    result["splice / forwarding"] = {key: round(ours[key] / plain[key], 3) for key in plain}
    if given.sessions:
        result["crowd"] = many(given.sessions, given.seconds)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
