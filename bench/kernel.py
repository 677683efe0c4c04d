"""Plain tunnels in the kernel beside bare forwarding and VXLAN: one TCP flow, small packets, handovers at full load.

    super      veths pass super-packets whole, as between virtual machines and containers
    split      they are cut before the cable, as by a card without tunnel offloads; GRO at the receiver off
    split-gro  the same with GRO on

In each round every peer is measured once, so that noise hits all. Both ends are pinned. Ratios are to `bare`.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from bench._ground import AN, ANCHOR, CH, MH, TARGET, Ground, answers, ground, machine, median, until
from bench._peers import Missing, bare, sojourn_plain
from bench.throughput import measure
from sojourn.api.client import Client
from sojourn.lab import namespaces
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import CORRESPONDENT, MOBILE_HOST, Lab, Topology

MODES: Final = {"super": None, "split": "off", "split-gro": "on"}
"""By mode: GRO, or None where nothing is turned off."""
NEAR: Final = 0.1
"""Seconds after a handover in which a gap counts as its own."""

BLAST: Final = """
import json, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((sys.argv[1], 9))
data, sent = b"x" * 64, 0
s.send(data); time.sleep(0.3)
began = time.monotonic(); end = began + float(sys.argv[2])
while time.monotonic() < end:
    for _ in range(200):
        try: s.send(data)
        except OSError: continue
        sent += 1
print(json.dumps([sent, time.monotonic() - began]))
"""
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
    """The kernel's VXLAN device between the same two, as routed tunnel."""
    for namespace, local, remote, address in (
        (MH, "192.0.2.1", ANCHOR, "10.200.0.2/24"), (AN, ANCHOR, "192.0.2.1", "10.200.0.1/24"),
    ):  # fmt: skip
        made = f"link add vx type vxlan id 7 local {local} remote {remote} dstport 4789"
        try:
            namespaces.ip(namespace, [made])
        except namespaces.LabError as error:
            raise Missing(f"this kernel has no VXLAN: {error}") from error
        namespaces.ip(namespace, [f"addr add {address} dev vx", "link set vx up"])
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
    gro = MODES[mode]
    if gro is None:
        return
    for name, device in ((MH, "mh0"), (AN, "an0")):
        words = ("tso", "off", "tx-udp-segmentation", "off", "tx-udp_tnl-segmentation", "off",
                 "tx-udp_tnl-csum-segmentation", "off", "gso", "on", "gro", gro)  # fmt: skip
        namespaces.run(name, "ethtool", "-K", device, *words)


def small(built: Ground, seconds: float) -> dict[str, float]:
    """Send 64-byte datagrams as fast as one sender can; return how many a second reach the target's interface.

    The target drops them there: what an application at the other end can take is another question.
    """
    drop = "table ip bench { chain drop9 { type filter hook prerouting priority -300; udp dport 9 drop; }; }"
    namespaces.run(CH, "nft", "-f", "-", stdin=drop + "\n")
    before = packets_at(built)
    sent, took = json.loads(built.run(MH, "taskset", "-c", "0", sys.executable, "-c", BLAST, TARGET, str(seconds)))
    time.sleep(0.2)
    arrived = packets_at(built) - before
    return {"packets_s": arrived / took, "lost": max(1 - arrived / sent, 0.0)}


def packets_at(built: Ground) -> int:
    """Return how many packets the target's interface has received."""
    (line,) = (line for line in built.run(CH, "cat", "/proc/net/dev").splitlines() if line.strip().startswith("ch0:"))
    return int(line.partition(":")[2].split()[1])


def rounds(given: argparse.Namespace, mode: str) -> dict[str, Any]:
    """Measure all peers in one mode."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    missing: dict[str, str] = {}
    for _ in range(given.runs):
        for name, peer in PEERS.items():
            if name in missing:
                continue
            with ground() as built:
                offloads(mode)
                try:
                    peer(built)
                except Missing as error:
                    missing[name] = str(error)
                    continue
                of = found.setdefault(name, {"up": [], "down": [], "small": []})
                for way in ("up", "down"):
                    of[way].append(measure(built, given.seconds, reverse=way == "down"))
                if mode == "super":
                    of["small"].append(small(built, given.seconds))
    peers: dict[str, Any] = {name: {"peer missing": why} for name, why in missing.items()}
    for name, of in found.items():
        peers[name] = {
            way: {key: median([run[key] for run in runs]) for key in runs[0]} for way, runs in of.items() if runs
        }
    return {"peers": peers, "ratios": ratios(peers)}


def ratios(peers: dict[str, Any]) -> dict[str, Any]:
    """Return each peer's part of what bare forwarding carries, both directions together."""
    base = peers.get("bare", {})
    out: dict[str, Any] = {}
    for name, one in peers.items():
        if name == "bare" or "up" not in one or "up" not in base:
            continue
        part = (one["up"]["gbit_s"] + one["down"]["gbit_s"]) / (base["up"]["gbit_s"] + base["down"]["gbit_s"])
        out[name] = {"tcp": round(part, 2)}
        if "small" in one and "small" in base:
            out[name]["small"] = round(one["small"]["packets_s"] / base["small"]["packets_s"], 2)
    return out


def tcp_counts(lab: Lab, role: str) -> dict[str, int]:
    """Return a namespace's TCP counters by the kernel's names."""
    lines = lab.run(role, "cat", "/proc/net/netstat", "/proc/net/snmp").splitlines()
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return {name: int(value) for names, values in pairs if names.startswith(("Tcp:", "TcpExt:"))
            for name, value in list(zip(names.split(), values.split(), strict=True))[1:]}  # fmt: skip


def handovers(count: int, up: bool, *, moving: bool = True) -> dict[str, Any]:
    """Hand a TCP flow at full speed over, again and again; compare the gaps then with the run's other gaps.

    Not `moving`: nothing is done at those times. What is out of order or sent again then is no handover's.
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
            if moving:
                daemons.hand_over("wifi" if number % 2 else "cellular")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--handovers", type=int, default=8)
    given = parser.parse_args()
    result: dict[str, Any] = {"bench": "kernel", **machine(), "modes": {}}
    for mode in filter(None, given.modes.split(",")):
        result["modes"][mode] = rounds(given, mode)
    if given.handovers:
        for name, moving in (("handover", True), ("no_handover", False)):
            result[name] = {way: handovers(given.handovers, way == "up", moving=moving) for way in ("up", "down")}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
