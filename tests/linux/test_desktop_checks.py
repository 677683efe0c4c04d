"""What `sojourn doctor` says of NetworkManager, ModemManager and logind."""

import asyncio
import threading
from pathlib import Path

import pytest

from sojourn.linux import bus as bus_module
from sojourn.linux.desktop_checks import desktop_checks
from tests.harness.desktop import Desktop, private_bus, wifi


def test_without_a_bus_one_line_says_what_is_missed_and_that_is_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    (check,) = desktop_checks()
    assert (check.name, check.ok, check.needed) == ("system bus", True, False)
    assert "no system bus" in check.found


def test_each_service_is_there_absent_or_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "ANSWER_SECONDS", 0.5)
    with private_bus(tmp_path) as bus:
        ready, over = threading.Event(), threading.Event()

        async def serve() -> None:
            desktop = Desktop(bus.address)
            desktop.network_manager.objects = wifi("wlan0", "Home")
            desktop.modem_manager.hangs = True
            await desktop.network_manager.appear()
            await desktop.modem_manager.appear()
            ready.set()
            await asyncio.to_thread(over.wait)
            await desktop.close()

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        try:
            assert ready.wait(10)
            manager, modems, logind = desktop_checks()
        finally:
            over.set()
            thread.join()
    assert (manager.ok, manager.found) == (True, "tells names, metered flags and Wi-Fi signal")
    assert (modems.ok, modems.needed) == (False, False)
    assert "does not answer" in modems.found
    assert (logind.ok, logind.found) == (True, "does not run: it would tell suspend and resume")
