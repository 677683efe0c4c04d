"""Who may give a name to which process, where the kernel's programs are not there."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.api.server import Peer
from sojourn.daemon import host_owners
from sojourn.daemon.driver import Tasks
from sojourn.daemon.host_owners import HostOwners
from sojourn.linux.processes import Pinned, name_of, start_of

STRANGER = 65534


@pytest.fixture
def child() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.communicate()


@pytest.fixture
def owners() -> HostOwners:
    return HostOwners("none", Tasks(lambda _error: None))


def test_a_process_of_the_user_who_asks_gets_its_name(owners: HostOwners, child: int) -> None:
    assert not owners.pin(Peer(child, os.geteuid(), 0), "backup")
    assert name_of(child, owners._pins) == "backup"


def test_a_connection_that_was_passed_on_names_nobody_elses_process(owners: HostOwners, child: int) -> None:
    """The process that connected has ended, and its number is another user's now."""
    with pytest.raises(ApiError) as refused:
        owners.pin(Peer(child, STRANGER, 0), "backup")
    assert refused.value.kind is ErrorKind.NO_PERMISSION
    assert name_of(child, owners._pins) == ""


@pytest.mark.parametrize("name", ["", "x" * 64, "a\nb", "a\x1b[2J"])
def test_what_can_be_no_name_is_refused(owners: HostOwners, child: int, name: str) -> None:
    with pytest.raises(ApiError):
        owners.pin(Peer(child, os.geteuid(), 0), name)


def test_names_of_processes_that_are_gone_make_room_first(
    owners: HostOwners, child: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_owners, "MOST_PINS", 3)
    mine = Peer(os.getpid(), os.geteuid(), 0)
    owners.pin(mine, "long at work")
    owners._pins |= {Pinned(child, 1): "gone", Pinned(child, 2): "gone, too"}
    owners.pin(Peer(child, os.geteuid(), 0), "new")
    start = start_of(os.getpid())
    assert start is not None
    assert owners._pins[Pinned(os.getpid(), start)] == "long at work"
    assert len(owners._pins) == 2
