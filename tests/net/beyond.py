"""Routers beyond the anchor, and what they say of packets that they cannot deliver.

an --- ch --- d0, 1280 bytes wide      192.0.2.129  2001:db8:2::1:1
          \\--- no route                192.0.2.130  2001:db8:2::1:2
"""

import contextlib
import select
import socket
import struct
import time
from typing import Final, NamedTuple

from tests.net.engine_lab import run

RECVERR, MTU_DISCOVER, TTL = {False: 11, True: 25}, {False: 10, True: 23}, {False: 2, True: 16}
PROBE = 3
"""DF is set, and nothing is remembered of how narrow the way is."""
_EXTENDED_ERROR: Final = struct.Struct("=IBBBBII")
WIDTH: Final = 1280


class Case(NamedTuple):
    """One error: whereto, with which TTL, and the type and code that come back, IPv4's and IPv6's."""

    name: str
    destinations: tuple[str, str]
    ttl: int
    answers: tuple[tuple[int, int], tuple[int, int]]


CASES: Final = (
    Case("nobody listens", ("192.0.2.80", "2001:db8:2::80"), 64, ((3, 3), (1, 4))),
    Case("too big", ("192.0.2.129", "2001:db8:2::1:1"), 64, ((3, 4), (2, 0))),
    Case("no route", ("192.0.2.130", "2001:db8:2::1:2"), 64, ((3, 1), (1, 0))),
    Case("too many hops", ("192.0.2.129", "2001:db8:2::1:1"), 2, ((11, 0), (3, 0))),
)


def lay_out(anchor: str, correspondent: str) -> None:
    """Have the correspondent of engine_lab.py or kernel_lab.py be a router, too."""
    for line in f"""
        -n {correspondent} link add d0 type veth peer name d1
        -n {correspondent} link set d1 up
        -n {correspondent} link set d0 mtu {WIDTH} up
        -n {correspondent} route add 192.0.2.129 dev d0
        -n {correspondent} route add 2001:db8:2::1:1 dev d0
        -n {correspondent} route add unreachable 192.0.2.130
        -n {correspondent} route add unreachable 2001:db8:2::1:2
        -n {anchor} route add 192.0.2.128/30 via 192.0.2.80
        -n {anchor} route add 2001:db8:2::1:0/112 via 2001:db8:2::80
    """.strip().splitlines():
        run("ip", *line.split())
    for setting in (
        "ipv4.ip_forward=1",
        "ipv6.conf.all.forwarding=1",
        "ipv4.icmp_ratemask=0",
        "ipv6.icmp.ratelimit=0",
    ):
        run("ip", "netns", "exec", correspondent, "sysctl", "-qw", f"net.{setting}")


def provoke(client: socket.socket, case: Case, patience: float = 10.0) -> None:
    """Send from an unused UDP socket until the error comes back from the correspondent, with what was sent."""
    six = client.family == socket.AF_INET6
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
    for option, value in ((RECVERR, 1), (MTU_DISCOVER, PROBE), (TTL, case.ttl)):
        client.setsockopt(level, option[six], value)
    client.connect((case.destinations[six], 5999))
    words = f"about {client.fileno()}".encode()  # a router quotes no more than the beginning
    expected = (*case.answers[six], "2001:db8:2::80" if six else "192.0.2.80", words)
    until, heard = time.monotonic() + patience, set()
    while time.monotonic() < until:
        with contextlib.suppress(OSError):  # the error before
            client.send(words.ljust(WIDTH - 20, b"."))
        found = read(client)
        if found == expected:
            return
        heard.add(found)
    raise AssertionError(f"{case.name}: heard {heard}, not {expected}")


def read(client: socket.socket, patience: float = 0.5) -> tuple[int, int, str, bytes] | None:
    """Return an ICMP error's type and code, who has sent it, and what it is about."""
    poll = select.poll()
    poll.register(client, 0)
    if not poll.poll(patience * 1000):
        return None
    about, ((_, _, data), *_), *_ = client.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
    _, _, kind, code, *_ = _EXTENDED_ERROR.unpack_from(data)
    where = data[_EXTENDED_ERROR.size :]
    six = client.family == socket.AF_INET6
    offender = socket.inet_ntop(client.family, where[8:24] if six else where[4:8])
    return kind, code, offender, about.partition(b".")[0]
