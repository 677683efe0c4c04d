"""The pair of interfaces in which packets are joined: made once, silent, gone with its device."""

import asyncio
import os
import socket

import pytest

from sojourn.linux import device, joiner
from tests.linux.fresh import kernel_state, namespace, sh

__all__ = ["namespace"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: interfaces")


def test_a_pair_is_made_once_and_says_nothing_of_its_own(namespace: None) -> None:
    before = kernel_state()
    into, out, address = joiner.create("sojourn0")
    assert joiner.create("sojourn0") == (into, out, address), "a successor finds its predecessor's"
    assert [socket.if_indextoname(index) for index in (into, out)] == list(joiner.names("sojourn0"))
    said = sh("for end in j0 j1; do ip addr show dev sojourn0-$end; ethtool -k sojourn0-$end; done")
    assert "inet" not in said
    assert "tx-tcp-segmentation: off" in said
    assert "generic-receive-offload: on" in said
    assert address.hex(":") in said
    assert joiner.remove("sojourn0")
    assert not joiner.remove("sojourn0")
    assert kernel_state() == before


def test_it_goes_with_its_device(namespace: None) -> None:
    before = kernel_state()
    asyncio.run(device.create_tun("a-long-name-7", ["10.201.0.7/32"], 1400))
    joiner.create("a-long-name-7")
    asyncio.run(device.delete("a-long-name-7"))
    assert kernel_state() == before


def test_names_fit_into_what_an_interface_s_may_have() -> None:
    for name in ("s", "sojourn0", "fifteen-letters"):
        assert all(len(made) <= 15 and made != name for made in joiner.names(name))
        assert len(set(joiner.names(name))) == 2


def test_a_refusal_is_an_os_error(namespace: None) -> None:
    sh("ip tuntap add dev t0-j0 mode tun")
    with pytest.raises(OSError, match="no interface"):
        joiner.create("t0")
