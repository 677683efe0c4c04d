"""The experiment `roam`: an SSH session between two laptops that change networks in the same second, twice.

First both lose their Wi-Fi and get cellular: the old addresses are gone, both at once. Then both have Wi-Fi again and
move by order while both networks work. Then the rendezvous node that both speak to is killed; two others are there.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from sojourn.lab import shell
from sojourn.lab.gaps import longest
from sojourn.lab.journal import Follower, Line
from sojourn.lab.processes import Child, now
from sojourn.lab.roaming import NODES, Roaming, until

PURPOSE: Final = "an SSH session between two laptops without an anchor, which change networks in the same second"
SECONDS: Final = 15.0
LIMIT_MS: Final = {"gone": 1000.0, "planned": 150.0, "node": 2000.0}
"""Longest time without an echo that is met: TCP's own timer has run for the first; lines are 50 ms apart. A dead node
is noticed within a second of traffic, by each host for itself."""
WINDOW: Final = 3.0


class RoamEvent(Struct, frozen=True):
    """Something that happened to both, and what the session felt of it."""

    at: float
    text: str
    gap_ms: float
    met: bool


class RoamResult(Struct, frozen=True):
    """What came out."""

    scenario: str
    events: tuple[RoamEvent, ...]
    lines: int
    """Echoes that came back."""
    broken: str
    """What was wrong with the session; empty: every line came back once, in order."""
    networks: dict[str, str | None]
    """Where each host ended."""
    nodes: dict[str, str] = {}
    """The rendezvous node that each host ended at."""
    version: int = 1

    @property
    def met(self) -> bool:
        """Say whether the session held and no gap was too long."""
        return not self.broken and all(event.met for event in self.events)


def run(prefix: str, say: Callable[[str], None]) -> RoamResult:
    """Do it all in a lab of its own; LabError when it could not even begin."""
    with tempfile.TemporaryDirectory(prefix="sojourn-roam-") as folder:
        say(f"building the lab in namespaces {prefix}-*")
        with Roaming(Path(folder), prefix) as lab:
            return _run(lab, say)


def _run(lab: Roaming, say: Callable[[str], None]) -> RoamResult:
    say("starting three rendezvous nodes and two mobile hosts")
    shared = lab.start_nodes()
    say("the nodes share their triggers" if shared else "no redis-server is here: each node keeps triggers for itself")
    lab.configure("a", "b", nodes=NODES)
    for host in ("a", "b"):
        lab.attach(host, "wifi")
        lab.start_host(host)
    for host in ("a", "b"):
        until(lambda host=host: lab.reachable_over(host, "wifi"), 15.0, f"{host} is reachable")  # type: ignore[misc]
    say("opening the SSH session")
    session, follower = _open(lab)
    lines: list[Line] = []
    try:
        until(lambda: bool(_take(follower, lines)), 15.0, "the first line came back")
        happened = _events(lab, say)
        session.wait(SECONDS + 30.0)
        _take(follower, lines)
    finally:
        session.forget()
    told = {host: lab.call(host, "peers") for host in ("a", "b")}
    where = {host: row["network"] for host, row in told.items()}
    return judge(happened, lines, where, {host: row["node"] for host, row in told.items()})


def _open(lab: Roaming) -> tuple[Child, Follower]:
    folder, journal = lab.folder / "ssh", lab.folder / "ssh.journal"
    server = Child("sshd", _at(lab, "b", shell.prepare(folder, lab.name("b"))), lab.folder / "sshd.log")
    server.wait_for("Server listening", 10.0)
    argv = [sys.executable, "-m", "sojourn.lab.shell", str(folder), lab.homes["b"], str(SECONDS), str(journal)]
    return Child("ssh", _at(lab, "a", argv), lab.folder / "ssh.log"), Follower(journal)


def _at(lab: Roaming, host: str, argv: list[str]) -> list[str]:
    return ["ip", "netns", "exec", lab.name(host), *argv]


def _events(lab: Roaming, say: Callable[[str], None]) -> list[tuple[float, str, str]]:
    time.sleep(1.0)
    for host in ("a", "b"):
        lab.carry(host, "cell")
    first = now()
    say("both lose their Wi-Fi and get cellular, in the same second")
    for act, net in ((lab.detach, "wifi"), (lab.attach, "cell")):
        for host in ("a", "b"):
            act(host, net)
    time.sleep(WINDOW)
    for host in ("a", "b"):
        lab.attach(host, "wifi")
    for host in ("a", "b"):
        until(lambda host=host: lab.works(host, "wifi"), 10.0, f"{host} has Wi-Fi again")  # type: ignore[misc]
    second = now()
    say("both move back to Wi-Fi by order, in the same second")
    for host in ("a", "b"):
        lab.move(host, "wifi")
    time.sleep(WINDOW)
    third = now()
    first_node = lab.call("a", "peers")["node"].partition(" ")[0]
    say(f"the rendezvous node {first_node} is killed")
    lab.kill_node(first_node)
    time.sleep(WINDOW)
    return [
        (first, "both lose their Wi-Fi and get cellular", "gone"),
        (second, "both move to Wi-Fi by order", "planned"),
        (third, "their rendezvous node is killed", "node"),
    ]


def _take(follower: Follower, lines: list[Line]) -> list[Line]:
    lines += follower.new_lines()
    return [line for line in lines if line.kind == "got"]


def judge(
    happened: Sequence[tuple[float, str, str]],
    lines: Sequence[Line],
    networks: dict[str, str | None],
    nodes: dict[str, str] | None = None,
) -> RoamResult:
    """Say what the session felt of each event: (time, what, which limit)."""
    arrivals = [line.t for line in lines if line.kind == "got"]
    begin = arrivals[0] if arrivals else 0.0
    events = []
    for at, text, kind in happened:
        gap_ms = longest(arrivals, at, at + WINDOW).seconds * 1000
        events.append(RoamEvent(round(at - begin, 1), text, round(gap_ms, 1), gap_ms <= LIMIT_MS[kind]))
    end = next((line for line in lines if line.kind == "end"), None)
    broken = "the session did not end" if end is None else "" if end.ok else end.why
    return RoamResult("roam", tuple(events), len(arrivals), broken, networks, nodes or {})
