"""Two engines with the kernel path, two ways between them, and a correspondent; no control, no SIP.

kp..-host                       kp..-anchor                            kp..-corr
sj0  10.201.0.2                 sj0  10.201.0.1
     fd00:201::2                     fd00:201::1
h0   198.51.100.1  <-- veth --> a0   198.51.100.2     a1  192.0.2.1  <-- veth -->  c0  192.0.2.80
     2001:db8:1::1                   2001:db8:1::2        2001:db8:2::1               2001:db8:2::80
h1   198.51.101.1  <-- veth --> b0   198.51.101.2
     2001:db8:3::1                   2001:db8:3::2
"""

import contextlib
import os
import time
from collections.abc import Iterator

from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.upmt.commands import (
    AddAssociation,
    AnyCommand,
    Everything,
    Move,
    MoveFlows,
    OpenTunnel,
    Role,
    SetDefault,
    Setup,
)
from sojourn.upmt.events import TunnelTested
from tests.net.engine_lab import End, run

PREFIX = f"kp{os.getpid() % 10000}"
HOST, ANCHOR, CORRESPONDENT = (f"{PREFIX}-{role}" for role in ("host", "anchor", "corr"))
VIPA, VIPA6 = "10.201.0.2", "fd00:201::2"
PEER, PEER6 = "192.0.2.80", "2001:db8:2::80"
OUTER = {
    4: (("198.51.100.1", "198.51.100.2"), ("198.51.101.1", "198.51.101.2")),
    6: (("2001:db8:1::1", "2001:db8:1::2"), ("2001:db8:3::1", "2001:db8:3::2")),
}
MTU = 1420
ME = AssociationId(1)
TUNNELS = (TunnelId(0xABCDEF), TunnelId(0xABCDF0))

_LAYOUT = f"""
link add h0 netns {HOST} type veth peer name a0 netns {ANCHOR}
link add h1 netns {HOST} type veth peer name b0 netns {ANCHOR}
link add a1 netns {ANCHOR} type veth peer name c0 netns {CORRESPONDENT}
-n {HOST} addr add 198.51.100.1/24 dev h0
-n {HOST} addr add 2001:db8:1::1/64 dev h0 nodad
-n {HOST} addr add 198.51.101.1/24 dev h1
-n {HOST} addr add 2001:db8:3::1/64 dev h1 nodad
-n {ANCHOR} addr add 198.51.100.2/24 dev a0
-n {ANCHOR} addr add 2001:db8:1::2/64 dev a0 nodad
-n {ANCHOR} addr add 198.51.101.2/24 dev b0
-n {ANCHOR} addr add 2001:db8:3::2/64 dev b0 nodad
-n {ANCHOR} addr add 192.0.2.1/24 dev a1
-n {ANCHOR} addr add 2001:db8:2::1/64 dev a1 nodad
-n {CORRESPONDENT} addr add {PEER}/24 dev c0
-n {CORRESPONDENT} addr add {PEER6}/64 dev c0 nodad
-n {HOST} link set h0 up
-n {HOST} link set h1 up
-n {ANCHOR} link set a0 up
-n {ANCHOR} link set b0 up
-n {ANCHOR} link set a1 up
-n {CORRESPONDENT} link set c0 up
-n {CORRESPONDENT} route add 10.201.0.0/16 via 192.0.2.1
-n {CORRESPONDENT} route add fd00:201::/64 via 2001:db8:2::1
-n {HOST} tuntap add dev sj0 mode tun
-n {HOST} link set sj0 mtu {MTU} up
-n {HOST} addr add {VIPA}/16 dev sj0
-n {HOST} addr add {VIPA6}/64 dev sj0 nodad
-n {HOST} route add 192.0.2.0/24 dev sj0
-n {HOST} route add 2001:db8:2::/64 dev sj0
-n {ANCHOR} tuntap add dev sj0 mode tun
-n {ANCHOR} link set sj0 mtu {MTU} up
-n {ANCHOR} addr add 10.201.0.1/16 dev sj0
-n {ANCHOR} addr add fd00:201::1/64 dev sj0 nodad
"""


class KernelLab:
    """Both ends, with a plain tunnel on each way; flows begin on the first."""

    def __init__(self, version: int = 4, without: str = "", host: str = "", anchor: str = "", *words: str) -> None:
        """`host`, `anchor`: what SOJOURN_ENGINE is there; `words`: for both (engine_end.py)."""
        self.version = version
        self.host, self.anchor = _end(HOST, without, host, *words), _end(ANCHOR, without, anchor, *words)
        self._moves = 0
        inner = ("10.201.0.1", "fd00:201::1")
        added = AddAssociation(ME, VIPA, VIPA6, TUNNELS)
        ways = [
            (tunnel, interface, Endpoint(here, 4700), Endpoint(there, 1800))
            for tunnel, interface, (here, there) in zip(TUNNELS, ("h0", "h1"), OUTER[version], strict=True)
        ]
        self.anchor.submit(
            Setup(
                Role.ANCHOR, "sj0", MTU, inner_addresses=inner, allowed=("0.0.0.0/0", "::/0"), plain=True,
                listen=(Endpoint("0.0.0.0", 1800), Endpoint("::", 1800)), zero_checksum6=True,
            ),
            added,
            *(OpenTunnel(ME, tunnel, "", Endpoint("", 0), here, sealed=False) for tunnel, _, here, _ in ways),
            SetDefault(ME, TUNNELS[0]),
        )  # fmt: skip
        time.sleep(0.6)
        self.host.submit(
            Setup(Role.HOST, "sj0", MTU, inner_addresses=inner, plain=True, zero_checksum6=True),
            added,
            *(OpenTunnel(ME, tunnel, interface, here, there, sealed=False) for tunnel, interface, here, there in ways),
            SetDefault(ME, TUNNELS[0]),
        )
        self.host.until(TunnelTested)

    def hand_over(self, to: int) -> None:
        """Move every flow to one of the two tunnels, at both ends, as signalling does."""
        self._moves += 1
        for end in (self.host, self.anchor):
            order: AnyCommand = MoveFlows(ME, self._moves, (Move(Everything(), TUNNELS[to]),))
            end.submit(order)

    def carried(self) -> tuple[int, int]:
        """Return how many packets the programs have carried at the host: (out, in)."""
        totals = self.host.counters().totals
        return totals.get("kernel-carried-out", 0), totals.get("kernel-carried-in", 0)

    def close(self) -> None:
        self.host.close()
        self.anchor.close()


def _end(namespace: str, without: str, engine: str, *words: str) -> End:
    before = os.environ.get("SOJOURN_ENGINE")
    os.environ["SOJOURN_ENGINE"] = engine
    try:
        return End(namespace, without, 1, *words)
    finally:
        if before is None:
            del os.environ["SOJOURN_ENGINE"]
        else:
            os.environ["SOJOURN_ENGINE"] = before


@contextlib.contextmanager
def layout() -> Iterator[None]:
    """Namespaces, links and devices, for as long as the block lasts."""
    names = (HOST, ANCHOR, CORRESPONDENT)
    try:
        for name in names:
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        for line in _LAYOUT.strip().splitlines():
            run("ip", *line.split())
        for setting in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"):
            run("ip", "netns", "exec", ANCHOR, "sysctl", "-qw", setting)
        yield
    finally:
        for name in names:
            run("ip", "netns", "del", name, check=False)
