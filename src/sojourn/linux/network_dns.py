"""Names as one network's own DNS servers know them, asked over that network alone.

Needed where the tunnel cannot be used yet: for the probe of a captive portal, and for whoever logs in to it.
"""

import asyncio
import contextlib
import ipaddress
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sojourn.errors import RemoteProtocolError
from sojourn.linux import dns as system_dns
from sojourn.linux.numbers import MARK
from sojourn.linux.sip_transport import bound_socket
from sojourn.model import Network
from sojourn.packet import dns

PORT = 53
ANSWER_SECONDS = 1.0
ROUNDS = 2
MAX_ANSWERS = 64
"""Answers to one question that are looked at: reading more without a pause would keep everything else from running."""
MAX_SERVERS = 2
RESOLVED = Path("/run/systemd/resolve")
RESOLVECTL_SECONDS = 3


async def servers_of(network: Network, told: Sequence[str] = ()) -> list[str]:
    """Return a network's DNS servers of its address's family, best effort, the surest source first.

    `told`: what NetworkManager says; then systemd-resolved, resolv.conf, and the gateway: most of them answer.
    """
    sources = [list(told)]
    sources.append(await asyncio.to_thread(_of_link, network.interface))
    sources += [system_dns.nameservers(), [network.gateway] if network.gateway else []]
    for servers in sources:
        usable = [server for server in servers if _is_for(server, network.address)]
        if usable:
            return usable[:MAX_SERVERS]
    return []


async def resolve(name: str, network: Network, servers: Sequence[str]) -> list[str]:
    """Return the addresses of `name`, of the family of the network's own. Raises OSError with a sentence."""
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(name))]
    kind = dns.AAAA if ":" in network.address else dns.A
    problem = "this network's DNS servers are not known"
    for _ in range(ROUNDS):
        for server in servers:
            try:
                answer = await asyncio.wait_for(_ask(name, kind, network, server), ANSWER_SECONDS)
            except (TimeoutError, OSError, ValueError) as error:
                problem = str(error) or f"{server} does not answer"
                continue
            if answer.addresses or answer.code in (0, 3):
                return list(answer.addresses)
            problem = f"{server} answers with error {answer.code}"
    raise OSError(f"{name}: {problem}")


async def _ask(name: str, kind: int, network: Network, server: str) -> dns.Answer:
    """Ask one server once; answers to other questions are passed over."""
    identifier = secrets.randbits(16)
    question = dns.question(name, kind, identifier)
    asked = dns.parse(_as_response(question)).question
    loop = asyncio.get_running_loop()
    sock = bound_socket(socket.SOCK_DGRAM, network.address, network.interface, MARK)
    try:
        await loop.sock_connect(sock, (server, PORT))
        await loop.sock_sendall(sock, question)
        for _ in range(MAX_ANSWERS):
            with contextlib.suppress(RemoteProtocolError):
                answer = dns.parse(await loop.sock_recv(sock, 4096))
                if (answer.identifier, answer.question, answer.kind) == (identifier, asked, kind):
                    return answer
        raise OSError(f"{server} answers what nobody asked")
    finally:
        sock.close()


def _as_response(question: bytes) -> bytes:
    return question[:2] + bytes([question[2] | 0x80]) + question[3:]


def _of_link(interface: str) -> list[str]:
    """Ask systemd-resolved, where it runs: `Link 3 (wlan0): 192.0.2.53 2001:db8::53`."""
    if not RESOLVED.exists() or shutil.which("resolvectl") is None:
        return []
    try:
        done = subprocess.run(
            ["resolvectl", "dns", interface], capture_output=True, text=True, timeout=RESOLVECTL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return re.sub(r"^Link \d+ \([^)]*\):", "", done.stdout.strip()).split() if done.returncode == 0 else []


def _is_for(server: str, address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(server)
    except ValueError:
        return False
    same = (parsed.version == 6) == (":" in address)
    return same and not parsed.is_loopback and not parsed.is_link_local and not parsed.is_unspecified
