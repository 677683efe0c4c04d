"""The persistent TUN device: it outlives the processes that read it, until `delete`."""

from collections.abc import Sequence


async def create_tun(name: str, addresses: Sequence[str], mtu: int) -> None:
    """Make the device (or adopt it), up, with exactly these addresses ("10.201.0.7/32") and MTU.

    A data path opens it by name afterwards (IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, not multi-queue).
    """
    raise NotImplementedError


async def delete(name: str) -> bool:
    """Remove the device, and say whether it was there. Refuses anything that is not a TUN device."""
    raise NotImplementedError


def exists(name: str) -> bool:
    """Say whether an interface of this name is there."""
    raise NotImplementedError
