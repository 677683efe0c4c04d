"""Which inner destinations an anchor lets its hosts reach."""

import pytest

from sojourn.datapath.guard import Guard
from sojourn.model import ICMP, TCP, UDP, Endpoint, Flow
from sojourn.packet.ip import key_of
from sojourn.upmt.commands import Role, Setup

GUARD = Guard(
    Setup(
        Role.ANCHOR,
        "sojourn0",
        1448,
        inner_addresses=("10.201.0.1", "fd00:201::1"),
        refused=("10.0.0.0/8", "192.168.0.0/16", "fc00::/7", "203.0.113.1/32"),
        allowed=("192.168.7.0/24", "127.0.0.53/32"),
        inner_ports=(53,),
    )
)


def verdict(address: str, port: int = 443, protocol: int = TCP) -> str | None:
    local = "fd00:201::2" if ":" in address else "10.201.0.2"
    return GUARD.refuses(key_of(Flow(protocol, Endpoint(local, 4000), Endpoint(address, port))))


@pytest.mark.parametrize("address", ["93.184.216.34", "2001:db8::1", "192.168.7.9", "127.0.0.53"])
def test_the_world_and_what_is_allowed_can_be_reached(address: str) -> None:
    assert verdict(address) is None
    assert verdict(address) is None  # The second time from memory.


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "169.254.169.254", "224.0.0.251", "255.255.255.255", "0.0.0.0", "10.201.0.3", "192.168.8.1",
        "203.0.113.1", "::1", "::", "fe80::1", "ff02::1", "fd00:201::3", "::ffff:127.0.0.1",
    ],
)  # fmt: skip
def test_the_machine_itself_its_neighbours_and_other_hosts_cannot(address: str) -> None:
    assert verdict(address) == "inner-destination"


@pytest.mark.parametrize("address", ["10.201.0.1", "fd00:201::1"])
def test_the_anchors_inner_address_answers_echo_and_listed_ports_only(address: str) -> None:
    assert verdict(address, 53, UDP) is None
    assert verdict(address, 0, ICMP) is None
    assert verdict(address, 22) == "inner-port"


def test_what_it_remembers_is_bounded() -> None:
    for number in range(5000):
        verdict(f"100.64.{number >> 8}.{number & 255}")
    assert len(GUARD._known) <= 4096
