"""Records that are on their way to the disk, and the answers that wait for it.

A host that was told its new credential must find it valid after a power cut, too: the disk is waited for before the
answer goes. Waiting takes longer than everything else about a record, so it is done once for all that a turn of the
loop has brought. What cannot be written at all is known at once.

    nothing waits --record written--> answers wait --end of the turn: disk--> nothing waits; answers go, the orders done

A host seals with a new secret as soon as it has it: the data path must have it before.
"""

from collections.abc import Callable

import structlog

from sojourn.errors import ConfigError
from sojourn.sip.server import Send
from sojourn.store.base import Store
from sojourn.upmt.anchor_events import Keep

_log = structlog.get_logger(__name__)


class Keeping:
    """Writes records at once, and holds what is sent until they last."""

    def __init__(
        self,
        store: Store,
        send: Callable[[Send], None],
        soon: Callable[[Callable[[], None]], object],
        when_done: Callable[[Callable[[], None]], object],
    ) -> None:
        """`soon` calls back at the end of the loop's present turn, `when_done` once present orders are carried out."""
        self._store = store
        self._send = send
        self._soon = soon
        self._when_done = when_done
        self._waits = False
        self._promised = False
        self._held: list[tuple[bool, Send]] = []
        """Answers in order, each with whether it tells a secret that only a record proves."""

    def begin(self) -> None:
        """Note that another event is worked on: what is sent for it promises nothing yet."""
        self._promised = False

    def keep(self, command: Keep) -> None:
        """Store a record. What only this process needs to know goes on without: a full disk cuts nobody off.

        Raise ConfigError for one that was promised and could not be written.
        """
        try:
            self._store.put(command.subscriber, lasting=False)
        except ConfigError as error:
            _log.error("not stored", host=command.subscriber.name, error=str(error))
            if command.promised:
                raise
            return
        self._promised |= command.promised
        if command.lasting and not self._waits:
            self._waits = True
            self._soon(self.flush)

    def send(self, command: Send) -> None:
        """Send, once everything that was kept before lasts."""
        if self._waits:
            self._held.append((self._promised, command))
        else:
            self._send(command)

    def flush(self) -> None:
        """Wait for the disk and let go of what waits for it; of a promise that may be lost nobody is told."""
        if not self._waits:
            return
        lasts = True
        try:
            self._store.sync()
        except ConfigError as error:
            lasts = False
            _log.error("not stored for good", error=str(error))
        self._waits, held, self._held = False, self._held, []
        answers = [command for promised, command in held if lasts or not promised]
        self._when_done(lambda: self._let_go(answers))

    def _let_go(self, answers: list[Send]) -> None:
        for answer in answers:
            self._send(answer)
