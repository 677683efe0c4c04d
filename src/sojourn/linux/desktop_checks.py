"""For `sojourn doctor`: which services on the system bus tell what of networks. All of them may be absent."""

import asyncio

from sojourn.linux import logind, modemmanager, networkmanager
from sojourn.linux.bus import DBUS, Bus, BusError
from sojourn.linux.checks import Check

SERVICES = (
    ("NetworkManager", networkmanager.SERVICE, networkmanager.ROOT, "names, metered flags and Wi-Fi signal"),
    ("ModemManager", modemmanager.SERVICE, modemmanager.ROOT, "operator, technology and signal of cellular networks"),
    ("logind", logind.SERVICE, "", "suspend and resume"),
)


def desktop_checks() -> list[Check]:
    """Ask who is there, and whether they answer."""
    try:
        return asyncio.run(_ask())
    except BusError as error:
        found = f"{error}: networks have the names of their interfaces, and the kernel's word is all there is"
        return [Check("system bus", True, found, needed=False)]


async def _ask() -> list[Check]:
    async with Bus() as bus:
        return [await _service(bus, *service) for service in SERVICES]


async def _service(bus: Bus, name: str, service: str, root: str, tells: str) -> Check:
    answer = await bus.call(DBUS, "/org/freedesktop/DBus", DBUS, "NameHasOwner", "s", [service])
    if answer.body != [True]:
        return Check(name, True, f"does not run: it would tell {tells}", needed=False)
    try:
        if root:
            await bus.objects(service, root)
    except BusError as error:
        return Check(name, False, f"runs, but {error}", f"systemctl restart {name}", needed=False)
    return Check(name, True, f"tells {tells}", needed=False)
