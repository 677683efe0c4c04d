"""The proxy's side towards correspondents: names resolved here, rules asked, connections and listeners opened.

What is called is the very address that the rules were asked about, so that a name whose addresses
change between two look-ups leads nowhere it may not.
"""

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from sojourn.control.socks_access import Access
from sojourn.errors import SojournError
from sojourn.linux import tcp_state
from sojourn.msocks.socks5 import Address, Code

RESOLVERS: Final = 32
"""Look-ups at a time; further ones wait, and count against their own time."""
RESOLVE_TIMEOUT: Final = 10.0
CONNECT_TIMEOUT: Final = 20.0
ATTEMPTS: Final = 4
"""Addresses of one name that are tried."""
HEAD_START: Final = 0.25
"""Seconds that an attempt has before the next address is tried beside it (RFC 8305 §5)."""

_CODES: Final = {
    errno.ECONNREFUSED: Code.REFUSED, errno.ENETUNREACH: Code.NETWORK_UNREACHABLE,
    errno.EHOSTUNREACH: Code.HOST_UNREACHABLE, errno.ETIMEDOUT: Code.HOST_UNREACHABLE,
    errno.EADDRNOTAVAIL: Code.FAILURE, errno.EACCES: Code.NOT_ALLOWED, errno.EPERM: Code.NOT_ALLOWED,
}  # fmt: skip


class NotOpened(SojournError):
    """A request that cannot be served: the code for the client, and one word for the counter."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Opener:
    """Opens what users ask for."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._threads = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="socks-resolve")

    def close(self) -> None:
        """Let go of the threads; look-ups that hang end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def addresses(self, user: str, wanted: Address, kind: int = socket.SOCK_STREAM) -> list[Address]:
        """Return the addresses that `wanted` stands for and `user` may reach, in order. Raises NotOpened."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT):
                found = await loop.run_in_executor(self._threads, _resolve, wanted, kind)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise NotOpened(Code.HOST_UNREACHABLE, "name") from error
        allowed = [address for address in found if self.access.may(user, address.host, address.port)]
        if not allowed:
            raise NotOpened(Code.NOT_ALLOWED, "not allowed")
        return allowed

    async def connect(self, user: str, wanted: Address, mss: int | None = None) -> socket.socket:
        """Return a connection to `wanted`, which is offered no larger segments than `mss`. Raises NotOpened."""
        if not wanted.port:
            raise NotOpened(Code.FAILURE, "port")
        candidates = (await self.addresses(user, wanted))[:ATTEMPTS]
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await _race(candidates, mss)
        except TimeoutError as error:
            raise NotOpened(Code.HOST_UNREACHABLE, "timeout") from error
        except OSError as error:
            reason = "no port left" if error.errno == errno.EADDRNOTAVAIL else "connect"
            raise NotOpened(_CODES.get(error.errno or 0, Code.FAILURE), reason) from error

    async def listen(self, user: str, expected: Address, local: str) -> tuple[socket.socket, frozenset[str]]:
        """Return a socket that listens at `local`, and who may call: the addresses of `expected` (empty: anybody)."""
        anybody = expected.host in ("0.0.0.0", "::")
        callers = [] if anybody else await self.addresses(user, Address(expected.host, expected.port or 1))
        sock = socket.socket(socket.AF_INET6 if ":" in local else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.bind((local, 0))
            sock.listen(1)
        except OSError as error:
            sock.close()
            raise NotOpened(Code.FAILURE, "bind") from error
        return sock, frozenset(caller.host for caller in callers)


def _resolve(wanted: Address, kind: int) -> list[Address]:
    with contextlib.suppress(ValueError):
        return [Address(str(ipaddress.ip_address(wanted.host)), wanted.port)]
    found = socket.getaddrinfo(wanted.host, wanted.port, type=kind, flags=socket.AI_ADDRCONFIG)
    hosts = dict.fromkeys(str(entry[4][0]) for entry in found)
    return [Address(host, wanted.port) for host in hosts]


async def _race(candidates: Sequence[Address], mss: int | None) -> socket.socket:
    """Try addresses one after the other, each with a head start; the first connection wins."""
    running: set[asyncio.Task[socket.socket]] = set()
    error: OSError | None = None
    waiting = list(candidates)
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(_call(waiting.pop(0), mss)))
            done, running = await asyncio.wait(
                running, timeout=HEAD_START if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                failed = task.exception()
                if failed is None:
                    return task.result()
                if not isinstance(failed, OSError):
                    raise failed
                error = failed
    finally:
        for task in running:
            task.cancel()
        for result in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(result, socket.socket):
                result.close()
    raise error or OSError(errno.EHOSTUNREACH, "no address")


async def _call(address: Address, mss: int | None) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        tcp_state.prepare(sock, idle_s=300)
        if mss is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
        await asyncio.get_running_loop().sock_connect(sock, (address.host, address.port))
    except BaseException:
        sock.close()
        raise
    return sock
