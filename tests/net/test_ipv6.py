"""IPv4 and IPv6 inside and outside, in every mix, through a planned move and a lost link.

    mh --- nat0 (wifi) ------ core --- an 45.0.0.1, 2001:db8:45::1
      \\-- nat1 (cellular) --/  \\---- ch 86.0.0.1, 2001:db8:86::1

Access networks have IPv4 behind a NAT, or IPv6 only, routed, behind a firewall that lets answers in.
A network that has only IPv6 is called NAME-6.
"""

import time

import pytest
from msgspec.structs import replace

from sojourn.lab.daemons import Daemons
from sojourn.lab.gaps import tally
from sojourn.lab.processes import now
from sojourn.lab.topology import CELLULAR, WIFI, Topology
from sojourn.lab.traffic import Stream, Traffic
from tests.harness.standstill import Standstill
from tests.net.conftest import MakeLab

pytestmark = pytest.mark.net

SECONDS = 5.0
GAP = 0.5
"""Seconds without a packet."""


def talk(daemons: Daemons, address: str, other: str) -> list[Stream]:
    """Let traffic flow; move it after a second to another network, and pull the first one's cable another later."""
    traffic = Traffic(daemons.lab, ("voice", "echo", "download"), SECONDS, address=address)
    until = time.monotonic() + 5.0
    while not traffic.started() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1.0)
    daemons.hand_over(other)
    time.sleep(1.0)
    daemons.lab.links["wifi"].set_carrier(False)
    traffic.finish(8.0)
    return traffic.streams


@pytest.mark.parametrize("inner", ["IPv4", "IPv6"])
@pytest.mark.parametrize("outer", ["IPv4", "IPv6"])
def test_flows_survive_a_move_whatever_is_inside_and_outside(
    make_lab: MakeLab, prefix: str, inner: str, outer: str
) -> None:
    only6 = outer == "IPv6"
    access = tuple(replace(network, ipv4=not only6, ipv6=only6) for network in (WIFI, CELLULAR))
    lab = make_lab(Topology(prefix=prefix, access=access, ipv6=True))
    daemons = Daemons(lab)
    daemons.set_up(address=lab.topology.anchor.address6 if only6 else None)
    daemons.start()
    site = lab.topology.correspondent
    with Standstill() as stood:
        streams = talk(
            daemons, site.address6 if inner == "IPv6" else site.address, "cellular-6" if only6 else "cellular"
        )
    assert [f"{it.name}: {it.why}" for it in streams if it.broken] == []
    ahead = now() - time.monotonic()
    for stream in streams:
        fate = tally(stream.sent, stream.packets, 0.0, float("inf"))
        assert (fate.lost, fate.doubled) == (0, 0), stream.name
        assert stood.longest(at - ahead for at in stream.arrivals) < GAP, stream.name
