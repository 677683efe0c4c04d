"""The two ends of a conversation in tests/net/test_roam.py; run as a module inside a host's namespace.

A pause is counted without what of it the machine stood still (Standstill).


receive ADDRESS          takes one connection; prints JSON: bytes, SHA-256, longest pause
send ADDRESS SECONDS     sends what a counter says, 100 pieces a second; prints JSON: bytes, SHA-256
count ADDRESS            receives datagrams with a number until one says the end; prints which never came, longest pause
names ADDRESS            a DNS server on 127.0.0.1: every name has this address (AAAA), and no other record
number ADDRESS SECONDS   sends 200 numbered datagrams a second, then the end
"""

import hashlib
import json
import socket
import sys
import time
from collections.abc import Sequence
from itertools import pairwise

from tests.harness.standstill import Standstill

PORT = 7000
PIECE = 2000


def receive(address: str) -> dict[str, object]:
    with socket.create_server((address, PORT), family=socket.AF_INET6) as server, Standstill() as stood:
        connection, _ = server.accept()
        digest, size, times = hashlib.sha256(), 0, list[float]()
        while data := connection.recv(65536):
            times.append(time.monotonic())
            digest.update(data)
            size += len(data)
        return {"bytes": size, "sha256": digest.hexdigest(), **pause(stood, times)}


def pause(stood: Standstill, times: Sequence[float]) -> dict[str, object]:
    """Return the longest pause between arrivals, and the longest one that the clock has seen, to look at."""
    return {"longest": stood.longest(times), "by_the_clock": max(b - a for a, b in pairwise([*times, times[-1]]))}


def send(address: str, seconds: float) -> dict[str, object]:
    digest, size, number = hashlib.sha256(), 0, 0
    with socket.create_connection((address, PORT), timeout=30) as connection:
        end = begin = time.monotonic()
        end += seconds
        while time.monotonic() < end:
            piece = number.to_bytes(4) * (PIECE // 4)
            connection.sendall(piece)
            digest.update(piece)
            size, number = size + PIECE, number + 1
            time.sleep(max(begin + number / 100 - time.monotonic(), 0))
    return {"bytes": size, "sha256": digest.hexdigest()}


def count(address: str) -> dict[str, object]:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as own, Standstill() as stood:
        own.bind((address, PORT))
        own.settimeout(30)
        seen: dict[int, int] = {}
        times, total = list[float](), None
        while total is None:
            data = own.recv(2000)
            now, number = time.monotonic(), int.from_bytes(data[:4])
            if number == 0xFFFFFFFF:
                total = int.from_bytes(data[4:8])
                break
            times.append(now)
            seen[number] = seen.get(number, 0) + 1
        lost = [number for number in range(total or 0) if number not in seen]
        twice = sum(often > 1 for often in seen.values())
        return {"sent": total, "lost": lost, "twice": twice, **pause(stood, times)}


def number(address: str, seconds: float) -> dict[str, object]:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as own:
        begin, sent = time.monotonic(), 0
        while time.monotonic() < begin + seconds:
            own.sendto(sent.to_bytes(4) + bytes(200), (address, PORT))
            sent += 1
            time.sleep(max(begin + sent / 200 - time.monotonic(), 0))
        time.sleep(0.5)
        for _ in range(5):
            own.sendto(b"\xff" * 4 + sent.to_bytes(4), (address, PORT))
        return {"sent": sent}


def names(address: str) -> None:
    record = b"\xc0\x0c\0\x1c\0\1\0\0\0\5\0\x10" + socket.inet_pton(socket.AF_INET6, address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 53))
        while True:
            query, source = own.recvfrom(512)
            end = query.index(b"\0", 12) + 5  # one question; what follows it (EDNS) is not answered
            found = query[end - 4 : end - 2] == b"\0\x1c"
            head = query[:2] + b"\x81\x80\0\1" + bytes((0, found)) + bytes(4)
            own.sendto(head + query[12:end] + (record if found else b""), source)


if __name__ == "__main__":
    what, address, *rest = sys.argv[1:]
    if what == "names":
        names(address)
    elif what in ("send", "number"):
        print(json.dumps((send if what == "send" else number)(address, float(rest[0]))))  # noqa: T201
    else:
        print(json.dumps((receive if what == "receive" else count)(address)))  # noqa: T201
