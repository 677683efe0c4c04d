"""The Vipa pool's routes at an anchor (linux/routes.py)."""

import asyncio
import socket

import pytest

from sojourn.linux import device
from sojourn.linux.routes import AnchorRouting
from tests.linux.fresh import kernel_state, namespace, sh

__all__ = ["namespace"]


def test_an_anchors_pool_leads_to_the_device_and_nowhere_without_it(namespace: None) -> None:
    before = kernel_state()
    anchor = AnchorRouting()
    asyncio.run(device.create_tun("sojourn-a", ["10.201.0.1/32", "fd00:5::1/128"], 1400))
    asyncio.run(anchor.up("sojourn-a", "10.202.0.0/16"))
    asyncio.run(anchor.up("sojourn-a", "10.201.0.0/16", "fd00:5::/64"))
    state = kernel_state()
    asyncio.run(AnchorRouting().up("sojourn-a", "10.201.0.0/16", "fd00:5::/64"))
    assert kernel_state() == state
    assert "10.202" not in state
    assert "dev sojourn-a" in sh("ip route get 10.201.3.4")
    assert "dev sojourn-a" in sh("ip route get fd00:5::77")
    asyncio.run(device.delete("sojourn-a"))
    for address in ("10.201.3.4", "fd00:5::77"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock, pytest.raises(OSError):
            sock.connect((address, 9))
    asyncio.run(anchor.down())
    assert kernel_state() == before
