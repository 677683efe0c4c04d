"""The way to an address, as the kernel sees it."""

import os

import pytest

from sojourn.linux.route_to import RouteTo, route_to
from tests.linux.namespace import in_new_namespace, ip

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")


def test_interface_and_source_of_both_families_are_found() -> None:
    def ask() -> list[RouteTo | None]:
        ip("link add v0 index 70 type veth peer name v1")
        ip("link set v0 up")
        ip("link set v1 up")
        ip("addr add 192.0.2.1/24 dev v0")
        ip("addr add 192.0.2.9/24 dev v0")
        ip("-6 addr add 2001:db8::1/64 dev v0 nodad")
        ip("route add 198.51.100.0/24 via 192.0.2.7")
        return [
            route_to("192.0.2.5"), route_to("198.51.100.5", "192.0.2.9"), route_to("2001:db8::5"),
            route_to("203.0.113.1"), route_to("2001:db8:9::1"),
        ]  # fmt: skip

    assert in_new_namespace(ask) == [
        RouteTo(70, "192.0.2.1"), RouteTo(70, "192.0.2.9"), RouteTo(70, "2001:db8::1"), None, None,
    ]  # fmt: skip
