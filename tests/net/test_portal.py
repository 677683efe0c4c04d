"""Captive portals with the real daemon: found, left alone, opened from the command line, used at once.

mh --wifi-- nat0: HTTP goes to its portal, everything else is dropped until somebody has logged in --- core --- an, ch
 \\--cellular-- nat1, open                                                       ch 86.0.0.1 answers 204 to probes
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sojourn.api.messages import ApiError
from sojourn.lab import namespaces, topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Topology
from tests.harness.portal import LOGIN
from tests.harness.standstill import Standstill
from tests.net.conftest import MakeLab

pytestmark = pytest.mark.net

URL = "http://86.0.0.1/generate_204"
GATEWAY = "192.168.100.1"
NOBODY = "65534"
CLOSED = """
table ip portal
delete table ip portal
table ip portal {{
    chain web {{ type nat hook prerouting priority dstnat; iifname "in" tcp dport 80 redirect; }}
    chain rest {{ type filter hook forward priority filter; iifname "in" {what} drop; }}
}}
"""
OPENED = "table ip portal\ndelete table ip portal\n"


class Hotel:
    """The portal of the Wi-Fi network."""

    def __init__(self, daemons: Daemons, *, lets_udp_through: bool = False) -> None:
        self.daemons, self.lab = daemons, daemons.lab
        self.logged_in = self.lab.folder / "logged-in"
        self.lets_udp_through = lets_udp_through

    def build(self) -> None:
        (self.lab.folder / "always").touch()
        self._serve(topology.CORRESPONDENT, "86.0.0.1", self.lab.folder / "always")
        self._serve("nat0", GATEWAY, self.logged_in)
        self.close()

    def _serve(self, role: str, address: str, opened: Path) -> None:
        log = self.lab.folder / f"{role}-portal.txt"
        argv = [sys.executable, "-m", "tests.harness.portal", address, str(opened), str(log)]
        self.lab.start(role, f"portal-{role}", argv).wait_for("ready", 10)

    def close(self) -> None:
        """Let nobody out, those included who were."""
        self.logged_in.unlink(missing_ok=True)
        self._rules(CLOSED.format(what="tcp dport 1-65535" if self.lets_udp_through else ""))

    def open(self) -> None:
        """Let everybody out."""
        self.logged_in.touch()
        self._rules(OPENED)

    def _rules(self, text: str) -> None:
        namespaces.run(self.lab.namespace("nat0"), "nft", "-f", "-", stdin=text)

    def asked(self) -> list[str]:
        return (self.lab.folder / "nat0-portal.txt").read_text().splitlines()


def row(daemons: Daemons, name: str) -> dict[str, Any]:
    found = [row for row in daemons.call("networks") if row["name"] == name]
    return found[0] if found else {"state": "absent", "default": False}


def until(what: str, is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() < began + seconds, what
        time.sleep(0.05)


def log_events(daemons: Daemons, network: str) -> list[str]:
    lines = (daemons.host_folder / "host.log").read_text().splitlines()
    return [entry["event"] for line in lines if (entry := json.loads(line)).get("network") == network]


@pytest.fixture(params=[False, True], ids=["everything dropped", "UDP let through"])
def hotel(make_lab: MakeLab, prefix: str, request: pytest.FixtureRequest) -> Hotel:
    """Return a portal that is closed, and a host that has found it so; its flows are on cellular."""
    daemons = Daemons(make_lab(Topology(prefix=prefix)))
    hotel = Hotel(daemons, lets_udp_through=request.param)
    hotel.build()
    daemons.set_up(portal=URL)
    daemons.configure(topology.MOBILE_HOST, order='["wifi", "cellular"]')
    daemons.start_anchor()
    daemons.start_host()
    until("wifi found captive", lambda: row(daemons, "wifi")["state"] == "captive")
    until("flows on cellular", lambda: row(daemons, "cellular")["default"])
    return hotel


def open_by_hand(hotel: Hotel, *options: str, unprivileged: bool = False) -> "subprocess.CompletedProcess[str]":
    """Run `sojourn networks open wifi` at the host."""
    who = ["setpriv", f"--reuid={NOBODY}", "--regid=0", "--clear-groups"] if unprivileged else []
    if (
        who
        and subprocess.run([*who, sys.executable, "-c", "import sojourn"], capture_output=True, check=False).returncode
    ):
        who = [
            "setpriv",
            "--bounding-set=-all",
            "--inh-caps=-all",
        ]  # nobody may not read this Python: root without rights
    argv = [*who, sys.executable, "-m", "sojourn", "networks", "open", "wifi", "--socket",
            str(hotel.daemons.host_socket), *options]  # fmt: skip
    entered = namespaces.entering(hotel.lab.namespace(topology.MOBILE_HOST), argv)
    return subprocess.run(entered, capture_output=True, text=True, timeout=60, check=False)


def test_a_captive_network_is_not_used_until_somebody_has_logged_in_and_then_at_once(hotel: Hotel) -> None:
    daemons = hotel.daemons
    found = row(daemons, "wifi")
    assert found["portal"] == f"http://{GATEWAY}/login?for=/generate_204"
    assert found["reason"] == "its portal is closed"
    assert "captive" in log_events(daemons, "wifi")
    with pytest.raises(ApiError, match="behind a closed portal"):
        daemons.hand_over("wifi")
    daemons.lab.run(topology.MOBILE_HOST, "ping", "-c", "3", "-i", "0.2", "86.0.0.1")
    assert {flow["network"] for flow in daemons.call("flows")} == {"cellular"}
    time.sleep(1.5)  # longer than a network that works has to wait
    assert row(daemons, "cellular")["default"]

    hotel.open()
    with Standstill() as stood:
        daemons.call("probe", network="wifi")
        began = time.monotonic()
        until("flows on wifi", lambda: bool(row(daemons, "wifi")["default"]))
        assert stood.without(began, time.monotonic()) < 4.0
    assert row(daemons, "wifi")["state"] == "up"
    assert log_events(daemons, "wifi").count("open") == 1
    daemons.lab.run(topology.MOBILE_HOST, "ping", "-c", "2", "-i", "0.2", "86.0.0.1")


def test_the_portal_is_opened_from_the_command_line_by_an_ordinary_user(hotel: Hotel) -> None:
    ran = open_by_hand(hotel, "--command", "curl -sS --max-time 10", unprivileged=True)
    assert ran.returncode == 0, ran.stderr
    assert LOGIN.decode() in ran.stdout
    assert "wifi is still captive." in ran.stdout
    assert any(line.startswith("GET /login") for line in hotel.asked())
    # The same page over the usual way is another server's: curl would have said nothing.
    usual = hotel.lab.run(topology.MOBILE_HOST, "curl", "-sS", "--max-time", "10", URL)
    assert usual == ""

    hotel.open()
    ran = open_by_hand(hotel, "--command", "curl -sS --max-time 10", unprivileged=True)
    assert ran.returncode == 0, ran.stderr
    assert "does not look captive" in ran.stdout
    until("flows on wifi", lambda: bool(row(hotel.daemons, "wifi")["default"]))


def test_names_on_a_captive_network_are_its_own_servers(hotel: Hotel) -> None:
    url = "http://anything.example/login"
    ran = open_by_hand(hotel, "--url", url, "--command", "curl -sS --max-time 10", unprivileged=True)
    assert LOGIN.decode() in ran.stdout, ran.stderr
    assert "DNS from 192.168.100.25" in hotel.asked()


def test_a_portal_that_closes_again_is_noticed(hotel: Hotel) -> None:
    daemons = hotel.daemons
    hotel.open()
    daemons.call("probe", network="wifi")
    until("flows on wifi", lambda: bool(row(daemons, "wifi")["default"]))
    if hotel.lets_udp_through:
        return  # a tunnel that still works is no reason to ask
    hotel.close()
    ping = hotel.lab.start(topology.MOBILE_HOST, "ping", ["ping", "-i", "0.2", "86.0.0.1"])
    until("flows back on cellular", lambda: bool(row(daemons, "cellular")["default"]), 10.0)
    until("wifi found captive", lambda: row(daemons, "wifi")["state"] == "captive", 45.0)
    ping.stop()
