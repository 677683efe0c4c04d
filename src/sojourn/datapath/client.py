"""Control's end of the data-path process: starts or adopts it, and replaces it when it dies.

States: starting, running, replacing (the process died; its successor gets the held descriptors and
the mirror's commands at once), superseded (another control has taken the process over), closed.

Timers: a ping every 2 s (five unanswered ones: the process hangs and is killed), a growing pause between
starts that fail quickly (restarts.py), 250 ms for a process that closed the connection but lives.
"""

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from sojourn.datapath import wire
from sojourn.datapath.child import Child
from sojourn.datapath.lending import lend
from sojourn.datapath.link import Link
from sojourn.datapath.log import Log
from sojourn.datapath.mirror import Mirror
from sojourn.datapath.private_socket import may_connect, peer, remove_stale
from sojourn.datapath.restarts import Restarts
from sojourn.datapath.spare import Spare
from sojourn.errors import RemoteProtocolError, SojournError
from sojourn.linux.descriptors import HeldDescriptors
from sojourn.linux.pins import Pins
from sojourn.upmt.commands import AnyCommand, Role, Setup
from sojourn.upmt.events import AnyEvent, State

ADOPT_PATIENCE: Final = 3.0
START_PATIENCE: Final = 15.0
STOP_PATIENCE: Final = 3.0
PING_INTERVAL: Final = 2.0
PINGS_UNANSWERED: Final = 5
RECONNECT_DELAY: Final = 0.25
LEAVING_DELAY: Final = 0.2
"""After a process was told by someone else to end: most likely everything is being stopped, we too."""
PROGRAM: Final = ("-m", "sojourn.datapath.process")


class DataPathClient:
    """A `DataPath` that is a process of its own. `submit` at any time; events come through `emit`."""

    def __init__(
        self,
        socket_path: Path,
        *,
        emit: Callable[[AnyEvent], None],
        epochs: Path | None,
        log: Log,
        on_superseded: Callable[[], None] | None = None,
        spare: bool = True,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.adopted: State | None = None
        """What a process that ran already (its control had died) knows; None when a new one was started."""
        self.epochs_void = False
        """The epoch file was missing or of another boot: secrets of before must not be used, register again."""
        self.last_gap = 0.0
        """Seconds from noticing the last death until the successor had started."""
        self.closed = False
        self.superseded = False
        self._path = socket_path.absolute()
        self._emit = emit
        self._log = log
        self._on_superseded = on_superseded
        self._arguments = [*program, "--socket", str(self._path)]
        if epochs is not None:
            self._arguments += ["--epochs", str(epochs.absolute())]
        self._loop = asyncio.get_running_loop()
        self._mirror = Mirror()
        self._held = HeldDescriptors()
        self._restarts = Restarts()
        self._child: Child | None = None
        self._spare = Spare(self._arguments, wanted=spare)
        self._link: Link | None = None
        self._joiner = wire.StateJoiner()
        self._adopting = False
        self._ready: asyncio.Future[State | None] = self._loop.create_future()
        self._leaving, self._last_words = False, ""
        self._reconnected = False
        self._pings = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @classmethod
    async def start(
        cls,
        socket_path: Path,
        *,
        emit: Callable[[AnyEvent], None],
        epochs: Path | None,
        log: Log,
        on_superseded: Callable[[], None] | None = None,
        spare: bool = True,
        program: Sequence[str] = PROGRAM,
    ) -> "DataPathClient":
        """Adopt the process that listens at `socket_path`, or start one.

        Raises SojournError when neither works. `spare` keeps a second process loaded and waiting, so
        that a dead one is replaced in milliseconds; it costs some 25 MB. `on_superseded` is called
        when another control process has taken the data path over: this one has to end.
        """
        client = cls(
            socket_path, emit=emit, epochs=epochs, log=log, on_superseded=on_superseded, spare=spare, program=program
        )
        try:
            if not await client._adopt():
                await client._start_first()
        except BaseException:
            await client.close()
            raise
        client._at("ping", PING_INTERVAL, client._ping)
        return client

    @property
    def pid(self) -> int:
        """The process that moves the packets now; 0 between two."""
        return self._child.pid if self._child is not None else 0

    @property
    def restarts(self) -> int:
        """How often a dead process was replaced."""
        return self._restarts.count

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Hand over orders. While the process is being replaced the mirror keeps them for its successor."""
        now = _now()
        commands = [self._lend(command) if isinstance(command, Setup) else command for command in commands]
        for command in commands:
            self._mirror.sent(command, now)
        if self._link is not None and not self._reconnected:
            self._link.send(commands)

    def when_done(self, call: Callable[[], None]) -> None:
        """Call once all that was ordered so far has been carried out; at once if it has."""
        self._mirror.when_done(call)

    def _lend(self, setup: Setup) -> Setup:
        pins = Pins(setup.device, lambda why: self._log.info("datapath.not_pinned", why=why))
        setup, opened = lend(setup, self._held.by_name, pins)
        if setup.role is Role.ANCHOR:
            self._held.pin(pins)
        self.lend(opened)
        return setup

    @property
    def held(self) -> Mapping[str, int]:
        """Descriptors that a successor of the process will be given."""
        return self._held.by_name

    def lend(self, descriptors: Mapping[str, int]) -> None:
        """Give the process descriptors, which are ours to keep for its successors from now on."""
        for name, fd in descriptors.items():
            self._held.keep(name, fd)
        if self._link is not None and not self._reconnected:
            self._link.send_descriptors(dict(descriptors))

    async def close(self, *, stop: bool = True) -> None:
        """End the process and leave nothing; with `stop=False` leave it running for the next control (60 s)."""
        self.closed = True
        for timer in self._timers.values():
            timer.cancel()
        if self._link is not None and stop:
            self._link.send([wire.Shutdown()])
        await self._spare.close(STOP_PATIENCE)
        if self._child is not None and stop:
            await self._child.ended(STOP_PATIENCE)
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._child is not None:
            self._child.forget()
            self._child = None
        self._held.close(leave_pins=not stop or self.superseded)
        if stop and not self.superseded:
            remove_stale(self._path)

    # Starting.

    async def _adopt(self) -> bool:
        """Take over a process whose control has gone; False when there is none that can be used."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            await self._loop.sock_connect(connection, str(self._path))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return False
        if not may_connect(connection):
            connection.close()
            raise SojournError(f"{self._path} belongs to another user's process")
        self._child = Child.adopt(peer(connection)[0], self._on_exit)
        self._adopting = True
        self._link = Link(connection, self._on_message, self._on_end)
        try:
            self.adopted = state = await asyncio.wait_for(asyncio.shield(self._ready), ADOPT_PATIENCE)
        except (TimeoutError, SojournError) as error:
            await self._end_unusable(str(error) or "no answer")
            return False
        finally:
            self._adopting = False
        self._log.info("datapath.adopted", pid=self.pid, flows=len(state.rows) if state else 0)
        return True

    async def _end_unusable(self, why: str) -> None:
        self._log.warning("datapath.unusable", pid=self.pid, why=why)
        child, self._child = self._child, None
        if self._link is not None:
            self._link.close()
            self._link = None
        if child is not None:
            child.kill(signal.SIGTERM)
            await child.ended(STOP_PATIENCE)
            child.forget()
        self._held.close(leave_pins=False)
        self._ready = self._loop.create_future()

    async def _start_first(self) -> None:
        self._start_process()
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), START_PATIENCE)
        except TimeoutError:
            raise SojournError("the data path process does not answer") from None

    def _start_process(self) -> None:
        """Start a process, or let the spare step in, and give it all that its predecessor had."""
        self._restarts.began(time.monotonic())
        child = self._spare.take()
        if child is None:
            child = Child.start(self._arguments, self._on_exit)
        else:
            child.on_exit = self._on_exit
        self._child = child
        self._reconnected = self._leaving = False
        self._pings = 0
        self._joiner = wire.StateJoiner()
        self._link = Link(child.take_control(), self._on_message, self._on_end)
        self._link.send_descriptors(self._held.by_name)
        self._link.send(self._mirror.replay(_now(), rows=self._restarts.with_rows()))
        self._link.send([wire.Replayed()])

    # Its end.

    def _on_exit(self, child: Child) -> None:
        """Learn from the kernel (pidfd) that a process has ended."""
        if child is not self._child:
            return
        if self._link is not None:
            self._link.drain()
        self._child = None
        child.forget()
        if self._link is not None:
            self._link.close()
            self._link = None
        if self.closed or self.superseded:
            return
        if not self._ready.done():
            self._ready.set_exception(SojournError(self._last_words or f"the data path ended at once ({child.status})"))
            return
        pause = self._restarts.died(time.monotonic())
        if self._leaving:
            pause = max(pause, LEAVING_DELAY)
        self._log.warning("datapath.died", pid=child.pid, status=child.status, starting_again_in=pause)
        if pause:
            self._at("start", pause, self._start_process)
        else:
            self._start_process()

    def _on_end(self, link: Link, why: str) -> None:
        """Learn that the connection has ended: mostly so has the process, and `_on_exit` comes at once."""
        if link is not self._link:
            return
        self._link = None
        if self._adopting and not self._ready.done():
            self._ready.set_exception(RemoteProtocolError(why, reason="datapath"))
        elif not self.closed and not self.superseded:
            self._at("reconnect", RECONNECT_DELAY, lambda: self._reconnect(why))

    def _reconnect(self, why: str) -> None:
        """Connect again to a process that lives: it had let us go because we read too slowly."""
        if self._link is not None or self._child is None or self.closed:
            return
        self._log.warning("datapath.reconnecting", pid=self.pid, why=why)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            self._log.warning("datapath.unusable", pid=self.pid, why=str(error))
            self._child.kill(signal.SIGKILL)
            return
        self._joiner = wire.StateJoiner()
        self._reconnected = True
        self._link = Link(connection, self._on_message, self._on_end)

    def _ping(self) -> None:
        # Counted in turns of our own: when both of us were stopped, one turn is all that passed.
        self._at("ping", PING_INTERVAL, self._ping)
        if self._link is None or self._child is None:
            return
        if self._pings >= PINGS_UNANSWERED:
            self._log.warning("datapath.hangs", pid=self.pid)
            self._child.kill(signal.SIGKILL)
            return
        self._pings += 1
        self._link.send([wire.Ping(self._pings)])

    # What it says.

    def _on_message(self, link: Link, message: wire.ToControl) -> None:
        match message:
            case wire.Hello():
                self._hello(message)
            case wire.HoldDescriptor():
                self._held.keep(message.name, link.claim())
            case wire.DropDescriptor():
                self._held.drop(message.name)
            case State() | wire.StateRows():
                whole = self._joiner.feed(message)
                if whole is not None:
                    self._state(whole)
            case wire.Said():
                if self._ready.done():
                    self._log.warning("datapath.said", level=message.level, text=message.text)
                else:  # why it does not start, which whoever waits for it gets to know
                    self._last_words = message.text
            case wire.Resync():
                self._log.warning("datapath.resync", dropped=message.dropped)
            case wire.Done():
                self._mirror.done(message.count, _now())
            case wire.Pong():
                self._pings = 0
            case wire.Superseded():
                self._end_superseded(link)
            case wire.Leaving():
                self._leaving = True
            case _:
                self._tell(message)

    def _hello(self, hello: wire.Hello) -> None:
        if hello.version != wire.VERSION:
            raise RemoteProtocolError(f"it is of version {hello.version}, not {wire.VERSION}", reason="datapath")
        if not self._adopting and not self._ready.done():
            self._ready.set_result(None)
        self.epochs_void = self.epochs_void or hello.epochs_void
        self._spare.want()
        if self.restarts:
            self.last_gap = time.monotonic() - self._restarts.died_at
            self._log.info("datapath.replaced", pid=hello.pid, after=round(self.last_gap, 4))

    def _state(self, state: State) -> None:
        """Take in a State: of a process that we adopt or have connected to again, or one in between."""
        if not self._ready.done():
            self._mirror.adopt(state, _now())
            self._ready.set_result(state)
            return
        if self._reconnected and self._link is not None:
            self._reconnected = False
            self._link.send(self._mirror.difference(state))
        self._tell(state)

    def _tell(self, event: AnyEvent) -> None:
        self._mirror.received(event, _now())
        self._give(event)

    def _give(self, event: AnyEvent) -> None:
        """Hand an event on; what goes wrong with one is reported and does not lose the next."""
        try:
            self._emit(event)
        except Exception as error:
            self._loop.call_exception_handler(
                {"message": f"{type(event).__name__} of the data path was not handled", "exception": error}
            )

    def _end_superseded(self, link: Link) -> None:
        self.superseded = True
        link.close()
        self._link = None
        self._log.warning("datapath.superseded", pid=self.pid)
        if self._child is not None:
            self._child.forget()
            self._child = None
        self._held.close(leave_pins=True)
        if self._on_superseded is not None:
            self._on_superseded()

    def _at(self, name: str, delay: float, action: Callable[[], None]) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        if self.closed or self.superseded:
            return
        self._timers[name] = self._loop.call_later(delay, action)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
