"""The disk is waited for once a turn, and no host is told of a credential before."""

from collections.abc import Callable

import pytest

from sojourn.daemon.anchor_keeping import Keeping
from sojourn.errors import ConfigError
from sojourn.model import Endpoint
from sojourn.sip.server import Send
from sojourn.store.base import MemoryStore
from sojourn.upmt.anchor_events import Keep
from sojourn.upmt.records import Subscriber


class Disk(MemoryStore):
    """A store that notes what it is asked, and fails where a test wants."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__()
        self.notes = notes
        self.full = self.broken = False

    def put(self, *subscribers: Subscriber, lasting: bool = True) -> None:
        if self.full:
            raise ConfigError("anchor.db", "cannot be used: disk full", "Make room.")
        assert not lasting
        self.notes += [subscriber.user for subscriber in subscribers]

    def sync(self) -> None:
        self.notes.append("disk")
        if self.broken:
            raise ConfigError("anchor.db", "cannot be used: disk I/O error", "Get another.")


class Turn:
    """One turn of a loop."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.later: list[Callable[[], None]] = []
        self.disk = Disk(self.notes)
        self.orders: list[Callable[[], None]] = []
        self.busy = False
        self.keeping = Keeping(
            self.disk, lambda send: self.notes.append(send.data.decode()), self.later.append, self.when_done
        )

    def when_done(self, call: Callable[[], None]) -> None:
        if self.busy:
            self.orders.append(call)
        else:
            call()

    def register(self, user: str, *, promised: bool = True, lasting: bool = True) -> None:
        self.keeping.begin()
        self.keeping.keep(Keep(Subscriber(user, user), promised=promised, lasting=lasting))
        self.answer(f"200 {user}")

    def answer(self, text: str) -> None:
        self.keeping.send(Send(1, Endpoint("192.0.2.1", 5061), text.encode()))

    def end(self) -> list[str]:
        for each in self.later:
            each()
        self.later.clear()
        return self.notes


def test_all_registrations_of_a_turn_wait_for_the_disk_once_and_are_answered_after_it() -> None:
    turn = Turn()
    turn.register("a")
    turn.register("b", promised=False)
    turn.register("c")
    assert turn.notes == ["a", "b", "c"]
    assert turn.end() == ["a", "b", "c", "disk", "200 a", "200 b", "200 c"]
    turn.answer("200 d")
    assert turn.end()[-1] == "200 d"


def test_a_host_is_answered_once_the_data_path_has_its_secret() -> None:
    turn = Turn()
    turn.busy = True
    turn.register("a")
    assert turn.end() == ["a", "disk"]
    (carried_out,) = turn.orders
    carried_out()
    assert turn.notes == ["a", "disk", "200 a"]


def test_what_need_not_last_waits_for_nothing() -> None:
    turn = Turn()
    turn.register("a", promised=False, lasting=False)
    assert turn.end() == ["a", "200 a"]


def test_a_disk_that_fails_at_last_tells_nobody_of_a_credential_and_cuts_nobody_off() -> None:
    turn = Turn()
    turn.disk.broken = True
    turn.register("new")
    turn.register("known", promised=False)
    assert turn.end() == ["new", "known", "disk", "200 known"]
    turn.answer("401")
    assert turn.end()[-1] == "401"


def test_a_full_disk_refuses_promises_at_once_and_lets_the_others_go_on() -> None:
    turn = Turn()
    turn.disk.full = True
    turn.register("known", promised=False)
    with pytest.raises(ConfigError):
        turn.register("new")
    assert turn.end() == ["200 known"]


def test_what_is_left_at_the_end_is_waited_for_too() -> None:
    turn = Turn()
    turn.register("a")
    turn.keeping.flush()
    assert turn.notes == ["a", "disk", "200 a"]
    assert turn.end() == ["a", "disk", "200 a"]
