"""What a run was measured on: processors, kernel, libraries, the peers' versions, and what others took meanwhile."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from bench._ground import HZ, machine
from bench._peers import NEWEST_WIREGUARD_GO

FLAGS: Final = ("aes", "vaes", "pclmulqdq", "vpclmulqdq", "avx2", "avx512f", "asimd", "sve")
"""Flags of a processor by which ciphers and checksums get fast."""
VERSION: Final = re.compile(r"\d+(?:\.\d+)+")


def described() -> dict[str, Any]:
    """Return all that can be said before a run; a peer that is not there has no version."""
    text = Path("/proc/cpuinfo").read_text()
    told = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    flags = told[1].split() if told else []
    return machine() | {
        "flags": [flag for flag in FLAGS if flag in flags],
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
        "python": platform.python_version(),
        "openssl": _openssl(),
        "peers": {name: found for name, argv in _peers().items() if (found := _version(argv))},
        "load": round(os.getloadavg()[0], 2),
    }


def _peers() -> dict[str, list[str]]:
    return {
        "iperf3": ["iperf3", "--version"],
        "openvpn": ["openvpn", "--version"],
        "wireguard-go-debian": ["wireguard-go", "--version"],
        "wireguard-go-named": [os.environ.get("WIREGUARD_GO", NEWEST_WIREGUARD_GO), "--version"],
        "dante": ["danted", "-v"],
    }


def _version(argv: list[str]) -> str | None:
    """Return the first number of a version that a program says of itself."""
    if shutil.which(argv[0]) is None:
        return None
    said = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    found = VERSION.search(said.stdout + said.stderr)
    return found[0] if found else "unknown"


def _openssl() -> str:
    """Return what the C core is bound to."""
    try:
        from sojourn.datapath import _core
    except ImportError:
        return "no C core"
    found = VERSION.search(_core.libcrypto())
    return found[0] if found else "unknown"


def stolen() -> tuple[float, float]:
    """Return the seconds that the hypervisor has taken from our processors, and those for which they were busy."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return fields[7] / HZ, (fields[0] + fields[1] + fields[2] + fields[5] + fields[6] + fields[7]) / HZ
