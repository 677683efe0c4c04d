"""Watches NetworkManager, ModemManager and logind on the system bus, all of which may be absent.

Each change there (of something that matters) leads to one reading of all objects a moment later: a
reading is one question, so there is no state of ours that could drift from theirs. Without a bus
nothing is known; it is looked for again, more and more rarely.

Timers: READ_AFTER a change, RETRY while a service does not answer, RECONNECT to a bus that is not there.
"""

import asyncio
from collections.abc import Callable, Mapping
from types import ModuleType

from dbus_fast import Message
from msgspec.structs import asdict, replace

from sojourn.linux import modemmanager, networkmanager
from sojourn.linux.bus import DBUS, Bus, BusError, ServiceAbsent
from sojourn.linux.logind import RULE as SLEEP_RULE
from sojourn.linux.logind import SERVICE as LOGIND
from sojourn.linux.logind import SleepNotice
from sojourn.upmt.events_network import Description, NetworkDescribed

READ_AFTER = 0.2
READ_SPACING = 1.0
"""Least seconds between two readings."""
RETRY = 10.0
RECONNECT_FIRST, RECONNECT_LAST = 2.0, 60.0
SERVICES: tuple[ModuleType, ...] = (modemmanager, networkmanager)
"""Who is asked; what a later one says goes before what an earlier one says."""
PROPERTIES = f"{DBUS}.Properties"


class DescriptionWatcher:
    """`run` for ever; tells through `emit` what is known of each interface whenever that has changed."""

    def __init__(self, emit: Callable[[NetworkDescribed], None], on_sleep: Callable[[bool], None]) -> None:
        self._emit = emit
        self._sleep = SleepNotice(on_sleep)
        self._known: dict[ModuleType, dict[str, Description]] = {}
        self._told: dict[str, Description] = {}
        self._access_points: set[str] = set()
        self._changed = asyncio.Event()
        self._inhibit = False
        """An inhibitor is to be taken (again)."""

    async def run(self) -> None:
        """Watch; survive everything that can happen to a bus."""
        pause = RECONNECT_FIRST
        while True:
            try:
                async with Bus(self._signal) as bus:
                    pause = RECONNECT_FIRST
                    await self._follow(bus)
            except BusError:
                pass
            finally:
                self._sleep.release()
            self._known.clear()
            self._tell()
            await asyncio.sleep(pause)
            pause = min(pause * 2, RECONNECT_LAST)

    async def _follow(self, bus: Bus) -> None:
        for service in SERVICES:
            await bus.match(f"type='signal',sender='{service.SERVICE}'")
            await bus.match(_owner_rule(service.SERVICE))
        await bus.match(SLEEP_RULE)
        await bus.match(_owner_rule(LOGIND))
        self._inhibit = True
        while not bus.lost.is_set():
            self._changed.clear()
            answered = await self._read(bus)
            await self._wait(bus, READ_SPACING, only_lost=True)
            await self._wait(bus, None if answered else RETRY)
            await asyncio.sleep(READ_AFTER)

    async def _wait(self, bus: Bus, seconds: float | None, *, only_lost: bool = False) -> None:
        """Wait for a change or the end of the bus, at most so long."""
        events = [bus.lost] if only_lost else [bus.lost, self._changed]
        waiting = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()

    async def _read(self, bus: Bus) -> bool:
        """Ask all services; return whether each of them answered, or is known to be absent."""
        complete = True
        for service in SERVICES:
            try:
                objects = await bus.objects(service.SERVICE, service.ROOT)
            except ServiceAbsent:
                objects = {}
            except BusError:  # it hangs: what it said last stands
                complete = False
                continue
            self._known[service] = service.describe(objects)
            if service is networkmanager:
                self._access_points = networkmanager.access_points(objects)
        self._tell()
        if self._inhibit:
            self._inhibit = False
            try:
                await self._sleep.hold(bus)
            except ServiceAbsent:
                pass  # its owner will change
            except BusError:
                complete = False
        return complete

    def _signal(self, message: Message) -> None:
        if self._sleep.is_one(message):
            self._inhibit = self._inhibit or not self._sleep.announced(message)
        elif message.member == "NameOwnerChanged":
            self._inhibit = self._inhibit or (bool(message.body) and message.body[0] == LOGIND)
        elif _is_elsewhere(message, self._access_points):
            return
        self._changed.set()

    def _tell(self) -> None:
        now = merged([self._known.get(service, {}) for service in SERVICES])
        before, self._told = self._told, now
        for interface in before.keys() | now.keys():
            description = now.get(interface, Description())
            if before.get(interface, Description()) != description:
                self._emit(NetworkDescribed(interface, description))


def merged(sources: list[Mapping[str, Description]] | list[dict[str, Description]]) -> dict[str, Description]:
    """Return what all sources say together; of two that speak of the same, the later one is believed."""
    found: dict[str, Description] = {}
    for source in sources:
        for interface, description in source.items():
            said = {name: value for name, value in asdict(description).items() if value not in (None, ())}
            found[interface] = replace(found.get(interface, Description()), **said)
    return found


def _owner_rule(service: str) -> str:
    return f"type='signal',sender='{DBUS}',member='NameOwnerChanged',arg0='{service}'"


def _is_elsewhere(message: Message, used: set[str]) -> bool:
    """Say whether a signal is about an access point that we do not use: they come all the time."""
    if message.interface != PROPERTIES or not message.body:
        return False
    return message.body[0] == networkmanager.ACCESS_POINT and message.path not in used
