"""Networks as people know them, with the real daemon: NetworkManager's names, suspend, and data caps that are kept.

mh --wifi-- nat0 -- core -- an, ch          a private system bus with NetworkManager, ModemManager and logind
 \\--cellular-- nat1 --/
"""

import asyncio
import re
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Variant

from sojourn.lab import namespaces, topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Lab
from tests.harness.desktop import NM, Desktop, modem, private_bus, wifi

pytestmark = pytest.mark.net

PINGS = ["ping", "-q", "-c", "50", "-i", "0.02", "-s", "1000", "86.0.0.1"]


def row(daemons: Daemons, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in daemons.call("networks") if row["name"] == name)
    return found


def until(what: str, is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    give_up = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < give_up, what
        time.sleep(0.05)


class Running:
    """A desktop's services in a thread of their own."""

    def __init__(self, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.desktop = Desktop(address)

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def close(self) -> None:
        self.do(self.desktop.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """Return services on a private bus that daemons of this test take for the system's."""
    with private_bus(tmp_path) as bus:
        running = Running(bus.address)
        try:
            yield running
        finally:
            running.close()


@pytest.fixture
def daemons(lab: Lab) -> Daemons:
    made = Daemons(lab)
    made.set_up()
    return made


def test_names_flags_and_signals_of_a_desktop_are_shown_and_understood(daemons: Daemons, running: Running) -> None:
    desktop = running.desktop
    desktop.network_manager.objects = wifi("wifi", "Corner Café", rsn=0x188, metered=3)
    desktop.modem_manager.objects = modem("cellular")
    running.do(desktop.network_manager.appear())
    daemons.configure(topology.MOBILE_HOST, order='["wifi", "cellular"]')
    daemons.append(topology.MOBILE_HOST, '[network.cellular]\ncost = "metered"\ntrusted = true\n')
    daemons.start()
    until("a label", lambda: row(daemons, "wifi")["label"] == "Corner Café")
    found = row(daemons, "wifi")
    assert (found["kind"], found["metered"], found["signal"], found["security"]) == ("wifi", True, 0.72, "encrypted")
    running.do(desktop.modem_manager.appear())
    until("a technology", lambda: row(daemons, "cellular")["technology"] == "lte")
    found = row(daemons, "cellular")
    assert (found["kind"], found["operator"], found["roaming"]) == ("cellular", "Example Mobile", True)
    assert (found["metered"], found["trusted"], found["security"]) == (True, True, None)

    until("wifi preferred", lambda: bool(row(daemons, "wifi")["default"]))
    daemons.call("handover", to="cellular", all=True)
    assert row(daemons, "cellular")["default"]
    assert daemons.call("handover", to="Corner Café", all=True)["to"] == "wifi"
    until("moved by label", lambda: bool(row(daemons, "wifi")["default"]))
    text = daemons.command(topology.MOBILE_HOST, "networks", "--socket", str(daemons.host_socket))
    assert "wifi (Corner Café)" in text
    assert "cellular lte 40 %, Example Mobile, trusted, roaming, metered" in text

    tested = row(daemons, "wifi")["tunnel"]["id"]
    running.do(desktop.network_manager.set(
        "/org/freedesktop/NetworkManager/AccessPoint/1", f"{NM}.AccessPoint", Strength=Variant("y", 9)))  # fmt: skip
    until("a weaker signal", lambda: row(daemons, "wifi")["signal"] == 0.09)
    running.do(desktop.network_manager.vanish())
    until("no label", lambda: row(daemons, "wifi")["label"] is None)
    assert row(daemons, "wifi")["state"] == "up"
    assert row(daemons, "wifi")["tunnel"]["id"] == tested


def test_logind_is_kept_waiting_until_counts_are_written_and_its_wake_retests_the_tunnels(
    daemons: Daemons, running: Running
) -> None:
    logind = running.desktop.logind
    running.do(logind.appear())
    daemons.start()
    assert daemons.host is not None
    until("an inhibitor", lambda: logind.held is not None)
    daemons.lab.run(topology.MOBILE_HOST, *PINGS)
    usage = daemons.host_folder / "host.usage"
    daemons.status()
    usage.unlink(missing_ok=True)
    daemons.lab.run(topology.MOBILE_HOST, "ping", "-q", "-c", "3", "-i", "0.3", "86.0.0.1")
    running.do(logind.prepare(True))
    until("counts written", usage.exists, 2.0)
    running.do(logind.prepare(False))
    daemons.host.wait_for("woke up", 1.0)
    until("a new inhibitor", lambda: len(logind.inhibits) == 2)
    daemons.wait_until_associated()
    assert daemons.host.output().count("woke up") == 1


def counted(lab: Lab, network: str) -> int:
    """Return the bytes of an interface, both ways, as the kernel counts them, without Ethernet headers."""
    namespace, total = lab.namespace(topology.MOBILE_HOST), 0
    for way in ("rx", "tx"):
        values = [
            int(namespaces.run(namespace, "cat", f"/sys/class/net/{network}/statistics/{way}_{what}"))
            for what in ("bytes", "packets")
        ]
        total += values[0] - 14 * values[1]
    return total


def used(daemons: Daemons) -> int:
    return int(row(daemons, "cellular")["used_bytes"])


def test_what_a_network_carried_is_counted_over_crashes_and_restarts_until_the_cap_is_reached(
    daemons: Daemons, lab: Lab
) -> None:
    daemons.configure(topology.MOBILE_HOST, order='["cellular", "wifi"]')
    daemons.append(topology.MOBILE_HOST, '[network.cellular]\ncap = "250kB"\ncap_day = 28\n')
    daemons.start()
    assert daemons.host is not None

    def on_cellular() -> None:
        daemons.wait_until_associated()
        until("flows on cellular", lambda: bool(row(daemons, "cellular")["default"]), 30.0)

    on_cellular()
    first = row(daemons, "cellular")
    assert (first["cap_bytes"], first["over_cap"]) == (250_000, False)
    began_kernel, began = counted(lab, "cellular"), used(daemons)

    def compare(what: str) -> None:
        """The kernel counts SIP and ARP, too; nothing else differs."""
        time.sleep(0.3)
        ours, kernel = used(daemons) - began, counted(lab, "cellular") - began_kernel
        assert 0.85 * kernel - 2000 <= ours <= kernel + 100, f"{what}: {ours} of {kernel}"

    lab.run(topology.MOBILE_HOST, *PINGS)
    compare("fifty pings")
    daemons.host.kill()
    daemons.start_host()
    on_cellular()
    lab.run(topology.MOBILE_HOST, *PINGS)
    compare("control was killed")
    daemons.kill_data_path(topology.MOBILE_HOST)
    time.sleep(1.0)
    on_cellular()
    lab.run(topology.MOBILE_HOST, *PINGS)
    compare("the data path was killed")
    before = used(daemons)
    daemons.host.signal(signal.SIGTERM)
    daemons.host.wait(10.0)
    daemons.start_host()
    daemons.wait_until_associated()
    assert used(daemons) >= before
    assert row(daemons, "cellular")["over_cap"]
    assert row(daemons, "wifi")["cap_bytes"] is None


def test_a_policy_sends_flows_elsewhere_when_the_cap_is_used_up_and_may_name_networks_by_label(
    daemons: Daemons, lab: Lab, running: Running
) -> None:
    desktop = running.desktop
    desktop.network_manager.objects = wifi("wifi", "Corner Café")
    running.do(desktop.network_manager.appear())
    daemons.append(topology.MOBILE_HOST, '[network.cellular]\ncap = "60kB"\n')
    policy = '[[policy]]\nnetworks = ["cellular", "Corner Café"]\nrequire = { under_cap = true }\n'
    daemons.append(topology.MOBILE_HOST, policy)
    daemons.start()
    ping = lab.start(topology.MOBILE_HOST, "ping", ["ping", "-q", "-i", "0.02", "-s", "1000", "86.0.0.1"])

    def carried() -> set[str]:
        return {flow["network"] for flow in daemons.call("flows")}

    until("cellular first", lambda: carried() == {"cellular"})
    until("everything on wifi", lambda: carried() == {"wifi"}, 15.0)
    assert row(daemons, "cellular")["over_cap"]
    ping.signal(signal.SIGINT)
    ping.wait(5.0)
    sent, received = map(int, re.findall(r"(\d+) packets transmitted, (\d+) received", ping.output())[0])
    assert received >= sent - 1  # the last one may have been on its way when ping was told to end
