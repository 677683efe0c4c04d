r"""The proxy and clients that nobody here wrote: curl, python-socks; and those that mean no good.

mh (curl, python-socks, intruders) --- core --- an (sojourn anchor --only socks)
"""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from python_socks import ProxyError
from python_socks.sync import Proxy

from sojourn.control.config import parse_credentials
from sojourn.lab import namespaces
from sojourn.lab.topology import Topology
from sojourn.msocks import client, socks5
from sojourn.msocks.client import Account, Answered, Replied, Return, Say, SetUp
from sojourn.msocks.frames import Reconnect, Status
from sojourn.msocks.socks5 import Address, Code, Command, Datagram, Reply, Request
from tests.net.socks_lab import PEER_PORT, PROXY_PORT, Peer, SocksLab, exactly
from tests.net.socks_remains import SOME_MEMORY, memory, sockets, tuples
from tests.net.standing import PATIENCE, eventually, own_prefix, sojourn_at, standing

pytestmark = pytest.mark.net


@pytest.fixture(scope="module")
def place() -> Iterator[SocksLab]:
    with standing(Topology(prefix=own_prefix())) as lab:
        socks = SocksLab(lab)
        rule = '[[socks.rule]]\naction = "refuse"\nuser = ["host"]\nports = ["2525"]'
        socks.set_up(f'passwords = "anywhere"\nsessions_per_user = 6\n{rule}')
        socks.peer = Peer(lab)
        socks.start_proxy()
        try:
            yield socks
        finally:
            socks.peer.close()


@pytest.fixture
def tidy(place: SocksLab) -> Iterator[None]:
    """Check that nothing of a test stays behind at the proxy."""
    before, taken = descriptors(place), memory(place.proxy)
    yield
    eventually("no session is left", lambda: place.proxy_status()["sessions"] == 0)
    eventually("no stranger is left", lambda: place.proxy_status()["strangers"] == 0)
    eventually("no descriptor is left", lambda: descriptors(place) <= before, 15.0)
    eventually("no socket is left", lambda: sockets(place) <= place.lingering())
    eventually("the kernel's program knows no connection", lambda: tuples(place) <= place.lingering())
    assert memory(place.proxy) <= taken + SOME_MEMORY


def descriptors(place: SocksLab) -> int:
    assert place.proxy is not None
    return len(os.listdir(f"/proc/{place.proxy.pid}/fd")) - place.lingering()


def password(place: SocksLab) -> str:
    return sojourn_at(place.lab, "an", "anchor", "password", "host", "--config-dir",
                      str(place.anchor_folder)).stdout.strip()  # fmt: skip


def dial(place: SocksLab, port: int = PROXY_PORT) -> socket.socket:
    where = (place.lab.topology.anchor.address, port)
    return namespaces.inside(place.lab.namespace("mh"), lambda: socket.create_connection(where, PATIENCE))


def call(place: SocksLab, to: Address) -> socket.socket:
    """Call from the correspondent's place."""
    return namespaces.inside(place.lab.namespace("ch"), lambda: socket.create_connection((to.host, to.port), PATIENCE))


def peer_of(place: SocksLab) -> Address:
    return Address(place.lab.topology.correspondent.address, PEER_PORT)


def account(place: SocksLab) -> Account:
    credentials = parse_credentials((place.host_folder / "credentials").read_text())
    words = (credentials.socks_secret, credentials.socks_static, credentials.socks_key)
    return Account("host", *(bytes.fromhex(word) for word in words))


def set_up(sock: socket.socket, who: Account, request: Request) -> tuple[SetUp, Replied]:
    machine = SetUp(who, os.urandom(32), request)
    sock.sendall(machine.begin())
    while True:
        for event in machine.feed(sock.recv(1)):
            if isinstance(event, Say):
                sock.sendall(event.data)
            elif isinstance(event, Replied):
                return machine, event


def come_back(place: SocksLab, key: bytes, session: bytes, generation: int, received: int = 0) -> Answered:
    with dial(place) as sock:
        return answered(sock, key, session, generation, received)


def answered(sock: socket.socket, key: bytes, session: bytes, generation: int, received: int) -> Answered:
    machine = Return(key, Reconnect(session, generation, received, client.NO_CHALLENGE))
    sock.sendall(machine.begin())
    while True:
        for event in machine.feed(sock.recv(1)):
            if isinstance(event, Say):
                sock.sendall(event.data)
            elif isinstance(event, Answered):
                return event


@pytest.mark.usefixtures("tidy")
def test_curl_gets_a_file_with_a_password_and_nothing_without(place: SocksLab, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(500_000))
    web = place.lab.start("ch", "web", ["python3", "-m", "http.server", "8000", "--directory", str(tmp_path)])
    try:
        url, proxy = f"http://{peer_of(place).host}:8000/file", f"{place.lab.topology.anchor.address}:{PROXY_PORT}"

        def curl(login: str) -> str:
            return namespaces.run(place.lab.namespace("mh"), "curl", "-s", "-x", f"socks5h://{login}@{proxy}", url,
                                  "-o", str(tmp_path / "got"), "-w", "%{http_code}", check=False)  # fmt: skip

        word = password(place)
        eventually("curl gets it", lambda: curl(f"host:{word}") == "200")
        assert (tmp_path / "got").read_bytes() == (tmp_path / "file").read_bytes()
        for login in ("host:wrong", f"nobody:{word}"):
            assert curl(login) == "000"
    finally:
        web.stop()


@pytest.mark.usefixtures("tidy")
def test_python_socks_connects_and_hears_why_it_may_not(place: SocksLab) -> None:
    where, word = place.lab.topology.anchor.address, password(place)

    def connect(port: int, host: str) -> socket.socket:
        proxy = Proxy.from_url(f"socks5://host:{word}@{where}:{PROXY_PORT}", rdns=True)
        return namespaces.inside(
            place.lab.namespace("mh"), lambda: proxy.connect(dest_host=host, dest_port=port, timeout=PATIENCE)
        )

    with connect(PEER_PORT, peer_of(place).host) as sock:
        sock.sendall(b"5 0 0.0\n")
        assert exactly(sock, 2) == b"ok"
    for host, port, code in (
        (peer_of(place).host, 9, Code.REFUSED), (where, 22, Code.NOT_ALLOWED), ("10.0.0.1", 80, Code.NOT_ALLOWED),
        (peer_of(place).host, 2525, Code.NOT_ALLOWED), ("no.such.name.invalid", 80, Code.HOST_UNREACHABLE),
        ("2606:4700::1111", 80, Code.NETWORK_UNREACHABLE),
    ):  # fmt: skip
        with pytest.raises(ProxyError) as error:
            connect(port, host)
        assert error.value.error_code == code


@pytest.mark.usefixtures("tidy")
def test_datagrams_pass_through_an_association_and_only_its_clients(place: SocksLab) -> None:
    there = namespaces.inside(place.lab.namespace("ch"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    here = namespaces.inside(place.lab.namespace("mh"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with there, here, dial(place) as sock:
        there.bind((peer_of(place).host, 5000))
        for one in (there, here):
            one.settimeout(PATIENCE)
        sock.sendall(socks5.greeting(socks5.PASSWORD))
        exactly(sock, 2)
        sock.sendall(socks5.password("host", password(place)))
        exactly(sock, 2)
        sock.sendall(socks5.request(Request(Command.UDP_ASSOCIATE, socks5.NOWHERE)))
        taken = socks5.take_reply(exactly(sock, 10))
        assert taken is not None
        inside = (taken[0].address.host, taken[0].address.port)
        here.sendto(socks5.datagram(Datagram(Address(peer_of(place).host, 5000), b"ping")), inside)
        data, source = there.recvfrom(100)
        assert data == b"ping"
        there.sendto(b"pong", inside)  # a stranger at the inner side: dropped
        there.sendto(b"pong", source)
        answer = socks5.parse_datagram(here.recv(100))
        assert answer == Datagram(Address(peer_of(place).host, 5000), b"pong")
        here.sendto(socks5.datagram(Datagram(Address("127.0.0.1", 53), b"no")), inside)
        time.sleep(0.5)  # what is refused is counted when the association ends
    eventually("the refusals are counted", lambda: place.proxy_status()["refused"].get("datagram") == 2)


@pytest.mark.usefixtures("tidy")
def test_bind_takes_one_call_and_it_moves_like_any_other(place: SocksLab) -> None:
    who = account(place)
    with dial(place) as sock:
        machine = SetUp(who, os.urandom(32), Request(Command.BIND, Address(peer_of(place).host, 0)))
        sock.sendall(machine.begin())
        replies: list[Replied] = []
        caller: socket.socket | None = None
        while len(replies) < 2:
            for event in machine.feed(sock.recv(1)):
                if isinstance(event, Say):
                    sock.sendall(event.data)
                elif isinstance(event, Replied):
                    replies.append(event)
                    if caller is None:
                        caller = call(place, event.reply.address)
        assert caller is not None
        assert replies[1].reply.address.host == peer_of(place).host
        caller.sendall(b"hello")
        assert exactly(sock, 5) == b"hello"
        with dial(place) as again:
            event = answered(again, machine.key, replies[1].session, 1, 5)
            assert (event.resumed.status, event.resumed.received, event.proved) == (Status.RESUMED, 0, True)
            caller.sendall(b"again")
            assert exactly(again, 5) == b"again"
            again.sendall(b"there")
            assert exactly(caller, 5) == b"there"
            caller.close()
            assert again.recv(1) == b""


@pytest.mark.usefixtures("tidy")
def test_guessed_foreign_and_stale_orders_to_continue_change_nothing(place: SocksLab) -> None:
    with dial(place) as sock:
        machine, replied = set_up(sock, account(place), Request(Command.CONNECT, peer_of(place)))
        session, key = replied.session, machine.key
        assert come_back(place, os.urandom(32), os.urandom(16), 1).resumed.status == Status.UNKNOWN
        assert come_back(place, os.urandom(32), session, 9).resumed.status == Status.UNKNOWN
        sock.sendall(b"5 0 ")  # the session goes on as if nothing had been
        with dial(place) as second:
            assert answered(second, key, session, 4, 0).resumed.received == 4
            for generation in (4, 3, 0):
                event = come_back(place, key, session, generation)
                assert (event.resumed.status, event.proved) == (Status.STALE, True)
            second.sendall(b"0.0\n")
            assert exactly(second, 2) == b"ok"
    eventually("it is over", lambda: place.proxy_status()["sessions"] == 0)
    assert come_back(place, key, session, 5, 2).resumed.status in (Status.ENDED, Status.RESET)
    reasons = place.proxy_status()["refused"]
    assert reasons["resume: unknown"] >= 2
    assert reasons["resume: stale"] >= 3


@pytest.mark.usefixtures("tidy")
def test_a_position_that_cannot_be_ends_the_session_with_a_reason(place: SocksLab) -> None:
    with dial(place) as sock:
        machine, replied = set_up(sock, account(place), Request(Command.CONNECT, peer_of(place)))
        event = come_back(place, machine.key, replied.session, 1, 1 << 40)
        assert (event.resumed.status, event.proved) == (Status.LOST, True)


@pytest.mark.usefixtures("tidy")
def test_another_computer_with_a_copy_of_the_token_is_refused(place: SocksLab) -> None:
    with dial(place) as sock:
        set_up(sock, account(place), Request(Command.CONTROL, socks5.NOWHERE))
    who = account(place)
    thief = Account(who.user, who.secret, X25519PrivateKey.generate().private_bytes_raw(), who.proxy)
    before = place.proxy_status()["refused"].get("user", 0)
    with dial(place) as sock:
        machine = SetUp(thief, os.urandom(32), Request(Command.CONNECT, peer_of(place)))
        sock.sendall(machine.begin())
        with pytest.raises(Exception, match="user"):
            while data := sock.recv(100):
                machine.feed(data)
    assert place.proxy_status()["refused"]["user"] == before + 1


@pytest.mark.usefixtures("tidy")
def test_a_user_gets_no_more_than_its_share(place: SocksLab) -> None:
    who, socks = account(place), [dial(place) for _ in range(6)]
    try:
        for sock in socks:
            assert set_up(sock, who, Request(Command.CONNECT, peer_of(place)))[1].reply.code == Code.SUCCEEDED
        with dial(place) as one_more:
            machine = SetUp(who, os.urandom(32), Request(Command.CONNECT, peer_of(place)))
            one_more.sendall(machine.begin())
            with pytest.raises(Exception, match="limit"):
                while data := one_more.recv(100):
                    machine.feed(data)
    finally:
        for sock in socks:
            sock.close()


OURS = b"\5\1\x8d"


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\4\1\0\x50\1\2\3\4\0", "version"), (b"GET / HTTP/1.1\r\n\r\n", "version"), (b"\5\1\x77", "method"),
        (OURS + b"\x63\0\0", "frame"), (OURS + b"\1\xff\xff", "frame"), (OURS + b"\1\4\1" + bytes(1025), "frame"),
        (OURS + b"\4\0\3abc", "frame"), (OURS + b"\3\0\5hello", "frame"), (OURS + b"\1\0\x20" + bytes(32), "noise"),
        (b"\5\1\2" + b"\2\1a\1b", "version"), (b"\5\1\2" + b"\1\0\0", "password"),
    ],
)  # fmt: skip
def test_nonsense_is_closed_and_counted_by_its_reason(place: SocksLab, data: bytes, reason: str) -> None:
    before = sum(place.proxy_status()["refused"].values())
    with dial(place) as sock:
        sock.sendall(data)
        try:
            while sock.recv(100):
                pass
        except ConnectionResetError:
            pass
    refused = place.proxy_status()["refused"]
    assert sum(refused.values()) == before + 1
    assert reason in refused, refused


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("data", [os.urandom(3000), OURS + os.urandom(4096)])
def test_noise_is_sent_away(place: SocksLab, data: bytes) -> None:
    with dial(place) as sock:
        sock.sendall(data)
        try:
            while sock.recv(100):
                pass
        except ConnectionResetError:
            return


def test_replies_have_the_form_of_the_rfc(place: SocksLab) -> None:
    with dial(place) as sock:
        sock.sendall(socks5.greeting(socks5.PASSWORD))
        exactly(sock, 2)
        sock.sendall(socks5.password("host", password(place)))
        exactly(sock, 2)
        sock.sendall(b"\5\x09\0\1\1\2\3\4\0\7")
        assert exactly(sock, 10) == socks5.reply(Reply(Code.COMMAND_NOT_SUPPORTED))
        assert sock.recv(1) == b""
