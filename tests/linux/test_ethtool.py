"""Settings of an interface as ethtool tells them."""

import os
import socket

import pytest

from sojourn.linux import ethtool
from tests.linux.fresh import namespace, sh

__all__ = ["namespace"]

ARPHRD_ETHER, ARPHRD_LOOPBACK = 1, 772


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: interfaces")
def test_what_is_set_is_so_and_what_is_asked_is_what_is_so(namespace: None) -> None:
    sh("ip link add veth-a type veth peer veth-b")
    assert ethtool.ask("veth-a", ethtool.GET_TSO) == 1
    ethtool.ask("veth-a", ethtool.SET_TSO, 0)
    assert ethtool.ask("veth-a", ethtool.GET_TSO) == 0
    assert "tx-tcp-segmentation: off" in sh("ethtool -k veth-a")
    assert ethtool.ask("veth-a", ethtool.GET_LINK) == 0
    sh("ip link set veth-a up; ip link set veth-b up")
    assert ethtool.ask("veth-a", ethtool.GET_LINK) == 1
    found = ethtool.hardware("veth-a")
    assert found.kind == ARPHRD_ETHER
    assert found.address[:6].hex(":") in sh("ip link show dev veth-a")


def test_the_loopback_is_of_its_own_kind_and_who_is_not_there_is_an_os_error() -> None:
    assert ethtool.hardware(socket.if_indextoname(1)).kind == ARPHRD_LOOPBACK
    for ask in (ethtool.hardware, lambda name: ethtool.ask(name, ethtool.GET_LINK)):
        with pytest.raises(OSError, match="No such device"):
            ask("no-such-device")
