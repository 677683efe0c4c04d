"""What NetworkManager says of interfaces, from its objects as they stand (GetManagedObjects). Pure.

Constants: NetworkManager's D-Bus reference, nm-dbus-types.
"""

import ipaddress
from collections.abc import Mapping
from typing import Any, Literal

from sojourn.linux.properties import get, interface, label
from sojourn.upmt.events_network import Description

SERVICE, ROOT = "org.freedesktop.NetworkManager", "/org/freedesktop"
DEVICE, WIRELESS = f"{SERVICE}.Device", f"{SERVICE}.Device.Wireless"
ACTIVE, ACCESS_POINT = f"{SERVICE}.Connection.Active", f"{SERVICE}.AccessPoint"
CONFIG4, CONFIG6 = f"{SERVICE}.IP4Config", f"{SERVICE}.IP6Config"

KINDS = {1: "ethernet", 2: "wifi", 5: "cellular", 8: "cellular"}
"""NMDeviceType; 5 is Bluetooth, which is a telephone's."""
METERED = {1: True, 2: False, 3: True, 4: False}
"""NMMetered: yes, no, guess-yes, guess-no."""
Connectivity = Literal["none", "portal", "limited", "full"]
CONNECTIVITY: dict[int, Connectivity] = {1: "none", 2: "portal", 3: "limited", 4: "full"}
PRIVACY = 1
"""NM_802_11_AP_FLAGS_PRIVACY."""
OWE_TRANSITION = 0x1000
"""NM_802_11_AP_SEC_KEY_MGMT_OWE_TM: an open access point with an encrypted twin."""
MAX_SERVERS = 8


def describe(objects: Mapping[str, Any]) -> dict[str, Description]:
    """Return what is known by interface. What NetworkManager does not manage is left out."""
    found: dict[str, Description] = {}
    for path in objects:
        device = interface(objects, path, DEVICE)
        name = get(device, "IpInterface", str) or get(device, "Interface", str)
        if name and get(device, "Managed", bool) is not False:
            found[name] = _describe(objects, path, device)
    return found


def access_points(objects: Mapping[str, Any]) -> set[str]:
    """Return the paths of the access points in use: only their changes matter."""
    used = (get(interface(objects, path, WIRELESS), "ActiveAccessPoint", str) for path in objects)
    return {path for path in used if path}


def _describe(objects: Mapping[str, Any], path: str, device: Mapping[str, Any]) -> Description:
    kind = KINDS.get(get(device, "DeviceType", int) or 0)
    active = interface(objects, get(device, "ActiveConnection", str), ACTIVE)
    if not active:
        return Description(kind=kind)
    point = interface(objects, get(interface(objects, path, WIRELESS), "ActiveAccessPoint", str), ACCESS_POINT)
    ssid = label(get(point, "Ssid", bytes))
    strength = get(point, "Strength", int)
    return Description(
        label=label(get(active, "Id", str)) or ssid,
        kind=kind,
        metered=METERED.get(get(device, "Metered", int) or 0),
        signal=None if strength is None else min(max(strength, 0), 100) / 100,
        ssid=ssid,
        security=_security(point),
        connectivity=_connectivity(device),
        dns=_servers(objects, device),
    )


def _security(point: Mapping[str, Any]) -> Literal["open", "encrypted"] | None:
    flags, wpa, rsn = (get(point, name, int) for name in ("Flags", "WpaFlags", "RsnFlags"))
    if flags is None or wpa is None or rsn is None:
        return None
    return "encrypted" if flags & PRIVACY or wpa or rsn & ~OWE_TRANSITION else "open"


def _connectivity(device: Mapping[str, Any]) -> Connectivity | None:
    """Return the better of what was found over IPv4 and IPv6, but a portal in any case."""
    found = [get(device, name, int) or 0 for name in ("Ip4Connectivity", "Ip6Connectivity")]
    return "portal" if 2 in found else CONNECTIVITY.get(max(found))


def _servers(objects: Mapping[str, Any], device: Mapping[str, Any]) -> tuple[str, ...]:
    four = get(interface(objects, get(device, "Ip4Config", str), CONFIG4), "NameserverData", list) or []
    six = get(interface(objects, get(device, "Ip6Config", str), CONFIG6), "Nameservers", list) or []
    servers = [address for entry in four if (address := _address(get(entry, "address", str)))]
    servers += [address for packed in six if isinstance(packed, bytes) and (address := _address(packed))]
    return tuple(servers[:MAX_SERVERS])


def _address(given: str | bytes | None) -> str | None:
    if given is None:
        return None
    try:
        return str(ipaddress.ip_address(given))
    except ValueError:
        return None
