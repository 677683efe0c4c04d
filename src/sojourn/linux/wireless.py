"""Wi-Fi signal where nobody on D-Bus tells it: /proc/net/wireless, which every cfg80211 driver fills."""

from pathlib import Path

from sojourn.upmt.events_network import Description

TABLE = Path("/proc/thread-self/net/wireless")
STRONGEST, WEAKEST = -50.0, -100.0
"""dBm that are 100 % and 0 %, as NetworkManager has it."""


def read() -> dict[str, Description]:
    """Return the signal of each Wi-Fi interface that is associated; nothing where the kernel lacks the table."""
    try:
        return describe(TABLE.read_text(errors="replace"))
    except OSError:
        return {}


def describe(text: str) -> dict[str, Description]:
    """Read the table: `wlan0: 0000   54.  -56.  -256 ...` (status, quality, level in dBm)."""
    found = {}
    for line in text.splitlines()[2:]:
        name, colon, rest = line.partition(":")
        words = rest.split()
        if not colon or len(words) < 3:
            continue
        try:
            level = float(words[2].rstrip("."))
        except ValueError:
            continue
        if level < 0:  # else it is a driver's own scale
            signal = (min(max(level, WEAKEST), STRONGEST) - WEAKEST) / (STRONGEST - WEAKEST)
            found[name.strip()] = Description(kind="wifi", signal=signal)
    return found
