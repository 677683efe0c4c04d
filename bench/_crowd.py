"""A crowd of mobile hosts in one process, for bench/scale.py: each registers over TLS and has tunnels of its own.

Everything on the wire is the real protocol: SIP over TLS 1.3 by the host's own machine, sealed tunnels by the host's
own forwarder with probes, epochs, address proofs and keep-alives. Only the sockets are shared: a tunnel is known by its
index. Connections are kept, as hosts keep theirs.

`python -m bench._crowd TOKENS SOURCES` reads one join token a line from the file TOKENS, and uses SOURCES addresses
from 192.0.2.10 on; then orders from standard input, one JSON object a line, each answered by one: {"register": n},
{"flows": each, "ports": n}, {"send": packets, "hosts": n, "words": packets in one go}, {"idle": seconds}.

Ten thousand hosts in one process must not do what none of them would do alone: take for silence that this process has
not read yet. So all that has come is read before a timer is served, and memory is not searched for garbage meanwhile.
"""

import asyncio
import contextlib
import functools
import gc
import ipaddress
import json
import os
import select
import socket
import sys
import time
from asyncio import sslproto
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench._ground import TARGET
from sojourn.control.token import JoinToken, parse
from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.forwarder import Forwarder
from sojourn.datapath.memory import MemoryDataPath
from sojourn.datapath.registry import DUE_AT_ONCE
from sojourn.linux import sip_transport
from sojourn.linux.keeper import raise_descriptors
from sojourn.linux.sip_transport import TlsClient
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.ip import udp_packet
from sojourn.upmt.association import (
    Associated,
    AssociationClient,
    AssociationSettings,
    ChannelOpened,
    CredentialIssued,
    Refused,
    SendSip,
    SipReceived,
)
from sojourn.upmt.commands import AddAssociation, InstallSecret, OpenTunnel, Role, SetDefault, Setup
from sojourn.upmt.events import TunnelTested
from sojourn.upmt.lease import Lease

AT_ONCE = 24
TUNNELS = 3
SOCKETS = 64
READ_AT_ONCE = 64
"""Datagrams of one socket: then the others have their turn."""
LATE = 0.05
AT_ONCE_TESTED = 24
"""Tunnels that are opened before others: more would not be answered within the 50 ms after which they ask again."""
AT_ONCE_BEGUN = 200
"""Flows whose first packet is on its way."""
ECHO_WITHIN = 0.5
"""Seconds after which a first packet that has not come back is not waited for."""
READ_BYTES = 16 << 10
"""What asyncio keeps for reading from each connection, 256 KiB else, touched at once; the anchor does alike."""
PAYLOAD = b"x" * 100
PORT, ANSWERING = 3000, 4
"""The target answers at so many ports from the first on. One address of an anchor has some 64,000 ports towards each: a
hundred thousand flows need two at least."""
SO_RCVBUFFORCE = 33
FLOWS_PER_SECOND = 3000.0
TALKERS, WORDS, STRIDE = 10, 400, 37


class Clock:
    """Boot time, but for what was spent waiting for orders: nothing is due meanwhile, and nothing is late after it."""

    def __init__(self) -> None:
        self._stood = 0.0

    def __call__(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self._stood

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        began = self()
        yield
        self._stood += self() - began


now = Clock()


class Member:
    """One host of the crowd."""

    def __init__(self, number: int, token: JoinToken, source: str) -> None:
        self.number = number
        self.token = token
        self.source = source
        self.lease: Lease | None = None
        self.refused: str | None = None
        self.connected: asyncio.Future[None] | None = None

    async def register(self) -> None:
        """Associate, as `sojourn host` does at its first start, and keep the connection."""
        token, over = self.token, asyncio.Event()
        client = AssociationClient(
            AssociationSettings(token.user, token.address, f"crowd{self.number}", token.password, expires=3600),
            os.urandom,
        )

        def closed(why: str) -> None:
            self.refused = self.refused or why
            over.set()

        def obey(commands: list[Any]) -> None:
            for command in commands:
                match command:
                    case SendSip(_, data):
                        transport.send(data)
                    case Associated(lease):
                        self.lease = lease
                        over.set()
                    case Refused(status, why):
                        self.refused = f"{status} {why}"
                        over.set()
                    case CredentialIssued():
                        pass

        transport = TlsClient(
            Endpoint(token.address, token.port),
            spki=token.spki,
            source=self.source,
            interface=None,
            on_open=lambda local: obey(client.handle(ChannelOpened(1, local, True), now())),
            on_message=lambda data: obey(client.handle(SipReceived(1, data), now())),
            on_close=closed,
        )
        self.connected = asyncio.ensure_future(transport.run())
        await over.wait()
        if self.lease is None:
            transport.close()
            await self.connected


class PatientForwarder(Forwarder):
    """Serves timers only while nothing waits to be read, not after each packet: one timer sends more than one probe."""

    reading = False

    def run_due(self, now: float, most: int = DUE_AT_ONCE) -> None:
        """Let tunnels do what is due, unless there is more to read."""
        if not self.reading:
            super().run_due(now, most)


class Crowd:
    """All of them, their forwarder and its sockets."""

    def __init__(self, tokens: list[JoinToken], sources: list[str]) -> None:
        self.members = [Member(n, token, sources[n % len(sources)]) for n, token in enumerate(tokens)]
        self.registered = 0
        self.tested = 0
        self.path = MemoryDataPath(now, random=os.urandom)
        self.path.on_outer, self.path.on_inner = self._send, self._hear
        self.forwarder = self.path.forwarder = PatientForwarder(self.path, self._event, EpochStore())
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOCKETS)]
        self.poll = select.epoll()
        for number, each in enumerate(self.sockets):
            each.bind((sources[number % len(sources)], 0))
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
            self.poll.register(each.fileno(), select.EPOLLIN)
        self.by_fd = {each.fileno(): each for each in self.sockets}
        self.packets: list[list[bytes]] = []
        self.lost_sends = self.heard = 0
        self.turned = now()
        """When the last turn ended."""

    def _event(self, event: object) -> None:
        if isinstance(event, TunnelTested):
            self.tested += 1

    def _hear(self, _packet: bytes) -> None:
        self.heard += 1

    def _send(self, tunnel: TunnelId, datagram: bytes, destination: Endpoint, _fragment: bool) -> None:
        try:
            self.sockets[tunnel % SOCKETS].sendto(datagram, (destination.address, destination.port))
        except BlockingIOError:
            self.lost_sends += 1

    async def register(self, upto: int) -> dict[str, Any]:
        """Register further members until there are `upto`; return how fast."""
        waiting = iter(self.members[self.registered : upto])
        began, spent = time.monotonic(), time.process_time()

        async def work() -> None:
            for member in waiting:
                for _ in range(5):  # TLS handshakes cost the anchor: a refused one is tried again
                    await member.register()
                    if member.lease is not None:
                        break
                    await asyncio.sleep(0.2)
                else:
                    raise RuntimeError(f"member {member.number}: {member.refused}")

        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(work())
        took, count = time.monotonic() - began, upto - self.registered
        self.registered = upto
        return {"seconds": round(took, 2), "per_s": round(count / took, 1),
                "crowd_cpu_s": round(time.process_time() - spent, 2)}  # fmt: skip

    def open(self, since: int) -> dict[str, Any]:
        """Open the tunnels of the members from `since` on, and wait until each has been tested."""
        path = self.path
        first = self.members[0].lease
        assert first is not None
        path.submit([Setup(Role.HOST, "crowd", first.mtu, inner_addresses=first.inner_addresses)])
        wanted, began = self.tested, time.monotonic()
        for number in range(since, self.registered):
            lease = self.members[number].lease
            assert lease is not None
            assert lease.secret is not None
            mine = AssociationId(number)
            path.submit(
                [AddAssociation(mine, lease.vipa, lease.vipa6, lease.tunnels), InstallSecret(mine, lease.secret)]
            )
            for tunnel in lease.tunnels[:TUNNELS]:
                opened = OpenTunnel(
                    mine, tunnel, "", Endpoint("0.0.0.0", 0), lease.endpoints[0], keep_alive=lease.keep_alive
                )
                path.submit([opened])
                wanted += 1
            path.submit([SetDefault(mine, lease.tunnels[0])])
            self.turn(0.0)
            while self.tested < wanted - AT_ONCE_TESTED and time.monotonic() < began + 300.0:
                self.turn(0.001)
        until = time.monotonic() + 120.0
        while self.tested < wanted and time.monotonic() < until:
            self.turn(0.01)
        return {"tunnels": self.tested, "missing": wanted - self.tested, "seconds": round(time.monotonic() - began, 2)}

    def flows(self, each: int, ports: int = 1) -> dict[str, Any]:
        """Make the first packet of each flow: `each` a member. `ports`: to so many, of which the first four answer."""
        self.packets = []
        began, heard = time.monotonic(), self.heard
        for number, member in enumerate(self.members[: self.registered], 1):
            assert member.lease is not None
            self.packets.append([
                udp_packet(Endpoint(member.lease.vipa, 10000 + port), Endpoint(TARGET, PORT + port % ports), PAYLOAD)
                for port in range(each)
            ])  # fmt: skip
            for packet in self.packets[-1]:
                self.forwarder.from_inner(packet, now())
            expected = heard + number * each * min(ports, ANSWERING) // ports - AT_ONCE_BEGUN
            until = time.monotonic() + ECHO_WITHIN
            self.turn(max(0.0, began + number * each / FLOWS_PER_SECOND - time.monotonic()))
            while self.heard < expected and time.monotonic() < until:
                self.turn(0.001)
        return {"flows": each * self.registered, "answered": self.heard - heard,
                "seconds": round(time.monotonic() - began, 2)}  # fmt: skip

    def send(self, count: int, hosts: int, words: int = WORDS, per_second: float = 3000.0) -> dict[str, Any]:
        """Send `count` packets from `hosts` members: ten talk at a time, `words` packets each, then ten others.

        A tunnel is probed several times a second for two seconds after data: it matters how often others begin.
        `words` 0: the same ten talk all the time, however many others there are.
        """
        began, forwarder = time.monotonic(), self.forwarder
        groups = max(1, hosts // TALKERS)
        for number in range(count):
            group = number // (TALKERS * words) * STRIDE % groups if words else 0
            member = group * TALKERS + number % TALKERS if words else number % TALKERS * groups
            mine = self.packets[member]
            forwarder.from_inner(mine[number // TALKERS % len(mine)], now())
            if number % 16 == 0:
                ahead = began + number / per_second - time.monotonic()
                self.turn(max(0.0, ahead))
        self.turn(0.2)
        return {"packets": count, "seconds": round(time.monotonic() - began, 2), "lost_sends": self.lost_sends}

    def turn(self, wait: float) -> None:
        """Take in what has come, for `wait` seconds at least, as datapath/loop.py does: all of it before a timer."""
        until, forwarder = time.monotonic() + wait, self.forwarder
        while True:
            late = now() - self.turned
            if late > LATE:
                forwarder.clock_jumped(late, now())
            due = forwarder.deadline()
            rest = until - time.monotonic()
            ready = self.poll.poll(max(0.0, rest if due is None else min(rest, due - now())))
            self.turned = now()
            forwarder.reading = True
            for fd, _ in ready:
                self._read(fd)
            forwarder.reading = False
            if ready and self.poll.poll(0.0):
                continue
            due = forwarder.deadline()
            if due is not None and due <= now():
                forwarder.tick(now())
            elif not ready and time.monotonic() >= until:
                return

    def _read(self, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(READ_AT_ONCE):
                data, source = self.by_fd[fd].recvfrom(65536)
                self.forwarder.from_outer(data, Endpoint(*source), now(), TunnelId(int.from_bytes(data[1:4])))


def main() -> None:
    raise_descriptors()
    gc.disable()  # a search through what ten thousand hosts have takes seconds
    sslproto.SSLProtocol.max_size = READ_BYTES
    sip_transport.client_context = functools.cache(sip_transport.client_context)
    with asyncio.Runner() as runner:  # one loop: the connections live in it from order to order
        obey(runner)


def orders() -> Iterator[dict[str, Any]]:
    """Wait for each order; to a crowd of thousands the time until then must not look like silence, nor be made up."""
    while True:
        with now.standing():
            line = sys.stdin.readline()
        if not line:
            return
        yield json.loads(line)


def obey(runner: asyncio.Runner) -> None:
    """Carry out orders until there are no more."""
    tokens = [parse(line) for line in Path(sys.argv[1]).read_text().split()]
    sources = [str(ipaddress.ip_address("192.0.2.10") + number) for number in range(int(sys.argv[2]))]
    crowd = Crowd(tokens, sources)
    print("ready", flush=True)
    for order in orders():
        answer: dict[str, Any] = {}
        if "register" in order:
            before = crowd.registered
            answer = runner.run(crowd.register(order["register"]))
            answer["open"] = crowd.open(before)
        elif "flows" in order:
            answer = crowd.flows(order["flows"], order.get("ports", 1))
        elif "send" in order:
            answer = crowd.send(order["send"], order["hosts"], order.get("words", WORDS))
        elif "idle" in order:
            crowd.turn(order["idle"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
