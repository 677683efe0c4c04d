"""Outer addresses without a tunnel: who of them may speak to control, and how often."""

import pytest

from sojourn.datapath.strangers import BURST_IN_ALL, MOST_SOURCES, SOURCE_BURST, Strangers
from sojourn.model import Endpoint


def test_one_source_gets_a_burst_and_then_a_few_a_second_whatever_its_ports() -> None:
    strangers = Strangers()
    admitted = sum(strangers.admit(Endpoint("192.0.2.1", port), 100.0) for port in range(1000))
    assert admitted == SOURCE_BURST
    assert not strangers.admit(Endpoint("192.0.2.1", 1), 100.1)
    assert strangers.admit(Endpoint("192.0.2.1", 1), 100.3)
    assert strangers.admit(Endpoint("192.0.2.2", 1), 100.0), "another source has a burst of its own"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::6", True),
    ],
)
def test_one_ipv6_network_is_one_source(one: str, other: str, same: bool) -> None:
    strangers = Strangers()
    while strangers.admit(Endpoint(one, 1), 0.0):
        pass
    assert strangers.admit(Endpoint(other, 1), 0.0) is not same


def test_forged_sources_together_are_bounded_in_number_and_in_memory() -> None:
    strangers = Strangers()
    sources = [Endpoint(f"198.{18 + n // 65536}.{n // 256 % 256}.{n % 256}", 9) for n in range(2 * MOST_SOURCES)]
    assert sum(strangers.admit(source, 50.0) for source in sources) == BURST_IN_ALL
    assert len(strangers) == MOST_SOURCES
