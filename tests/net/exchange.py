"""A TCP transfer between two sockets of a lab, both ways, judged by its bytes."""

import random
import socket
import threading
from typing import NamedTuple

from tests.net.standing import PATIENCE, Sockets


class Exchanged(NamedTuple):
    """What came of it."""

    peer: str
    """Whom the server saw."""
    whole: bool
    """Every byte of both directions arrived, in order."""


def exchange(
    sockets: Sockets, address: str, port: int, *, up_bytes: int = 3_000_001, down_bytes: int = 2_000_003
) -> Exchanged:
    """Send from the mobile host to the correspondent, and then back, on one connection."""
    upward, downward = random.Random(1).randbytes(up_bytes), random.Random(2).randbytes(down_bytes)
    six = ":" in address
    server, client = (
        sockets.at("ch", socket.SOCK_STREAM, six=six, port=port),
        sockets.at("mh", socket.SOCK_STREAM, six=six),
    )
    server.listen()
    served: list[tuple[str, bytes]] = []

    def serve() -> None:
        connection, peer = server.accept()
        with connection:
            connection.settimeout(PATIENCE)
            served.append((peer[0], read_all(connection)))
            connection.sendall(downward)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.connect((address, port))
        client.sendall(upward)
        client.shutdown(socket.SHUT_WR)
        got = read_all(client)
    finally:
        thread.join(PATIENCE)
        server.close()
    ((peer, sent),) = served
    return Exchanged(peer, sent == upward and got == downward)


def read_all(connection: socket.socket) -> bytes:
    """Read until the other end closes its direction."""
    received = bytearray()
    while chunk := connection.recv(1 << 16):
        received += chunk
    return bytes(received)
