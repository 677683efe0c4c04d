"""Notifications of questions, on a session bus of the test's own with a desktop that shows them."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message
from dbus_fast.aio import MessageBus

from sojourn.api.server import Arguments, Peer, Server
from sojourn.api.stream_client import StreamClient
from sojourn.window import notices as notices_module
from sojourn.window.notices import PATH, SERVICE, Notices
from tests.harness.desktop import PrivateBus, Service

QUESTION = {
    "version": 1, "id": 7, "policy": "calls", "text": "No network fits 'calls' now. Where shall its flows go?",
    "choices": ["wifi", "cell", "hold", "block", "any"], "default": "hold", "seconds_left": 29.6,
    "remember": ["once", "session", "ever"],
}  # fmt: skip


class Shell(Service):
    """The desktop's notification service."""

    def __init__(self, address: str, *, buttons: bool = True) -> None:
        super().__init__(address, SERVICE, PATH)
        self.capabilities = ["body", "body-markup", "actions"] if buttons else ["body"]
        self.shown: asyncio.Queue[list[Any]] = asyncio.Queue()
        self.closed: asyncio.Queue[int] = asyncio.Queue()

    def respond(self, message: Message) -> Message | None:
        """Answer as GNOME's shell does."""
        match message.member:
            case "GetCapabilities":
                return Message.new_method_return(message, "as", [self.capabilities])
            case "Notify":
                self.shown.put_nowait(message.body)
                return Message.new_method_return(message, "u", [40 + self.shown.qsize()])
            case "CloseNotification":
                self.closed.put_nowait(message.body[0])
                return Message.new_method_return(message)
        return super().respond(message)

    async def click(self, number: int, action: str) -> None:
        """Press a button."""
        await self.signal(PATH, SERVICE, "ActionInvoked", "us", [number, action])


class Daemon:
    """A control socket with one question."""

    def __init__(self) -> None:
        self.news: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def ask(self, _arguments: Arguments, _peer: Peer) -> AsyncIterator[dict[str, Any]]:
        """Tell what the test says."""
        while True:
            yield await self.news.get()

    async def answer(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Take an answer."""
        self.answers.put_nowait(arguments)
        return {"version": 1}


@contextlib.asynccontextmanager
async def desktop(folder: Path, *, buttons: bool = True) -> AsyncIterator[tuple[Daemon, Shell]]:
    daemon, shell = Daemon(), Shell(os.environ["DBUS_SESSION_BUS_ADDRESS"], buttons=buttons)
    server = Server(str(folder / "host.sock"), {"role": "host"})
    server.register_stream("ask", daemon.ask)
    server.register("answer", daemon.answer)
    await server.start()
    await shell.appear()
    running = asyncio.ensure_future(Notices(StreamClient(server.path)).run())
    try:
        yield daemon, shell
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await shell.vanish()
        await server.close()


@pytest.fixture(autouse=True)
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateBus]:
    bus = PrivateBus(tmp_path)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus.address)
    monkeypatch.setattr(notices_module, "RETRY_EVERY", 0.1)
    bus.start()
    yield bus
    bus.stop()


async def soon(queue: "asyncio.Queue[Any]") -> Any:  # noqa: ANN401
    return await asyncio.wait_for(queue.get(), 10)


def test_a_question_is_shown_with_its_choices_and_a_click_answers_it(tmp_path: Path) -> None:
    async def go() -> None:
        async with desktop(tmp_path) as (daemon, shell):
            daemon.news.put_nowait({"event": "question", **QUESTION})
            name, _, _, title, body, actions, _, patience = await soon(shell.shown)
            assert (name, title) == ("Sojourn", "Sojourn asks")
            assert "Where shall its flows go?" in body
            assert "hold" in body
            assert actions == ["7/wifi", "Use wifi", "7/cell", "Use cell", "7/hold", "Wait", "7/block", "Refuse"]
            assert patience == 30_000
            await shell.click(99, "7/wifi")
            await shell.click(41, "8/wifi")
            await shell.click(41, "7/cell")
            assert await soon(daemon.answers) == {"id": 7, "choice": "cell", "remember": "once"}
            assert daemon.answers.empty()

    asyncio.run(go())


def test_a_network_s_name_is_no_markup(tmp_path: Path) -> None:
    async def go() -> None:
        async with desktop(tmp_path) as (daemon, shell):
            name = '<a href="http://192.0.2.66/">log in</a>'
            daemon.news.put_nowait({"event": "question", **QUESTION, "text": f"{name} or cell?"})
            assert '&lt;a href="http://192.0.2.66/"&gt;log in' in (await soon(shell.shown))[4]

    asyncio.run(go())


def test_a_desktop_without_markup_is_told_the_text_as_it_is(tmp_path: Path) -> None:
    async def go() -> None:
        async with desktop(tmp_path, buttons=False) as (daemon, shell):
            daemon.news.put_nowait({"event": "question", **QUESTION, "text": "R&D or cell?"})
            assert "R&D or cell?" in (await soon(shell.shown))[4]

    asyncio.run(go())


def test_a_question_that_was_settled_elsewhere_is_taken_away(tmp_path: Path) -> None:
    async def go() -> None:
        async with desktop(tmp_path, buttons=False) as (daemon, shell):
            daemon.news.put_nowait({"event": "question", **QUESTION})
            assert (await soon(shell.shown))[5] == [], "a desktop without buttons gets none"
            daemon.news.put_nowait({"event": "answered", **QUESTION, "choice": "wifi"})
            assert await soon(shell.closed) == 41

    asyncio.run(go())


def test_what_is_open_when_the_window_ends_does_not_stay_on_the_screen(tmp_path: Path) -> None:
    async def go() -> None:
        async with desktop(tmp_path) as (daemon, shell):
            daemon.news.put_nowait({"event": "question", **QUESTION})
            await soon(shell.shown)
            shell_closed = shell.closed
        assert shell_closed.empty() or shell_closed.get_nowait() == 41

    asyncio.run(go())


def test_a_signal_in_the_service_s_name_from_somebody_else_answers_nothing(tmp_path: Path) -> None:
    async def go() -> None:
        async with desktop(tmp_path) as (daemon, shell):
            daemon.news.put_nowait({"event": "question", **QUESTION})
            await soon(shell.shown)
            other = await MessageBus(os.environ["DBUS_SESSION_BUS_ADDRESS"]).connect()
            await other.send(Message.new_signal(PATH, SERVICE, "ActionInvoked", "us", [41, "7/block"]))
            await shell.click(41, "7/wifi")
            assert (await soon(daemon.answers))["choice"] == "wifi"
            assert daemon.answers.empty()
            other.disconnect()

    asyncio.run(go())


def test_without_a_desktop_it_waits_for_one(tmp_path: Path, bus: PrivateBus) -> None:
    async def go() -> None:
        bus.stop()
        daemon = Daemon()
        server = Server(str(tmp_path / "host.sock"), {"role": "host"})
        server.register_stream("ask", daemon.ask)
        await server.start()
        running = asyncio.ensure_future(Notices(StreamClient(server.path)).run())
        await asyncio.sleep(0.5)
        assert not running.done()
        bus.start()
        shell = Shell(bus.address)
        await shell.appear()
        daemon.news.put_nowait({"event": "question", **QUESTION})
        assert (await soon(shell.shown))[3] == "Sojourn asks"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await shell.vanish()
        await server.close()

    asyncio.run(go())
