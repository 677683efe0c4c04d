"""Labs that stand for a whole module, further mobile hosts in them, and sockets at any of their places."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sojourn.api.client import Client
from sojourn.api.messages import ApiError
from sojourn.lab import namespaces
from sojourn.lab.daemons import Daemons
from sojourn.lab.processes import Child
from sojourn.lab.topology import Lab, Topology
from tests.net.conftest import PREFIX, check_rights, missing_feature

PATIENCE = 30.0
"""Seconds for what takes well under one, on a machine that others use."""
POLL = 0.05


def own_prefix() -> str:
    """Return namespace names of this test run."""
    return f"{PREFIX}-{os.getpid()}"


@contextlib.contextmanager
def standing(topology: Topology) -> Iterator[Lab]:
    """Build a lab for as long as the block lasts."""
    feature = missing_feature()
    if feature is not None:
        pytest.skip(f"this kernel has no {feature}")
    check_rights()
    lab = Lab(topology)
    try:
        lab.up()
        yield lab
    finally:
        lab.down()


def name_the_anchor(lab: Lab, name: str) -> None:
    """Let a name stand for both of the anchor's addresses, at the anchor and at the mobile host."""
    site = lab.topology.anchor
    for role in ("mh", "an"):
        hosts = namespaces.ETC_NETNS / lab.namespace(role) / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{site.address} {name}\n{site.address6} {name}\n")


def eventually(what: str, is_so: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until something is so; the test fails when it does not become so."""
    until = time.monotonic() + patience
    while not is_so():
        if time.monotonic() > until:
            pytest.fail(f"not within {patience:g} s: {what}")
        time.sleep(POLL)


def sojourn_at(lab: Lab, role: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run `sojourn WORDS` at a role, whatever comes of it."""
    argv = namespaces.entering(lab.namespace(role), [sys.executable, "-m", "sojourn", *words])
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60.0, check=False)


class Terminal:
    """A mobile host with a directory of its own, at any role; several may be run there one after the other."""

    def __init__(self, lab: Lab, name: str, role: str = "mh") -> None:
        self.lab = lab
        self.role = role
        self.name = name
        self.folder = lab.folder / name
        self.socket = lab.folder / f"{name}.sock"
        self.child: Child | None = None

    def join(self, token: str) -> subprocess.CompletedProcess[str]:
        """Run `sojourn join`."""
        return sojourn_at(self.lab, self.role, "join", token, "--config-dir", str(self.folder), "--name", self.name)

    def start(self) -> None:
        """Start `sojourn host` and wait until its control socket answers."""
        self.child = self.lab.start(self.role, self.name, [
            sys.executable, "-m", "sojourn", "host", "--config-dir", str(self.folder), "--socket", str(self.socket),
        ])  # fmt: skip
        self.child.wait_for("ready", PATIENCE)

    def status(self) -> dict[str, Any]:
        """Return what `sojourn status --json` says; {} while nobody answers."""
        try:
            answer = Client(str(self.socket)).call("status")
        except (ApiError, OSError):
            return {}
        assert isinstance(answer, dict)
        return answer

    def until(self, what: str, is_so: Callable[[dict[str, Any]], object], patience: float = PATIENCE) -> None:
        """Wait until the status satisfies a condition."""
        last: dict[str, Any] = {}

        def look() -> object:
            nonlocal last
            last = self.status()
            return last and is_so(last)

        try:
            eventually(what, look, patience)
        except pytest.fail.Exception as error:
            said = self.child.output()[-800:] if self.child is not None else ""
            pytest.fail(f"{error}; {self.name} says {last}; it wrote: {said}")

    def until_associated(self) -> None:
        """Wait until the anchor has accepted it and a tunnel works."""
        self.until("associated", lambda status: status["state"] == "associated")

    def stop(self) -> int:
        """Stop it cleanly and return its exit code."""
        assert self.child is not None
        return self.child.stop(PATIENCE)


def hosts(daemons: Daemons) -> dict[str, dict[str, object]]:
    """Return what the running anchor knows of each host, by name."""
    return {str(row["name"]): row for row in Client(str(daemons.anchor_socket)).call("hosts")}


def laptop(daemons: Daemons) -> Terminal:
    """Return the lab's first host as a `Terminal`; not started."""
    terminal = Terminal(daemons.lab, "host")
    assert terminal.folder == daemons.host_folder
    return terminal


def kill_all(daemons: Daemons, role: str) -> None:
    """Kill -9 every process of the program at a role."""
    mine = processes_of(daemons.lab, role)
    assert len(mine) >= 2, "control and data path at least"
    namespaces.send_signal(mine, signal.SIGKILL)
    child = daemons.host if role == "mh" else daemons.anchor
    assert child is not None
    child.kill()
    eventually("all are gone", lambda: not processes_of(daemons.lab, role))


def _command_line(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def processes_of(lab: Lab, role: str) -> list[int]:
    """Return the processes of the program at a role."""
    return [pid for pid in namespaces.pids(lab.namespace(role)) if b"sojourn" in _command_line(pid)]


class Sockets:
    """Makes sockets at roles of a lab, and closes them all."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._made: list[socket.socket] = []

    def at(
        self, role: str, kind: int = socket.SOCK_DGRAM, *, six: bool = False, protocol: int = 0, port: int | None = None
    ) -> socket.socket:
        """Return a socket; with `port` it is bound to it (0: any)."""
        family = socket.AF_INET6 if six else socket.AF_INET
        made = namespaces.inside(self._lab.namespace(role), lambda: socket.socket(family, kind, protocol))
        made.settimeout(PATIENCE)
        self._made.append(made)
        if port is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("", port))
        return made

    def close(self) -> None:
        """Close them."""
        for made in self._made:
            made.close()
        self._made.clear()
