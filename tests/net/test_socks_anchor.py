r"""The SOCKS port of a whole anchor, over IPv6 as well; and what becomes of it when its users are revoked.

mh --- nat0, nat1 --- core --- an (sojourn anchor: tunnels and SOCKS) --- ch
"""

import os
import socket
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from sojourn.api.client import Client
from sojourn.lab import namespaces
from sojourn.lab.topology import CELLULAR, WIFI, Lab, Topology
from sojourn.msocks.client import Replied, Say, SetUp
from sojourn.msocks.socks5 import Address, Code, Command, Request
from tests.net.socks_lab import PROXY_PORT, SocksLab, exactly
from tests.net.standing import PATIENCE, eventually, own_prefix, standing
from tests.net.test_socks_clients import account

pytestmark = pytest.mark.net


@pytest.fixture(scope="module")
def place() -> Iterator[SocksLab]:
    with standing(Topology(prefix=own_prefix(), ipv6=True, access=(replace(WIFI, ipv6=True), CELLULAR))) as lab:
        socks = SocksLab(lab)
        socks.set_up()
        socks.start_proxy(only=False)
        yield socks
        assert socks.proxy is not None
        assert socks.proxy.stop(PATIENCE) == 0
        eventually("the keeper has ended", lambda: not (socks.anchor_folder / "socks.holder").exists())


def session(place: SocksLab, proxy: str, to: Address) -> tuple[socket.socket, Replied]:
    sock = namespaces.inside(place.lab.namespace("mh"), lambda: socket.create_connection((proxy, PROXY_PORT), PATIENCE))
    machine = SetUp(account(place), os.urandom(32), Request(Command.CONNECT, to))
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
