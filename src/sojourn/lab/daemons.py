"""Sojourn itself in the lab: an anchor and a mobile host, set up and started by the command line as anybody does.

Configuration, sockets and logs are in the lab's folder: D/anchor, D/host, D/anchor.sock, D/host.sock.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sojourn.api.client import Client
from sojourn.api.messages import ApiError
from sojourn.lab import namespaces, topology
from sojourn.lab.namespaces import LabError
from sojourn.lab.processes import Child
from sojourn.lab.topology import Lab

HOST_NAME = "laptop"
READY_TIMEOUT = 60.0
ASSOCIATION_TIMEOUT = 60.0
POLL = 0.05
DATA_PATH = "sojourn.datapath.process"
"""The module by which a data-path process is known in /proc."""
TUN_DEVICE = os.makedev(10, 200)
"""/dev/net/tun (Linux, admin-guide/devices.txt)."""


class Daemons:
    """The anchor and the host of one lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.anchor_folder = lab.folder / "anchor"
        self.host_folder = lab.folder / "host"
        self.anchor_socket = lab.folder / "anchor.sock"
        self.host_socket = lab.folder / "host.sock"
        self.anchor: Child | None = None
        self.host: Child | None = None

    def command(self, role: str, *words: str, timeout: float = 30.0) -> str:
        """Run `sojourn WORDS` at a role and return its standard output; LabError if it fails."""
        return self.lab.run(role, sys.executable, "-m", "sojourn", *words, timeout=timeout)

    def set_up(self, *options: str, address: str | None = None, portal: str = "") -> None:
        """Make configuration for both: `sojourn init`, and `sojourn join` with the token that it prints.

        `portal`: the URL by which portals are looked for; nothing in the lab answers to the usual one.
        """
        address = address or self.lab.topology.anchor.address
        said = self.command(
            topology.ANCHOR, "init", "--config-dir", str(self.anchor_folder), "--address", address,
            "--name", HOST_NAME, *options,
        )  # fmt: skip
        token = said.strip().splitlines()[-1]
        self.command(
            topology.MOBILE_HOST, "join", token, "--config-dir", str(self.host_folder), "--name", HOST_NAME,
        )  # fmt: skip
        self.append(topology.MOBILE_HOST, f'\n[portal]\nurl = "{portal}"\n')

    def configure(self, role: str, **settings: object) -> None:
        """Set top-level keys of host.toml or anchor.toml; values as TOML writes them. Call it before the start."""
        set_keys(self._toml(role), **settings)

    def append(self, role: str, text: str) -> None:
        """Append tables to host.toml or anchor.toml."""
        with self._toml(role).open("a") as file:
            file.write(text)

    def _toml(self, role: str) -> Path:
        if role == topology.MOBILE_HOST:
            return self.host_folder / "host.toml"
        return self.anchor_folder / "anchor.toml"

    def start_anchor(self, *options: str) -> None:
        """Start the anchor and wait until it is ready."""
        self.anchor = self._start(topology.ANCHOR, "anchor", self.anchor_folder, self.anchor_socket, options)

    def start_host(self, *options: str) -> None:
        """Start the mobile host and wait until it is ready (not until it is associated)."""
        self.host = self._start(topology.MOBILE_HOST, "host", self.host_folder, self.host_socket, options)

    def _start(self, role: str, noun: str, folder: Path, socket: Path, options: Sequence[str]) -> Child:
        child = self.lab.start(role, noun, [
            sys.executable, "-m", "sojourn", noun, "--config-dir", str(folder), "--socket", str(socket), *options,
        ])  # fmt: skip
        child.wait_for("ready", READY_TIMEOUT)
        return child

    def start(self) -> None:
        """Start both, and wait until the host is associated and every network it has is up."""
        self.start_anchor()
        self.start_host()
        self.wait_until_associated()

    def stop(self) -> None:
        """Stop both cleanly, the host first."""
        for child in (self.host, self.anchor):
            if child is not None:
                child.stop(10.0)

    def call(self, verb: str, **arguments: object) -> Any:  # noqa: ANN401 - what the daemon answers
        """Ask the host's control socket."""
        return Client(str(self.host_socket)).call(verb, **arguments)

    def status(self) -> dict[str, Any]:
        """Return what `sojourn status --json` says."""
        answer = self.call("status")
        assert isinstance(answer, dict)
        return answer

    def network_states(self) -> dict[str, str]:
        """Return each network's state by its name."""
        return {row["name"]: row["state"] for row in self.status()["networks"]}

    def wait_until(self, what: str, is_so: Callable[[dict[str, Any]], bool], timeout: float) -> None:
        """Wait until the host's status satisfies a condition; LabError with that status otherwise."""
        until = time.monotonic() + timeout
        said: object = None
        while time.monotonic() < until:
            try:
                status = self.status()
                if is_so(status):
                    return
                said = status
            except (ApiError, OSError) as error:
                said = error
            if self.host is not None and not self.host.running():
                raise LabError(f"the host ended before {what}: {self.host.output()[-600:]}")
            time.sleep(POLL)
        raise LabError(f"not {what} within {timeout:g} s; the host says: {said}")

    def wait_until_associated(self, timeout: float = ASSOCIATION_TIMEOUT) -> None:
        """Wait until the host is associated and each of the lab's networks has a tested tunnel."""
        wanted = {network.name for network in self.lab.topology.access}

        def complete(status: dict[str, Any]) -> bool:
            # By interface: a network that has IPv6 only is called otherwise.
            up = {row["interface"] for row in status["networks"] if row["state"] == "up"}
            return status["state"] == "associated" and wanted <= up

        self.wait_until("associated with all networks up", complete, timeout)

    def hand_over(self, network: str) -> None:
        """Move every flow to a network, as `sojourn handover --all --to NETWORK` does."""
        self.call("handover", to=network, all=True)

    def data_path(self, role: str) -> int:
        """Return the process that moves packets at a role (a standby waits beside it); LabError when there is none."""
        for pid in namespaces.pids(self.lab.namespace(role)):
            if _is_data_path(pid):
                return pid
        raise LabError(f"no data-path process holds a TUN device at {role}")

    def kill_data_path(self, role: str) -> None:
        """Kill -9 the process that moves packets."""
        namespaces.send_signal([self.data_path(role)], signal.SIGKILL)

    def kill_anchor(self) -> None:
        """Kill -9 the anchor's control process."""
        if self.anchor is not None:
            self.anchor.kill()


def _is_data_path(pid: int) -> bool:
    process = Path(f"/proc/{pid}")
    try:
        if DATA_PATH.encode() not in (process / "cmdline").read_bytes():
            return False
        return any(_is_tun(descriptor) for descriptor in (process / "fd").iterdir())
    except OSError:  # it ended meanwhile
        return False


def _is_tun(descriptor: Path) -> bool:
    """Compare the device, not its path: that has another form under a changed root."""
    try:
        return descriptor.stat().st_rdev == TUN_DEVICE
    except OSError:  # closed meanwhile
        return False


def set_keys(toml: Path, **settings: object) -> None:
    """Set top-level keys of a TOML file; values as TOML writes them."""
    lines = toml.read_text().splitlines()
    first_table = next((index for index, line in enumerate(lines) if line.startswith("[")), len(lines))
    kept = [line for line in lines[:first_table] if line.partition("=")[0].strip() not in settings]
    added = [f"{key} = {value}" for key, value in settings.items()]
    toml.write_text("\n".join([*kept, *added, *lines[first_table:]]) + "\n")
