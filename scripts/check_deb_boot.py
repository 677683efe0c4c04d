"""The installed package under a service manager that runs: started, restarted, upgraded, killed, stopped, purged.

    mh --- nat --- core --- an, ch        a small internet in network namespaces, by the package's own lab

Runs as a service of a Debian that was booted for it (scripts/check-deb-boot). The units are the package's; only the
network namespace of each is added, since both daemons are on one machine. All the while one TCP connection goes
through them, and may not end before they are stopped.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from scripts.check_deb_upgrade import CLIENT, SERVER
from sojourn.lab import topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.namespaces import LabError
from sojourn.lab.processes import Child
from sojourn.lab.topology import Lab, Topology, own_prefix

FOLDER = Path("/etc/sojourn")
UNITS = {"sojourn-anchor": topology.ANCHOR, "sojourn-host": topology.MOBILE_HOST}
GOES_ON = 50
"""Rounds of the connection after which it is said to go on: a second's worth."""


class Failed(Exception):
    """What did not hold."""


def run(*words: str) -> str:
    """Run a command; its standard output. Raises Failed with all that it said."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def told(unit: str, what: str) -> str:
    """Return what systemd says of a unit."""
    return run("systemctl", "show", "--value", f"--property={what}", unit).strip()


def journal(unit: str) -> str:
    """Return what a unit has said."""
    return run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")


def until(what: str, so: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something is so. Raises Failed."""
    end = time.monotonic() + seconds
    while not so():
        if time.monotonic() > end:
            raise Failed(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


def say(text: str) -> None:
    """Tell whoever looks on."""
    print(text, flush=True)  # noqa: T201 - a script's output


class Stage:
    """Both daemons as services, and the connection."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.daemons = Daemons(lab)
        self.daemons.anchor_folder = self.daemons.host_folder = FOLDER
        self.daemons.anchor_socket, self.daemons.host_socket = (
            Path("/run/sojourn/anchor.sock"), Path("/run/sojourn/host.sock")
        )  # fmt: skip
        self.client: Child | None = None

    def prepare(self) -> None:
        """Configure both as anybody does, and say in which network each service is."""
        self.daemons.set_up()
        for unit, role in UNITS.items():
            drop_in = Path(f"/etc/systemd/system/{unit}.service.d/lab.conf")
            drop_in.parent.mkdir(parents=True)
            drop_in.write_text(f"[Service]\nNetworkNamespacePath=/run/netns/{self.lab.namespace(role)}\n")
        run("systemctl", "daemon-reload")

    def start(self) -> None:
        """Start both, and wait until the host is associated."""
        run("systemctl", "start", *UNITS)
        self.daemons.wait_until_associated(60)

    def connect(self) -> None:
        """Begin the connection."""
        self.lab.start("ch", "server", [sys.executable, "-c", SERVER]).wait_for("ready", 10)
        self.client = self.lab.start(topology.MOBILE_HOST, "client", [sys.executable, "-c", CLIENT])
        self.client.wait_for("round 20 ", 20)

    def rounds(self) -> int:
        """Return how often a word went there and back."""
        assert self.client is not None
        return int(self.client.output().strip().splitlines()[-1].split()[1])

    def over(self, what: str, order: Callable[[], object]) -> None:
        """Do something after which both have another process, and the connection goes on."""
        before = {unit: told(unit, "MainPID") for unit in UNITS}
        paths = {role: self.daemons.data_path(role) for role in UNITS.values()}
        order()

        def anew() -> bool:
            return all(told(unit, "MainPID") not in ("0", before[unit]) for unit in UNITS)

        until(f"new processes after: {what}", anew)
        self.daemons.wait_until_associated(60)
        began = self.rounds()
        assert self.client is not None
        until(f"the connection goes on after: {what}", lambda: self.rounds() >= began + GOES_ON)
        if {role: self.daemons.data_path(role) for role in UNITS.values()} != paths:
            raise Failed(f"the data path is another one after: {what}")
        say(f"{what}: the connection went on, {self.client.output().strip().splitlines()[-1]}")

    def stop(self) -> None:
        """Stop both, and look for anything that is left."""
        run("systemctl", "stop", *reversed(UNITS))
        for unit, role in UNITS.items():
            if (state := (told(unit, "ActiveState"), told(unit, "Result"))) != ("inactive", "success"):
                raise Failed(f"{unit} has ended as {state}: {journal(unit)[-1500:]}")
            namespace = self.lab.namespace(role)
            left = run("ip", "-n", namespace, "link") + run("ip", "netns", "exec", namespace, "nft", "list", "tables")
            left += run("ip", "-n", namespace, "rule")
            if "sojourn" in left or any(line.startswith("53") for line in left.splitlines()):
                raise Failed(f"{unit} left something: {left}")
            until("its data path ends", lambda role=role: not self.moves_packets(role))  # type: ignore[misc]

    def moves_packets(self, role: str) -> bool:
        """Say whether there is a data path at a role."""
        try:
            return bool(self.daemons.data_path(role))
        except LabError:
            return False


def play(stage: Stage, package: str) -> None:
    """Start, restart, upgrade, kill, stop and purge."""
    stage.prepare()
    stage.start()
    for unit in UNITS:
        until(f"{unit} says that it is ready", lambda unit=unit: "ready" in journal(unit))  # type: ignore[misc]
    say(run("systemctl", "--no-pager", "--lines=3", "status", *UNITS).rstrip())
    stage.connect()
    stage.over("systemctl restart", lambda: run("systemctl", "restart", *UNITS))
    stage.over("an upgrade by dpkg", lambda: run("dpkg", "--install", package))
    stage.over("kill -9 of both", lambda: run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", *UNITS))
    stage.stop()
    say("systemctl stop: both ended well and left nothing")
    faults = [unit for unit in UNITS if "Traceback" in journal(unit)]
    if faults:
        raise Failed("".join(journal(unit)[-3000:] for unit in faults))
    stage.start()
    run("dpkg", "--purge", "sojourn")
    for unit, role in UNITS.items():
        if told(unit, "ActiveState") == "active" or stage.moves_packets(role):
            raise Failed(f"{unit} still runs, and its package is purged")
    say("dpkg --purge: both were stopped")


def main() -> int:
    """Do it, and return 0 if all of it held."""
    lab = Lab(Topology(prefix=own_prefix("sjb")))
    try:
        lab.up()
        play(Stage(lab), sys.argv[1])
    except (Failed, LabError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a script's output
        return 1
    finally:
        lab.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
