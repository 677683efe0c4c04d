"""What the anchor asks of the kernel: device, pool routes, NAT, forwarding; and what it knows of this machine."""

import ipaddress
from collections.abc import Sequence
from pathlib import Path

from sojourn.control.config import AnchorConfig
from sojourn.linux import device, nft, sysctl
from sojourn.linux.resolve import resolved
from sojourn.linux.routes import AnchorRouting
from sojourn.linux.uplink import Uplink, find_uplink, own_addresses
from sojourn.model import TCP, Endpoint
from sojourn.packet.seal import OVERHEAD_BYTES
from sojourn.upmt.commands import Role, Setup
from sojourn.upmt.records import PortForward
from sojourn.upmt.vipa import VipaPool

MTU_OVER_IPV4 = 1500 - 20 - 8 - 24
"""A full Ethernet frame less IPv4, UDP, and the sealed header and tag."""
MTU_OVER_IPV6 = MTU_OVER_IPV4 - 20
REFUSED = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
    "224.0.0.0/4", "240.0.0.0/4", "::/127", "fc00::/7", "fe80::/10", "ff00::/8", "64:ff9b::/96",
)  # fmt: skip
"""Inner destinations that are not the Internet (RFC 6890): the anchor's neighbours are none of the hosts' business."""


class AnchorSystem:
    """Brings the kernel's side up and down. All methods may be repeated."""

    def __init__(self, config: AnchorConfig) -> None:
        self.config = config
        self._pool = VipaPool(config.pool, config.pool6)
        self._routing = AnchorRouting()
        self._forwarding = sysctl.Forwarding()
        self.forwards: Sequence[tuple[PortForward, str]] = ()
        """Ports of the anchor, and the Vipas that they lead to; `apply` after a change."""
        self._applied: nft.AnchorRules | None = None
        self._uplink = Uplink("lo")
        self._own: list[str] = []
        self._outer: list[str] | None = None

    @property
    def mtu(self) -> int:
        """The hint that hosts get: what fits into a sealed tunnel over an Ethernet."""
        return MTU_OVER_IPV6 if any(":" in address for address in self.outer_addresses()) else MTU_OVER_IPV4

    @property
    def device_mtu(self) -> int:
        """The device's MTU: plain tunnels have room for more. Each tunnel's own MTU is below or equal to it."""
        return self.mtu + (OVERHEAD_BYTES if self.config.plain_tunnels else 0)

    def outer_addresses(self) -> list[str]:
        """Return where hosts reach this anchor: the configured address, or what its name stands for."""
        if self._outer is None:
            self._outer = resolved(self.config.address)
        return self._outer

    def resolver(self) -> str | None:
        """Return the DNS server for hosts: the configured one, or this machine's own unless it is a local stub."""
        if self.config.resolver != "auto":
            return self.config.resolver
        try:
            words = [line.split() for line in Path("/etc/resolv.conf").read_text().splitlines()]
        except OSError:
            return None
        for word in words:
            if len(word) >= 2 and word[0] == "nameserver":
                address = ipaddress.ip_address(word[1].partition("%")[0])
                if not address.is_loopback and not address.is_link_local:
                    return str(address)
        return None

    def setup(self) -> Setup:
        """Return what the data path must know."""
        config = self.config
        inner = tuple(address for address in self._pool.anchor if address is not None)
        own = tuple(f"{address}/{128 if ':' in address else 32}" for address in self._own if address not in inner)
        pools = (config.pool, config.pool6) if config.isolate else ()
        resolver = self.resolver()
        allowed = (*config.allow, *([f"{resolver}/{128 if ':' in resolver else 32}"] if resolver else []))
        return Setup(
            Role.ANCHOR,
            config.device,
            self.device_mtu,
            inner_addresses=inner,
            refused=(*REFUSED, *own, *config.refuse, *(pool for pool in pools if pool is not None)),
            allowed=allowed,
            listen=tuple(Endpoint(address, config.tunnel_port) for address in config.listen),
            plain=config.plain_tunnels,
            zero_checksum6=config.zero_checksum6,
        )

    async def up(self) -> None:
        """Make device, routes, forwarding and NAT."""
        config = self.config
        addresses = [f"{self._pool.anchor[0]}/32"]
        if self._pool.anchor[1] is not None:
            addresses.append(f"{self._pool.anchor[1]}/128")
        await device.create_tun(config.device, addresses, self.device_mtu)
        await self._routing.up(config.device, config.pool, config.pool6)
        await self.look()
        self._forwarding.up(self._uplink.interface)
        self.apply()

    async def look(self) -> None:
        """Note this machine's addresses and its way out, as they are now."""
        self._own = await own_addresses()
        self._uplink = await find_uplink(self.config.uplink, self.outer_addresses())

    async def down(self) -> None:
        """Leave nothing behind; leases stay in the records, translations in the kernel's conntrack."""
        nft.remove_anchor()
        self._applied = None
        self._forwarding.down()
        await self._routing.down()
        await device.delete(self.config.device)

    def apply(self) -> None:
        """Make the NAT's table fit, in one transaction; flows keep their translations."""
        config, uplink = self.config, self._uplink
        forwards = tuple(
            nft.PortForward("tcp" if forward.protocol == TCP else "udp", forward.port, vipa, forward.public_port)
            for forward, vipa in self.forwards
        )
        rules = nft.AnchorRules(
            config.device, config.pool, uplink.interface, config.pool6,
            snat=uplink.address, snat6=uplink.address6, forwards=forwards, isolate=config.isolate,
        )  # fmt: skip
        if rules != self._applied:
            nft.set_anchor(rules)
            self._applied = rules
