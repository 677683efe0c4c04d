"""One owner of a lock file, for as long as its process lives."""

import os
from pathlib import Path

from sojourn.linux import lock as locks


def test_a_second_one_does_not_get_it_until_the_first_one_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    held = locks.take(path)
    assert held is not None
    assert locks.owner(path) == os.getpid()
    assert locks.take(path) is None
    locks.release(path, held)
    assert not path.exists()
    again = locks.take(path)
    assert again is not None
    locks.release(path, again)


def test_what_a_dead_process_has_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    child = os.fork()
    if child == 0:
        os._exit(0 if locks.take(path) is not None else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert locks.owner(path) == child
    held = locks.take(path)
    assert held is not None
    assert locks.owner(path) == os.getpid()
    locks.release(path, held)


def test_a_file_that_was_removed_by_its_owner_meanwhile_is_not_taken_for_the_one_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    first = locks.take(path)
    assert first is not None
    path.unlink()
    second = locks.take(path)
    assert second is not None, "another file: another lock"
    assert locks.take(path) is None
    os.close(first)
    locks.release(path, second)


def test_nobody_is_named_by_a_file_that_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    assert locks.owner(path) is None
    path.write_text("who knows")
    assert locks.owner(path) is None
