import socket
import threading
from pathlib import Path

import pytest

from sojourn.lab.echo import Connection, converse, send_back
from sojourn.lab.journal import Follower, Journal


def test_every_line_comes_back_and_both_ends_count_the_same(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    said: list[str] = []
    with theirs, Journal(tmp_path / "near") as near, Journal(tmp_path / "far") as far:
        answering = threading.Thread(target=lambda: said.append(send_back(theirs, far)))
        answering.start()
        with ours:
            assert converse(Connection(ours), near, 0.22) == ""
        answering.join()
    count = sum(line.n for line in Follower(tmp_path / "near").new_lines())
    assert count >= 16
    assert said == [f"{count} bytes sent back"]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [(b"000000000000001\n", "line 0 was expected"), (b"", "ended after 0 lines")],
)
def test_a_wrong_line_and_an_early_end_are_complaints(tmp_path: Path, answer: bytes, complaint: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, Journal(tmp_path / "near") as journal:
        if answer:
            theirs.sendall(answer)
        else:
            theirs.shutdown(socket.SHUT_WR)
        assert complaint in converse(Connection(ours), journal, 1.0)
