"""The roaming lab for tests: namespaces that carry this process's number, and how two hosts in it talk."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sojourn.lab import namespaces
from sojourn.lab.roaming import Roaming, until
from tests.net import roam_ends

REPO = Path(__file__).parents[2]
Talk = tuple["subprocess.Popen[str]", "subprocess.Popen[str]"]


def roam_lab(folder: Path, more: str = "") -> Roaming:
    """Return a lab that is not built yet; `more`: of its name, where another one stands."""
    return Roaming(folder, f"sjtrm{os.getpid() % 10000}{more}")


def begin(lab: Roaming) -> None:
    """Start the node and both hosts, each on both of its networks, and wait until they are at home."""
    lab.start_node()
    lab.configure("a", "b")
    for host in ("a", "b"):
        for net in ("wifi", "cell"):
            lab.attach(host, net)
        lab.start_host(host)
    home(lab)


def home(lab: Roaming) -> None:
    """Bring both back to their Wi-Fi."""
    until(lambda: all(lab.works(host, net) for host in ("a", "b") for net in ("wifi", "cell")), 20)
    for host in ("a", "b"):
        lab.move(host, "wifi")
    until(lambda: lab.reachable_over("a", "wifi") and lab.reachable_over("b", "wifi"), 10)


def end(lab: Roaming, host: str, *words: str) -> "subprocess.Popen[str]":
    """Start one end of a conversation (roam_ends.py)."""
    argv = namespaces.entering(lab.name(host), [sys.executable, "-m", roam_ends.__name__, *words])
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=REPO)


def said(process: "subprocess.Popen[str]", seconds: float = 40.0) -> Any:  # noqa: ANN401
    """Wait for its end and return what it has told."""
    out, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0
    return json.loads(out)


def conversation(lab: Roaming, kind: tuple[str, str], seconds: float) -> Talk:
    """Start b's end and then a's, which goes on for some seconds."""
    theirs = end(lab, "b", kind[0], lab.homes["b"])
    listens = ("ss", "-Hln", f"sport = :{roam_ends.PORT}")
    until(lambda: lab.inside("b", *listens).stdout != "", 10)
    return theirs, end(lab, "a", kind[1], lab.homes["b"], str(seconds))
