"""SIGHUP at the anchor: what the configuration says anew holds for flows that stand.

ch2 --natc--> an:2222 ==tunnel==> mh:22      (the forward is written into anchor.toml while all runs)
"""

import os
import signal
import time

import pytest

from sojourn.api.client import Client
from sojourn.lab import topology
from sojourn.lab.daemons import HOST_NAME, Daemons
from sojourn.lab.topology import Topology
from tests.net.conftest import MakeLab

pytestmark = pytest.mark.net

ANSWER = """
import socket
server = socket.create_server(("0.0.0.0", 22))
print("ready", flush=True)
while True:
    link, _ = server.accept()
    link.sendall(b"hello"); link.close()
"""
ASK = "import socket; print(socket.create_connection(('{}', 2222), 2).recv(5).decode())"


def test_a_reload_opens_a_port_and_keeps_the_association_and_bad_configuration_changes_nothing(
    make_lab: MakeLab, prefix: str
) -> None:
    lab = make_lab(Topology(prefix=prefix))
    daemons = Daemons(lab)
    daemons.set_up()
    daemons.start()
    assert daemons.anchor is not None
    vipa = daemons.status()["vipa"]
    lab.start(topology.MOBILE_HOST, "answer", ["python3", "-c", ANSWER]).wait_for("ready", 10)
    ask = ["python3", "-c", ASK.format(lab.topology.anchor.address)]
    assert lab.run(topology.CALLER, *ask, check=False).strip() == ""

    whole = (daemons.anchor_folder / "anchor.toml").read_text()
    daemons.append(topology.ANCHOR, "\nnonsense = true\n")
    os.kill(daemons.anchor.pid, signal.SIGHUP)
    daemons.anchor.wait_for("reload refused", 10)

    (daemons.anchor_folder / "anchor.toml").write_text(whole)
    daemons.append(topology.ANCHOR, f'\n[[expose]]\nhost = "{HOST_NAME}"\nport = "tcp/22"\nas = 2222\n')
    os.kill(daemons.anchor.pid, signal.SIGHUP)
    until = time.monotonic() + 10
    while lab.run(topology.CALLER, *ask, check=False).strip() != "hello":
        assert time.monotonic() < until, "the exposed port never answered"
        time.sleep(0.2)
    assert daemons.status()["vipa"] == vipa
    exposed = Client(str(daemons.anchor_socket)).call("exposed")
    assert exposed == [{"protocol": "tcp", "public_port": 2222, "host": HOST_NAME, "port": 22}]
