"""A private system bus, and on it NetworkManager, ModemManager and logind as far as Sojourn asks them.

The services keep their objects as the real ones export them (paths, interfaces, types), answer
GetManagedObjects and Inhibit, and send the signals that the real ones send. Each can appear,
vanish, hang (never answer) and lie.
"""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dbus_fast import ErrorType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

NM, NM_ROOT = "org.freedesktop.NetworkManager", "/org/freedesktop"
MM, MM_ROOT = "org.freedesktop.ModemManager1", "/org/freedesktop/ModemManager1"
LOGIND, LOGIND_PATH = "org.freedesktop.login1", "/org/freedesktop/login1"
MANAGER, PROPERTIES = "org.freedesktop.DBus.ObjectManager", "org.freedesktop.DBus.Properties"

CONFIGURATION = """
<busconfig>
  <type>system</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="signal"/>
    <allow receive_type="method_return"/><allow receive_type="error"/>
  </policy>
</busconfig>
"""


class PrivateBus:
    """dbus-daemon on a socket of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "bus"
        self.address = f"unix:path={self.path}"
        self._configuration = folder / "bus.conf"
        self._configuration.write_text(CONFIGURATION.format(path=self.path))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        argv = ["dbus-daemon", f"--config-file={self._configuration}", "--nofork", "--nopidfile", "--print-address=1"]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline()

    def stop(self) -> None:
        """End it, with all its connections."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.communicate(timeout=10)
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def private_bus(folder: Path) -> Iterator[PrivateBus]:
    """Run a bus, and name it as the system bus to this process."""
    bus = PrivateBus(folder)
    before = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS")
    os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = bus.address
    bus.start()
    try:
        yield bus
    finally:
        bus.stop()
        del os.environ["DBUS_SYSTEM_BUS_ADDRESS"]
        if before is not None:
            os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = before


class Service:
    """One service: `objects` is path -> interface -> property -> Variant."""

    def __init__(self, address: str, name: str, root: str) -> None:
        self.name = name
        self.objects: dict[str, dict[str, dict[str, Variant]]] = {}
        self.hangs = False
        self.answer: tuple[str, list[Any]] | None = None
        """Another answer than the true one: signature and body."""
        self.asked = 0
        self.address = address
        self.client = ""
        """The connection that asked last."""
        self._root = root
        self._bus: MessageBus | None = None

    async def appear(self) -> None:
        """Take the name."""
        self._bus = MessageBus(self.address, negotiate_unix_fd=True)
        await self._bus.connect()
        self._bus.add_message_handler(self._called)
        await self._bus.request_name(self.name)

    async def vanish(self) -> None:
        """Leave the bus."""
        bus, self._bus = self._bus, None
        if bus is not None and bus.connected:
            bus.disconnect()
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    async def set(self, path: str, interface: str, **properties: Variant) -> None:
        """Change properties, and say so."""
        self.objects.setdefault(path, {}).setdefault(interface, {}).update(properties)
        await self.signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", [interface, properties, []])

    async def add(self, path: str, interfaces: dict[str, dict[str, Variant]]) -> None:
        """Add an object, and say so."""
        self.objects[path] = interfaces
        await self.signal(self._root, MANAGER, "InterfacesAdded", "oa{sa{sv}}", [path, interfaces])

    async def remove(self, path: str) -> None:
        """Remove an object, and say so."""
        names = list(self.objects.pop(path))
        await self.signal(self._root, MANAGER, "InterfacesRemoved", "oas", [path, names])

    async def signal(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        """Send a signal."""
        if self._bus is not None:
            await self._bus.send(Message.new_signal(path, interface, member, signature, body))

    def _called(self, message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        self.asked += 1
        self.client = message.sender or ""
        return True if self.hangs else self.respond(message)

    def respond(self, message: Message) -> Message | None:
        """Answer a call."""
        if message.member != "GetManagedObjects" or message.path != self._root:
            return Message.new_error(message, ErrorType.UNKNOWN_METHOD, "there is no such method")
        signature, body = self.answer or ("a{oa{sa{sv}}}", [self.objects])
        return Message.new_method_return(message, signature, body)


class Logind(Service):
    """logind's sleep announcements and inhibitors."""

    def __init__(self, address: str) -> None:
        super().__init__(address, LOGIND, LOGIND_PATH)
        self.held: int | None = None
        """Our end of the inhibitor's pipe."""
        self.inhibits: list[list[str]] = []

    def respond(self, message: Message) -> Message | None:
        """Give an inhibitor."""
        if message.member != "Inhibit":
            return super().respond(message)
        self.inhibits.append(message.body)
        self.release()
        self.held, theirs = os.pipe()
        answer = Message.new_method_return(message, "h", [0], [theirs])
        asyncio.get_running_loop().call_later(0.5, os.close, theirs)
        return answer

    def release(self) -> None:
        """Close our end."""
        held, self.held = self.held, None
        if held is not None:
            os.close(held)

    async def prepare(self, sleep: bool) -> None:
        """Announce that the machine goes to sleep, or has woken up."""
        await self.signal(LOGIND_PATH, f"{LOGIND}.Manager", "PrepareForSleep", "b", [sleep])


class Desktop:
    """The three services of one bus; none is there before it `appear`s."""

    def __init__(self, address: str) -> None:
        self.network_manager = Service(address, NM, NM_ROOT)
        self.modem_manager = Service(address, MM, MM_ROOT)
        self.logind = Logind(address)

    async def close(self) -> None:
        """Leave the bus with all of them."""
        self.logind.release()
        for service in (self.network_manager, self.modem_manager, self.logind):
            await service.vanish()


def wifi(
    interface: str, name: str, *, ssid: bytes = b"Cafe", strength: int = 72, metered: int = 4, rsn: int = 0,
    connectivity: int = 4, number: int = 1,
) -> dict[str, dict[str, dict[str, Variant]]]:  # fmt: skip
    """Return NetworkManager's objects for a Wi-Fi interface that is connected."""
    base = "/org/freedesktop/NetworkManager"
    return {
        f"{base}/Devices/{number}": {
            f"{NM}.Device": {
                "Interface": Variant("s", interface),
                "IpInterface": Variant("s", interface),
                "Managed": Variant("b", True),
                "DeviceType": Variant("u", 2),
                "Metered": Variant("u", metered),
                "Ip4Connectivity": Variant("u", connectivity),
                "Ip6Connectivity": Variant("u", 1),
                "ActiveConnection": Variant("o", f"{base}/ActiveConnection/{number}"),
                "Ip4Config": Variant("o", f"{base}/IP4Config/{number}"),
                "Ip6Config": Variant("o", f"{base}/IP6Config/{number}"),
            },
            f"{NM}.Device.Wireless": {"ActiveAccessPoint": Variant("o", f"{base}/AccessPoint/{number}")},
        },
        f"{base}/ActiveConnection/{number}": {f"{NM}.Connection.Active": {"Id": Variant("s", name)}},
        f"{base}/AccessPoint/{number}": {
            f"{NM}.AccessPoint": {
                "Ssid": Variant("ay", ssid),
                "Strength": Variant("y", strength),
                "Flags": Variant("u", 1 if rsn else 0),
                "WpaFlags": Variant("u", 0),
                "RsnFlags": Variant("u", rsn),
            }
        },
        f"{base}/IP4Config/{number}": {
            f"{NM}.IP4Config": {"NameserverData": Variant("aa{sv}", [{"address": Variant("s", "192.0.2.53")}])}
        },
        f"{base}/IP6Config/{number}": {
            f"{NM}.IP6Config": {"Nameservers": Variant("aay", [bytes.fromhex("20010db8000000000000000000000053")])}
        },
    }


def modem(interface: str, *, quality: int = 40, state: int = 5) -> dict[str, dict[str, dict[str, Variant]]]:
    """Return ModemManager's object for a modem that is registered."""
    return {
        f"{MM_ROOT}/Modem/0": {
            f"{MM}.Modem": {
                "Ports": Variant("a(su)", [["cdc-wdm0", 6], [interface, 2]]),
                "SignalQuality": Variant("(ub)", [quality, True]),
                "AccessTechnologies": Variant("u", 1 << 14 | 1 << 5),
            },
            f"{MM}.Modem.Modem3gpp": {
                "OperatorName": Variant("s", "Example Mobile"),
                "RegistrationState": Variant("u", state),
            },
        }
    }
