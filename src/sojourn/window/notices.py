"""Desktop notifications of the questions that policies ask, with a button for each choice where the desktop has them.

org.freedesktop.Notifications on the session bus (Desktop Notifications Specification 1.2). Without a bus, without a
service, or without a session (a window that root started) there are none: the page shows the questions in any case.
A question that was answered elsewhere, or has taken its default, takes its notification away.
"""

import asyncio
import contextlib
import html
import logging
from typing import Any, Final

from dbus_fast import BusType, Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus

from sojourn.api.messages import ApiError
from sojourn.api.stream_client import StreamClient

SERVICE: Final = "org.freedesktop.Notifications"
PATH: Final = "/org/freedesktop/Notifications"
RETRY_EVERY: Final = 10.0
PATIENCE: Final = 5.0
MAX_BUTTONS: Final = 4
URGENT: Final = 2

logging.getLogger("dbus_fast").setLevel(logging.CRITICAL)
_log = logging.getLogger(__name__)


class NoDesktop(Exception):
    """There is no session bus, or nobody on it shows notifications."""


class Notices:
    """Shows questions, and takes answers, for as long as it runs."""

    def __init__(self, client: StreamClient) -> None:
        self._client = client
        self._bus: MessageBus | None = None
        self._shown: dict[int, int] = {}
        """The notification of each open question."""
        self._asking = asyncio.Lock()
        self._buttons = self._markup = False
        self._answers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Follow the questions for ever; whatever fails is tried again later."""
        try:
            while True:
                with contextlib.suppress(NoDesktop, ApiError):
                    await self._follow()
                await asyncio.sleep(RETRY_EVERY)
        finally:
            self._leave()

    async def _follow(self) -> None:
        await self._connect()
        try:
            async for news in self._client.stream("ask", {"follow": True}):
                if news["event"] == "question":
                    await self._show(news)
                else:
                    await self._take_away(news["id"])
        finally:
            for question in list(self._shown):
                with contextlib.suppress(NoDesktop):
                    await self._take_away(question)
            self._leave()

    async def _connect(self) -> None:
        try:
            bus = MessageBus(bus_type=BusType.SESSION)
            async with asyncio.timeout(PATIENCE):
                await bus.connect()
        except Exception as error:  # dbus-fast lets through whatever a missing or broken bus makes of it
            raise NoDesktop(str(error)) from error
        self._bus = bus
        try:
            capabilities = await self._call("GetCapabilities", "", [])
        except NoDesktop:
            self._leave()
            raise
        self._buttons, self._markup = "actions" in capabilities[0], "body-markup" in capabilities[0]
        bus.add_message_handler(self._received)
        for member in ("ActionInvoked", "NotificationClosed"):
            rule = f"type='signal',sender='{SERVICE}',interface='{SERVICE}',member='{member}'"
            await self._call("AddMatch", "s", [rule], "org.freedesktop.DBus", "/org/freedesktop/DBus")

    def _leave(self) -> None:
        bus, self._bus = self._bus, None
        self._shown.clear()
        if bus is not None and bus.connected:
            bus.disconnect()

    async def _show(self, question: dict[str, Any]) -> None:
        left, default = round(question["seconds_left"]), question["default"]
        body = f"{question['text']}\nWithout an answer in {left} s: {default}."
        if self._markup:  # networks are named by strangers: no links, no pictures of theirs
            body = html.escape(body, quote=False)
        actions: list[str] = []
        if self._buttons:
            for choice in question["choices"][:MAX_BUTTONS]:
                actions += [f"{question['id']}/{choice}", _WORDS.get(choice, f"Use {choice}")]
        hints = {"urgency": Variant("y", URGENT), "desktop-entry": Variant("s", "sojourn")}
        arguments = ["Sojourn", 0, "network-wireless", "Sojourn asks", body, actions, hints, max(1, left) * 1000]
        async with self._asking:
            (number,) = await self._call("Notify", "susssasa{sv}i", arguments)
            self._shown[question["id"]] = number

    async def _take_away(self, question: int) -> None:
        number = self._shown.pop(question, None)
        if number is not None:
            with contextlib.suppress(NoDesktop):  # the user has closed it
                await self._call("CloseNotification", "u", [number])

    async def _call(
        self, member: str, signature: str, body: list[Any], service: str = SERVICE, path: str = PATH
    ) -> list[Any]:
        if self._bus is None:
            raise NoDesktop("not connected")
        flags = MessageFlag.NONE  # a desktop may start its notification service when it is asked for
        question = Message(
            destination=service, path=path, interface=service, member=member, signature=signature, body=body,
            flags=flags,
        )  # fmt: skip
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._bus.call(question)
        except Exception as error:
            raise NoDesktop(str(error)) from error
        if answer is None or answer.message_type is not MessageType.METHOD_RETURN:
            raise NoDesktop(answer.error_name if answer is not None else "no answer")
        return list(answer.body)

    def _received(self, message: Message) -> None:
        """Take an answer. The bus has checked who sends in the service's name; the daemon checks the rest."""
        if message.message_type is not MessageType.SIGNAL or message.interface != SERVICE:
            return
        if message.member == "ActionInvoked" and message.signature == "us":
            number, action = message.body
            question, _, choice = action.partition("/")
            if question.isdigit():
                answering = self._answer(int(question), number, choice)
                task = asyncio.get_running_loop().create_task(answering, name="answer")
                self._answers.add(task)
                task.add_done_callback(self._answers.discard)

    async def _answer(self, question: int, number: int, choice: str) -> None:
        async with self._asking:  # a click may come together with the number of what was clicked
            if self._shown.get(question) != number:
                return
        try:
            await self._client.call("answer", {"id": question, "choice": choice, "remember": "once"})
        except ApiError as error:  # answered elsewhere a moment ago
            _log.warning("the answer was not taken: %s", error.message)


_WORDS: Final = {"hold": "Wait", "block": "Refuse", "direct": "Send direct", "any": "Any network"}
