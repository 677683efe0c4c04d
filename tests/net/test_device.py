import asyncio
import time
from pathlib import Path

import pytest

from sojourn.linux import device
from sojourn.linux.tun import Tun
from tests.linux.fresh import namespace, sh

__all__ = ["namespace"]


def test_the_device_stands_without_a_reader_and_can_be_opened(namespace: None) -> None:
    asyncio.run(device.create_tun("sojourn0", ["10.201.0.7/32", "fd00:5::7/128"], 1400))
    shown = sh("ip addr show dev sojourn0")
    assert "mtu 1400" in shown
    assert "inet 10.201.0.7/32" in shown
    assert "inet6 fd00:5::7/128" in shown
    assert "tentative" not in shown
    assert f"qlen {device.QUEUE}" in shown
    tun = Tun.open("sojourn0")
    time.sleep(0.3)
    assert "fe80" not in sh("ip addr show dev sojourn0"), "no router is solicited once the device has its carrier"
    tun.close()
    assert device.exists("sojourn0")
    for family in ("ipv4", "ipv6"):
        assert Path(f"/proc/sys/net/{family}/conf/sojourn0/ignore_routes_with_linkdown").read_text() == "0\n"


def test_an_adopted_device_gets_exactly_the_addresses_and_the_mtu(namespace: None) -> None:
    asyncio.run(device.create_tun("sojourn0", ["10.201.0.7/32"], 1400))
    sh("ip link set dev sojourn0 txqueuelen 100")
    asyncio.run(device.create_tun("sojourn0", ["10.201.0.9/32"], 1380))
    shown = sh("ip addr show dev sojourn0")
    assert "10.201.0.7" not in shown
    assert "10.201.0.9/32" in shown
    assert "mtu 1380" in shown
    assert "qlen 100" in shown, "the owner's own choice stays"


def test_removal_can_be_repeated(namespace: None) -> None:
    asyncio.run(device.create_tun("sojourn0", [], 1400))
    assert asyncio.run(device.delete("sojourn0"))
    assert not asyncio.run(device.delete("sojourn0"))
    assert not device.exists("sojourn0")


def test_an_interface_that_is_no_tun_device_is_refused_and_left_alone(namespace: None) -> None:
    sh("ip link add sojourn0 type veth peer name other; ip tuntap add tap0 mode tap")
    for name in ("sojourn0", "tap0"):
        with pytest.raises(OSError, match="is not a TUN device"):
            asyncio.run(device.create_tun(name, ["10.201.0.7/32"], 1400))
        with pytest.raises(OSError, match="is not a TUN device"):
            asyncio.run(device.delete(name))
        assert device.exists(name)


def test_the_placeholder_is_kept_by_an_update_and_removed_on_demand(namespace: None) -> None:
    async def work() -> None:
        await device.create_tun("sojourn0", ["10.201.0.7/32"], 1400)
        assert await device.set_placeholder("sojourn0", wanted=True)
        assert not await device.set_placeholder("sojourn0", wanted=True)
        await device.create_tun("sojourn0", ["10.201.0.7/32"], 1400)
        assert "fd73:" in sh("ip addr show dev sojourn0")
        assert await device.set_placeholder("sojourn0", wanted=False)
        assert "fd73:" not in sh("ip addr show dev sojourn0")

    asyncio.run(work())


def test_the_tunnel_has_ipv6_where_the_networks_have_none(namespace: None) -> None:
    sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
    asyncio.run(device.create_tun("sojourn0", ["10.201.0.7/32", "fd00:5::7/128"], 1400))
    assert "fd00:5::7/128" in sh("ip addr show dev sojourn0")
    assert sh("cat /proc/sys/net/ipv6/conf/all/disable_ipv6") == "1\n"
