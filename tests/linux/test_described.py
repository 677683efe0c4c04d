"""Networks as people know them: services on a private bus that come, go, hang and lie."""

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from sojourn.linux import bus as bus_module
from sojourn.linux import described
from sojourn.linux.described import DescriptionWatcher
from sojourn.upmt.events_network import Description, NetworkDescribed
from tests.harness.desktop import LOGIND, LOGIND_PATH, NM, Desktop, PrivateBus, modem, private_bus, wifi

ACCESS_POINT, DEVICE = "/org/freedesktop/NetworkManager/AccessPoint/1", "/org/freedesktop/NetworkManager/Devices/1"
PATIENCE = 5.0


class Seen:
    """What a watcher has told."""

    def __init__(self) -> None:
        self.by_interface: dict[str, Description] = {}
        self.told: list[NetworkDescribed] = []
        self.sleeps: list[bool] = []
        self.news = asyncio.Event()

    def describe(self, fact: NetworkDescribed) -> None:
        self.by_interface[fact.interface] = fact.description
        self.told.append(fact)
        self.news.set()

    def sleep(self, before: bool) -> None:
        self.sleeps.append(before)
        self.news.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not is_so():
                self.news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.news.wait(), 0.05)


@contextlib.asynccontextmanager
async def watching(bus: PrivateBus) -> AsyncIterator[tuple[Seen, Desktop]]:
    seen, desktop = Seen(), Desktop(bus.address)
    watcher = asyncio.ensure_future(DescriptionWatcher(seen.describe, seen.sleep).run())
    try:
        yield seen, desktop
        assert not watcher.done()
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        await desktop.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("READ_AFTER", 0.01), ("READ_SPACING", 0.05), ("RETRY", 0.2), ("RECONNECT_FIRST", 0.1)):
        monkeypatch.setattr(described, name, value)
    monkeypatch.setattr(bus_module, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(bus_module, "CONNECT_SECONDS", 1.0)


Scene = Callable[[Seen, Desktop], Awaitable[None]]


def play(folder: Path, scene: Scene) -> None:
    """Run a scene with a bus and nothing on it."""

    async def go(bus: PrivateBus) -> None:
        async with watching(bus) as (seen, desktop):
            await scene(seen, desktop)

    with private_bus(folder) as bus:
        asyncio.run(go(bus))


def test_name_signal_metered_flag_security_and_resolvers_come_from_network_manager(tmp_path: Path) -> None:
    async def scene(seen: Seen, desktop: Desktop) -> None:
        desktop.network_manager.objects = wifi("wlan0", "Corner Café", metered=3)
        await desktop.network_manager.appear()
        await seen.until(lambda: "wlan0" in seen.by_interface)
        assert seen.by_interface["wlan0"] == Description(
            label="Corner Café", kind="wifi", metered=True, signal=0.72, ssid="Cafe", security="open",
            connectivity="full", dns=("192.0.2.53", "2001:db8::53"),
        )  # fmt: skip

    play(tmp_path, scene)


def test_a_change_is_told_and_one_of_another_access_point_is_not_even_looked_at(tmp_path: Path) -> None:
    async def scene(seen: Seen, desktop: Desktop) -> None:
        service = desktop.network_manager
        service.objects = wifi("wlan0", "Home", rsn=0x188)
        await service.appear()
        await seen.until(lambda: "wlan0" in seen.by_interface)
        assert seen.by_interface["wlan0"].security == "encrypted"
        asked = service.asked
        for strength in range(5):
            await service.set(f"{ACCESS_POINT}7", f"{NM}.AccessPoint", Strength=Variant("y", strength))
        await asyncio.sleep(0.2)
        assert service.asked == asked
        await service.set(ACCESS_POINT, f"{NM}.AccessPoint", Strength=Variant("y", 12))
        await seen.until(lambda: seen.by_interface["wlan0"].signal == 0.12)
        await service.set(DEVICE, f"{NM}.Device", Ip4Connectivity=Variant("u", 2))
        await seen.until(lambda: seen.by_interface["wlan0"].connectivity == "portal")

    play(tmp_path, scene)


def test_a_modem_is_described_by_both_and_each_adds_what_it_knows(tmp_path: Path) -> None:
    async def scene(seen: Seen, desktop: Desktop) -> None:
        desktop.modem_manager.objects = modem("wwan0")
        await desktop.modem_manager.appear()
        await seen.until(lambda: "wwan0" in seen.by_interface)
        assert seen.by_interface["wwan0"] == Description(
            kind="cellular", signal=0.4, technology="lte", operator="Example Mobile", roaming=True
        )
        desktop.network_manager.objects = {
            DEVICE: {
                f"{NM}.Device": {
                    "Interface": Variant("s", "cdc-wdm0"), "IpInterface": Variant("s", "wwan0"),
                    "DeviceType": Variant("u", 8), "Metered": Variant("u", 1),
                    "ActiveConnection": Variant("o", "/a/1"),
                }
            },
            "/a/1": {f"{NM}.Connection.Active": {"Id": Variant("s", "Travel SIM")}},
        }  # fmt: skip
        await desktop.network_manager.appear()
        await seen.until(lambda: seen.by_interface["wwan0"].label == "Travel SIM")
        told = seen.by_interface["wwan0"]
        assert (told.metered, told.technology, told.signal) == (True, "lte", 0.4)

    play(tmp_path, scene)


def test_a_service_that_leaves_takes_what_it_said_with_it_and_may_come_back(tmp_path: Path) -> None:
    async def scene(seen: Seen, desktop: Desktop) -> None:
        desktop.network_manager.objects = wifi("wlan0", "Home")
        for _ in range(2):
            await desktop.network_manager.appear()
            await seen.until(lambda: seen.by_interface.get("wlan0", Description()).label == "Home")
            await desktop.network_manager.vanish()
            await seen.until(lambda: seen.by_interface["wlan0"] == Description())

    play(tmp_path, scene)


def test_a_service_that_hangs_leaves_what_it_said_and_is_asked_again(tmp_path: Path) -> None:
    async def scene(seen: Seen, desktop: Desktop) -> None:
        service = desktop.network_manager
        service.objects = wifi("wlan0", "Home")
        await service.appear()
        await seen.until(lambda: "wlan0" in seen.by_interface)
        service.hangs = True
        service.objects = wifi("wlan0", "Work")
        await service.set(DEVICE, f"{NM}.Device", Metered=Variant("u", 2))
        asked = service.asked
        await seen.until(lambda: service.asked >= asked + 2)
        assert seen.by_interface["wlan0"].label == "Home"
        service.hangs = False
        await seen.until(lambda: seen.by_interface["wlan0"].label == "Work")

    play(tmp_path, scene)


@pytest.mark.parametrize("answer", [("s", ["nonsense"]), ("", []), ("a{oa{sa{sv}}}", [{}]), ("au", [[1, 2]])])
def test_an_answer_of_another_form_is_survived(tmp_path: Path, answer: tuple[str, list[object]]) -> None:
    async def scene(seen: Seen, desktop: Desktop) -> None:
        service = desktop.network_manager
        service.answer = answer
        await service.appear()
        await seen.until(lambda: service.asked > 0)
        service.answer, service.objects = None, wifi("wlan0", "Home")
        await service.set(DEVICE, f"{NM}.Device", Metered=Variant("u", 2))
        await seen.until(lambda: "wlan0" in seen.by_interface)

    play(tmp_path, scene)


def test_a_bus_that_dies_is_found_again_when_it_comes_back(tmp_path: Path) -> None:
    with private_bus(tmp_path) as bus:

        async def go() -> None:
            async with watching(bus) as (seen, desktop):
                desktop.network_manager.objects = wifi("wlan0", "Home")
                await desktop.network_manager.appear()
                await seen.until(lambda: "wlan0" in seen.by_interface)
                bus.stop()
                await seen.until(lambda: seen.by_interface["wlan0"] == Description())
                with contextlib.suppress(Exception):
                    await desktop.network_manager.vanish()
                bus.start()
                await desktop.network_manager.appear()
                await seen.until(lambda: seen.by_interface["wlan0"].label == "Home")

        asyncio.run(go())


def test_without_a_bus_and_with_one_that_never_answers_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        seen = Seen()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
        watcher = asyncio.ensure_future(DescriptionWatcher(seen.describe, seen.sleep).run())
        await asyncio.sleep(0.3)
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/silent")
        await asyncio.sleep(1.8)
        assert not watcher.done()
        assert seen.told == []
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)

    with socket.socket(socket.AF_UNIX) as silent:
        asyncio.run(go())


def test_sleep_is_announced_before_and_after_and_logind_waits_for_the_first(tmp_path: Path) -> None:
    async def scene(seen: Seen, desktop: Desktop) -> None:
        logind = desktop.logind
        await logind.appear()
        await seen.until(lambda: logind.held is not None)
        assert logind.inhibits[0][0] == "sleep"
        assert logind.inhibits[0][3] == "delay"
        await asyncio.sleep(0.7)
        assert not closed(logind.held)
        await logind.prepare(True)
        await seen.until(lambda: seen.sleeps == [True])
        await seen.until(lambda: closed(logind.held))
        assert len(logind.inhibits) == 1
        await logind.prepare(False)
        await seen.until(lambda: seen.sleeps == [True, False])
        await seen.until(lambda: len(logind.inhibits) == 2)

    play(tmp_path, scene)


def test_anybody_else_is_not_believed_to_be_logind_and_their_descriptors_are_closed(tmp_path: Path) -> None:
    async def scene(seen: Seen, desktop: Desktop) -> None:
        logind = desktop.logind
        await logind.appear()
        await seen.until(lambda: logind.held is not None)
        stranger = await MessageBus(logind.address, negotiate_unix_fd=True).connect()
        for number in range(20):
            theirs, ours = os.pipe()
            forged = Message(
                destination=logind.client, message_type=MessageType.SIGNAL, path=LOGIND_PATH,
                interface=f"{LOGIND}.Manager", member="PrepareForSleep", signature="bh", body=[number % 2 == 0, 0],
                unix_fds=[ours],
            )  # fmt: skip
            await stranger.send(forged)
            os.close(ours)
            await seen.until(lambda end=theirs: closed(end))  # type: ignore[misc]
            os.close(theirs)
        assert seen.sleeps == []
        assert not closed(logind.held)
        await logind.prepare(True)
        await seen.until(lambda: seen.sleeps == [True])
        stranger.disconnect()

    play(tmp_path, scene)


def test_a_logind_that_was_started_anew_is_asked_for_an_inhibitor_again(tmp_path: Path) -> None:
    async def scene(seen: Seen, desktop: Desktop) -> None:
        logind = desktop.logind
        await logind.appear()
        await seen.until(lambda: logind.held is not None)
        await asyncio.sleep(0.7)
        await logind.vanish()
        await logind.appear()
        await seen.until(lambda: len(logind.inhibits) == 2)
        await logind.prepare(True)
        await seen.until(lambda: seen.sleeps == [True])

    play(tmp_path, scene)


def closed(descriptor: int | None) -> bool:
    """Say whether the other end of a pipe is closed."""
    assert descriptor is not None
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return any(event & select.POLLHUP for _, event in poll.poll(0)) and os.read(descriptor, 1) == b""
