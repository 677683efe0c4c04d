"""The anchor's SIP ports: TLS 1.3, and plain TCP and UDP where its owner turns them on.

Whole messages come out, bytes go in; an *origin* (a number) names the connection or UDP port.
Whoever has not proved a secret is a *stranger*, until the owner calls `trust`. Strangers get

    connections   at most 256, 16 from one source; when full, the oldest stranger goes
    time          10 s for the handshake, 30 s in all
    memory        16 KiB of headers, 8 KiB of body, 32 messages a connection
    datagrams     50 a second from one source; answers of at most three times what came

and the trusted: 16384 connections in all, idle for 2 h at most; when full, the one that is silent for longest goes.
What is done for a connection costs the same however many there are.
"""

import asyncio
import contextlib
import itertools
import socket
import ssl
from asyncio import sslproto
from collections import Counter, OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final, cast

from msgspec import Struct

from sojourn.bucket import Bucket
from sojourn.errors import RemoteProtocolError
from sojourn.linux.sip_transport import MAX_WAITING_BYTES, endpoint, tune
from sojourn.model import Endpoint
from sojourn.sip.framing import MAX_BODY_BYTES, MAX_STRANGER_BODY_BYTES, StreamFramer

OnMessage = Callable[[int, Endpoint, str, bytes], None]
"""origin, source, transport ("TLS", "TCP" or "UDP"), one whole message."""

READ_BYTES: Final = 16 << 10
SWEEP: Final = 1.0
ACCEPT_PAUSE: Final = 0.2
"""Seconds of rest when the system has no descriptors left."""


class Limits(Struct, frozen=True):
    """What strangers and others may take."""

    connections: int = 16384
    strangers: int = 256
    strangers_per_source: int = 16
    handshake_s: float = 10.0
    stranger_s: float = 30.0
    idle_s: float = 7200.0
    stranger_messages: int = 32
    datagrams_per_second: float = 50.0
    datagram_burst: float = 100.0
    amplification: int = 3
    """How many times what a stranger sent it may be sent by datagram (RFC 9000 §8 has the same number)."""
    sources: int = 4096
    """UDP sources that are remembered."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return TLS 1.3 with the anchor's key; OSError or ssl.SSLError when the files cannot be used.

    asyncio would keep 256 KiB a connection, of which ten thousand would take 2.5 GB; a TLS record has 16.
    """
    sslproto.SSLProtocol.max_size = READ_BYTES
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a connection lasts for hours: nothing to resume
    context.load_cert_chain(certificate, key)
    return context


class _Connection(asyncio.Protocol):
    """One stream from its TCP handshake on."""

    def __init__(self, owner: "SipListener", origin: int, source: Endpoint, kind: str, now: float) -> None:
        self.owner = owner
        self.origin = origin
        self.source = source
        self.kind = kind
        self.trusted = False
        self.since = self.heard = now
        self.messages = 0
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self._framer = StreamFramer(MAX_STRANGER_BODY_BYTES)

    def trust(self) -> None:
        self.trusted = True
        self.owner.proved(self)
        self._framer.max_body = MAX_BODY_BYTES

    def send(self, data: bytes) -> None:
        if self.transport is None or self.closed:
            return
        self.transport.write(data)
        if self.transport.get_write_buffer_size() > MAX_WAITING_BYTES:
            self.abort()

    def abort(self) -> None:
        self.closed = True
        if self.transport is not None:
            self.transport.abort()
        self.owner.forget(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.closed:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self.heard = asyncio.get_running_loop().time()
        if self.trusted:
            self.owner.proved(self)
        self._framer.feed(data)
        try:
            while not self.closed and (message := self._framer.next_bytes()) is not None:
                self.messages += 1
                if not self.trusted and self.messages > self.owner.limits.stranger_messages:
                    raise RemoteProtocolError("a stranger talks too much", reason="talkative")
                self.owner.on_message(self.origin, self.source, self.kind, message)
        except RemoteProtocolError as error:
            self.owner.refused[error.reason] += 1
            if self.transport is not None:
                self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self.owner.forget(self)


class _Source:
    """What is known of one address that sends datagrams."""

    __slots__ = ("bucket", "credit", "trusted")

    def __init__(self, limits: Limits) -> None:
        self.bucket = Bucket(limits.datagrams_per_second, limits.datagram_burst)
        self.credit = 0
        self.trusted = False


class _UdpPort(asyncio.DatagramProtocol):
    """One UDP port, with the purse of each source."""

    def __init__(self, owner: "SipListener", origin: int) -> None:
        self.owner = owner
        self.origin = origin
        self.transport: asyncio.DatagramTransport | None = None
        self._sources: OrderedDict[str, _Source] = OrderedDict()

    def trust(self, source: str) -> None:
        self._source(source).trusted = True

    def send(self, destination: Endpoint, data: bytes) -> None:
        known = self._sources.get(destination.address)
        if known is None or (not known.trusted and known.credit < len(data)):
            self.owner.refused["amplification"] += 1
            return
        known.credit -= 0 if known.trusted else len(data)
        if self.transport is not None:
            self.transport.sendto(data, (destination.address, destination.port))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)  # before Python 3.12 no subclass of it

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        source = endpoint(address)
        limits = self.owner.limits
        known = self._source(source.address)
        if not known.bucket.take(asyncio.get_running_loop().time()):
            self.owner.refused["rate"] += 1
            return
        known.credit = min(known.credit + limits.amplification * len(data), 1 << 20)
        if data.strip(b"\r\n\0"):  # else a keep-alive
            self.owner.on_message(self.origin, source, "UDP", data)

    def error_received(self, error: Exception) -> None:
        self.owner.refused["icmp"] += 1

    def _source(self, address: str) -> _Source:
        known = self._sources.get(address)
        if known is None:
            known = self._sources[address] = _Source(self.owner.limits)
            if len(self._sources) > self.owner.limits.sources:
                self._sources.popitem(last=False)
        self._sources.move_to_end(address)
        return known


def place_of(address: str) -> str:
    """Return what counts as one source of connections: whoever has an IPv6 address has its /64."""
    return address if ":" not in address else IPv6Address(address).packed[:8].hex()


class SipListener:
    """All SIP ports of one anchor. Bind them with `tls`, `tcp` and `udp`, then `run`."""

    def __init__(self, on_message: OnMessage, on_close: Callable[[int], None], limits: Limits | None = None) -> None:
        """`on_close` tells that a connection is gone, so that nothing more can be sent to its origin."""
        self.on_message = on_message
        self.limits = limits or Limits()
        self.refused: Counter[str] = Counter()
        """What was refused at this level, by reason."""
        self._on_close = on_close
        self._origins = itertools.count(1)
        self._strangers: dict[int, _Connection] = {}
        """The oldest first."""
        self._trusted: OrderedDict[int, _Connection] = OrderedDict()
        """By when they were last heard, the most silent first."""
        self._udp: dict[int, _UdpPort] = {}
        self._bound: list[tuple[socket.socket, ssl.SSLContext | None]] = []
        self._bound_udp: list[socket.socket] = []

    def tls(self, address: str, port: int, certificate: Path, key: Path) -> int:
        """Take TLS connections; return the port. OSError when it cannot be had."""
        return self._bind(address, port, server_context(certificate, key))

    def tcp(self, address: str, port: int) -> int:
        """Take plain TCP connections; return the port."""
        return self._bind(address, port, None)

    def udp(self, address: str, port: int) -> int:
        """Take datagrams; return the port. Answers leave from `address`: a wildcard may choose another one."""
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self._prepare(sock, address, port)
        self._bound_udp.append(sock)
        return int(sock.getsockname()[1])

    async def run(self) -> None:
        """Serve until cancelled; then everything is closed."""
        loop = asyncio.get_running_loop()
        try:
            for sock in self._bound_udp:
                port = _UdpPort(self, next(self._origins))
                self._udp[port.origin] = port
                await loop.create_datagram_endpoint(lambda port=port: port, sock=sock)  # type: ignore[misc]
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sweep())
                for listening, context in self._bound:
                    group.create_task(self._accept(group, listening, context))
        finally:
            self.close()

    def send(self, origin: int, destination: Endpoint, data: bytes) -> None:
        """Send on a connection, or from a UDP port to `destination`; an origin that is gone changes nothing."""
        if (connection := self._find(origin)) is not None:
            connection.send(data)
        elif (port := self._udp.get(origin)) is not None:
            port.send(destination, data)

    def trust(self, origin: int, source: Endpoint) -> None:
        """Note that whoever is there has proved a secret."""
        if (connection := self._find(origin)) is not None:
            connection.trust()
        elif (port := self._udp.get(origin)) is not None:
            port.trust(source.address)

    def close(self) -> None:
        """Close every port and connection."""
        for connection in [*self._strangers.values(), *self._trusted.values()]:
            connection.abort()
        for port in self._udp.values():
            if port.transport is not None:
                port.transport.abort()
        for sock in [*(sock for sock, _ in self._bound), *self._bound_udp]:
            sock.close()
        self._bound.clear()
        self._bound_udp.clear()
        self._udp.clear()

    def forget(self, connection: _Connection) -> None:
        """Take a connection that is over off the list."""
        known = self._strangers.pop(connection.origin, None) or self._trusted.pop(connection.origin, None)
        if known is not None:
            self._on_close(connection.origin)

    def proved(self, connection: _Connection) -> None:
        """Put a connection that is trusted, and was heard just now, where those are."""
        if self._strangers.pop(connection.origin, None) is not None:
            self._trusted[connection.origin] = connection
        elif connection.origin in self._trusted:
            self._trusted.move_to_end(connection.origin)

    def _find(self, origin: int) -> _Connection | None:
        return self._strangers.get(origin) or self._trusted.get(origin)

    def _bind(self, address: str, port: int, context: ssl.SSLContext | None) -> int:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._prepare(sock, address, port)
        sock.listen(128)
        self._bound.append((sock, context))
        return int(sock.getsockname()[1])

    def _prepare(self, sock: socket.socket, address: str, port: int) -> None:
        try:
            sock.setblocking(False)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # "0.0.0.0" is bound beside it
            sock.bind((address, port))
        except OSError:
            sock.close()
            raise

    async def _accept(self, group: asyncio.TaskGroup, listening: socket.socket, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
            except OSError:  # out of descriptors, or the peer is gone already
                self.refused["accept"] += 1
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            source = endpoint(address)
            if self._full(source):
                self.refused["connections"] += 1
                sock.close()
                continue
            kind = "TCP" if context is None else "TLS"
            connection = _Connection(self, next(self._origins), source, kind, loop.time())
            self._strangers[connection.origin] = connection
            group.create_task(self._shake_hands(connection, sock, context))

    async def _shake_hands(self, connection: _Connection, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        limit = None if context is None else self.limits.handshake_s
        try:
            tune(sock)
            await loop.connect_accepted_socket(lambda: connection, sock, ssl=context, ssl_handshake_timeout=limit)
        except (OSError, TimeoutError):
            self.refused["handshake"] += 1
            with contextlib.suppress(OSError):
                sock.close()
            connection.abort()

    def _full(self, source: Endpoint) -> bool:
        """Make room for a new stranger, by dropping one that matters least if need be; say whether there is none."""
        place = place_of(source.address)
        here = sum(place_of(one.source.address) == place for one in self._strangers.values())
        if here >= self.limits.strangers_per_source:
            return True
        if len(self._strangers) + len(self._trusted) >= self.limits.connections and self._trusted:
            self.refused["crowded"] += 1
            next(iter(self._trusted.values())).abort()  # its host has moved on, or opens another one when it needs it
        elif len(self._strangers) >= self.limits.strangers:
            self.refused["crowded"] += 1
            next(iter(self._strangers.values())).abort()
        return False

    async def _sweep(self) -> None:
        """Drop strangers who had their time, and whoever is silent for too long."""
        while True:
            await asyncio.sleep(SWEEP)
            now = asyncio.get_running_loop().time()
            over = [one for one in self._strangers.values() if now >= one.since + self.limits.stranger_s]
            for one in self._trusted.values():
                if now < one.heard + self.limits.idle_s:
                    break
                over.append(one)
            for one in over:
                self.refused["idle"] += 1
                one.abort()
