"""Networks that the user has put aside, for now or for good (`sojourn networks pause`, `exclude`)."""

from enum import StrEnum

from msgspec import Struct


class NetworkUse(StrEnum):
    """What the user wants a network to be."""

    ON = "on"
    PAUSED = "paused"
    """Not used until the user says so, or the daemon starts anew."""
    EXCLUDED = "excluded"
    """Not used until the user says so: written down."""


class Excluded(Struct, frozen=True):
    """What is written down (host.excluded)."""

    networks: tuple[str, ...] = ()
