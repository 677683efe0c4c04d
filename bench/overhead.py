"""Bytes that a tunnel adds to a packet, read off the wire: outer IP packet less inner IP packet."""

import json
import sys
from typing import Any

from bench._ground import MH, TARGET, Ground, ground, machine
from bench._peers import PEERS, Missing, sojourn_plain

INNER = 28 + 900
SNIFF = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind(("mh0", 0)); s.settimeout(3)
print("ready", flush=True)
for n in range(2000):
    frame = s.recv(4096)
    if frame[12:14] == b"\\x08\\x00" and frame[23] == 17 and 900 < len(frame) < 1100:
        print("outer", int.from_bytes(frame[16:18], "big"), flush=True); break
"""


def measure(built: Ground) -> int:
    sniffer = built.start(MH, "sniff", sys.executable, "-c", SNIFF)
    sniffer.wait_for("ready", 5)
    send = f"import socket; socket.socket(2, 2).sendto(b'x' * 900, ({TARGET!r}, 9))"
    built.run(MH, sys.executable, "-c", send)
    sniffer.wait_for("outer", 5)
    return int(sniffer.output().split()[-1]) - INNER


def main() -> None:
    result: dict[str, Any] = {"bench": "overhead", **machine(), "bytes": {}}
    for name, bring_up in {"sojourn": PEERS["sojourn"], "sojourn-plain": sojourn_plain,
                           "wireguard-go-debian": PEERS["wireguard-go-debian"]}.items():  # fmt: skip
        with ground() as built:
            try:
                bring_up(built)
            except Missing as error:
                result["bytes"][name] = {"peer missing": str(error)}
                continue
            result["bytes"][name] = measure(built)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
