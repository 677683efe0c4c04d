import asyncio

import pytest

from sojourn.errors import ConfigError
from sojourn.linux.uplink import Uplink, find_uplink, own_addresses
from tests.linux.fresh import fresh_namespace, sh

LINKS = """
ip link add up0 type veth peer name up1
ip link set up0 up
ip link set up1 up
ip addr add 203.0.113.7/24 dev up0
ip addr add 2001:db8::7/64 dev up0 nodad
"""


def test_the_uplink_is_the_interface_of_the_default_route_and_its_known_addresses_are_static() -> None:
    with fresh_namespace():
        sh(LINKS + "ip route add default via 203.0.113.1")
        assert asyncio.run(find_uplink("auto", ["203.0.113.7", "198.51.100.1"])) == Uplink("up0", "203.0.113.7")
        assert asyncio.run(find_uplink("auto", ["2001:db8::7"])) == Uplink("up0", None, "2001:db8::7")


def test_an_address_that_is_not_on_the_uplink_is_not_named_in_nat() -> None:
    with fresh_namespace():
        sh(LINKS + "ip -6 route add default via 2001:db8::1")
        assert asyncio.run(find_uplink("auto", ["198.51.100.1"])) == Uplink("up0")


def test_a_named_uplink_needs_no_default_route() -> None:
    with fresh_namespace():
        sh(LINKS)
        assert asyncio.run(find_uplink("up1", [])) == Uplink("up1")


def test_without_a_way_out_the_remedy_is_told() -> None:
    with fresh_namespace():
        with pytest.raises(ConfigError, match=r"no default route.*uplink ="):
            asyncio.run(find_uplink("auto", []))
        with pytest.raises(ConfigError, match="no interface 'eth9'"):
            asyncio.run(find_uplink("eth9", []))


def test_all_addresses_of_the_machine_are_its_own() -> None:
    with fresh_namespace():
        sh(LINKS)
        assert {"127.0.0.1", "203.0.113.7", "2001:db8::7"} <= set(asyncio.run(own_addresses()))
