"""Plain tunnels in the kernel beside bare forwarding and VXLAN: one TCP flow, small packets, handovers at full load.

    super      veths pass super-packets whole, as between virtual machines and containers
    split      they are cut before the cable, as by a card without tunnel offloads; GRO at the receiver off
    split-gro  the same with GRO on

All peers stand at once, and short slices of each follow one another (bench/_turns.py). Both ends are pinned. Ratios are
to `bare`. Small packets: datagrams a second that one sender brings to the target's interface while under a hundredth is
lost, and processor time of the sender for each, in which the kernel does nearly all of the way.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench._bounded import bounded
from bench._ground import AN, ANCHOR, MH, TARGET, Ground, answers, machine, median, until
from bench._peers import Missing, bare, sojourn_plain
from bench._turns import by_turns, client, peer, serve, sides
from sojourn.api.client import Client
from sojourn.lab import namespaces
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import CORRESPONDENT, MOBILE_HOST, Lab, Topology

SLICE_BYTES: Final = {"super": 1 << 30, "split": 1 << 27, "split-gro": 1 << 28}
"""By mode: a slice of a TCP flow, some tenths of a second."""
SHARE: Final = 0.2
"""Of the limit, a mode's slices: on a busy machine there are fewer turns than asked for."""
LOST: Final = 0.01
"""The part of datagrams that may be lost."""
NEAR: Final = 0.1
"""Seconds after a handover in which a gap counts as its own."""

SERVER: Final = """
import json, socket, sys, time
up, seconds = sys.argv[2] == "up", float(sys.argv[3])
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", 5002)); s.listen(); print("ready", flush=True)
c, _ = s.accept()
"""
CLIENT: Final = """
import json, socket, sys, time
up, seconds = sys.argv[2] == "up", float(sys.argv[3])
c = socket.create_connection((sys.argv[1], 5002))
"""
SEND: Final = """
end, block = time.monotonic() + seconds, b"x" * (1 << 17)
while time.monotonic() < end: c.sendall(block)
c.close()
"""
RECEIVE: Final = """
times, room, total = [], bytearray(1 << 18), 0
while got := c.recv_into(room):
    total += got; times.append(time.monotonic())
gaps = sorted(((b - a, a) for a, b in zip(times, times[1:])), reverse=True)[:2000]
print(json.dumps({"bytes": total, "seconds": times[-1] - times[0], "gaps": gaps}), flush=True)
print("told", flush=True)
"""


def vxlan(built: Ground) -> None:
    """The kernel's VXLAN device between the same two, as routed tunnel; its MTU leaves room for the outer headers."""
    for namespace, local, remote, address in (
        (MH, "192.0.2.1", ANCHOR, "10.200.0.2/24"), (AN, ANCHOR, "192.0.2.1", "10.200.0.1/24"),
    ):  # fmt: skip
        made = f"link add vx type vxlan id 7 local {local} remote {remote} dstport 4789"
        try:
            namespaces.ip(namespace, [made])
        except namespaces.LabError as error:
            raise Missing(f"this kernel has no VXLAN: {error}") from error
        namespaces.ip(namespace, [f"addr add {address} dev vx", "link set vx mtu 1450 up"])
    namespaces.ip(MH, [f"route add {TARGET}/32 via 10.200.0.1"])
    until(lambda: answers(built), "vxlan")


def kernel(built: Ground) -> None:
    """Ours; an anchor or host that the engine serves would not be it."""
    os.environ["SOJOURN_ENGINE"] = "kernel"
    sojourn_plain(built)
    for role in ("host", "anchor"):
        said = Client(str(built.folder / f"{role}.sock")).call("status")
        path = said["data_path"] if isinstance(said, dict) and "data_path" in said else {}
        if not path.get("kernel"):
            raise Missing(f"the kernel path does not serve at the {role}: {path.get('why')}")


PEERS: Final[dict[str, Callable[[Ground], None]]] = {"bare": bare, "vxlan": vxlan, "kernel": kernel}


def offloads(mode: str) -> None:
    """Make the cable between host and anchor one of this mode."""
    if mode == "super":
        return
    gro = "off" if mode == "split" else "on"
    for name, device in ((MH, "mh0"), (AN, "an0")):
        words = ("tso", "off", "tx-udp-segmentation", "off", "tx-udp_tnl-segmentation", "off",
                 "tx-udp_tnl-csum-segmentation", "off", "gso", "on", "gro", gro)  # fmt: skip
        namespaces.run(name, "ethtool", "-K", device, *words)


def rounds(given: argparse.Namespace, mode: str) -> dict[str, Any]:
    """Measure all peers in one mode, turn by turn; every second turn the other way round."""
    program = [sys.executable, "-m", "bench.kernel", "--mode", mode, "--limit", str(given.limit), "--role"]
    with sides({name: [*program, name] for name in given.peers.split(",")}) as (standing, missing):
        end = time.monotonic() + given.limit * SHARE
        for turn in range(given.turns + 1):
            if turn > 1 and time.monotonic() > end:
                break
            if turn == 1:  # what the first one found belongs to cold caches, and to flows that have just begun
                for side in standing:
                    side.found.clear()
            for word in ("up", "down", "small")[: 3 if mode == "super" else 2]:
                for side in by_turns(standing, turn):
                    side.ask(word, given.seconds if word == "small" else SLICE_BYTES[mode])
        peers: dict[str, Any] = {name: {"peer missing": why} for name, why in missing.items()}
        peers |= {side.name: summary(side.found, SLICE_BYTES[mode]) for side in standing}
    turns = max((len(side.found["up"]) for side in standing), default=0)
    return {"turns": turns, "peers": peers, "ratios": ratios(peers)}


def summary(found: dict[str, list[list[float]]], size: int) -> dict[str, Any]:
    """Return the medians of one peer's slices; of datagrams those of the slices that lost under `LOST`."""
    out: dict[str, Any] = {
        word: {"gbit_s": median([size * 8e-9 / seconds for seconds, _ in found[word]]),
               "cpu_s_per_gb": median([sum(busy for _, busy in found[word]) / len(found[word]) / (size / 1e9)])}
        for word in ("up", "down")
    }  # fmt: skip
    if "small" in found:
        losses = [max(1 - arrived / sent, 0.0) for sent, _, _, arrived in found["small"]]
        good = [one for one, lost in zip(found["small"], losses, strict=True) if lost < LOST]
        out["small"] = {"lost": median(losses, 4), "slices_within_bound": len(good), "slices": len(losses)}
        if good:
            out["small"] |= {"packets_s": median([arrived / took for _, took, _, arrived in good], 0),
                             "cpu_us": median([used / arrived * 1e6 for _, _, used, arrived in good])}  # fmt: skip
    return out


def ratios(peers: dict[str, Any]) -> dict[str, Any]:
    """Return each peer's part of what bare forwarding carries, TCP in both directions together."""
    base = peers.get("bare", {})
    out: dict[str, Any] = {}
    for name, one in peers.items():
        if name == "bare" or "up" not in one or "up" not in base:
            continue
        part = (one["up"]["gbit_s"] + one["down"]["gbit_s"]) / (base["up"]["gbit_s"] + base["down"]["gbit_s"])
        out[name] = {"tcp": round(part, 3)}
        if "packets_s" in one.get("small", {}) and "packets_s" in base.get("small", {}):
            out[name]["small"] = round(one["small"]["packets_s"] / base["small"]["packets_s"], 3)
            out[name]["small_by_cpu"] = round(base["small"]["cpu_us"] / one["small"]["cpu_us"], 3)
    return out


def tcp_counts(lab: Lab, role: str) -> dict[str, int]:
    """Return a namespace's TCP counters by the kernel's names."""
    lines = lab.run(role, "cat", "/proc/net/netstat", "/proc/net/snmp").splitlines()
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return {name: int(value) for names, values in pairs if names.startswith(("Tcp:", "TcpExt:"))
            for name, value in list(zip(names.split(), values.split(), strict=True))[1:]}  # fmt: skip


def handovers(count: int, up: bool, *, moving: bool = True) -> dict[str, Any]:
    """Hand a TCP flow at full speed over, again and again; compare the gaps then with the run's other gaps.

    Not `moving`: at those times it is ordered to stay where it is. What an order costs beside the flow, processor time
    of the command and of the daemons on the same two processors, is in both; what is out of order or sent again, too.
    """
    os.environ["SOJOURN_ENGINE"] = "kernel"
    lab = Lab(Topology(prefix=f"kpb{os.getpid() % 10000}"))
    lab.up()
    try:
        daemons = Daemons(lab)
        daemons.set_up()
        daemons.configure("an", plain_tunnels="true")
        daemons.configure("mh", tunnels='"plain"')
        daemons.start()
        target, way = lab.topology.correspondent.address, "up" if up else "down"
        seconds = str(1.0 + 0.5 * count)
        receives, sends = (SERVER + RECEIVE, CLIENT + SEND) if up else (SERVER + SEND, CLIENT + RECEIVE)
        server = lab.start(CORRESPONDENT, "flood", ["taskset", "-c", "1", sys.executable, "-c", receives, target, way,
                                                    seconds])  # fmt: skip
        server.wait_for("ready", 5)
        client = lab.start(MOBILE_HOST, "flood", ["taskset", "-c", "0", sys.executable, "-c", sends, target, way,
                                                  seconds])  # fmt: skip
        sender, receiver_role = (MOBILE_HOST, CORRESPONDENT) if up else (CORRESPONDENT, MOBILE_HOST)
        before = tcp_counts(lab, receiver_role) | {"RetransSegs": tcp_counts(lab, sender)["RetransSegs"]}
        moved = []
        for number in range(count):
            time.sleep(0.5)
            daemons.hand_over("cellular" if moving and number % 2 == 0 else "wifi")
            moved.append(time.monotonic())
        receiver = server if up else client
        receiver.wait_for("told", 30)
        said = json.loads(receiver.output().strip().splitlines()[-2])
        after = tcp_counts(lab, receiver_role) | {"RetransSegs": tcp_counts(lab, sender)["RetransSegs"]}
        daemons.stop()
    finally:
        lab.down()
    own = [gap for gap, at in said["gaps"] if any(-NEAR < at - when < NEAR for when in moved)]
    others = [gap for gap, at in said["gaps"] if not any(-NEAR < at - when < NEAR for when in moved)]
    return {
        "handovers": count,
        "gbit_s": round(said["bytes"] * 8 / said["seconds"] / 1e9, 2),
        "longest_gap_at_a_handover_ms": round(max(own, default=0.0) * 1000, 2),
        "longest_other_gap_ms": round(max(others, default=0.0) * 1000, 2),
        "gaps_ms": {
            "at_handovers": [round(gap * 1000, 1) for gap in own[:8]],
            "others": [round(gap * 1000, 1) for gap in others[:8]],
        },
        "out_of_order": after["TCPOFOQueue"] - before["TCPOFOQueue"],
        "sent_again": after["RetransSegs"] - before["RetransSegs"],
    }


def serve_side(given: argparse.Namespace) -> None:
    """Be one of the processes of `rounds`."""
    if given.part == "peer":
        peer()
    elif given.part == "client":
        client()
    else:

        def begin(built: Ground) -> None:
            offloads(given.mode)
            PEERS[given.role](built)

        serve(begin, [sys.executable, "-m", "bench.kernel", "--role", given.role], given.limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.4, help="of a slice of datagrams")
    parser.add_argument("--modes", default=",".join(SLICE_BYTES))
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--handovers", type=int, default=8)
    parser.add_argument("--limit", type=float, default=230.0, help="seconds after which what still stands is removed")
    parser.add_argument("--role", choices=PEERS)
    parser.add_argument("--mode", choices=SLICE_BYTES)
    parser.add_argument("part", nargs="?", choices=("peer", "client"))
    given = parser.parse_args()
    if given.role is not None:
        serve_side(given)
        return
    result: dict[str, Any] = {"bench": "kernel", **machine(), "load": os.getloadavg()[0], "modes": {}}
    with tempfile.TemporaryDirectory() as folder, bounded(given.limit, Path(folder), []):
        for mode in filter(None, given.modes.split(",")):
            result["modes"][mode] = rounds(given, mode)
        if given.handovers:
            for name, moving in (("handover", True), ("no_handover", False)):
                result[name] = {way: handovers(given.handovers, way == "up", moving=moving) for way in ("up", "down")}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
