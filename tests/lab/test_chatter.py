"""Programs that talk at rates of their own."""

import socket
import subprocess
import sys
import threading
import time

from sojourn.lab import chatter


def test_a_rate_rises_and_falls_about_what_was_asked() -> None:
    portions = [chatter.portion(80_000, at / 20, 0.0) for at in range(2000)]
    mean = sum(portions) / len(portions)
    assert 0.6 * 500 < mean < 1.4 * 500
    assert min(portions) < 0.7 * mean
    assert max(portions) > 1.3 * mean
    assert min(portions) >= 0


def test_the_answering_end_sends_what_the_first_line_asks_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    thread = threading.Thread(target=chatter.answer, args=(far,))
    thread.start()
    near.sendall(b"160000\n")
    near.settimeout(5)
    came, end = 0, time.monotonic() + 1.0
    while time.monotonic() < end:
        came += len(near.recv(65536))
    near.close()
    thread.join(5)
    assert not thread.is_alive()
    assert 2_000 < came < 60_000


def test_both_ends_say_that_they_are_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "sojourn.lab.chatter"]
    with subprocess.Popen([*command, "serve", str(port)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        with subprocess.Popen(
            [*command, "talk", "127.0.0.1", str(port), "3", "8000", "800"], stdout=subprocess.PIPE, text=True
        ) as talker:
            assert talker.stdout is not None
            assert talker.stdout.readline() == "ready\n"
            server.terminate()
            talker.wait(5)
