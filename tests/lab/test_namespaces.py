"""When a namespace's links and addresses can be used, by what the kernel says of them."""

import os
from typing import Any

import pytest

from sojourn.lab.namespaces import LabError, settle, unsettled
from tests.linux.namespace import in_new_namespace, ip


def link(**changes: object) -> dict[str, Any]:
    address = {"family": "inet6", "local": "fd00::7", "scope": "global"}
    return {"ifname": "e0", "flags": ["UP", "LOWER_UP"], "operstate": "UP", "addr_info": [address]} | changes


ROUTES = [{"dst": "::1"}, {"dst": "fd00::7"}]


def test_an_address_can_be_used_once_it_has_its_local_route_and_is_not_tentative() -> None:
    assert unsettled([link()], ROUTES) == []
    assert unsettled([link()], ROUTES[:1]) == ["fd00::7"]
    tentative = {"family": "inet6", "local": "fd00::7", "scope": "global", "tentative": True}
    assert unsettled([link(addr_info=[tentative])], ROUTES) == ["fd00::7"]


def test_a_link_with_a_carrier_can_be_used_once_the_kernel_has_seen_that_it_has_one() -> None:
    assert unsettled([link(operstate="DOWN")], ROUTES) == ["e0"]
    assert unsettled([link(operstate="UNKNOWN")], ROUTES) == [], "loopback, TUN"


def test_links_without_carrier_link_local_addresses_and_ipv4_are_not_waited_for() -> None:
    local = {"family": "inet6", "local": "fe80::1", "scope": "link", "tentative": True}
    four = {"family": "inet", "local": "192.0.2.1", "scope": "global"}
    assert unsettled([link(flags=["UP", "NO-CARRIER"], operstate="DOWN")], []) == []
    assert unsettled([link(addr_info=[local, four])], []) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
def test_settling_returns_when_all_is_there_and_names_what_never_comes() -> None:
    def work() -> None:
        ip("addr add fd00::77/128 dev lo nodad")
        settle()
        assert "fd00::77" in ip("-6 route show table local")
        ip("-6 route del table local local fd00::77 dev lo")
        with pytest.raises(LabError, match=r"not usable in this namespace after 0\.05 s: fd00::77"):
            settle(timeout=0.05)

    in_new_namespace(work)
