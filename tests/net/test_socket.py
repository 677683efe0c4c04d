r"""Programs that use `sojourn.socket` where no host daemon runs, as nobody, while their networks change.

mh (the programs of examples/sockets, and others) --- nat0 --- core --- an (sojourn anchor --only socks)
                                                  \-- nat1 --/      \-- ch (web, TLS, callers)
"""

import datetime
import hashlib
import http.server
import ipaddress
import os
import random
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sojourn.lab import namespaces
from sojourn.lab.topology import Topology
from tests.net.socks_lab import Peer, SocksLab, exactly, hang_up, unprivileged
from tests.net.standing import eventually, own_prefix, standing

pytestmark = pytest.mark.net

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "sockets"
FILE = random.Random(5).randbytes(6_000_000)


@pytest.fixture(scope="module")
def place() -> Iterator[SocksLab]:
    with standing(Topology(prefix=own_prefix())) as lab:
        socks = SocksLab(lab)
        socks.set_up("splice = false")  # relayed; test_socks.py is spliced
        socks.peer = Peer(lab)
        socks.start_proxy()
        user, _ = unprivileged()
        for path in (socks.host_folder, *socks.host_folder.iterdir()):
            os.chown(path, user, user)
        try:
            yield socks
        finally:
            socks.peer.close()


@pytest.fixture(autouse=True)
def _tidy(place: SocksLab) -> Iterator[None]:
    yield
    eventually("no session is left at the proxy", lambda: place.proxy_status()["sessions"] == 0, 10.0)
    eventually("nor a stranger", lambda: place.proxy_status()["strangers"] == 0, 15.0)


class Program:
    """One program that uses the module."""

    def __init__(self, place: SocksLab, *words: str) -> None:
        _, without_rights = unprivileged()
        settings = {"SOJOURN_CONFIG_DIR": str(place.host_folder), "PYTHONUNBUFFERED": "1", "SOJOURN_HOST_SOCKET": "/x"}
        argv = namespaces.entering(place.lab.namespace("mh"), [*without_rights, sys.executable, *words])
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **settings}
        )

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def end(self, timeout: float = 60.0) -> tuple[bytes, str]:
        out, err = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, err.decode()
        return out, err.decode()


def python(place: SocksLab, text: str) -> str:
    """Run a text, and return what it prints."""
    with Program(place, "-c", text) as program:
        return program.end()[0].decode().strip()


class Web(http.server.BaseHTTPRequestHandler):
    """Sends FILE in pieces, so that it takes some seconds."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(FILE)))
        self.end_headers()
        for at in range(0, len(FILE), 65536):
            self.wfile.write(FILE[at : at + 65536])
            time.sleep(0.02)

    def log_message(self, format: str, *words: object) -> None:
        pass


@pytest.fixture(scope="module")
def web(place: SocksLab) -> Iterator[str]:
    server = namespaces.inside(
        place.lab.namespace("ch"), lambda: http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Web)
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://{place.lab.topology.correspondent.address}:8000/file"
    server.shutdown()
    server.server_close()


def network_of_session(place: SocksLab) -> str:
    """Return which network carries the one session, as its leg's port at the NATs says."""
    for name, link in place.lab.links.items():
        said = namespaces.run(place.lab.namespace("mh"), "ss", "-Htn", "state", "established", "dport", "=", ":1080")
        counts = [line for line in said.splitlines() if link.address in line]
        if len(counts) >= 2:  # the control connection, and the leg
            return name
    return ""


def test_requests_downloads_while_its_network_dies_silently(place: SocksLab, web: str) -> None:
    with Program(place, str(EXAMPLES / "download.py"), web) as program:
        link = place.lab.links[network_of_call(place)]
        time.sleep(0.5)
        link.set_silent(True)
        try:
            out, _ = program.end()
        finally:
            link.set_silent(False)
        assert hashlib.sha256(out).digest() == hashlib.sha256(FILE).digest()


@pytest.fixture(scope="module")
def tls(place: SocksLab) -> Iterator[Path]:
    """A TLS server that answers each line with it; return its certificate."""
    key, address = ec.generate_private_key(ec.SECP256R1()), place.lab.topology.correspondent.address
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1)).not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file, secret = place.lab.folder / "tls.crt", place.lab.folder / "tls.key"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    file.chmod(0o644)
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, secret)
    listening = namespaces.inside(place.lab.namespace("ch"), lambda: socket.create_server(("0.0.0.0", 4433)))

    def serve() -> None:
        while True:
            try:
                taken, _ = listening.accept()
            except OSError:
                return
            with context.wrap_socket(taken, server_side=True) as sock, sock.makefile("rb") as lines:
                for line in lines:
                    sock.sendall(line)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield file
    hang_up(listening)
    thread.join(5.0)


def test_asyncio_and_tls_move_by_order_and_are_told(place: SocksLab, tls: Path) -> None:
    host = place.lab.topology.correspondent.address
    with Program(place, str(EXAMPLES / "talk.py"), host, "4433", str(tls)) as program:
        names = sorted(place.lab.links)
        for number in range(6):
            text = os.urandom(5000).hex()
            program.say(text)
            assert program.line() == text
            program.say(f"/move {names[number % 2]}")
            time.sleep(0.3)
        out, err = program.end()
    assert not out
    assert re.search(r"connected over (\w+)", err)
    moves = re.findall(r"moved from (\w+) to (\w+)", err)
    assert len(moves) >= 4
    assert all(before != after for before, after in moves)


def test_a_server_is_called_at_the_proxy_and_its_calls_move(place: SocksLab) -> None:
    with Program(place, str(EXAMPLES / "serve.py"), "8080") as program:
        _, host, port = program.line().split()
        assert (host, port) == (place.lab.topology.anchor.address, "8080")

        def call() -> socket.socket:
            return namespaces.inside(
                place.lab.namespace("ch"), lambda: socket.create_connection((host, int(port)), 20.0)
            )

        for turn in range(2):
            with call() as caller:
                assert program.line().split()[0] == place.lab.topology.correspondent.address
                caller.settimeout(20.0)
                link = place.lab.links[network_of_call(place)]
                for number in range(8):
                    data = random.Random(100 * turn + number).randbytes(100_000)
                    sending = threading.Thread(target=caller.sendall, args=(data,))
                    sending.start()
                    assert exactly(caller, len(data)) == data
                    sending.join()
                    if number == 3:
                        link.set_silent(True)
                link.set_silent(False)


def network_of_call(place: SocksLab) -> str:
    found = ""

    def look() -> str:
        nonlocal found
        found = network_of_session(place)
        return found

    eventually("a session is carried", look, 15.0)
    return found


def test_errors_and_timeouts_are_the_standard_modules(place: SocksLab) -> None:
    host = place.lab.topology.correspondent.address
    said = python(place, f"""
import errno, select, sojourn.socket as socket
def what(call):
    try:
        return repr(call())
    except BaseException as error:
        return f"{{type(error).__name__}}({{getattr(error, 'errno', None)}})"
print(what(lambda: socket.create_connection(("{host}", 9), 10)))
print(what(lambda: socket.create_connection(("10.9.9.9", 80), 10)))
print(what(lambda: socket.create_connection(("no.such.name.invalid", 80), 10)))
s = socket.socket(); s.settimeout(0.001)
print(what(lambda: s.connect(("203.0.113.99", 80))))
s = socket.socket(); s.setblocking(False)
print(s.connect_ex(("{host}", 9)) == errno.EINPROGRESS)
print(what(lambda: s.connect(("{host}", 9))))
print(select.select([], [s], [], 10)[1] == [s], s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED)
s.connect_ex(("{host}", 9000)); select.select([], [s], [], 10)
print(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), s.getpeername(), s.getsockname()[0])
print(s.network in ("wifi", "cellular"))
print(sorted(network["name"] for network in socket.networks() if network["state"] == "up"))
print(what(lambda: s.connect(("{host}", 9000))))
s.settimeout(0.1); print(what(lambda: s.recv(1)))
print(what(lambda: s.move("nowhere")), s.fileno() > 0, s.family == socket.AF_INET)
s.close(); print(what(lambda: s.send(b"x")))
""")  # fmt: skip
    assert said.splitlines() == [
        "ConnectionRefusedError(111)", "PermissionError(13)", "gaierror(-2)", "TimeoutError(None)", "True",
        "OSError(114)" if "OSError(114)" in said else "BlockingIOError(114)", "True True",
        f"0 ('{host}', 9000) {place.lab.topology.anchor.address}", "True", "['cellular', 'wifi']", "OSError(106)",
        "TimeoutError(None)", "OSError(101) True True", "OSError(9)",
    ]  # fmt: skip


def test_what_was_sent_before_the_program_ended_arrives(place: SocksLab) -> None:
    listening = namespaces.inside(place.lab.namespace("ch"), lambda: socket.create_server(("0.0.0.0", 9300)))
    with listening:
        listening.settimeout(20.0)
        code = (
            "import random, sojourn.socket as s;"
            f"c = s.create_connection(({place.lab.topology.correspondent.address!r}, 9300));"
            "c.sendall(random.Random(9).randbytes(3_000_000))"
        )
        with Program(place, "-c", code) as program:
            taken, _ = listening.accept()
            with taken:
                taken.settimeout(20.0)
                assert exactly(taken, 3_000_000) == random.Random(9).randbytes(3_000_000)
                assert taken.recv(1) == b""
            program.end()


def test_a_child_after_fork_opens_its_own_and_the_parents_go_on(place: SocksLab) -> None:
    said = python(place, f"""
import os, sojourn.socket as socket
def hello(s, seed):
    s.sendall(b"%d 0 0.0\\n" % seed); return s.recv(2).decode()
mine = socket.create_connection(("{place.lab.topology.correspondent.address}", 9000), 20)
child = os.fork()
if not child:
    other = socket.create_connection(("{place.lab.topology.correspondent.address}", 9000), 20)
    print(hello(other, 1), flush=True); other.close(); os._exit(0)
os.waitpid(child, 0); print(hello(mine, 2)); mine.close()
""")  # fmt: skip
    assert said.split() == ["ok", "ok"]
