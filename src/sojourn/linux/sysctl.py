"""Kernel settings that an anchor needs, saved and restored.

The old values are kept in the kernel as well, as comments in an nftables table of their own:
they are there after `kill -9`, and gone after a reboot, as the settings are.
"""

import contextlib
import re
from pathlib import Path

from sojourn.linux import nft

ROOT = Path("/proc/sys")
SAVED_TABLE = "sojourn_saved"
FORWARD4, FORWARD6 = "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"


def read(key: str) -> str | None:
    """Return a setting ("net/ipv4/ip_forward"), or None where this kernel has none."""
    try:
        return (ROOT / key).read_text().strip()
    except OSError:
        return None


def set_values(values: dict[str, str]) -> None:
    """Save what is there and set these, in this order."""
    changes = {key: value for key, value in values.items() if read(key) not in (None, value)}
    saved = saved_values()
    before: dict[str, str] = {}
    for key in changes:
        for entry in (key, *_side_effects(key)):
            value = read(entry)
            if value is not None and entry not in saved:
                before[entry] = value
    _save(before, len(saved))
    for key, value in changes.items():
        (ROOT / key).write_text(value)


def restore() -> list[str]:
    """Set everything back, and return which settings that were."""
    saved = saved_values()
    for key, value in saved.items():
        # An interface may be gone, and its settings with it.
        with contextlib.suppress(FileNotFoundError):
            (ROOT / key).write_text(value)
    nft.remove(SAVED_TABLE)
    return list(saved)


def saved_values() -> dict[str, str]:
    """Return what is saved, in the order in which it was."""
    if not nft.is_there(SAVED_TABLE):
        return {}
    text = nft.run(f"list table inet {SAVED_TABLE}\n")
    return dict(re.findall(r'comment "([^"=]+)=([^"]*)"', text))


def _save(values: dict[str, str], first: int) -> None:
    if not values:
        return
    chains = [
        f'add chain inet {SAVED_TABLE} value{number} {{ comment "{key}={value}"; }}'
        for number, (key, value) in enumerate(values.items(), first)
    ]
    nft.run("\n".join([f"add table inet {SAVED_TABLE}", *chains, ""]))


def _side_effects(key: str) -> list[str]:
    """Return settings that the kernel changes along, in an order in which they can be written back."""
    if key not in (FORWARD4, FORWARD6):
        return []
    family = "ipv4" if key == FORWARD4 else "ipv6"
    folder = ROOT / "net" / family / "conf"
    # Turning forwarding off turns it off on every interface, also on those where it was on by itself.
    on = [f"net/{family}/conf/{entry.name}/forwarding" for entry in sorted(folder.iterdir()) if entry.name != "all"]
    redirects = ["net/ipv4/conf/all/accept_redirects"] if family == "ipv4" else []  # inet_forward_change
    return [setting for setting in on if read(setting) == "1"] + redirects


class Forwarding:
    """Whether this machine forwards, for as long as an anchor wants it to."""

    def up(self, uplink: str, *, ipv6: bool = True) -> None:
        """Turn it on, and go on taking router advertisements on the uplink. Repeated it changes nothing."""
        set_values({FORWARD4: "1"})
        if ipv6:
            # A router ignores router advertisements unless told otherwise (RFC 4861 §6.2.1; ip-sysctl, accept_ra).
            accept = f"net/ipv6/conf/{uplink}/accept_ra"
            set_values(({accept: "2"} if read(accept) == "1" else {}) | {FORWARD6: "1"})

    def down(self) -> list[str]:
        """Set back what `up` changed, also in a process that is gone, and return which settings that were."""
        return restore()
