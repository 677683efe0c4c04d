"""Name resolution through the anchor: systemd-resolved's own way where it runs, else a redirect of port 53.

resolv.conf is read and never written.
"""

import asyncio
import shutil
import subprocess
from pathlib import Path

from sojourn.linux import nft

RESOLV_CONF = Path("/etc/resolv.conf")
STUBS = frozenset({"127.0.0.53", "127.0.0.54"})
"""Where systemd-resolved listens (resolved.conf(5), DNSStubListener)."""
RESOLVECTL_SECONDS = 5


async def up(device: str, vipa: str, vipa6: str | None, resolver: str) -> None:
    """Send questions to the anchor's resolver. It must be among `inner` of HostRouting.up."""
    if resolved_answers() and await asyncio.to_thread(_tell_resolved, device, resolver):
        await asyncio.to_thread(nft.remove_host)
        return
    rules = nft.HostRules(device=device, vipa=vipa, vipa6=vipa6, resolver=resolver)
    await asyncio.to_thread(nft.set_host, rules)


async def down(device: str) -> None:
    """Give resolution back to the networks. Repeated it changes nothing."""
    if resolved_answers():
        await asyncio.to_thread(_resolvectl, "revert", device)
        await asyncio.to_thread(_resolvectl, "flush-caches")
    await asyncio.to_thread(nft.remove_host)


def resolved_answers() -> bool:
    """Say whether applications here ask systemd-resolved: resolv.conf names its stub."""
    return shutil.which("resolvectl") is not None and bool(STUBS & set(nameservers()))


def nameservers() -> list[str]:
    """Return the addresses that resolv.conf names."""
    try:
        lines = RESOLV_CONF.read_text().splitlines()
    except OSError:
        return []
    return [words[1] for line in lines if len(words := line.split()) >= 2 and words[0] == "nameserver"]


def _tell_resolved(device: str, resolver: str) -> bool:
    """Make the device the link that all names belong to ("~."); False when resolved does not do it."""
    return (
        _resolvectl("dns", device, resolver)
        and _resolvectl("domain", device, "~.")
        and _resolvectl("default-route", device, "yes")
        # What a network's resolver said of a name may be true on that network only.
        and _resolvectl("flush-caches")
    )


def _resolvectl(*words: str) -> bool:
    try:
        done = subprocess.run(["resolvectl", *words], capture_output=True, timeout=RESOLVECTL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
