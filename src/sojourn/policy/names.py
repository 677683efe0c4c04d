"""What people call the program that made a flow: from its `Origin` to unit, container, flatpak, snap and application.

A cgroup's path says all of it, since systemd and the container engines put every program into a cgroup that they
name. Only the path is read here, as the kernel gave it:

    /system.slice/ssh.service                                        a service
    /system.slice/system-openvpn.slice/openvpn@office.service        an instance of a template
    /user.slice/user-1000.slice/user@1000.service/app.slice/
        app-flatpak-org.mozilla.firefox-4242.scope                   a flatpak
        snap.firefox.firefox-0c1c....scope                           a snap
        app-gnome-org.gnome.Maps-4242.scope                          an application that the desktop started
    /system.slice/docker-<64 hex digits>.scope, /docker/<64 ...>     a container; podman, containerd, CRI-O likewise
    /machine.slice/machine-web.scope, /lxc.payload.web               an nspawn machine, an LXC container
"""

import re
from functools import lru_cache

from msgspec import Struct

from sojourn.model import Origin

KINDS = ("docker", "podman", "containerd", "crio", "lxc", "nspawn", "buildah", "container")

_UNIT = re.compile(r"^[^/]+\.(service|scope|slice|socket|mount|swap)$")
_ESCAPED = re.compile(r"\\x([0-9a-fA-F]{2})")
_HEX_ID = r"([0-9a-f]{64}|[0-9a-f]{32}-[0-9]{8,10})"
_ENGINES = {
    "docker": "docker", "libpod": "podman", "libpod-payload": "podman", "cri-containerd": "containerd",
    "nerdctl": "containerd", "crio": "crio", "buildah": "buildah",
}  # fmt: skip
_ENGINE_SCOPE = re.compile(rf"^({'|'.join(_ENGINES)})-{_HEX_ID}(?:\.scope)?$")
_BARE_ID = re.compile(rf"^{_HEX_ID}$")
_POD = re.compile(r"^(kubepods|pod[0-9a-f-]{36}$)")
_LXC = re.compile(r"^lxc\.payload[./](.+)$")
_MACHINE = re.compile(r"^machine-(.+)\.scope$")
_NSPAWN = re.compile(r"^systemd-nspawn@(.+)\.service$")
_FLATPAK = re.compile(r"^(?:app-)?flatpak-([A-Za-z0-9_.-]+?)-[0-9]+\.scope$")
_SNAP = re.compile(r"^snap\.([a-z0-9_-]+)\.[^/]+\.(?:scope|service)$")
_DESKTOP = re.compile(r"^app-(?:[a-z]+-)?(.+?)(?:@[^@]*\.service|-[0-9a-f]+\.scope|\.service)$")
_SUFFIX = re.compile(r"\.(service|scope|slice|socket|mount|swap)$")


class Container(Struct, frozen=True):
    """Which container, of which engine (`KINDS`)."""

    kind: str
    id: str
    """64 hexadecimal digits, or a name where the engine goes by names."""


class Names(Struct, frozen=True):
    """All that a cgroup's path tells, once."""

    units: tuple[str, ...] = ()
    """Unescaped, the innermost first."""
    container: Container | None = None
    flatpak: str | None = None
    snap: str | None = None
    desktop: str | None = None
    """The id of an application that a desktop started (XDG "app-" units)."""


@lru_cache(4096)
def names_of(cgroup: str) -> Names:
    """Read a cgroup's path. What it does not tell is None."""
    parts = [part for part in cgroup.split("/") if part]
    inner = parts[::-1]
    units = tuple(unescape(part) for part in inner if _UNIT.match(part))
    return Names(
        units,
        _container(parts),
        _first(_FLATPAK, inner),
        _first(_SNAP, inner),
        _first(_DESKTOP, [part for part in inner if not part.endswith(".slice")]),
    )


def _first(form: re.Pattern[str], parts: list[str]) -> str | None:
    for part in parts:
        found = form.match(unescape(part))
        if found is not None:
            return found[1]
    return None


def unescape(unit: str) -> str:
    r"""Undo systemd's `\xNN` (systemd.unit(5)); what is not UTF-8 then stays as it is."""
    if "\\x" not in unit:
        return unit
    try:
        octets = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), unit).encode("latin-1")
        return octets.decode()
    except (UnicodeEncodeError, UnicodeDecodeError):
        return unit


def _container(parts: list[str]) -> Container | None:
    for place, raw in reversed(tuple(enumerate(parts))):
        part = unescape(raw)
        above = parts[place - 1] if place else ""
        if (found := _ENGINE_SCOPE.match(part)) is not None:
            return Container(_ENGINES[found[1]], found[2])
        if _BARE_ID.match(part):
            kind = above if above in KINDS else "containerd" if _POD.match(above) or "kubepods" in parts[0] else ""
            return Container(kind or "container", part)
        if (found := _MACHINE.match(part) or _NSPAWN.match(part)) is not None:
            return Container("nspawn", found[1])
        if (found := _LXC.match(part)) is not None:
            return Container("lxc", found[1])
        if above == "lxc":
            return Container("lxc", part)
    return None


def unit_of(cgroup: str) -> str | None:
    """Return the innermost service or scope."""
    return next((unit for unit in names_of(cgroup).units if unit.endswith((".service", ".scope"))), None)


def path_of(origin: Origin) -> str:
    """Return the path that identifies the program: the script's, not its interpreter's."""
    return origin.script or origin.executable


def application_names(origin: Origin) -> tuple[str, ...]:
    """Return every name that an `application` rule may use for this program, the most certain first.

    What `sojourn run --app NAME` has pinned has this one name only.
    """
    told = names_of(origin.cgroup)
    package = told.flatpak or told.snap
    if origin.name and origin.name != package and origin.name.count(".") < 2:
        return (origin.name,)
    base = path_of(origin).rpartition("/")[2]
    unit = unit_of(origin.cgroup)
    bare = _SUFFIX.sub("", unit) if unit is not None and unit.endswith(".service") else ""
    instance_of = bare.partition("@")[0]
    found = (origin.name, package, told.snap, base, told.desktop, origin.command, bare, instance_of)
    return tuple(dict.fromkeys(name for name in found if name))


def application_name(origin: Origin | None) -> str | None:
    """Return what to call the program in tables and questions; None when nothing is known of it."""
    if origin is None:
        return None
    return next(iter(application_names(origin)), None)


def unit_names(origin: Origin) -> tuple[str, ...]:
    """Return what a `unit` rule may use: each unit on the path, whole, without its suffix, and as its template."""
    found: list[str] = []
    for unit in names_of(origin.cgroup).units:
        bare = _SUFFIX.sub("", unit)
        template, at, _ = bare.partition("@")
        found += [unit, bare]
        if at:
            found += [f"{template}@{unit[len(bare) :]}", f"{template}@"]
    return tuple(found)


def container_names(origin: Origin) -> tuple[str, ...]:
    """Return what a `container` rule may use: id or name, the 12 digits that engines print, kind, and kind:id."""
    container = names_of(origin.cgroup).container
    if container is None:
        return ()
    ids = (container.id, container.id[:12]) if _BARE_ID.match(container.id) else (container.id,)
    return (*ids, container.kind, *(f"{container.kind}:{one}" for one in ids))
