"""Attaching programs at tc, both ways, in a namespace of the test's own."""

import os
import socket
import subprocess

import pytest
from pyroute2 import IPRoute

from sojourn.datapath import kernel_objects
from sojourn.datapath.kernel_layout import SETTINGS
from sojourn.linux.bpf import close_all
from sojourn.linux.bpf_tc import (
    SharedArray,
    attach_filter,
    attach_tcx,
    detach_filter,
    detach_filters,
    has_ethernet_header,
)
from sojourn.upmt.commands import Role
from tests.harness.tcx import needs_tcx
from tests.linux.namespace import in_new_namespace, ip

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF programs")


def filters(interface: str, direction: str) -> str:
    """Return what tc(8) shows of an interface's filters."""
    words = ("tc", "filter", "show", "dev", interface, direction)
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def loaded() -> dict[str, int]:
    return {name.rpartition("/")[2]: fd for name, fd in kernel_objects.load(Role.HOST).items()}


def test_what_is_written_into_a_shared_array_is_there_for_all_who_map_it() -> None:
    fds = loaded()
    one, other = SharedArray(fds["settings"], SETTINGS, 1), SharedArray(fds["settings"], SETTINGS, 1)
    one[0] = (1 << 40, 3, 1, 7, b"joined")
    assert other[0] == (1 << 40, 3, 1, 7, b"joined")
    one.close()
    other.close()
    close_all(fds.values())


def test_packets_of_a_veth_have_an_ethernet_header_and_those_of_a_tun_have_none() -> None:
    def look() -> list[bool]:
        ip("link add v0 type veth peer name v1")
        ip("tuntap add dev t0 mode tun")
        return [has_ethernet_header(name) for name in ("v0", "t0", "lo")]

    assert in_new_namespace(look) == [True, False, True]
    with pytest.raises(OSError, match="No such device"):
        has_ethernet_header("not-there")


@needs_tcx
def test_a_tcx_link_ends_with_its_descriptor() -> None:
    def attach() -> None:
        fds = loaded()
        ip("link add v0 type veth peer name v1")
        index = socket.if_nametoindex("v0")
        for _ in range(2):  # the second time it is not in its own way
            links = [attach_tcx(fds["arrive_ethernet"], index, egress=False),
                     attach_tcx(fds["leave_ethernet"], index, egress=True)]  # fmt: skip
            assert not any(os.get_inheritable(link) for link in links)
            close_all(links)
        with pytest.raises(OSError, match="tcx"):
            attach_tcx(fds["arrive_ethernet"], 9999, egress=False)
        close_all(fds.values())

    in_new_namespace(attach)


def test_a_filter_is_replaced_and_removed_and_the_filters_of_others_stay() -> None:
    def attach() -> None:
        fds = loaded()
        ip("link add v0 type veth peer name v1")
        index = socket.if_nametoindex("v0")
        assert not detach_filter(index, egress=False), "none is there"
        for _ in range(2):
            attach_filter(fds["arrive_ethernet"], index, egress=False)
            attach_filter(fds["leave_ethernet"], index, egress=True)
        with IPRoute() as ask:
            ask.tc("add-filter", "bpf", index, ":2", fd=fds["arrive_bare"], name="of others", parent=0xFFFFFFF2, prio=7)
        assert filters("v0", "ingress").count("sojourn") == filters("v0", "egress").count("sojourn") == 1
        assert detach_filter(index, egress=False)
        assert detach_filter(index, egress=True)
        assert "sojourn" not in filters("v0", "ingress") + filters("v0", "egress")
        assert "of others" in filters("v0", "ingress")
        assert not detach_filter(9999, egress=False)
        attach_filter(fds["leave_ethernet"], index, egress=True)
        assert detach_filters() == ["filter at the egress of v0"]
        assert detach_filters() == []
        close_all(fds.values())

    in_new_namespace(attach)
