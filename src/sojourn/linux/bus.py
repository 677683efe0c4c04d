"""One connection to the D-Bus system bus: questions with a time limit, and signals.

Whatever goes wrong on it is a `BusError`: no bus, a bus or a service that hangs, an answer that is none.
Nothing is ever started by asking (NO_AUTOSTART).
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from dbus_fast import BusType, Message, MessageFlag, MessageType
from dbus_fast.aio import MessageBus

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 5.0
DBUS = "org.freedesktop.DBus"
_ABSENT = {f"{DBUS}.Error.ServiceUnknown", f"{DBUS}.Error.NameHasNoOwner"}

logging.getLogger("dbus_fast").setLevel(logging.CRITICAL)  # its tracebacks: what a peer did wrong is not our error


class BusError(Exception):
    """There is no bus, or no answer of use."""


class ServiceAbsent(BusError):
    """The service does not run."""


class Bus:
    """`async with Bus(on_signal) as bus: ...`; `lost` is set when the connection has ended."""

    def __init__(self, on_signal: Callable[[Message], None] | None = None) -> None:
        self.lost = asyncio.Event()
        self._on_signal = on_signal
        self._bus: MessageBus | None = None
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Bus":
        try:
            # logind's inhibitor is a descriptor.
            bus = MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True)
            async with asyncio.timeout(CONNECT_SECONDS):
                await bus.connect()
        except Exception as error:  # dbus-fast lets through whatever a broken bus makes of it
            raise BusError(f"no system bus: {str(error) or type(error).__name__}") from error
        self._bus = bus
        bus.add_message_handler(self._received)
        self._watch = asyncio.get_running_loop().create_task(self._wait(bus), name="bus")
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._bus is not None and self._bus.connected:
            self._bus.disconnect()
        if self._watch is not None:
            await asyncio.gather(self._watch, return_exceptions=True)

    async def call(
        self, service: str, path: str, interface: str, member: str, signature: str = "", body: Sequence[Any] = ()
    ) -> Message:
        """Ask; return the answer. Raises BusError."""
        if self._bus is None or self.lost.is_set():
            raise BusError("the bus has gone")
        try:
            question = Message(
                destination=service, path=path, interface=interface, member=member, signature=signature,
                body=list(body), flags=MessageFlag.NO_AUTOSTART,
            )  # fmt: skip
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._bus.call(question)
        except TimeoutError as error:
            raise BusError(f"{service} does not answer") from error
        except Exception as error:
            raise BusError(f"{service}: {str(error) or type(error).__name__}") from error
        if answer is None or answer.message_type is not MessageType.METHOD_RETURN:
            name = answer.error_name if answer is not None else "no answer"
            kind = ServiceAbsent if name in _ABSENT else BusError
            raise kind(f"{service}: {name}")
        return answer

    async def match(self, rule: str) -> None:
        """Have signals of this kind sent to us. Raises BusError."""
        await self.call(DBUS, "/org/freedesktop/DBus", DBUS, "AddMatch", "s", [rule])

    async def owner(self, service: str) -> str:
        """Return the unique name of the connection that a service is now. Raises BusError."""
        answer = await self.call(DBUS, "/org/freedesktop/DBus", DBUS, "GetNameOwner", "s", [service])
        if answer.signature != "s":
            raise BusError(f"the bus answers with {answer.signature!r}")
        return str(answer.body[0])

    async def objects(self, service: str, root: str) -> dict[str, Any]:
        """Return all of a service's objects with their properties: path -> interface -> name -> Variant."""
        answer = await self.call(service, root, f"{DBUS}.ObjectManager", "GetManagedObjects")
        if answer.signature != "a{oa{sa{sv}}}":
            raise BusError(f"{service} answers with {answer.signature!r}")
        found: dict[str, Any] = answer.body[0]
        return found

    def _received(self, message: Message) -> None:
        if message.message_type is MessageType.METHOD_RETURN:
            return
        # Anybody on the bus may send us signals of any content, with descriptors that are ours to close.
        for descriptor in message.unix_fds or ():
            os.close(descriptor)
        if message.message_type is MessageType.SIGNAL and self._on_signal is not None:
            self._on_signal(message)

    async def _wait(self, bus: MessageBus) -> None:
        try:
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        except Exception as error:
            logging.getLogger(__name__).debug("the bus has gone: %s", error)
        finally:
            self.lost.set()
