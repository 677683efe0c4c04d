"""The data-path process: an engine, the private socket by which control drives it, and nothing else.

    python -m sojourn.datapath.process --socket PATH [--epochs FILE] [--control FD] [--alone SECONDS]

It holds the TUN device, the sockets and the keys, so that nothing that control does delays a packet
(DESIGN §2). States:

    waiting    only with --control: everything is loaded, control has not said `Begin` (a spare)
    controlled one connection; a newer one takes over
    alone      control has gone; forwarding goes on for 60 s, then the process ends

Timers: one tick a second (alone, garbage). Signals: SIGTERM and SIGINT end the process, and control, if
it lives, starts another one. Secrets come over the socket only: never by argument, never in a log.
"""

import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from sojourn.datapath.birth import Options, complain, parse_arguments, wait_for_begin
from sojourn.datapath.classify import Classifier
from sojourn.datapath.control_end import Control
from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.housekeeping import TICK, GarbageCollector, catch_signals
from sojourn.datapath.private_socket import PrivateListener, may_connect
from sojourn.datapath.wire import (
    VERSION,
    Begin,
    Done,
    DropDescriptor,
    Hello,
    HoldDescriptor,
    Leaving,
    Ping,
    Pong,
    Replayed,
    Resync,
    Said,
    Shutdown,
    Superseded,
    TakeDescriptor,
    ToControl,
    ToProcess,
    pieces,
)
from sojourn.errors import RemoteProtocolError, SojournError
from sojourn.linux.confine import confine
from sojourn.linux.descriptors import Descriptors
from sojourn.upmt.commands import AnyCommand, Snapshot
from sojourn.upmt.events import AnyEvent, State

REPLAY_PATIENCE: Final = 2.0


class Engine(Protocol):
    """What moves packets, and lends its loop (datapath/engine.py)."""

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Carry out orders."""
        ...

    def ask(self, owners: Classifier) -> None:
        """Ask `owners` who made each new flow."""
        ...

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `fd` is readable."""
        ...

    def run(self) -> None:
        """Move packets until `stop`."""
        ...

    def stop(self) -> None:
        """Let `run` return after this turn."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


Say = Callable[[str, str], None]
"""Takes a level and a line for control's log."""
EngineFactory = Callable[[Callable[[AnyEvent], None], EpochStore, Descriptors, Say], Engine]


class DataPathProcess:
    """Serves one control at a time, inside the engine's loop: everything here is a callback of `watch`."""

    def __init__(
        self, options: Options, make_engine: EngineFactory, garbage: GarbageCollector, notes: Iterable[str] = ()
    ) -> None:
        self._listener = PrivateListener(options.socket)
        self._notes = tuple(notes)
        """What every control is to be told for its log."""
        self._alone_after = options.alone
        self._alone_for = 0.0
        self._control: Control | None = None
        self._epochs = EpochStore(options.epochs)
        self._descriptors = Descriptors(on_hold=self._hold, on_release=self._release)
        self._wanted = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._flush_due = False
        self._replayed = False
        self._garbage = garbage
        self._signals, wakeup = socket.socketpair()
        self._wakeup = wakeup
        # An epoll descriptor is itself readable when one of its own is ready: the engine watches but this one.
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._engine = make_engine(self._emit, self._epochs, self._descriptors, self._say)
        self._engine.watch(self._epoll.fileno(), self._ready)
        self._owners = Classifier(self._say, self._register, self._unregister)
        self._engine.ask(self._owners)
        self._register(self._listener.socket.fileno(), self._on_connection)
        self._register(self._wanted, self._on_flush_due)
        self._register(self._signals.fileno(), self._on_signals)

    def run(self, control: socket.socket | None) -> None:
        """Serve until told to end, then leave nothing behind."""
        catch_signals(self._wakeup)
        if control is not None:
            self._attach(control)
            self._replay(control)
        try:
            self._engine.run()
        finally:
            self._detach()
            self._engine.close()
            self._owners.close()
            self._epochs.close()
            self._listener.close()
            self._epoll.close()

    def _replay(self, connection: socket.socket) -> None:
        """Take in all that a predecessor knew before the first packet is looked at."""
        while self._control is not None and not self._replayed:
            if not select.select([connection], [], [], REPLAY_PATIENCE)[0]:
                break
            self._on_control(select.EPOLLIN)

    # The loop's callbacks.

    def _register(self, fd: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, select.EPOLLIN)

    def _unregister(self, fd: int) -> None:
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def _ready(self, *_: object) -> None:
        for fd, flags in self._epoll.poll(0):
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(flags)

    def _on_connection(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, _address = self._listener.socket.accept()
            if may_connect(connection):
                self._attach(connection)
                self._engine.submit([Snapshot()])
            else:
                connection.close()

    def _on_signals(self, _: int) -> None:
        for number in self._signals.recv(64):
            if number == signal.SIGALRM:
                self._tick()
            else:
                self._put(Leaving(signal.Signals(number).name))
                self._flush()
                self._engine.stop()

    def _tick(self) -> None:
        self._garbage.tick()
        if self._control is not None:
            return
        # Turns are counted, not a clock: what a stopped machine did not live through does not count.
        self._alone_for += TICK
        if self._alone_for >= self._alone_after:
            self._engine.stop()

    # One control.

    def _attach(self, connection: socket.socket) -> None:
        if self._control is not None:
            self._put(Superseded())
            self._flush()
            self._detach()
        self._control = control = Control(connection)
        self._alone_for = 0.0
        self._put(Hello(VERSION, os.getpid(), self._epochs.was_void))
        for note in self._notes:
            self._put(Said("warning", note))
        for name, fd in self._descriptors.held.items():
            control.outbox.put_descriptor(HoldDescriptor(name), fd)
        self._register(connection.fileno(), self._on_control)

    def _detach(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            self._unregister(control.connection.fileno())
            control.close()

    def _on_control(self, flags: int) -> None:
        control = self._control
        if control is None:
            return
        if flags & select.EPOLLOUT:
            self._flush()
        if flags & ~select.EPOLLOUT:
            try:
                messages = control.read()
                if messages is None:
                    self._detach()
                else:
                    self._obey(control, messages)
            except RemoteProtocolError as error:
                self._say("error", str(error))
                self._flush()
                self._detach()

    def _obey(self, control: Control, messages: Iterable[ToProcess]) -> None:
        commands: list[AnyCommand] = []
        for message in messages:
            match message:
                case Begin():
                    pass
                case TakeDescriptor():
                    self._take(message.name, control.claim())
                case Ping() | Replayed() | Shutdown():
                    self._submit(commands)
                    commands = []
                    self._obey_ours(message)
                case _:
                    commands.append(message)
        self._submit(commands)

    def _take(self, name: str, fd: int) -> None:
        """Put a descriptor where it belongs; what it replaces is no longer to be held for a successor."""
        replaced = self._owners.offer(name, fd)
        if replaced is None:
            self._descriptors.give(name, fd)
            return
        self._descriptors.held[name] = fd
        for old in replaced:
            self._descriptors.release(old)

    def _obey_ours(self, message: Ping | Replayed | Shutdown) -> None:
        match message:
            case Ping():
                self._put(Pong(message.number))
            case Replayed():
                self._replayed = True
                for name in self._descriptors.drop_given():
                    self._put(DropDescriptor(name))
            case Shutdown():
                self._engine.stop()

    def _submit(self, commands: list[AnyCommand]) -> None:
        """Hand orders to the engine; one that cannot be carried out must not take the others with it."""
        for command in commands:
            try:
                self._engine.submit([command])
            except (SojournError, OSError) as error:
                self._say("error", f"{type(command).__name__}: {error}")
            self._put(Done(1))

    # What goes to control.

    def _emit(self, event: AnyEvent) -> None:
        if isinstance(event, State):
            for piece in pieces(event):
                self._put(piece)
        else:
            self._put(event)

    def _say(self, level: str, text: str) -> None:
        self._put(Said(level, text))

    def _hold(self, name: str, fd: int) -> None:
        if self._control is not None:
            self._control.outbox.put_descriptor(HoldDescriptor(name), fd)
            self._want_flush()

    def _release(self, name: str) -> None:
        self._put(DropDescriptor(name))

    def _put(self, message: ToControl) -> None:
        if self._control is not None:
            self._control.outbox.put(message)
            if not self._control.blocked or self._control.outbox.overflowed:
                self._want_flush()

    def _want_flush(self) -> None:
        """See to it that all that this turn of the loop produces is sent after it, at once."""
        if not self._flush_due:
            self._flush_due = True
            os.eventfd_write(self._wanted, 1)

    def _on_flush_due(self, _: int) -> None:
        os.eventfd_read(self._wanted)
        self._flush_due = False
        self._flush()

    def _flush(self) -> None:
        control = self._control
        if control is None:
            return
        try:
            empty = control.outbox.flush(control.connection)
        except OSError:
            self._detach()
            return
        if control.outbox.overflowed:
            self._detach()
            return
        if empty:
            dropped = control.outbox.take_dropped()
            if dropped:
                self._put(Resync(dropped))
                self._engine.submit([Snapshot()])
        if control.blocked is empty:
            control.blocked = not empty
            flags = select.EPOLLIN if empty else select.EPOLLIN | select.EPOLLOUT
            self._epoll.modify(control.connection.fileno(), flags)


def main(make_engine: EngineFactory, arguments: Sequence[str] | None = None) -> int:
    """Run the process and return its exit status."""
    options = parse_arguments(arguments)
    control = None if options.control is None else socket.socket(fileno=options.control)
    os.umask(0o077)
    confinement = confine()
    garbage = GarbageCollector()
    if control is not None and not wait_for_begin(control):
        return 0
    notes = [f"the data path keeps a right that it should give up ({what})" for what in confinement.missing]
    try:
        DataPathProcess(options, make_engine, garbage, notes).run(control)
    except (SojournError, OSError) as error:
        complain(control, error)
        return 1
    return 0


def real_engine() -> EngineFactory:
    """Load the engine that serves, which a spare does before it waits."""
    from sojourn.datapath import engine
    from sojourn.datapath.choose import CORE, choose

    chosen = choose(os.environ)
    make: type[engine.Engine] = engine.Engine
    if chosen.name == CORE:
        from sojourn.datapath.core_engine import CoreEngine as make
    if chosen.kernel:
        from sojourn.datapath.kernel_engine import with_kernel_path

        make = with_kernel_path(make)

    def start(
        emit: Callable[[AnyEvent], None], epochs: EpochStore, descriptors: Descriptors, say: Say
    ) -> engine.Engine:
        made = make(emit, epochs, descriptors=descriptors, say=say)
        made.forwarder.served_by["because"] = chosen.why
        return made

    return start


if __name__ == "__main__":
    sys.exit(main(real_engine()))
