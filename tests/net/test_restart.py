"""The anchor's restart by its operator breaks nothing and resets nobody, however long it takes.

mh --- nat0, nat1 --- core --- an 45.0.0.1
                       \\---- ch 86.0.0.1, ch2 behind natc
"""

import select
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from sojourn.lab import namespaces
from sojourn.lab.daemons import HOST_NAME, Daemons
from sojourn.lab.topology import Lab
from tests.net import wire
from tests.net.capture import Capture
from tests.net.standing import PATIENCE, Sockets, eventually, laptop, processes_of, sojourn_at

pytestmark = pytest.mark.net

CORRESPONDENT, ANCHOR = "86.0.0.1", "45.0.0.1"
PENDING = 300_000
AWAY = 3.0
"""Seconds for which nobody is there: TCP sends again four times in them."""
RST = 0x04


@pytest.fixture
def daemons(lab: Lab) -> Daemons:
    made = Daemons(lab)
    made.set_up()
    return made


@pytest.fixture
def sockets(lab: Lab) -> Iterator[Sockets]:
    made = Sockets(lab)
    try:
        yield made
    finally:
        made.close()


def connected(sockets: Sockets, port: int) -> tuple[socket.socket, socket.socket]:
    """Return the host's and the correspondent's end of a TCP connection."""
    server, client = sockets.at("ch", socket.SOCK_STREAM, port=port), sockets.at("mh", socket.SOCK_STREAM)
    server.listen()
    client.connect((CORRESPONDENT, port))
    served, _ = server.accept()
    served.settimeout(PATIENCE)
    return client, served


def complaints(packets: list[bytes]) -> list[str]:
    """Return what would end a connection or be told to an application: resets, and ICMP errors."""
    found = []
    for packet in packets:
        body = wire.payload_of(packet)
        if wire.protocol_of(packet) == wire.TCP and body[13] & RST:
            found.append(f"RST from {wire.address_of(packet, source=True)}")
        elif wire.protocol_of(packet) == wire.ICMP and body[0] not in (0, 8):
            found.append(f"ICMP {body[0]}/{body[1]} from {wire.address_of(packet, source=True)}")
    return found


@pytest.mark.parametrize("also", ["only its control", "its data path, too"])
def test_data_that_waits_for_a_host_meets_no_reset_while_the_anchor_is_away(
    daemons: Daemons, sockets: Sockets, also: str
) -> None:
    daemons.start()
    lab = daemons.lab
    client, served = connected(sockets, 6002)
    caller, listener = sockets.at("mh"), sockets.at("ch", port=6003)
    caller.sendto(b"here I am", (CORRESPONDENT, 6003))
    _, mapped = listener.recvfrom(100)
    asleep = processes_of(lab, "mh")
    namespaces.send_signal(asleep, signal.SIGSTOP)
    with Capture(lab.namespace("ch"), "eth0") as tap:
        served.setblocking(False)
        sent = served.send(bytes(PENDING))  # more than a window: all of it is pending while the host sleeps
        served.settimeout(PATIENCE)
        assert daemons.anchor is not None
        daemons.anchor.signal(signal.SIGUSR2)
        assert daemons.anchor.wait(PATIENCE) == 0
        if also != "only its control":
            daemons.kill_data_path("an")
        until = time.monotonic() + AWAY
        while time.monotonic() < until:
            listener.sendto(b"are you there?", mapped)
            time.sleep(0.2)
        packets = tap.read(0.1)
        assert len(packets) > 10, "the correspondent went on trying"
        assert complaints(packets) == []
    daemons.start_anchor()
    namespaces.send_signal(asleep, signal.SIGCONT)
    with served:
        received = 0
        while received < sent:
            data = client.recv(65536)
            assert data, "the connection ended"
            received += len(data)
        client.sendall(b"all of it")
        assert served.recv(100) == b"all of it"
    listener.sendto(b"and now?", mapped)
    while (heard := caller.recv(100)) != b"and now?":
        assert heard == b"are you there?"


def test_a_caller_is_never_refused_while_another_anchor_takes_over(daemons: Daemons, sockets: Sockets) -> None:
    daemons.append("an", f'\n[[expose]]\nhost = "{HOST_NAME}"\nport = "tcp/7007"\nas = 7070\n')
    daemons.start()
    server = sockets.at("mh", socket.SOCK_STREAM, port=7007)
    server.listen(1000)
    over, outcomes = threading.Event(), list[str]()

    def call() -> None:
        while not over.is_set():
            with sockets.at("ch2", socket.SOCK_STREAM) as caller:
                caller.settimeout(5.0)
                try:
                    caller.connect((ANCHOR, 7070))
                    outcomes.append("answered")
                except OSError as error:
                    outcomes.append(str(error))
            time.sleep(0.01)

    calling = threading.Thread(target=call)
    calling.start()
    try:
        eventually("calls are answered", lambda: len(outcomes) > 5)
        daemons.start_anchor("--replace")
        before = len(outcomes)
        eventually("calls are answered again", lambda: len(outcomes) > before + 5)
    finally:
        over.set()
        calling.join(PATIENCE)
    assert set(outcomes) == {"answered"}
    assert select.select([server], [], [], 0)[0]


def test_a_second_anchor_in_one_directory_is_refused_and_the_first_goes_on(daemons: Daemons) -> None:
    daemons.start()
    lab = daemons.lab
    for role, noun, folder, child in (
        ("an", "anchor", daemons.anchor_folder, daemons.anchor), ("mh", "host", daemons.host_folder, daemons.host),
    ):  # fmt: skip
        second = sojourn_at(lab, role, noun, "--config-dir", str(folder), "--socket", str(lab.folder / "second.sock"))
        assert second.returncode == 1
        assert child is not None
        assert second.stderr.count("\n") == 1
        assert f"another `sojourn {noun}` runs here (process {child.pid})" in second.stderr
        assert child.running()
    laptop(daemons).until_associated()
    assert "1 received" in lab.run("mh", "ping", "-c", "1", "-W", "5", CORRESPONDENT)


def test_a_start_that_fails_leaves_nothing_of_its_own_and_all_that_it_found(daemons: Daemons) -> None:
    """Somebody else has the port: on bare ground nothing stays; what waits for a successor goes on waiting."""
    lab = daemons.lab

    def failing_start() -> str:
        with namespaces.inside(lab.namespace("an"), lambda: socket.create_server(("0.0.0.0", 5061))):
            done = sojourn_at(lab, "an", "anchor", "--config-dir", str(daemons.anchor_folder), "--socket",
                              str(daemons.anchor_socket))  # fmt: skip
        assert done.returncode == 1
        assert "Address already in use" in done.stderr
        assert "`ss -lntup` shows who has the port" in done.stderr
        return lab.run("an", "sh", "-c", "nft list tables; ip -o link; ip route; sysctl net.ipv4.ip_forward")

    bare = failing_start()
    assert "sojourn" not in bare.lower()
    assert "sja" not in bare
    assert "blackhole" not in bare
    assert processes_of(lab, "an") == []
    daemons.start()
    assert daemons.anchor is not None
    daemons.anchor.signal(signal.SIGUSR2)
    assert daemons.anchor.wait(PATIENCE) == 0
    mover = daemons.data_path("an")
    stood = failing_start()
    assert "sojourn_anchor" in stood
    assert "blackhole" in stood
    assert daemons.data_path("an") == mover
    daemons.start_anchor()
    assert daemons.data_path("an") == mover
    assert "1 received" in lab.run("mh", "ping", "-c", "1", "-W", "5", CORRESPONDENT)
