import socket
import threading
from pathlib import Path

from sojourn.lab.gaps import Packet, tally
from sojourn.lab.journal import Follower, Journal
from sojourn.lab.voice import Speaker


def test_two_ends_hear_every_packet_of_each_other(tmp_path: Path) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    datagrams = socket.SOCK_DGRAM
    with (
        socket.socket(type=datagrams) as called, socket.socket(type=datagrams) as caller,
        Journal(near) as here_journal, Journal(far) as there_journal,
    ):  # fmt: skip
        called.bind(("127.0.0.1", 0))
        answering = threading.Thread(target=Speaker(called, there_journal, 0.3).answer)
        answering.start()
        Speaker(caller, here_journal, 0.3).call("127.0.0.1", called.getsockname()[1])
        answering.join()
    here, there = Follower(near).new_lines(), Follower(far).new_lines()
    for sender, receiver in ((here, there), (there, here)):
        sent = [(line.n, line.t) for line in sender if line.kind == "sent"]
        packets = [Packet(line.n, line.sent, line.t) for line in receiver if line.kind == "got"]
        fate = tally(sent, packets, 0.0, 1e12)
        assert fate.sent >= 3
        assert (fate.lost, fate.doubled, fate.disordered) == (0, 0, 0)
