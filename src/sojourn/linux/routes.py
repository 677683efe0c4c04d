"""Routing rules, tables and routes of a mobile host and of an anchor: one documented block of them."""

from collections.abc import Iterable, Sequence
from enum import StrEnum

from msgspec import Struct

from sojourn.model import Network
from sojourn.upmt.match import Match


class Action(StrEnum):
    """What becomes of packets that a `[[capture]]` entry matches."""

    TUNNEL = "tunnel"
    DIRECT = "direct"


class Capture(Struct, frozen=True):
    """One `[[capture]]` entry; the first that matches decides, and what none matches is captured."""

    match: Match
    action: Action
    uids: tuple[int, int] | None = None


class HostRouting:
    """Everything a mobile host has in the kernel's routing. All methods may be repeated; what stands is adopted."""

    async def up(
        self,
        device: str,
        vipa: str,
        vipa6: str | None = None,
        captures: Sequence[Capture] = (),
        *,
        kill_switch: bool = False,
        inner: Sequence[str] = (),
    ) -> None:
        """Capture traffic into `device` (it exists: device.create_tun).

        `inner`: addresses that are always reached through the tunnel (the anchor's inner
        addresses and its resolver). Raises ConfigError for a capture no rule can say.
        """
        raise NotImplementedError

    async def set_network(self, network: Network) -> None:
        """Give a network its own table and rules, before sockets are bound to it."""
        raise NotImplementedError

    async def drop_network(self, name: str) -> None:
        """Take them away."""
        raise NotImplementedError

    async def set_networks(self, networks: Iterable[Network]) -> None:
        """Make it exactly these (what a dead predecessor left of others goes)."""
        raise NotImplementedError

    async def release(self) -> None:
        """Stop capturing; the networks' own tables stay."""
        raise NotImplementedError

    async def down(self) -> None:
        """Remove everything."""
        raise NotImplementedError


class AnchorRouting:
    """The Vipa pool's routes at an anchor: to the device, and a blackhole below for when it is gone."""

    async def up(self, device: str, pool: str, pool6: str | None = None) -> None:
        """Add both; repeated it changes nothing."""
        raise NotImplementedError

    async def down(self) -> None:
        """Remove them."""
        raise NotImplementedError


async def cleanup() -> list[str]:
    """Remove all rules and routes that Sojourn ever adds, by what the kernel holds; returns what went."""
    raise NotImplementedError
