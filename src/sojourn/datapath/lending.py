"""What control opens for its data path, which may not do so by itself: low ports, and the kernel path's programs."""

import os
from collections.abc import Collection, Mapping

from msgspec import structs

from sojourn.datapath import kernel_objects
from sojourn.datapath.low_ports import open_low_ports
from sojourn.errors import NotSupported
from sojourn.linux.pins import Pins
from sojourn.upmt.commands import Setup

WITHOUT_KERNEL = frozenset(("python", "core"))
"""Words of SOJOURN_ENGINE that name an engine for everything."""


def lend(
    setup: Setup, known: Collection[str], pins: Pins, environment: Mapping[str, str] = os.environ
) -> tuple[Setup, dict[str, int]]:
    """Return descriptors for what is not among the `known` names, and the order that goes with them.

    Programs and maps that a killed anchor has left among the `pins` are taken before others are loaded. Why there are
    none stands in the order, so that the data path says it once, and to every control.
    """
    lent = open_low_ports(setup, known)
    engine = environment.get("SOJOURN_ENGINE", "").strip().lower()
    if setup.plain and engine in WITHOUT_KERNEL:
        setup = structs.replace(setup, without_kernel=f"SOJOURN_ENGINE={engine}")
    if not setup.plain or setup.without_kernel:
        pins.remove()
        return setup, lent
    try:
        return setup, lent | (kernel_objects.adopt(pins, setup, known) or kernel_objects.load(setup.role, known))
    except (OSError, NotSupported) as error:
        return structs.replace(setup, without_kernel=kernel_objects.why_not(error)), lent
