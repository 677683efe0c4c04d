import asyncio

from sojourn.linux import device, nft, sysctl
from sojourn.linux.cleanup import cleanup
from sojourn.linux.routes import AnchorRouting, HostRouting
from tests.linux.fresh import kernel_state, namespace, sh

__all__ = ["namespace"]


async def everything() -> None:
    """A host with kill switch and an anchor, both in one namespace, under names that no default has."""
    await device.create_tun("tunnel7", ["10.201.0.7/32"], 1400)
    await HostRouting().up("tunnel7", "10.201.0.7", kill_switch=True, inner=["10.201.0.1"])
    nft.set_host(nft.HostRules("tunnel7", "10.201.0.7", resolver="10.201.0.1"))
    await device.create_tun("pool7", ["10.202.0.1/32", "fd00:5::1/128"], 1400)
    await AnchorRouting().up("pool7", "10.202.0.0/16", "fd00:5::/64")
    nft.set_anchor(nft.AnchorRules("pool7", "10.202.0.0/16", "lo", pool6="fd00:5::/64"))
    sysctl.Forwarding().up("lo")


def test_everything_goes_and_a_second_time_there_is_nothing(namespace: None) -> None:
    sh("ip tuntap add own mode tun; ip rule add priority 99 lookup 77; nft 'table inet own { chain c { }; }'")
    before = kernel_state()
    asyncio.run(everything())
    assert kernel_state() != before
    gone = asyncio.run(cleanup())
    assert kernel_state() == before
    for what in ("device tunnel7", "device pool7", "nftables table inet sojourn_host", f"setting {sysctl.FORWARD4}"):
        assert what in gone
    assert asyncio.run(cleanup()) == []


def test_somebody_elses_interface_of_our_name_stays(namespace: None) -> None:
    sh("ip link add sojourn0 type veth peer name other")
    assert asyncio.run(cleanup()) == []
    assert device.exists("sojourn0")
