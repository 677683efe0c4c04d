"""Listening ports that the confined process may not bind by itself (CAP_NET_BIND_SERVICE): control opens them for it.

An anchor's owner puts the tunnel port at 443 or 53 because it passes more firewalls than others do.
"""

import contextlib
import os
from collections.abc import Container
from typing import Final

from sojourn.linux.descriptors import listen_name
from sojourn.linux.udp import UdpSocket
from sojourn.upmt.commands import Setup

FIRST_FREE_PORT: Final = 1024


def open_low_ports(setup: Setup, known: Container[str]) -> dict[str, int]:
    """Return a bound socket's descriptor for each low port that is not among the `known` names.

    One that cannot be bound is left to the engine, which says why.
    """
    opened: dict[str, int] = {}
    for endpoint in setup.listen:
        name = listen_name(endpoint)
        if not 0 < endpoint.port < FIRST_FREE_PORT or name in known:
            continue
        with contextlib.suppress(OSError):
            sock = UdpSocket.open(endpoint, gso=False, gro=False)
            opened[name] = os.dup(sock.fd)
            sock.close()
    return opened
