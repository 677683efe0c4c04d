"""The host's SIP connection to the anchor, from one address and interface: TLS 1.3 with the anchor's key pinned.

The anchor is known by the SHA-256 of its public key (SPKI), which came with the join token; names and
dates in its certificate mean nothing here. Nothing is sent before the key was compared.
Connecting and the handshake together have one time limit; what is unacknowledged for
`USER_TIMEOUT` closes the connection. The paper's own forms are TCP in the clear, which is TLS without what makes it
secure (`TcpClient`), and UDP (linux/sip_udp.py). The anchor's side is linux/sip_listener.py.
"""

import asyncio
import contextlib
import hashlib
import socket
import ssl
from collections.abc import Callable
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sojourn.errors import SojournError
from sojourn.model import Endpoint

# Ours.
OPEN_TIMEOUT: Final = 10.0
FLUSH_TIMEOUT: Final = 1.0
"""Seconds that what was sent before `close` has to go out."""
USER_TIMEOUT: Final = 20.0
"""Seconds for which sent data may stay unacknowledged (TCP_USER_TIMEOUT, RFC 5482)."""
SEGMENT_BYTES: Final = 1220
"""What IPv6's least MTU carries (TCP_MAXSEG, told to the anchor, too): there are paths that carry no more and
tell nobody, and a handshake is larger."""
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 120, 15, 4
MAX_WAITING_BYTES: Final = 8 << 20
"""What may wait to be sent on one connection."""


class WrongKey(SojournError):
    """Whoever answers at the anchor's address does not hold the anchor's key."""

    def __init__(self, anchor: Endpoint, found: str) -> None:
        super().__init__(
            f"{anchor.address} does not hold the key of your anchor (its SPKI hash is {found}): something is in "
            "between, or the anchor was set up anew; then `sojourn join` with a new token"
        )


def client_context() -> ssl.SSLContext:
    """Return TLS 1.3 without certificate checks: `check_key` takes their place."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def check_key(certificate: bytes | None, spki: bytes, anchor: Endpoint) -> None:
    """Compare a DER certificate's key with the pinned hash; raise WrongKey.

    That the peer holds the private key was proved in the handshake (RFC 8446 §4.4.3).
    """
    try:
        key = x509.load_der_x509_certificate(certificate or b"").public_key()
        found = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    except (ValueError, TypeError) as error:
        raise WrongKey(anchor, "unreadable") from error
    if found != spki:
        raise WrongKey(anchor, found.hex())


def tune(sock: socket.socket) -> None:
    """Set what makes a dead TCP connection be noticed."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(USER_TIMEOUT * 1000))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)


def endpoint(address: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
    """Write a socket address as an Endpoint; IPv4 in IPv6 as the IPv4 that it is."""
    return Endpoint(address[0].removeprefix("::ffff:") if "." in address[0] else address[0], address[1])


def bound_socket(kind: socket.SocketKind, source: str, interface: str | None, mark: int | None) -> socket.socket:
    """Return a socket whose packets leave from `source` by `interface`; OSError when the address is not there."""
    sock = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, kind)
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_STREAM:
            tune(sock)
        if interface is not None:
            with contextlib.suppress(PermissionError):  # then the source address alone has to do
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        if mark is not None:
            with contextlib.suppress(PermissionError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        sock.bind((source, 0))
    except OSError:
        sock.close()
        raise
    return sock


class TcpClient(asyncio.Protocol):
    """One connection. `run` opens it and returns when it is over; `on_close` is called once, with the reason."""

    def __init__(
        self,
        anchor: Endpoint,
        *,
        source: str,
        interface: str | None,
        on_open: Callable[[Endpoint], None],
        on_message: Callable[[bytes], None],
        on_close: Callable[[str], None],
        mark: int | None = None,
        open_timeout: float = OPEN_TIMEOUT,
    ) -> None:
        """`anchor.address` may be a name; `on_message` gets bytes as they come, not whole messages.

        `mark` is set on the socket where permitted (linux/numbers.py).
        """
        self.anchor = anchor
        self._source = source
        self._interface = interface
        self._on_open = on_open
        self._on_message = on_message
        self._on_close = on_close
        self._mark = mark
        self._open_timeout = open_timeout
        self._transport: asyncio.Transport | None = None
        self._refused: WrongKey | None = None
        self._over = asyncio.Event()
        self._lost = asyncio.Event()
        self._why = "the anchor closed the connection"

    async def run(self) -> None:
        """Open the connection, and wait for its end."""
        try:
            await self._open()
            await self._over.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_TIMEOUT):
                    await self._lost.wait()
        except WrongKey as error:
            self._why = str(error)
        except TimeoutError:
            self._why = f"no answer from {self._where()} within {self._open_timeout:g} s"
        except ConnectionRefusedError:
            self._why = f"{self._where()} refuses connections: is `sojourn anchor` running there?"
        except ssl.SSLError as error:
            self._why = f"no TLS 1.3 with {self._where()}: {error.reason or error}"
        except OSError as error:
            self._why = f"cannot connect to {self._where()}: {error.strerror or error}"
        finally:
            if self._transport is not None:
                self._transport.abort()
        self._on_close(self._why)

    def send(self, data: bytes) -> None:
        """Send, or close when the anchor takes nothing any more."""
        if self._transport is None or self._over.is_set():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > MAX_WAITING_BYTES:
            self._end("the anchor does not read what it is sent")

    def close(self) -> None:
        """Give the connection up, open or half open; what was sent still goes out. `run` ends soon after."""
        self._why = "closed here"
        if self._transport is not None:
            self._transport.close()
        self._over.set()

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        opening = asyncio.ensure_future(self._connect(loop))
        giving_up = asyncio.ensure_future(self._over.wait())
        try:
            async with asyncio.timeout(self._open_timeout):
                await asyncio.wait([opening, giving_up], return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                opening.result()
            else:
                self._lost.set()
        finally:
            giving_up.cancel()
            if not opening.done():
                opening.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await opening
        if self._refused is not None:
            raise self._refused

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        sock = bound_socket(socket.SOCK_STREAM, self._source, self._interface, self._mark)
        try:
            found = await loop.getaddrinfo(
                self.anchor.address, self.anchor.port, family=sock.family, type=socket.SOCK_STREAM
            )
            await loop.sock_connect(sock, found[0][4])
            await self._speak(loop, sock)
        except BaseException:
            sock.close()
            raise

    async def _speak(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        """Become the protocol of a socket that is connected."""
        await loop.create_connection(lambda: self, sock=sock)

    def _check(self, transport: asyncio.Transport) -> None:
        """Make sure who is at the other end; WrongKey if it is somebody else."""

    def _where(self) -> str:
        return f"{self.anchor.address} port {self.anchor.port}"

    def _end(self, why: str) -> None:
        if not self._over.is_set():
            self._why = why
            self._over.set()

    # asyncio.Protocol: the handshake is over when `connection_made` is called.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make sure who is there before a byte is sent or read."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        try:
            self._check(transport)
        except WrongKey as error:
            self._refused = error
            transport.abort()
            return
        self._on_open(endpoint(transport.get_extra_info("sockname")))

    def data_received(self, data: bytes) -> None:
        """Hand on what came, unless it came from the wrong one."""
        if self._refused is None and not self._over.is_set():
            self._on_message(data)

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end."""
        self._lost.set()
        self._end(f"connection to {self._where()} lost: {error}" if error is not None else self._why)


class TlsClient(TcpClient):
    """The same over TLS 1.3."""

    def __init__(
        self,
        anchor: Endpoint,
        *,
        spki: bytes,
        source: str,
        interface: str | None,
        on_open: Callable[[Endpoint], None],
        on_message: Callable[[bytes], None],
        on_close: Callable[[str], None],
        mark: int | None = None,
        open_timeout: float = OPEN_TIMEOUT,
    ) -> None:
        """`spki`: SHA-256 of the anchor's public key. The rest as for TcpClient."""
        super().__init__(
            anchor, source=source, interface=interface, on_open=on_open, on_message=on_message, on_close=on_close,
            mark=mark, open_timeout=open_timeout,
        )  # fmt: skip
        self._spki = spki

    async def _speak(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        await loop.create_connection(lambda: self, sock=sock, ssl=client_context(), server_hostname="")

    def _check(self, transport: asyncio.Transport) -> None:
        tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
        check_key(tls.getpeercert(binary_form=True), self._spki, self.anchor)
