"""The file behind the roaming log."""

from pathlib import Path

from sojourn.store.journal import Journal


def test_lines_are_appended_and_found_again(tmp_path: Path) -> None:
    Journal(tmp_path / "host.log").write(b"1\n")
    journal = Journal(tmp_path / "host.log")
    journal.write(b"2\n")
    assert journal.lines() == [b"1", b"2"]


def test_it_never_takes_more_than_two_files_of_its_limit(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "host.log", max_bytes=100)
    for number in range(100):
        journal.write(b"line %d\n" % number)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 220
    assert {path.name for path in tmp_path.iterdir()} == {"host.log", "host.log.1"}
    lines = journal.lines()
    assert lines[-1] == b"line 99"
    assert lines == [b"line %d" % number for number in range(100 - len(lines), 100)]


def test_a_disk_that_fails_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "missing" / "host.log")
    journal.write(b"1\n")
    assert (journal.lines(), journal.lost) == ([], 1)
