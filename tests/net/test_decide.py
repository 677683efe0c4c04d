"""Two voice streams over one Wi-Fi that gets worse: the one that is a call leaves, the one that is a backup stays.

mh --wifi-----nat0-- core -- ch   (UDP 3000: the call, loss < 2 %; UDP 3001: the backup, never cellular)
   --cellular-nat1--/    \\-- an
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from sojourn.api.client import Client
from sojourn.lab import topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.processes import now
from sojourn.lab.topology import Topology
from tests.net.conftest import MakeLab

pytestmark = pytest.mark.net

CALL, BACKUP, LATER, SECONDS = 3000, 3001, 3002, 120
TABLES = """
[[policy]]
name = "call"
port = 3000
protocol = "udp"
networks = ["wifi", "cellular"]
require = { loss = "2%" }

[[policy]]
name = "backup"
port = 3001
networks = ["wifi"]
otherwise = "hold"
"""
LEAVES_WITHIN = 1.0
SLACK = 0.5
"""Seconds for a machine that runs other tests meanwhile, and for the chance that the first packets get through."""


def started(make_lab: MakeLab, prefix: str) -> Daemons:
    """Return a lab with both streams running over the Wi-Fi."""
    lab = make_lab(Topology(prefix=prefix))
    daemons = Daemons(lab)
    daemons.set_up()
    daemons.configure(topology.MOBILE_HOST, order='["wifi", "cellular"]')
    daemons.append(topology.MOBILE_HOST, TABLES)
    daemons.start()
    for port in (CALL, BACKUP):
        talk(daemons, port, [])
    until(lambda: set(where(daemons)) == {CALL, BACKUP}, "both streams are seen")
    return daemons


def talk(daemons: Daemons, port: int, prefix: list[str]) -> None:
    """Start a stream of 50 packets/s each way; `prefix` stands before the command at the host."""
    lab, voice = daemons.lab, [sys.executable, "-m", "sojourn.lab.voice"]
    there, here = lab.folder / f"ch{port}.jsonl", lab.folder / f"mh{port}.jsonl"
    server = lab.start(topology.CORRESPONDENT, f"ch{port}", [*voice, "-", str(port), str(SECONDS), str(there)])
    server.wait_for("ready", 10.0)
    call = [*prefix, *voice, lab.topology.correspondent.address, str(port), str(SECONDS), str(here)]
    lab.start(topology.MOBILE_HOST, f"mh{port}", call)


def where(daemons: Daemons) -> dict[int, str | None]:
    """Return the network of each stream by its port."""
    return {int(row["remote"].rpartition(":")[2]): row["network"] for row in daemons.call("flows")}


def until(is_so: Callable[[], bool], what: str, patience: float = 10.0) -> float:
    """Wait for something; return when it was so."""
    end = now() + patience
    while now() < end:
        if is_so():
            return now()
        time.sleep(0.05)
    pytest.fail(f"never: {what}")


def decisions(daemons: Daemons) -> list[dict[str, Any]]:
    """Return what the roaming log tells of handovers and their effects."""
    entries = Client(str(daemons.host_socket)).stream("log", limit=200)
    return [entry for entry in entries if entry["event"] in ("handover", "moved")]


def test_a_call_leaves_a_wifi_whose_loss_climbs_to_ten_percent_and_the_backup_stays(
    make_lab: MakeLab, prefix: str
) -> None:
    daemons = started(make_lab, prefix)
    time.sleep(10.0)
    assert where(daemons) == {CALL: "wifi", BACKUP: "wifi"}, "nothing was lost"
    wifi = daemons.lab.links["wifi"]
    for share in (0.005, 0.01):
        wifi.set_loss(share)
        time.sleep(1.0)
    wifi.set_loss(0.1)
    worse = now()
    left = until(lambda: where(daemons)[CALL] == "cellular", "the call is on cellular")
    assert left - worse < LEAVES_WITHIN + SLACK, decisions(daemons)
    time.sleep(15.0)
    assert where(daemons) == {CALL: "cellular", BACKUP: "wifi"}
    states = {network["name"]: network["state"] for network in daemons.status()["networks"]}
    assert states == {"wifi": "degraded", "cellular": "up"}
    wifi.set_loss(0.0)
    well = now()
    back = until(lambda: where(daemons)[CALL] == "wifi", "the call is back on the Wi-Fi", 60.0)
    assert back - well > 5.0, "gently"
    time.sleep(1.0)
    told = decisions(daemons)
    place = next(place for place, entry in enumerate(told) if entry["reason"].startswith("wifi: its loss is"))
    away, effect, returned = told[place : place + 3]
    assert away["decision"] == "from wifi, policies call"
    assert "loss" in away["known"]["wifi"]
    assert (effect["event"], effect["network"], effect["flows"]) == ("moved", "cellular", 1)
    assert effect["gap_ms"] is not None
    assert returned["reason"] == "wifi is preferred to cellular"


def test_an_application_goes_where_the_user_puts_it_with_flows_to_come_until_it_is_released(
    make_lab: MakeLab, prefix: str
) -> None:
    lab = make_lab(Topology(prefix=prefix))
    daemons = Daemons(lab)
    daemons.set_up()
    daemons.configure(topology.MOBILE_HOST, order='["wifi", "cellular"]')
    daemons.start()
    named = [sys.executable, "-m", "sojourn", "run", "--socket", str(daemons.host_socket), "--app", "meeting", "--"]
    talk(daemons, CALL, named)
    talk(daemons, BACKUP, [])
    until(lambda: where(daemons) == {CALL: "wifi", BACKUP: "wifi"}, "both streams are seen")
    names = {row["remote"].rpartition(":")[2]: row["application"] for row in daemons.call("flows")}
    assert names[str(CALL)] == "meeting"
    assert daemons.call("handover", app="meeting", to="cellular")["moved"] == 1
    assert where(daemons) == {CALL: "cellular", BACKUP: "wifi"}
    talk(daemons, LATER, named)
    until(lambda: where(daemons).get(LATER) == "cellular", "a flow that came later")
    assert daemons.call("handover", app="meeting", to="policy")["moved"] == 2
    assert set(where(daemons).values()) == {"wifi"}
