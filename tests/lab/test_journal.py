from pathlib import Path

from sojourn.lab.journal import Follower, Journal


def test_a_follower_gives_out_each_line_once_and_only_whole_ones(tmp_path: Path) -> None:
    path = tmp_path / "voice.jsonl"
    follower = Follower(path)
    assert follower.new_lines() == []
    with Journal(path) as journal:
        journal.sent(7)
        journal.got(7, sent=12.5)
    with path.open("ab") as file:
        file.write(b'{"t": 1.0, "ki')
    assert [(line.kind, line.n, line.sent) for line in follower.new_lines()] == [("sent", 7, 0.0), ("got", 7, 12.5)]
    with path.open("ab") as file:
        file.write(b'nd": "end", "ok": true, "why": "done"}\n')
    (line,) = follower.new_lines()
    assert (line.kind, line.ok, line.why) == ("end", True, "done")
    assert follower.new_lines() == []
