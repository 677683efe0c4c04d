"""The probe for captive portals: one HTTP GET over one network, never through the tunnel."""

import asyncio
import socket
from collections.abc import Sequence

from sojourn.control.config import PortalConfig
from sojourn.control.portal_answer import MAX_ANSWER, Finding, Target, Verdict, judge, read, target
from sojourn.errors import RemoteProtocolError
from sojourn.linux.network_dns import resolve
from sojourn.linux.numbers import MARK
from sojourn.linux.sip_transport import bound_socket
from sojourn.model import Network

CONNECT_SECONDS = 3.0
BODY_SECONDS = 2.0
MAX_ADDRESSES = 2
UNKNOWN = Finding(Verdict.UNKNOWN)


async def probe(network: Network, config: PortalConfig, servers: Sequence[str]) -> Finding:
    """Ask, and judge the answer; whatever goes wrong is Verdict.UNKNOWN."""
    where = target(config.url)
    if where is None:
        return UNKNOWN
    try:
        addresses = await resolve(where.host, network, servers)
    except OSError:
        return UNKNOWN
    for address in [one for one in addresses if (":" in one) == (":" in network.address)][:MAX_ADDRESSES]:
        try:
            return await _ask(network, address, where, config)
        except (OSError, TimeoutError, RemoteProtocolError):
            continue
    return UNKNOWN


async def _ask(network: Network, address: str, where: Target, config: PortalConfig) -> Finding:
    loop = asyncio.get_running_loop()
    sock = bound_socket(socket.SOCK_STREAM, network.address, network.interface, MARK)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await loop.sock_connect(sock, (address, where.port))
            await loop.sock_sendall(sock, where.request)
            data = await loop.sock_recv(sock, MAX_ANSWER)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while len(data) < MAX_ANSWER and not _is_open(data, config):
                    more = await loop.sock_recv(sock, MAX_ANSWER - len(data))
                    if not more:
                        break
                    data += more
        except (TimeoutError, OSError):  # some portals cut the connection: what came counts
            pass
        return judge(read(data), config)
    finally:
        sock.close()


def _is_open(data: bytes, config: PortalConfig) -> bool:
    """Say whether what came so far settles it."""
    try:
        return judge(read(data), config).verdict is Verdict.OPEN
    except RemoteProtocolError:
        return False
