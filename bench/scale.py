"""The anchor at scale: 10 to 10,000 associations with three tunnels, ten flows and one open TLS connection each.

Prints memory per association and per flow, registrations a second (TLS handshake, digest, credential), what the
anchor takes of one processor while nobody talks (keep-alives of all tunnels every 25 s), and the data path's processor
time per packet (up and echoed down) at each size, with ten talking at a time:

    us_per_packet    the same ten all the time, from all over the crowd: the same traffic at each size
    us_per_long      ten others after 400 packets each
    us_per_short     after 40 packets: each beginning is followed by two seconds of frequent probes

Keep-alives of all tunnels go on meanwhile, and their cost is part of it; packets are all that the tunnels carry, those
too. The first size is the peer of the others: it has an anchor and a crowd of its own, and both talk
turn by turn. The clock of a crowd stands still while the other one talks: no keep-alives are made up for after it.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from bench._crowd import ANSWERING, PORT
from bench._ground import AN, ANCHOR, CH, MH, Ground, cpu_seconds, ground, machine, median
from bench._turns import Side, by_turns, sides
from sojourn.api.client import Client
from sojourn.control import subscribers
from sojourn.control.token import SECRET_BYTES
from sojourn.lab import namespaces
from sojourn.lab.daemons import set_keys
from sojourn.lab.processes import Piped
from sojourn.linux.keeper import raise_descriptors
from sojourn.store import keys
from sojourn.store.config_dir import ConfigDir
from sojourn.store.sqlite import SqliteStore

SOURCES = 64
GROW: Final = "grow"
TALKS: Final = {"us_per_packet": 0, "us_per_long": 400, "us_per_short": 40}
"""Kinds of talk: how many packets in one go; 0: the same ten all the time."""
IDLE = 26.0
"""Seconds for which nobody talks: each tunnel has its keep-alive in them."""
ECHO = f"""
import select, socket
waiting, by_fd = select.epoll(), {{}}
for port in range({PORT}, {PORT + ANSWERING}):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", port)); s.setblocking(False)
    s.setsockopt(socket.SOL_SOCKET, 33, 16 << 20); waiting.register(s, select.EPOLLIN); by_fd[s.fileno()] = s
print("ready", flush=True)
while True:
    for fd, _ in waiting.poll():
        data, where = by_fd[fd].recvfrom(2048); by_fd[fd].sendto(data, where)
"""


class Anchor:
    """A real anchor on the ground, and its two processes from outside."""

    def __init__(self, built: Ground, hosts: int) -> None:
        program = (sys.executable, "-m", "sojourn")
        folder, self.socket = built.folder / "anchor", str(built.folder / "anchor.sock")
        built.run(AN, *program, "init", "--config-dir", str(folder), "--address", ANCHOR, "--pool", "10.201.0.0/16")
        set_keys(folder / "anchor.toml", uplink='"an1"')
        self.tokens = tokens(ConfigDir(str(folder)), hosts)
        self.process = built.start(
            AN, "anchor", *program, "anchor", "--config-dir", str(folder), "--socket", self.socket
        )
        self.process.wait_for("ready", 20)
        self.client = Client(self.socket, 120.0)

    def data_path(self) -> int:
        """Return the data-path process that works: its spare has used less."""
        spent: dict[int, float] = {}
        for pid in namespaces.pids(AN):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if b"sojourn.datapath.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    spent[pid] = cpu_seconds(pid)
        return max(spent, key=spent.__getitem__)

    def threads(self) -> dict[str, float]:
        """Return the processor time of each kind of thread of the data path in seconds: `loop` is Python's."""
        spent: dict[str, float] = {}
        pid = self.data_path()
        for task in Path(f"/proc/{pid}/task").iterdir():
            name = "loop" if task.name == str(pid) else (task / "comm").read_text().strip()
            spent[name] = spent.get(name, 0.0) + int((task / "schedstat").read_text().split()[0]) / 1e9
        return spent

    def state(self) -> dict[str, float]:
        control, path = self.process.pid, self.data_path()
        return {
            "control_cpu_s": cpu_seconds(control), "path_cpu_s": cpu_seconds(path), "control_mb": resident(control),
            "path_mb": resident(path),
        }  # fmt: skip

    def packets(self) -> int:
        """Return how many packets all tunnels have carried. To say so is work, too: not while that is timed.

        A data path that is late is not waited for: `status` has its last word then. The first one makes it speak.
        """
        self.client.call("status")
        time.sleep(1.0)
        totals = self.client.call("status")["totals"]
        return int(totals.get("packets_in", 0) + totals.get("packets_out", 0))


def tokens(directory: ConfigDir, count: int) -> list[str]:
    """Invite so many hosts, as `sojourn anchor token` does where no anchor runs, but all at once."""
    store, identity, config = SqliteStore(str(directory.database)), keys.load(directory), directory.anchor()
    both = identity.spki, identity.socks_key
    try:
        invited = [
            subscribers.invite(config, {}, f"crowd{number}", os.urandom(SECRET_BYTES), both, 0.0)
            for number in range(count)
        ]
        store.put(*(subscriber for subscriber, _ in invited))
    finally:
        store.close()
    return [str(token) for _, token in invited]


def resident(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def order(crowd: Piped, **wanted: float) -> dict[str, Any]:
    began = time.monotonic()
    crowd.stdin.write(json.dumps(wanted).encode() + b"\n")
    crowd.stdin.flush()
    told = dict(json.loads(answer(crowd)))
    print(f"{wanted}: {time.monotonic() - began:.1f} s {told or ''}", file=sys.stderr, flush=True)
    return told


def answer(crowd: Piped) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        more = crowd.read()
        if not more:
            raise RuntimeError(f"the crowd ended: {crowd.end()[1][-2000:]}")
        data += more
    return data


def measure(anchor: Anchor, crowd: Piped, size: int) -> dict[str, Any]:
    """Bring the crowd to `size`; say what that took, and what nobody's talking takes."""
    before = anchor.state()
    registered = order(crowd, register=size)
    order(crowd, idle=1)
    joined = anchor.state()
    flows = order(crowd, flows=10, ports=ANSWERING)
    order(crowd, idle=1)
    talking = anchor.state()
    idle = idling(anchor, crowd)
    return {
        "associations": size, "registered": registered, "anchor_register_cpu_s": round(
            joined["control_cpu_s"] - before["control_cpu_s"] + joined["path_cpu_s"] - before["path_cpu_s"], 2),
        "flows": flows["flows"], "memory_mb": {key: round(talking[key], 1) for key in ("control_mb", "path_mb")},
        "joined_mb": {key: round(joined[key], 1) for key in ("control_mb", "path_mb")},
        "grown_by_flows_mb": round(talking["path_mb"] - joined["path_mb"], 2), "idle_percent": idle,
    }  # fmt: skip


def talk(anchor: Anchor, crowd: Piped, packets: int, size: int, words: int) -> dict[str, Any]:
    """Let some talk, and say what each packet has cost the data path."""
    order(crowd, idle=3)  # what was talked before is not probed any more
    before, threads = anchor.packets(), anchor.threads()
    order(crowd, send=packets, hosts=size, words=words)
    order(crowd, idle=3)
    spent = anchor.threads()
    moved = max(1, anchor.packets() - before)
    split = {name: round((spent[name] - threads.get(name, 0.0)) / moved * 1e6, 2) for name in spent}
    return {"packets": moved, "us_per_packet": round(sum(split.values()), 1), "us_by_thread": split}


def idling(anchor: Anchor, crowd: Piped) -> dict[str, float]:
    """Let nobody talk, and say what part of one processor each of the anchor's processes takes."""
    order(crowd, idle=5)
    before, began = anchor.state(), time.monotonic()
    order(crowd, idle=IDLE)
    after, took = anchor.state(), time.monotonic() - began
    names = {"control": "control_cpu_s", "path": "path_cpu_s"}
    return {name: round((after[key] - before[key]) / took * 100, 2) for name, key in names.items()}


def serve(most: int, limit: float) -> None:
    """Be one anchor with its crowd, of up to `most`, and do what the lines at the standard input say."""
    with ground(limit=limit) as built:
        namespaces.ip(MH, [f"addr add 192.0.2.{10 + number}/24 dev mh0" for number in range(SOURCES)])
        anchor = Anchor(built, most)
        built.start(CH, "echo", sys.executable, "-c", ECHO).wait_for("ready", 5)
        names = built.folder / "tokens"
        names.write_text("\n".join(anchor.tokens) + "\n")
        argv = [sys.executable, "-m", "bench._crowd", str(names), str(SOURCES)]
        with Piped(namespaces.entering(MH, ["env", f"PYTHONPATH={os.getcwd()}:{os.getcwd()}/src", *argv])) as crowd:
            print(json.dumps(answer(crowd).decode().strip()), flush=True)
            size = 0
            for line in sys.stdin:
                word, number = line.split()
                if word == GROW:
                    size = int(number)
                    found = measure(anchor, crowd, size)
                else:
                    found = talk(anchor, crowd, int(number), size, TALKS[word])
                print(json.dumps(found), flush=True)
            crowd.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10,10000")
    parser.add_argument("--packets", type=int, default=12000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--limit", type=float, default=840.0, help="end after so many seconds")
    parser.add_argument("--side", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    raise_descriptors()
    if given.side:
        serve(given.side, given.limit)
        return
    sizes = [int(size) for size in given.sizes.split(",")]
    result: dict[str, Any] = {"bench": "scale", **machine(), "sizes": []}
    began = time.monotonic()
    words = [sys.executable, "-m", "bench.scale", "--limit", str(given.limit), "--side"]
    try:
        with sides({"few": [*words, str(sizes[0])], "many": [*words, str(max(sizes))]}) as ((few, many), _):
            result["sizes"].append(few.ask(GROW, sizes[0]))
            for size in sizes[1:]:
                grown = many.ask(GROW, size)
                by_turn = {word: talks(few, many, word, given.packets, given.turns) for word in TALKS}
                result["sizes"].append(grown | {"turns": by_turn})
                note(result["sizes"][0], 0, by_turn)
                note(grown := result["sizes"][-1], 1, by_turn)
                print(json.dumps(grown), file=sys.stderr, flush=True)
    finally:
        summarize(result)
        result["took_s"] = round(time.monotonic() - began, 1)
        print(json.dumps(result, indent=1))


def talks(few: Side, many: Side, word: str, packets: int, turns: int) -> list[list[dict[str, Any]]]:
    """Let both talk, turn by turn; return what each turn gave, [few, many]."""
    found: list[list[dict[str, Any]]] = []
    for turn in range(turns):
        said = {side.name: side.ask(word, packets) for side in by_turns([few, many], turn)}
        found.append([said[few.name], said[many.name]])
    return found


def note(size: dict[str, Any], place: int, by_turn: dict[str, list[list[dict[str, Any]]]]) -> None:
    """Write down medians of what the turns gave for one of the sides."""
    for word, turns in by_turn.items():
        size[word] = median([turn[place]["us_per_packet"] for turn in turns], 1)


def summarize(result: dict[str, Any]) -> None:
    """Say what one association and one flow take, and how cost has grown."""
    if len(result["sizes"]) < 2:
        return
    first, last = result["sizes"][0], result["sizes"][-1]
    before = result["sizes"][-2] if len(result["sizes"]) > 2 else first
    joined = sum(last["joined_mb"].values()) - sum(before["memory_mb"].values())
    result["kb_per_association_with_3_tunnels"] = round(
        joined * 1024 / (last["associations"] - before["associations"]), 2
    )
    result["kb_per_flow"] = round(last["grown_by_flows_mb"] * 1024 / (last["flows"] - before["flows"]), 2)
    for word in TALKS:
        result[f"{word}_grew"] = round(last[word] / max(0.1, first[word]), 2)


if __name__ == "__main__":
    main()
