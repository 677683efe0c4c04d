"""What ModemManager says of cellular interfaces, from its objects as they stand. Pure.

Constants: ModemManager's API reference, ModemManager-enums.
"""

from collections.abc import Mapping
from typing import Any

from sojourn.linux.properties import get, interface, label
from sojourn.upmt.events_network import Description

SERVICE, ROOT = "org.freedesktop.ModemManager1", "/org/freedesktop/ModemManager1"
MODEM, MODEM_3GPP = f"{SERVICE}.Modem", f"{SERVICE}.Modem.Modem3gpp"
PORT_NET = 2
"""MMModemPortType."""
TECHNOLOGIES = (
    (1 << 15, "5g"),
    (1 << 14 | 1 << 16 | 1 << 17, "lte"),
    (1 << 6 | 1 << 7 | 1 << 8 | 1 << 9, "hspa"),
    (1 << 5, "umts"),
    (1 << 10 | 1 << 11 | 1 << 12 | 1 << 13, "cdma"),
    (1 << 4, "edge"),
    (1 << 1 | 1 << 2 | 1 << 3, "gprs"),
)
"""MMModemAccessTechnology, the best first: several may be in use at once."""
HOME, ROAMING = {1, 6, 9}, {5, 7, 10}
"""MMModem3gppRegistrationState."""


def describe(objects: Mapping[str, Any]) -> dict[str, Description]:
    """Return what is known by network interface."""
    found: dict[str, Description] = {}
    for path in objects:
        modem = interface(objects, path, MODEM)
        description = _describe(modem, interface(objects, path, MODEM_3GPP))
        for port in get(modem, "Ports", list) or []:
            if isinstance(port, list | tuple) and len(port) == 2 and port[1] == PORT_NET and isinstance(port[0], str):
                found[port[0]] = description
    return found


def _describe(modem: Mapping[str, Any], cell: Mapping[str, Any]) -> Description:
    technologies = get(modem, "AccessTechnologies", int) or 0
    state = get(cell, "RegistrationState", int)
    return Description(
        kind="cellular",
        signal=_signal(get(modem, "SignalQuality", list)),
        technology=next((name for bits, name in TECHNOLOGIES if technologies & bits), None),
        operator=label(get(cell, "OperatorName", str)),
        roaming=True if state in ROAMING else False if state in HOME else None,
    )


def _signal(quality: list[Any] | None) -> float | None:
    """Read (percent, recently measured)."""
    if not quality or type(quality[0]) is not int:
        return None
    return min(max(quality[0], 0), 100) / 100
