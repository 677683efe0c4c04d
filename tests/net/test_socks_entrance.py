r"""The local entrance: policies by user name, BIND, datagrams, and clients that nobody here wrote, good and bad.

mh (sojourn socks; proxychains, Chromium, intruders) --- nat0, nat1 --- core --- an (sojourn anchor --only socks) --- ch
"""

import hashlib
import http.server
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.api.client import Client
from sojourn.lab import namespaces
from sojourn.lab.topology import Topology
from sojourn.msocks import socks5
from sojourn.msocks.socks5 import Address, Code, Command, Datagram, Request
from tests.net.socks_asks import DIALLED, answer, ask, cut_sessions, dial, finish, no_session, open_as, peer_of, session
from tests.net.socks_lab import LOCAL_PORT, Dialled, Peer, SocksLab, exactly, hang_up
from tests.net.socks_remains import SOME_MEMORY, memory, sockets, tuples
from tests.net.standing import PATIENCE, eventually, own_prefix, sojourn_at, standing

pytestmark = pytest.mark.net

FILE = random.Random(6).randbytes(500_000)
PAGE = b"<p id=x>before</p><script>document.getElementById('x').textContent = 'hello ' + 6 * 7</script>"
POLICIES = """
[network.cellular]
cost = "metered"
[[policy]]
application = "backup"
networks = ["wifi"]
otherwise = "hold"
[[policy]]
application = "call"
networks = ["cellular", "wifi"]
[[policy]]
application = "spy"
block = true
[[policy]]
application = "game"
networks = ["cellular"]
copies = 2
otherwise = "ask"
[[policy]]
application = "voice"
networks = ["wifi", "cellular"]
require = { loss = "1%" }
"""


@pytest.fixture(scope="module")
def place() -> Iterator[SocksLab]:
    with standing(Topology(prefix=own_prefix())) as lab:
        socks = SocksLab(lab)
        socks.set_up("hold = 4.0\nheld = 4")
        with (socks.host_folder / "host.toml").open("a") as file:
            file.write(POLICIES)
        socks.peer = Peer(lab)
        socks.start_proxy()
        socks.start_client()
        try:
            yield socks
        finally:
            socks.peer.close()


@pytest.fixture(autouse=True)
def _tidy(place: SocksLab) -> Iterator[None]:
    """Check that nothing of a test stays behind at either end."""
    eventually("an earlier test has left nothing", lambda: no_session(place))
    before = descriptors(place)
    yield
    while DIALLED:
        hang_up(DIALLED.pop())
    try:
        eventually("no session is left", lambda: no_session(place))
    except pytest.fail.Exception:
        cut_sessions(place)  # this has failed; the next one shall not for it
        raise
    eventually("no stranger is left", lambda: not place.status()["strangers"])
    eventually("no descriptor is left", lambda: descriptors(place) <= before + 2)


@pytest.fixture
def _spotless(place: SocksLab) -> Iterator[None]:
    """Check that bad input costs the entrance no memory, and leaves no connection at either end."""
    eventually("both networks are up", lambda: len(place.up()) == 2)
    taken, open_here = memory(place.client), sockets(place, "mh")
    yield
    while DIALLED:
        hang_up(DIALLED.pop())
    eventually("no connection is left here", lambda: sockets(place, "mh") <= open_here)
    eventually("nor at the proxy, but for control's", lambda: sockets(place) <= len(place.up()) + place.lingering())
    eventually("the kernel's program knows none", lambda: tuples(place) <= place.lingering())
    assert memory(place.client) <= taken + SOME_MEMORY


def descriptors(place: SocksLab) -> int:
    assert place.client is not None
    return len(os.listdir(f"/proc/{place.client.pid}/fd"))


def slow_clients(place: SocksLab) -> list[socket.socket]:
    """Begin what will never come to an end; the entrance gives it 10 s."""
    slow = [dial(place) for _ in range(30)]
    for sock, data in zip(slow, (b"", b"\5", b"\5\1\0\5\1", b"GET http://x/ HT", b"\5\1\2\1\3a") * 6, strict=True):
        sock.sendall(data)
    eventually("they are counted as strangers", lambda: place.status()["strangers"] == 30)
    return slow


def sent_away(place: SocksLab, slow: list[socket.socket]) -> None:
    for sock in slow:
        sock.settimeout(15.0)
        while sock.recv(100):
            pass
        sock.close()
    assert place.status()["refused"]["timeout"] >= 30


@pytest.mark.usefixtures("_spotless")
def test_policies_decide_by_the_user_name_and_are_read_again(place: SocksLab) -> None:
    slow = slow_clients(place)
    toml = place.host_folder / "host.toml"
    before = toml.read_text()
    backup, call, other = (open_as(place, name) for name in ("backup", "call", "browser"))
    eventually("the call is where it wants to be", lambda: session(place, "call")["network"] == "cellular")
    assert [session(place, name)["network"] for name in ("backup", "browser")] == ["wifi", "wifi"]
    assert (session(place, "backup")["policy"], session(place, "browser")["policy"]) == ("backup", None)
    assert ask(place, Request(Command.CONNECT, peer_of(place)), "spy")[1] == Code.NOT_ALLOWED
    link = place.lab.links["wifi"]
    link.set_silent(True)
    try:
        for sock in (backup, other):
            sock.sendall(b"5")  # traffic: so the silence is noticed
        eventually("what may leaves the Wi-Fi", lambda: session(place, "browser")["network"] == "cellular")
        eventually("the backup waits", lambda: session(place, "backup")["state"] == "waiting")
        time.sleep(0.5)
        assert session(place, "backup")["network"] == "wifi", "never over the metered network"
    finally:
        link.set_silent(False)
    eventually("the backup goes on", lambda: session(place, "backup")["state"] == "carried")
    try:
        toml.write_text(before.replace('["cellular", "wifi"]', '["wifi"]'))
        eventually("the file is read again", lambda: session(place, "call")["network"] == "wifi")
        toml.write_text(before.replace('["cellular", "wifi"]', '["cellular"'))
        time.sleep(1.5)
        assert session(place, "call")["network"] == "wifi", "a mistake changes nothing"
    finally:
        toml.write_text(before)
    assert place.client is not None
    place.client.signal(signal.SIGHUP)
    eventually("and once more", lambda: session(place, "call")["network"] == "cellular")
    sent_away(place, slow)
    for sock, text in ((backup, b" 0 0.0\n"), (other, b" 0 0.0\n"), (call, b"5 0 0.0\n")):
        sock.sendall(text)
        assert exactly(sock, 2) == b"ok"
        sock.close()


def test_the_command_line_shows_and_moves_what_the_entrance_carries(place: SocksLab) -> None:
    sock = open_as(place, "browser")

    def said(*words: str) -> str:
        done = sojourn_at(place.lab, "mh", *words, "--socket", str(place.client_socket))
        assert done.returncode == 0, done.stderr
        return done.stdout

    eventually("it is on the better network", lambda: session(place, "browser")["network"] == "wifi")
    assert "browser" in said("flows")
    assert "wifi" in said("status")
    assert "backup" in said("policy", "list")
    assert "1 flows moved" in said("handover", "--app", "browser", "--to", "cellular")
    eventually("it has moved", lambda: session(place, "browser")["network"] == "cellular")
    assert "1 flows moved" in said("handover", "--app", "browser", "--to", "policy")
    eventually("it is back", lambda: session(place, "browser")["network"] == "wifi")
    assert "handover" in said("log")
    finish(sock)


def test_questions_are_asked_and_what_cannot_be_done_is_said_once(place: SocksLab) -> None:
    def said(*words: str) -> str:
        done = sojourn_at(place.lab, "mh", *words, "--socket", str(place.client_socket))
        assert done.returncode == 0, done.stderr
        return done.stdout

    toml = place.host_folder / "host.toml"
    line = toml.read_text().splitlines().index('application = "game"')
    ignored = f"{toml}:{line}: policy 'game': copies: is ignored without `sojourn host`"
    assert said("log").count(ignored) == 1
    assert said("policy", "test", str(toml)).count(ignored) == 1
    assert said("ask") == "No question is open.\n"
    sock = open_as(place, "game")
    place.lab.links["cellular"].set_carrier(False)
    try:
        eventually("it is asked", lambda: "fits 'game' now" in said("ask"))
        assert session(place, "game")["state"] == "waiting"
        (question,) = Client(str(place.client_socket)).call("questions")
        said("ask", "answer", str(question["id"]), "wifi")
        eventually("the answer counts", lambda: session(place, "game")["network"] == "wifi")
    finally:
        place.lab.links["cellular"].arrive()
    eventually("what fits is there again", lambda: session(place, "game")["network"] == "cellular")
    finish(sock)


def test_what_minds_loss_leaves_a_network_that_loses(place: SocksLab) -> None:
    def is_preferred() -> bool:
        lanes = {one["name"]: one["network"] for one in Client(str(place.client_socket)).call("policy_list")}
        return len(place.up()) == 2 and lanes["voice"] == "wifi"

    for _ in range(4):  # on a busy machine a heartbeat that was lost may be taken for silence first
        eventually("it goes where its policy has it first", is_preferred)
        talk = Dialled(open_as(place, "voice"), Code.SUCCEEDED)
        place.lab.links["wifi"].set_loss(0.04)
        try:
            talk.exchange(5, 8_000_000, 0.02)
            eventually("it has left", lambda: session(place, "voice")["network"] == "cellular")
        finally:
            place.lab.links["wifi"].set_loss(0.0)
        assert talk.done.wait(60.0), (place.status()["sessions"], place.proxy_status())
        assert talk.error is None
        told = list(Client(str(place.client_socket)).stream("log"))
        if any("loss" in str(one.get("reason")) for one in told):
            return
    pytest.fail(f"it has left for other reasons: {told}")


def test_a_plain_client_listens_at_the_proxy_and_its_call_moves(place: SocksLab) -> None:
    sock, code, where = ask(place, Request(Command.BIND, Address(peer_of(place).host, 0)))
    assert (code, where.host) == (Code.SUCCEEDED, place.lab.topology.anchor.address)
    caller = namespaces.inside(
        place.lab.namespace("ch"), lambda: socket.create_connection((where.host, where.port), PATIENCE)
    )
    with sock, caller:
        code, who = answer(sock)
        assert (code, who.host) == (Code.SUCCEEDED, peer_of(place).host)
        for number, network in enumerate(("cellular", "wifi")):
            caller.sendall(b"down %d" % number)
            assert exactly(sock, 6) == b"down %d" % number
            place.move(network)
            sock.sendall(b"up %d" % number)
            caller.settimeout(PATIENCE)
            assert exactly(caller, 4) == b"up %d" % number
    Client(str(place.client_socket)).call("handover", to="policy")


def test_datagrams_of_a_plain_client_go_on_over_another_network(place: SocksLab) -> None:
    there = namespaces.inside(place.lab.namespace("ch"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    here = namespaces.inside(place.lab.namespace("mh"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock, code, inside = ask(place, Request(Command.UDP_ASSOCIATE, socks5.NOWHERE))
    assert code == Code.SUCCEEDED
    to = Address(peer_of(place).host, 5000)

    def round_trip(number: int) -> bool:
        here.sendto(socks5.datagram(Datagram(to, b"ping %d" % number)), (inside.host, inside.port))
        try:
            while (data := there.recvfrom(100))[0] != b"ping %d" % number:
                pass
            there.sendto(b"pong %d" % number, data[1])
            while socks5.parse_datagram(here.recv(100)).payload != b"pong %d" % number:
                pass
        except TimeoutError:
            return False
        return True

    with there, here, sock:
        there.bind((to.host, to.port))
        for one in (there, here):
            one.settimeout(0.3)
        eventually("datagrams pass", lambda: round_trip(1))
        link = place.lab.links["wifi"]
        link.set_carrier(False)
        try:
            eventually("and over the other network", lambda: round_trip(2))
        finally:
            link.arrive()
    eventually("the network is back", lambda: len(place.up()) == 2)


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = FILE if self.path == "/file" else PAGE
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *words: object) -> None:
        pass


@pytest.fixture(scope="module")
def web(place: SocksLab) -> Iterator[str]:
    server = namespaces.inside(
        place.lab.namespace("ch"), lambda: http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Web)
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://{peer_of(place).host}:8000"
    server.shutdown()
    server.server_close()


def test_proxychains_takes_a_program_through(place: SocksLab, web: str, tmp_path: Path) -> None:
    settings, got = tmp_path / "proxychains.conf", tmp_path / "got"
    settings.write_text(f"strict_chain\nproxy_dns\n[ProxyList]\nsocks5 127.0.0.1 {LOCAL_PORT} zoom x\n")
    words = ["proxychains4", "-q", "-f", str(settings), "curl", "-s", f"{web}/file", "-o", str(got)]
    namespaces.run(place.lab.namespace("mh"), *words)
    assert hashlib.sha256(got.read_bytes()).digest() == hashlib.sha256(FILE).digest()


@pytest.mark.parametrize("kind", ["socks5", "http"])
def test_chromium_shows_a_page(place: SocksLab, web: str, kind: str, tmp_path: Path) -> None:
    page = namespaces.run(
        place.lab.namespace("mh"), "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", f"--user-data-dir={tmp_path}", f"--proxy-server={kind}://127.0.0.1:{LOCAL_PORT}",
        "--dump-dom", f"{web}/page", timeout=60.0,
    )  # fmt: skip
    assert "hello 42" in page


def test_a_client_asleep_goes_on_and_one_that_sleeps_too_long_is_told_so(place: SocksLab) -> None:
    sock = open_as(place, "browser")
    assert place.client is not None
    place.client.signal(signal.SIGSTOP)
    time.sleep(1.5)
    place.client.signal(signal.SIGCONT)
    sock.sendall(b"5 0 0.0\n")
    assert exactly(sock, 2) == b"ok"
    sock.close()
    held = open_as(place, "browser")
    held.sendall(b"5 65536 9.0\n")  # a client that has said something has heard of its session
    exactly(held, 65536)
    place.client.signal(signal.SIGSTOP)
    try:
        cut_legs(place)
        eventually("the proxy holds it for 4 s, and no longer", lambda: not place.proxy_status()["sessions"])
    finally:
        place.client.signal(signal.SIGCONT)
    assert place.proxy_status()["refused"]["held too long"] >= 1
    with held, pytest.raises(ConnectionResetError):
        held.recv(1)
    eventually("the networks are back", lambda: len(place.up()) == 2)


def cut_legs(place: SocksLab) -> None:
    """Have the client's kernel reset all connections to the proxy."""
    namespaces.run(place.lab.namespace("mh"), "ss", "-K", "dport", "=", ":1080")


@pytest.mark.usefixtures("_spotless")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\4\1\0\x50\1\2\3\4\0", "version"), (b"\5\1\x8d", "method"), (b"\5\0", "method"),
        (b"GET / HTTP/1.1\r\n\r\n", "http"), (b"CONNECT nowhere HTTP/1.1\r\n\r\n", "http"),
        (b"\5\1\0" + b"\5\1\0\7\1\2\3\4\0\1", "address type"), (b"\5\1\0" + b"\5\x63\0\1\1\2\3\4\0\1", "command"),
        (b"\5\1\0" + b"\6\1\0\1\1\2\3\4\0\1", "version"), (b"\5\1\2" + b"\1\1\xff\1x", "socks"),
        (b"\5\1\0" + b"\5\1\0\3\0\0\1", "name"), (b"GET http://a/" + b"a" * 20000 + b" HTTP/1.1\r\n", "http"),
    ],
)  # fmt: skip
def test_nonsense_at_the_entrance_is_answered_closed_and_counted(place: SocksLab, data: bytes, reason: str) -> None:
    before = place.status()["refused"].get(reason, 0)
    with dial(place) as sock:
        sock.sendall(data)
        try:
            while sock.recv(4096):
                pass
        except ConnectionResetError:
            pass
    eventually("it is counted", lambda: place.status()["refused"].get(reason, 0) == before + 1)


@pytest.mark.usefixtures("_spotless")
def test_more_sessions_than_may_be_held_cost_the_oldest_one(place: SocksLab) -> None:
    several = [open_as(place, "browser") for _ in range(6)]
    assert place.client is not None
    place.client.signal(signal.SIGSTOP)
    try:
        cut_legs(place)
        eventually("four of six may wait", lambda: place.proxy_status()["waiting"] == 4, 3.5)
        assert place.proxy_status()["refused"]["too many wait"] == 2
    finally:
        place.client.signal(signal.SIGCONT)
    for sock in several:
        sock.close()
    eventually("the networks are back", lambda: len(place.up()) == 2)
