"""What a bug report is made of: name, what it is, and how its text is got. Nothing here changes anything."""

import importlib.metadata
import os
import platform
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from sojourn import __version__
from sojourn.api.client import Client
from sojourn.api.messages import ANCHOR_SOCKET, HOST_SOCKET, RENDEZVOUS_SOCKET, ApiError, ErrorKind
from sojourn.errors import SojournError
from sojourn.store.config_dir import ConfigDir

LOG_LINES: Final = 500
MOST_CHARACTERS: Final = 4 << 20
"""Of one part: a table of 10,000 flows is 3 MB."""
PATIENCE: Final = 15.0
UNITS: Final = ("sojourn-host", "sojourn-anchor", "sojourn-rendezvous")
COMMANDS: Final = {
    "system/addresses.txt": ("ip", "-details", "address", "show"),
    "system/links.txt": ("ip", "-statistics", "link", "show"),
    "system/rules4.txt": ("ip", "-4", "rule", "show"),
    "system/rules6.txt": ("ip", "-6", "rule", "show"),
    "system/routes4.txt": ("ip", "-4", "route", "show", "table", "all"),
    "system/routes6.txt": ("ip", "-6", "route", "show", "table", "all"),
    "system/nftables.txt": ("nft", "-s", "list", "ruleset"),
    "system/sockets.txt": ("ss", "-lntu"),
    "system/qdiscs.txt": ("tc", "-s", "qdisc", "show"),
    "system/journal.txt": ("journalctl", "--no-pager", "--lines", str(LOG_LINES), "--output", "short-precise",
                           *(word for unit in UNITS for word in ("--unit", unit))),
}  # fmt: skip
VERBS: Final = {
    "host": ("about", "status", "networks", "flows", "apps", "policy_list", "questions"),
    "anchor": ("about", "status", "hosts", "flows", "exposed"),
    "rendezvous": ("about", "status"),
}
FILES: Final = ("host.toml", "anchor.toml", "rendezvous.toml")


class Part(Struct, frozen=True):
    """One file of the report."""

    name: str
    what: str
    make: Callable[[], str]

    def text(self) -> str:
        """Return its text; what cannot be got says why."""
        try:
            return self.make()[-MOST_CHARACTERS:]
        except (SojournError, OSError, subprocess.SubprocessError, ValueError) as error:
            return f"not to be had: {error}\n"


def parts(directory: ConfigDir, sockets: dict[str, str]) -> Iterator[Part]:
    """Yield all parts. `sockets`: role -> path of the daemon that answers there."""
    yield Part("versions.json", "Sojourn, Python, kernel, distribution, packages", _versions)
    yield Part("doctor.json", "what `sojourn doctor` finds", partial(_doctor, directory))
    for role, path in sockets.items():
        daemon = Client(path)
        for verb in VERBS.get(role, ()):
            yield Part(f"{role}/{verb}.json", f"what the {role} answers to {verb}", partial(_verb, daemon, verb))
        yield Part(f"{role}/metrics.txt", f"the {role}'s figures", partial(_metrics, daemon))
        if role in ("host", "anchor"):
            yield Part(f"{role}/log.jsonl", f"the newest {LOG_LINES} lines of its roaming log", partial(_log, daemon))
    yield Part("config/files.txt", "names, modes and sizes of what is in the configuration directory",
               partial(listing, directory.path))  # fmt: skip
    for name in FILES:
        if (file := directory.path / name).exists():
            yield Part(f"config/{name}", "the configuration", file.read_text)
    for role, file in (("host", directory.host_log), ("anchor", directory.anchor_log)):
        if role not in sockets and file.exists():
            yield Part(f"{role}/log.jsonl", f"the end of {file.name}", partial(_tail, file))
    for name, command in COMMANDS.items():
        if shutil.which(command[0]):
            yield Part(name, f"`{' '.join(command[:6])}`", partial(_run, command))


def running(named: str | None) -> dict[str, str]:
    """Return role and socket of the daemons that answer: the one that was named, or all in their usual places."""
    found = {}
    for path in [named] if named else [HOST_SOCKET, ANCHOR_SOCKET, RENDEZVOUS_SOCKET]:
        try:
            found[str(Client(path, PATIENCE).call("about").get("role"))] = path
        except ApiError as error:
            if named or error.kind is not ErrorKind.NOT_RUNNING:
                raise
    return found


def versions() -> dict[str, Any]:
    """Return what runs here."""
    packages = sorted((it.metadata["Name"], it.version) for it in importlib.metadata.distributions())
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    return {
        "sojourn": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "kernel_version": platform.version(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "distribution": {key: release[key] for key in ("ID", "VERSION_ID", "PRETTY_NAME") if key in release},
        "environment": {key: value for key, value in os.environ.items() if key.startswith("SOJOURN_")},
        "packages": dict(packages),
    }


def _versions() -> str:
    return _json(versions())


def listing(path: Path) -> str:
    """Return names, modes and sizes of what a directory holds."""
    lines = []
    for file in sorted(path.rglob("*")):
        found = file.lstat()
        lines.append(f"{stat.filemode(found.st_mode)} {found.st_uid:5} {found.st_gid:5} {found.st_size:10} "
                     f"{file.relative_to(path)}")  # fmt: skip
    return "\n".join(lines) + "\n"


def _doctor(directory: ConfigDir) -> str:
    from sojourn.cli.doctor import examine

    return _json([msgspec.to_builtins(check) for check in examine(directory, None)])


def _verb(daemon: Client, verb: str) -> str:
    return _json(daemon.call(verb))


def _metrics(daemon: Client) -> str:
    return str(daemon.call("metrics")["text"])


def _log(daemon: Client) -> str:
    entries = daemon.stream("log", limit=LOG_LINES)
    return "".join(f"{msgspec.json.encode(entry).decode()}\n" for entry in entries)


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-LOG_LINES:]) + "\n"


def _run(command: tuple[str, ...]) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout + (f"\n{done.stderr}" if done.stderr else "")


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"
