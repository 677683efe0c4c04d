r"""The SOCKS port of a whole anchor, over IPv6 as well; and what becomes of it when its users are revoked.

mh --- nat0, nat1 --- core --- an (sojourn anchor: tunnels and SOCKS) --- ch
"""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from sojourn.api.client import Client
from sojourn.lab import namespaces
from sojourn.lab.topology import CELLULAR, WIFI, Lab, Topology
from sojourn.msocks import socks5
from sojourn.msocks.client import Replied, Say, SetUp
from sojourn.msocks.socks5 import Address, Code, Command, Datagram, Request
from tests.net.socks_lab import LOCAL_PORT, PROXY_PORT, SocksLab, exactly
from tests.net.standing import PATIENCE, eventually, own_prefix, standing
from tests.net.test_socket import Program
from tests.net.test_socks_clients import account

pytestmark = pytest.mark.net

SIX = (replace(WIFI, ipv6=True), replace(CELLULAR, ipv6=True))
DROP_IN = """
import time, sojourn.socket as socket
s = socket.create_connection(("{host}", 9101), 20)
print(s.getpeername())
for network, data in (("wifi", b"one"), ("cellular", b"two"), ("wifi", b"three")):
    s.move(network)
    s.sendall(data)
    answer = s.recv(100)
    while s.network != network:
        time.sleep(0.02)
    print(s.network, answer)
s.close()
"""


@pytest.fixture(scope="module")
def place() -> Iterator[SocksLab]:
    with standing(Topology(prefix=own_prefix(), ipv6=True, access=SIX)) as lab:
        socks = SocksLab(lab)
        socks.set_up()
        socks.start_proxy(only=False)
        yield socks
        assert socks.proxy is not None
        assert socks.proxy.stop(PATIENCE) == 0
        eventually("the keeper has ended", lambda: not (socks.anchor_folder / "socks.holder").exists())


def session(
    place: SocksLab, proxy: str, to: Address, command: Command = Command.CONNECT
) -> tuple[socket.socket, Replied]:
    sock = namespaces.inside(place.lab.namespace("mh"), lambda: socket.create_connection((proxy, PROXY_PORT), PATIENCE))
    machine = SetUp(account(place), os.urandom(32), Request(command, to))
    try:
        sock.sendall(machine.begin())
        while True:
            for event in machine.feed(sock.recv(1)):
                if isinstance(event, Say):
                    sock.sendall(event.data)
                elif isinstance(event, Replied):
                    return sock, event
    except BaseException:
        sock.close()
        raise


def listening(lab: Lab, *, six: bool) -> socket.socket:
    family = socket.AF_INET6 if six else socket.AF_INET
    made = namespaces.inside(lab.namespace("ch"), lambda: socket.create_server(("", 9100 + six), family=family))
    made.settimeout(PATIENCE)
    return made


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("outer", [False, True])
def test_both_families_on_both_sides(place: SocksLab, inner: bool, outer: bool) -> None:
    there, here = place.lab.topology.correspondent, place.lab.topology.anchor
    with listening(place.lab, six=inner) as server:
        to = Address(there.address6 if inner else there.address, 9100 + inner)
        sock, replied = session(place, here.address6 if outer else here.address, to)
        assert replied.reply.code == Code.SUCCEEDED
        assert (":" in replied.reply.address.host) == inner
        taken, source = server.accept()
        with sock, taken:
            assert source[0] == (here.address6 if inner else here.address)
            sock.sendall(b"up")
            taken.sendall(b"down")
            assert exactly(taken, 2) == b"up"
            assert exactly(sock, 4) == b"down"


class Datagrams:
    """A client's socket and a correspondent's, of one family each."""

    def __init__(self, place: SocksLab, *, outer: bool, inner: bool) -> None:
        def make(six: bool) -> socket.socket:
            return socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)

        there = place.lab.topology.correspondent
        self.to = Address(there.address6 if inner else there.address, 5000)
        self.here = namespaces.inside(place.lab.namespace("mh"), lambda: make(outer))
        self.there = namespaces.inside(place.lab.namespace("ch"), lambda: make(inner))
        self.there.bind((self.to.host, self.to.port))
        for sock in (self.here, self.there):
            sock.settimeout(0.3)

    def pass_through(self, inside: Address, number: int) -> str | None:
        """Send one to and fro through an association; return who the correspondent thinks it was, None: it was lost."""
        ping, pong = b"ping %d" % number, b"pong %d" % number
        try:
            self.here.sendto(socks5.datagram(Datagram(self.to, ping)), (inside.host, inside.port))
            while (got := self.there.recvfrom(100))[0] != ping:
                pass
            self.there.sendto(pong, got[1])
            while (back := socks5.parse_datagram(self.here.recv(100))).payload != pong:
                pass
        except TimeoutError:
            return None
        assert back.address == self.to
        return str(got[1][0])

    def close(self) -> None:
        self.here.close()
        self.there.close()


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("outer", [False, True])
def test_datagrams_of_both_families_on_both_sides(place: SocksLab, inner: bool, outer: bool) -> None:
    proxy = place.lab.topology.anchor
    talk = Datagrams(place, outer=outer, inner=inner)
    sock, replied = session(
        place, proxy.address6 if outer else proxy.address, socks5.NOWHERE, Command.UDP_ASSOCIATE
    )  # fmt: skip
    with sock, contextlib.closing(talk):
        inside = replied.reply.address
        assert (replied.reply.code, inside.host) == (Code.SUCCEEDED, proxy.address6 if outer else proxy.address)
        eventually("a datagram passes", lambda: talk.pass_through(inside, 1))
        assert talk.pass_through(inside, 2) == (proxy.address6 if inner else proxy.address)


@pytest.fixture
def entrance(place: SocksLab) -> Iterator[SocksLab]:
    """Have a client that knows the proxy by its IPv6 address alone."""
    toml, site = place.host_folder / "host.toml", place.lab.topology.anchor
    before = toml.read_text()
    toml.write_text(before.replace(f'"{site.address}"', f'"{site.address6}"'))
    place.start_client()
    yield place
    assert place.client is not None
    assert place.client.stop(PATIENCE) == 0
    toml.write_text(before)


def in_step(place: SocksLab, server: socket.socket, mine: socket.socket, move: Callable[[str], object]) -> None:
    """See that bytes pass both ways, over one network after the other; `mine` is connected to `server`."""
    taken, source = server.accept()
    with mine, taken:
        taken.settimeout(PATIENCE)
        assert source[0] == place.lab.topology.anchor.address6
        for number, network in enumerate(("cellular", "wifi", "cellular")):
            mine.sendall(b"up %d" % number)
            assert exactly(taken, 4) == b"up %d" % number
            move(network)
            taken.sendall(b"down %d" % number)
            assert exactly(mine, 6) == b"down %d" % number


def test_the_entrance_moves_what_goes_over_ipv6_alone(entrance: SocksLab) -> None:
    place, to = entrance, Address(entrance.lab.topology.correspondent.address6, 9101)
    with listening(place.lab, six=True) as server:
        talk = place.connect(to)
        assert talk.code == Code.SUCCEEDED
        in_step(place, server, talk.sock, place.move)
        by_http = namespaces.inside(
            place.lab.namespace("mh"), lambda: socket.create_connection(("127.0.0.1", LOCAL_PORT), PATIENCE)
        )
        by_http.sendall(f"CONNECT [{to.host}]:{to.port} HTTP/1.1\r\n\r\n".encode())
        while not (answer := by_http.recv(1000)).endswith(b"\r\n\r\n"):
            pass
        assert b" 200 " in answer
        in_step(place, server, by_http, place.move)
    listens, code = place.ask(Request(Command.BIND, Address("::", 0)))
    assert code.code == Code.SUCCEEDED
    where = (code.address.host, code.address.port)
    assert ":" in where[0]
    with listens, namespaces.inside(place.lab.namespace("ch"), lambda: socket.create_connection(where, 20.0)) as caller:
        assert place.reply(listens).address.host == place.lab.topology.correspondent.address6
        caller.sendall(b"called")
        assert exactly(listens, 6) == b"called"
    eventually("nothing is left", lambda: not place.status()["sessions"] and not place.proxy_status()["sessions"])


def test_datagrams_go_on_over_another_network_by_ipv6_alone(entrance: SocksLab) -> None:
    place, proxy = entrance, entrance.lab.topology.anchor
    talks = {
        proxy.address6 if inner else proxy.address: Datagrams(place, outer=False, inner=inner)
        for inner in (True, False)
    }
    with contextlib.ExitStack() as stack:
        for source, talk in talks.items():
            stack.enter_context(contextlib.closing(talk))
            asked, reply = place.ask(Request(Command.UDP_ASSOCIATE, socks5.NOWHERE))
            stack.enter_context(asked)
            eventually("datagrams pass", lambda: talk.pass_through(reply.address, 1) == source)  # noqa: B023
            place.lab.links["wifi"].set_carrier(False)
            try:
                eventually("and over the other one", lambda: talk.pass_through(reply.address, 2) == source)  # noqa: B023
            finally:
                place.lab.links["wifi"].arrive()
            eventually("the network is back", lambda: len(place.up()) == 2)


def test_the_drop_in_moves_what_goes_over_ipv6_alone(entrance: SocksLab) -> None:
    place, host = entrance, entrance.lab.topology.correspondent.address6
    with listening(place.lab, six=True) as server, Program(place, "-c", DROP_IN.format(host=host)) as program:
        taken, source = server.accept()
        with taken:
            taken.settimeout(PATIENCE)
            assert source[0] == place.lab.topology.anchor.address6
            while data := taken.recv(100):
                taken.sendall(data)
        said = program.end()[0].decode().splitlines()
    assert said == [f"({host!r}, 9101, 0, 0)", "wifi b'one'", "cellular b'two'", "wifi b'three'"]


def test_a_revoked_user_is_cut_off_and_cannot_come_back(place: SocksLab) -> None:
    with listening(place.lab, six=False) as server:
        proxy, to = place.lab.topology.anchor.address, Address(place.lab.topology.correspondent.address, 9100)
        sock, _ = session(place, proxy, to)
        taken, _ = server.accept()
        with sock, taken:
            taken.sendall(b"x")
            assert exactly(sock, 1) == b"x"
            Client(str(place.proxy_socket)).call("revoke", name="host")
            with pytest.raises(ConnectionResetError):
                taken.recv(1)
        with pytest.raises(Exception, match="user"):
            session(place, proxy, to)
    status = Client(str(place.proxy_socket)).call("status")
    assert status["socks"]["sessions"] == 0
