"""A proxy at the anchor's place, a client at the mobile host's, and a correspondent that checks every byte."""

import contextlib
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from sojourn.api.client import Client
from sojourn.lab import namespaces
from sojourn.lab.processes import Child
from sojourn.lab.topology import Lab
from sojourn.linux import bpf_pin
from sojourn.msocks import socks5
from sojourn.msocks.socks5 import Address, Code, Command, Reply, Request
from tests.net.standing import PATIENCE, eventually, sojourn_at

PROXY_PORT, LOCAL_PORT, PEER_PORT = 1080, 1081, 9000
NOBODY = 65534
"""The user whom the client runs as: it has no rights at all."""


def unprivileged() -> tuple[int, list[str]]:
    """Return a user without any right and the words that make a command his.

    That is nobody, or root without a single capability where nobody may not read this Python (a checkout in /root).
    """
    nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    can = subprocess.run([*nobody, sys.executable, "-c", "import sojourn"], capture_output=True, check=False)
    if can.returncode == 0:
        return NOBODY, nobody
    return 0, ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]


class SocksLab:
    """All of it. Nothing is started by making it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.anchor_folder, self.host_folder = lab.folder / "an", lab.folder / "mh"
        self.proxy_socket, self.client_socket = lab.folder / "an.sock", self.host_folder / "mh.sock"
        self.proxy: Child | None = None
        self.client: Child | None = None
        self.peer: Peer | None = None

    def set_up(self, settings: str = "") -> None:
        """Write both configurations."""
        site = self.lab.topology.anchor
        token = sojourn_at(self.lab, "an", "init", "--config-dir", str(self.anchor_folder), "--address", site.address)
        assert token.returncode == 0, token.stderr
        with (self.anchor_folder / "anchor.toml").open("a") as file:
            file.write(f"\n[socks]\nport = {PROXY_PORT}\n{settings}\n")
        joined = sojourn_at(self.lab, "mh", "join", token.stdout.split()[-1], "--config-dir", str(self.host_folder))
        assert joined.returncode == 0, joined.stderr

    def start_proxy(self, *, only: bool = True) -> None:
        """Start `sojourn anchor --only socks`, or the whole anchor."""
        bpf_pin.place()  # where `ip netns exec` does not hide it
        self.proxy = self.lab.start("an", "proxy", [
            sys.executable, "-m", "sojourn", "anchor", *(["--only", "socks"] if only else []),
            "--config-dir", str(self.anchor_folder), "--socket", str(self.proxy_socket),
        ])  # fmt: skip
        self.proxy.wait_for("ready", PATIENCE)

    def start_client(self) -> None:
        """Start `sojourn socks`, and wait until both networks work."""
        user, without_rights = unprivileged()
        for path in (self.host_folder, *self.host_folder.iterdir()):
            os.chown(path, user, user)
        self.client = self.lab.start("mh", "client", [
            *without_rights, sys.executable, "-m", "sojourn", "socks", "--config-dir", str(self.host_folder),
            "--socket", str(self.client_socket), "--listen", f"127.0.0.1:{LOCAL_PORT}",
        ])  # fmt: skip
        self.client.wait_for("ready", PATIENCE)
        eventually("all networks are up", lambda: len(self.up()) == len(self.lab.links))

    def up(self) -> set[str]:
        """Return the networks over which the proxy answers."""
        return {network["name"] for network in self.status()["networks"] if network["state"] == "up"}

    def status(self) -> dict[str, Any]:
        """Return what the client says."""
        answer = Client(str(self.client_socket)).call("status")
        assert isinstance(answer, dict)
        return answer

    def proxy_status(self) -> dict[str, Any]:
        """Return what the proxy says."""
        answer = Client(str(self.proxy_socket)).call("status")["socks"]
        assert isinstance(answer, dict)
        return answer

    def lingering(self) -> int:
        """Return how many descriptors may be open for spliced sessions in TIME-WAIT."""
        splice = self.proxy_status()["splice"]
        return 2 * splice["lingering"] if splice is not None else 0

    def move(self, network: str) -> None:
        """Move all sessions."""
        Client(str(self.client_socket)).call("handover", to=network)

    def kill_proxy(self) -> None:
        """Kill -9."""
        assert self.proxy is not None
        os.kill(self.proxy.pid, signal.SIGKILL)
        self.proxy.kill()

    def connect(
        self, to: Address, *, role: str = "mh", proxy: tuple[str, int] = ("127.0.0.1", LOCAL_PORT)
    ) -> "Dialled":
        """Connect through a SOCKS proxy as an application does."""
        sock, reply = self.ask(Request(Command.CONNECT, to), role=role, proxy=proxy)
        return Dialled(sock, reply.code)

    def ask(
        self, request: Request, *, role: str = "mh", proxy: tuple[str, int] = ("127.0.0.1", LOCAL_PORT)
    ) -> tuple[socket.socket, Reply]:
        """Ask a SOCKS proxy for something; return the connection and the (first) reply."""
        sock = namespaces.inside(self.lab.namespace(role), lambda: socket.create_connection(proxy, PATIENCE))
        sock.sendall(socks5.greeting(socks5.NO_LOGIN))
        assert exactly(sock, 2) == b"\5\0"
        sock.sendall(socks5.request(request))
        return sock, self.reply(sock)

    def reply(self, sock: socket.socket) -> Reply:
        """Read a proxy's reply."""
        head = exactly(sock, 4)
        taken = socks5.take_reply(head + exactly(sock, 6 if head[3] == socks5.IPV4 else 18))
        assert taken is not None
        return taken[0]


class Dialled:
    """An application's connection, and the code that came with it."""

    def __init__(self, sock: socket.socket, code: int) -> None:
        self.sock, self.code = sock, code
        self.error: BaseException | None = None
        self.done = threading.Event()
        if code != Code.SUCCEEDED:
            sock.close()

    def exchange(self, seed: int, size: int, pace: float = 0.0) -> threading.Thread:
        """Send and receive random data in both directions at once, checked at both ends; a thread."""
        assert self.code == Code.SUCCEEDED

        def work() -> None:
            try:
                self.sock.settimeout(120.0)
                self.sock.sendall(f"{seed} {size} {pace}\n".encode())
                both_ways(self.sock, seed + 1, seed, size, pace)
                assert exactly(self.sock, 2) == b"ok"
                assert self.sock.recv(1) == b""
            except BaseException as error:
                self.error = error
            finally:
                hang_up(self.sock)
                self.done.set()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread


class Peer:
    """The correspondent: plays the other side of `exchange` with whoever connects."""

    def __init__(self, lab: Lab) -> None:
        self.listening = namespaces.inside(
            lab.namespace("ch"), lambda: socket.create_server(("0.0.0.0", PEER_PORT), backlog=256)
        )
        self.errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                sock.settimeout(120.0)
                line = b""
                while not line.endswith(b"\n"):
                    line += exactly(sock, 1)
                seed, size, pace = line.split()
                both_ways(sock, int(seed), int(seed) + 1, int(size), float(pace))
                sock.sendall(b"ok")
            except BaseException as error:
                self.errors.append(error)

    def close(self) -> None:
        """Stop taking connections."""
        hang_up(self.listening)
        self._thread.join(5.0)


def both_ways(sock: socket.socket, sends: int, hears: int, size: int, pace: float) -> None:
    """Send one random stream while checking another."""

    failed: list[OSError] = []

    def send() -> None:
        data = memoryview(random.Random(sends).randbytes(size))
        try:
            for at in range(0, size, 65536):
                sock.sendall(data[at : at + 65536])
                time.sleep(pace)
        except OSError as error:
            failed.append(error)
            hang_up(sock)

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    try:
        seen = hashlib.sha256(exactly(sock, size)).digest()
        assert seen == hashlib.sha256(random.Random(hears).randbytes(size)).digest(), "bytes are wrong"
    except BaseException as error:
        first = failed[0] if failed else error
        hang_up(sock)
        raise first from None
    finally:
        sending.join(120.0)
    if failed:
        raise failed[0]
    assert not sending.is_alive(), "sending has not come to its end"


def hang_up(sock: socket.socket) -> None:
    """Close a connection that other threads wait on: close() alone wakes none of them, and the kernel keeps it open."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def exactly(sock: socket.socket, count: int) -> bytes:
    """Read so many bytes."""
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(min(count - len(data), 1 << 20))
        if not piece:
            raise EOFError(f"the stream ended after {len(data)} of {count} bytes")
        data += piece
    return bytes(data)
