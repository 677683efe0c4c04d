"""The roaming lab with NATs that let in only who was spoken to, and a home network in which both hosts may be.

    home 192.168.50.2 -+                                  +- wifi, cell: as in lab/roaming.py
a <                    +- nat 198.51.100.9 - core - node  +
    wifi, cell         +                                  +- home 192.168.50.3      > b
"""

import os
import re
from pathlib import Path
from typing import Any, Final

from sojourn.lab import namespaces
from sojourn.lab.roaming import EASY, Roaming, until

HOME_OUTSIDE: Final = "198.51.100.9"
HOME: Final = {"a": "192.168.50.2", "b": "192.168.50.3"}
PUNCHED: Final = """\
flush ruleset
table ip n {
  chain out { type nat hook postrouting priority 100; oifname "out" masquerade; }
  chain own { type filter hook input priority 0; iifname "out" drop; }
}
"""
"""Keeps the port where it can (endpoint-independent), lets in answers only, and is silent to strangers."""
_WATCHED: Final = """\
table ip w {
  counter between { }
  set dead { type ipv4_addr; }
  chain through {
    type filter hook forward priority 0;
    ip saddr 198.51.100.0/24 ip daddr 198.51.100.0/24 counter name between
    ip saddr @dead ip daddr 198.51.100.0/24 drop
    ip daddr @dead ip saddr 198.51.100.0/24 drop
  }
  chain says { type filter hook output priority 0; icmp type destination-unreachable drop; }
}
"""


class DirectLab(Roaming):
    """Two hosts that allow each other a direct path."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, f"sjtdr{os.getpid() % 10000}")
        self.roles.append("nat-home")

    def build(self) -> None:
        super().build()
        for host, net in EASY:
            namespaces.run(self.name(f"nat-{host}-{net}"), "nft", "-f", "-", stdin=PUNCHED)
        namespaces.run(self.name("core"), "nft", "-f", "-", stdin=_WATCHED)
        nat = self.name("nat-home")
        namespaces.ip(nat, ["link add lan type bridge", "link set dev lan up", "addr add 192.168.50.1/24 dev lan"])
        for host in HOME:
            self._link(host, "nat-home", "home", host)
            namespaces.ip(nat, [f"link set dev {host} master lan"])
        self._link("nat-home", "core", "out", "nat-home")
        namespaces.ip(nat, [
            f"addr add {HOME_OUTSIDE}/32 dev out", "route add 10.9.9.9/32 dev out",
            "route add default via 10.9.9.9 dev out",
        ])  # fmt: skip
        namespaces.ip(
            self.name("core"), ["addr add 10.9.9.9/32 dev nat-home", f"route add {HOME_OUTSIDE}/32 dev nat-home"]
        )
        namespaces.sysctl(nat, net__ipv4__ip_forward=1)
        namespaces.run(nat, "nft", "-f", "-", stdin=PUNCHED)

    def go_home(self, host: str) -> None:
        """Give a host its address in the home network."""
        namespaces.ip(self.name(host), [
            "link set dev home up", f"addr add {HOME[host]}/24 dev home",
            "route add default via 192.168.50.1 dev home metric 50",
        ])  # fmt: skip

    def cut_home_off(self) -> None:
        """Take away everything that the home network leads to."""
        namespaces.ip(self.name("nat-home"), ["link set dev out down"])

    def between(self) -> int:
        """Return how many packets have gone from host to host through the core, NATs' addresses and all."""
        listed = namespaces.run(self.name("core"), "nft", "list", "counter", "ip", "w", "between")
        found = re.search(r"packets (\d+)", listed)
        assert found is not None
        return int(found[1])

    def let_die(self, *outside: str) -> None:
        """Drop what goes between hosts; without names, drop nothing any more."""
        what = f"add element ip w dead {{ {', '.join(outside)} }}" if outside else "flush set ip w dead"
        namespaces.run(self.name("core"), "nft", what)

    def narrow(self, host: str, net: str, mtu: int) -> None:
        """Have a router's link carry packets of so many bytes only; nobody is told."""
        namespaces.ip(self.name("core"), [f"link set dev nat-{host}-{net} mtu {mtu}"])

    def room(self, host: str) -> int:
        """Return the largest packet that a host lets go to the other."""
        found: int = self.call(host, "peers")["peers"][0]["mtu"]
        return found

    def direct(self, host: str) -> dict[str, Any]:
        """Return what a host says of its direct path to the other."""
        found: dict[str, Any] = self.call(host, "peers")["peers"][0]["direct"]
        return found

    def wait_for(self, state: str, seconds: float = 10.0) -> None:
        """Wait until both say so."""
        until(lambda: all(self.direct(host)["state"] == state for host in HOME), seconds, f"direct: {state}")
