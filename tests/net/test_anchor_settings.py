"""What an anchor's owner may change while hosts are associated: anchor.toml with SIGHUP, and port forwards.

mh --- nat0, nat1 --- core --- an 45.0.0.1 --- (10.99.0.0/16, behind the anchor)
ch2 (the caller) --- natc --/ \\---- ch 86.0.0.1
"""

import json
import select
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from sojourn.api.client import Client
from sojourn.lab import namespaces
from sojourn.lab.daemons import HOST_NAME, Daemons
from sojourn.lab.topology import Lab, Topology
from tests.net.standing import PATIENCE, Sockets, eventually, kill_all, own_prefix, sojourn_at, standing

pytestmark = pytest.mark.net

CORRESPONDENT, ANCHOR = "86.0.0.1", "45.0.0.1"
PRIVATE = "10.99.0.7"


@pytest.fixture(scope="module")
def daemons() -> Iterator[Daemons]:
    with standing(Topology(prefix=own_prefix())) as lab:
        namespaces.ip(lab.namespace("an"), [
            "link add lan type veth peer name lan_end", "link set lan up", "link set lan_end up",
            "addr add 10.99.0.1/16 dev lan",
        ])  # fmt: skip
        daemons = Daemons(lab)
        daemons.set_up()
        daemons.start()
        yield daemons


@pytest.fixture(scope="module")
def lab(daemons: Daemons) -> Lab:
    return daemons.lab


@pytest.fixture
def sockets(lab: Lab) -> Iterator[Sockets]:
    made = Sockets(lab)
    try:
        yield made
    finally:
        made.close()


def refused(daemons: Daemons) -> int:
    return int(Client(str(daemons.anchor_socket)).call("status")["refused"].get("inner-destination", 0))


def packets_sent(lab: Lab) -> int:
    """Return how many packets have left towards the network behind the anchor, or tried to."""
    return int(lab.run("an", "cat", "/sys/class/net/lan/statistics/tx_packets"))


def reload(daemons: Daemons, says: str) -> None:
    assert daemons.anchor is not None
    daemons.anchor.signal(signal.SIGHUP)
    daemons.anchor.wait_for(says, PATIENCE)


def test_a_private_network_is_opened_by_a_reload_and_closed_by_the_next(
    daemons: Daemons, lab: Lab, sockets: Sockets
) -> None:
    client = sockets.at("mh")
    before = refused(daemons)
    client.sendto(b"closed", (PRIVATE, 1))
    eventually("refused", lambda: refused(daemons) > before)
    daemons.configure("an", allow='["10.99.0.0/16"]')
    reload(daemons, "reloaded")
    out = packets_sent(lab)
    before = refused(daemons)
    client.sendto(b"open", (PRIVATE, 2))
    eventually("the anchor asks for that address there", lambda: packets_sent(lab) > out)
    assert refused(daemons) == before
    daemons.configure("an", allow="[]")
    assert daemons.anchor is not None
    daemons.anchor.signal(signal.SIGHUP)

    ports = iter(range(3, 1000))

    def closed() -> bool:
        client.sendto(b"closed again", (PRIVATE, next(ports)))  # flows that are open already stay so
        return refused(daemons) > before

    eventually("refused again", closed)


def test_a_file_with_an_error_is_refused_with_its_key_and_nothing_changes(
    daemons: Daemons, lab: Lab, sockets: Sockets
) -> None:
    path = daemons.anchor_folder / "anchor.toml"
    good = path.read_text()
    path.write_text(good + '\n[expires]\nminimum = "soon"\n')
    try:
        reload(daemons, "reload refused")
        assert daemons.anchor is not None
        assert "anchor.toml: expires.minimum" in daemons.anchor.output()
        assert "1 received" in lab.run("mh", "ping", "-c", "1", "-W", "10", CORRESPONDENT)
    finally:
        path.write_text(good)


def expose(daemons: Daemons, *words: str) -> str:
    done = sojourn_at(daemons.lab, "an", "expose", *words, "--socket", str(daemons.anchor_socket))
    assert done.returncode == 0, done.stderr
    return done.stdout


def call(sockets: Sockets, port: int) -> str | None:
    """Call the anchor's port from behind another NAT; return what the host's server says, None = no answer."""
    caller = sockets.at("ch2")
    caller.sendto(b"hello", (ANCHOR, port))
    if not select.select([caller], [], [], 0.5)[0]:
        return None
    try:
        return caller.recv(100).decode()
    except ConnectionRefusedError:
        return None


@pytest.fixture
def server(sockets: Sockets) -> Iterator[socket.socket]:
    """Return a UDP service at the host that never learns the anchor's port: it answers whoever asks."""
    made = sockets.at("mh", port=5353)
    made.settimeout(0.2)
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                data, peer = made.recvfrom(100)
                made.sendto(b"you said " + data, peer)
            except TimeoutError:
                continue

    thread = threading.Thread(target=serve)
    thread.start()
    yield made
    over.set()
    thread.join()


def test_an_exposed_port_leads_to_the_host_through_a_move_and_a_restart_until_it_is_closed(
    daemons: Daemons, lab: Lab, sockets: Sockets, server: socket.socket
) -> None:
    assert call(sockets, 5353) is None
    expose(daemons, "udp/5353", "--host", HOST_NAME)
    rows = json.loads(expose(daemons, "list", "--json"))
    assert rows == [{"protocol": "udp", "public_port": 5353, "host": HOST_NAME, "port": 5353}]
    eventually("answered", lambda: call(sockets, 5353) == "you said hello")
    daemons.hand_over("cellular")
    eventually("answered on the other network", lambda: call(sockets, 5353) == "you said hello")
    kill_all(daemons, "an")
    daemons.start_anchor()
    eventually("answered after a restart", lambda: call(sockets, 5353) == "you said hello")
    expose(daemons, "remove", "udp/5353")
    eventually("closed", lambda: call(sockets, 5353) is None)
    assert json.loads(expose(daemons, "list", "--json")) == []


@pytest.mark.parametrize(("words", "code"), [
    (("tcp/22", "--as", "5061"), 2), (("udp/22", "--as", "1800"), 2), (("tcp/22", "--host", "nobody"), 2),
    (("tcp/0",), 2), (("sctp/22",), 2), (("remove", "tcp/1"), 2),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")  # fmt: skip
def test_what_cannot_be_exposed_is_said_in_one_line(daemons: Daemons, words: tuple[str, ...], code: int) -> None:
    done = sojourn_at(daemons.lab, "an", "expose", *words, "--socket", str(daemons.anchor_socket))
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
