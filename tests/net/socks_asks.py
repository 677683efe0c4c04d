"""Applications of the local entrance that say their names: what they ask for, and what they hear."""

import socket
from typing import Any

from sojourn.lab import namespaces
from sojourn.msocks import socks5
from sojourn.msocks.socks5 import Address, Code, Command, Request
from tests.net.socks_lab import LOCAL_PORT, PEER_PORT, SocksLab, exactly
from tests.net.standing import PATIENCE

DIALLED: list[socket.socket] = []
"""Connections that somebody has to close."""


def peer_of(place: SocksLab) -> Address:
    return Address(place.lab.topology.correspondent.address, PEER_PORT)


def dial(place: SocksLab) -> socket.socket:
    where = ("127.0.0.1", LOCAL_PORT)
    DIALLED.append(namespaces.inside(place.lab.namespace("mh"), lambda: socket.create_connection(where, PATIENCE)))
    return DIALLED[-1]


def ask(place: SocksLab, request: Request, name: str = "any") -> tuple[socket.socket, int, Address]:
    """Ask for something as the application `name`; return the connection, the code, and the address that came."""
    sock = dial(place)
    sock.sendall(socks5.greeting(socks5.PASSWORD))
    assert exactly(sock, 2) == b"\5\2"
    sock.sendall(socks5.password(name, "x"))
    assert exactly(sock, 2) == b"\1\0"
    sock.sendall(socks5.request(request))
    return sock, *answer(sock)


def answer(sock: socket.socket) -> tuple[int, Address]:
    taken = socks5.take_reply(exactly(sock, 10))
    assert taken is not None
    return taken[0].code, taken[0].address


def open_as(place: SocksLab, name: str) -> socket.socket:
    sock, code, _ = ask(place, Request(Command.CONNECT, peer_of(place)), name)
    assert code == Code.SUCCEEDED
    return sock


def session(place: SocksLab, name: str) -> dict[str, Any]:
    (found,) = [one for one in place.status()["sessions"] if one["application"] == name]
    assert isinstance(found, dict)
    return found


def no_session(place: SocksLab) -> bool:
    return not place.proxy_status()["sessions"] and not place.status()["sessions"]


def cut_sessions(place: SocksLab) -> None:
    """Have the kernels reset what the entrance has with applications, and the correspondent with the proxy."""
    namespaces.run(place.lab.namespace("mh"), "ss", "-K", "sport", "=", f":{LOCAL_PORT}")
    namespaces.run(place.lab.namespace("ch"), "ss", "-K", "sport", "=", f":{PEER_PORT}")


def finish(sock: socket.socket) -> None:
    """Play the exchange of nothing, so that all ends cleanly."""
    sock.sendall(b"5 0 0.0\n")
    assert exactly(sock, 2) == b"ok"
    sock.close()
