"""What the mobile host asks of the kernel around a lease: device, capture rules, DNS.

Works off one order at a time, newest lease wins; the data path's orders wait meanwhile
(`HostSystem.ready`), because a tunnel must not be opened before its routes are there.
"""

from typing import Final

from sojourn.control.config import HostConfig
from sojourn.linux import device, dns
from sojourn.linux.capture import Action, Capture
from sojourn.linux.routes import HostRouting
from sojourn.packet.path_mtu import OUTER_UDP_IPV4
from sojourn.packet.seal import OVERHEAD_BYTES
from sojourn.upmt.lease import Lease

PEERS_MTU: Final = 1500 - OUTER_UDP_IPV4 - OVERHEAD_BYTES
"""The device's, where no anchor gives a hint: what a direct path over an Ethernet carries. Less is searched for."""


class HostSystem:
    """Brings the kernel's side up and down. All methods may be repeated."""

    def __init__(self, config: HostConfig) -> None:
        self._config = config
        self.routing = HostRouting()
        self.lease: Lease | None = None
        self.home = ""
        """The home address, if there are peers."""
        self.capturing = True
        self._dns = False

    async def up(self, lease: Lease) -> None:
        """Make the device and the rules fit this lease."""
        config = self._config
        addresses = [f"{lease.vipa}/32"] + [f"{six}/128" for six in (lease.vipa6, self.home) if six]
        await device.create_tun(config.device, addresses, lease.mtu)
        self.lease = lease
        if self.capturing:
            await self.capture()

    async def up_home(self) -> None:
        """Make the device for peers, who need no lease."""
        if self.lease is None:
            await device.create_tun(self._config.device, [f"{self.home}/128"], PEERS_MTU)

    async def capture(self) -> None:
        """Take traffic into the device (`sojourn up`)."""
        self.capturing = True
        lease, config = self.lease, self._config
        if lease is None:
            return
        inner = [*lease.inner_addresses, *([lease.resolver] if lease.resolver else [])]
        captures = [Capture(rule.match, Action(rule.action), rule.uids) for rule in config.captures]
        await self.routing.up(
            config.device, lease.vipa, lease.vipa6, captures, kill_switch=config.kill_switch, inner=inner
        )
        if config.dns == "anchor" and lease.resolver is not None:
            await dns.up(config.device, lease.vipa, lease.vipa6, lease.resolver)
            self._dns = True

    async def release(self) -> None:
        """Give traffic back to the ordinary routes (`sojourn down`); tunnels stay."""
        self.capturing = False
        await self._dns_down()
        await self.routing.release()

    async def down(self) -> None:
        """Leave nothing behind."""
        await self._dns_down()
        await self.routing.down()
        await device.delete(self._config.device)

    async def _dns_down(self) -> None:
        if self._dns:
            await dns.down(self._config.device)
            self._dns = False
