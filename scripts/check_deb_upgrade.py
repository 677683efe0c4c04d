"""Upgrades the installed package while a connection goes through an anchor and a host of it (scripts/check-deb).

    mh --- nat --- core --- an, ch        a small internet in network namespaces, by the package's own lab

The service manager's part, `systemctl try-restart` (SIGUSR2, then a start), is played by `--replace`: the same signal.
"""

import subprocess
import sys
import time

from sojourn.lab import topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Lab, Topology, own_prefix

SERVER = """
import socket
server = socket.create_server(("0.0.0.0", 7000))
print("ready", flush=True)
link, _ = server.accept()
while data := link.recv(4096):
    link.sendall(data)
"""
CLIENT = """
import socket, time
link = socket.create_connection(("86.0.0.1", 7000), 10)
link.settimeout(20)
print("connected from", link.getsockname()[0], flush=True)
longest, count = 0.0, 0
while True:
    began, word = time.monotonic(), b"%08d" % count
    link.sendall(word)
    answer = b""
    while len(answer) < len(word):
        answer += link.recv(len(word) - len(answer))
    assert answer == word, (answer, word)
    longest, count = max(longest, time.monotonic() - began), count + 1
    print(f"round {count} longest {longest * 1000:.0f} ms", flush=True)
    time.sleep(0.02)
"""


def main() -> int:
    """Do it, and return 0 if the connection went on over both restarts."""
    lab = Lab(Topology(prefix=own_prefix("sjd")))
    try:
        lab.up()
        daemons = Daemons(lab)
        daemons.set_up()
        daemons.start()
        vipa = daemons.status()["vipa"]
        lab.start("ch", "server", [sys.executable, "-c", SERVER]).wait_for("ready", 10)
        client = lab.start(topology.MOBILE_HOST, "client", [sys.executable, "-c", CLIENT])
        client.wait_for("round 20 ", 20)
        done = subprocess.run(["dpkg", "-i", sys.argv[1]], capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stdout, done.stderr, sep="\n", file=sys.stderr)  # noqa: T201 - a script's output
            return 1
        began = _rounds(client.output())
        daemons.start_anchor("--replace")
        daemons.start_host("--replace")
        daemons.wait_until_associated()
        until = time.monotonic() + 30
        while _rounds(client.output()) < began + 100:
            if not client.running() or time.monotonic() > until:
                print(client.output()[-800:], file=sys.stderr)  # noqa: T201 - a script's output
                return 1
            time.sleep(0.1)
        assert daemons.status()["vipa"] == vipa
        last = client.output().strip().splitlines()[-1]
        print(f"the connection went on over the upgrade of anchor and host: {last}")  # noqa: T201 - a script's output
        daemons.stop()
        return 0
    finally:
        lab.down()


def _rounds(output: str) -> int:
    return int(output.strip().splitlines()[-1].split()[1])


if __name__ == "__main__":
    sys.exit(main())
