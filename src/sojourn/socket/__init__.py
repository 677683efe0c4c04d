"""A drop-in for Python's `socket` module: connections made with it survive changes of network.

    import sojourn.socket as socket          # or sojourn.socket.install(), for libraries that use `socket`

Where a host daemon runs, sockets are ordinary ones, which its tunnels keep alive. Where none does, TCP goes through
the anchor's SOCKS port as a session that moves (worker.py), with the key that `sojourn join` has left (choice.py).
UDP, and everything to this very machine, is as ever. Beyond the standard module:

    networks()                   the networks that there are, and how they are
    configure(...)               where configuration is, and what policies call this program
    install(), uninstall()       put this module's sockets in the place of the standard module's
    sock.network                 the name of the network that carries it now
    sock.move(name)              order it to another one
    sock.on_handover(callback)   callback(before, after, gap in seconds or None), in a thread of ours
    sock.outer                   where correspondents see it, or call it, at the proxy
"""

import socket as _std
import types
from typing import TYPE_CHECKING, Any

from sojourn.socket.carried import Carried
from sojourn.socket.choice import choice
from sojourn.socket.stream import is_local
from sojourn.socket.stream import socket as socket

if not TYPE_CHECKING:
    from socket import *  # noqa: F403 - that is what a drop-in is; its class is replaced below

    from sojourn.socket.stream import socket

_PATCHED = ("socket", "SocketType", "create_connection", "create_server", "fromfd", "socketpair")
_standard = {name: getattr(_std, name) for name in _PATCHED}
_resolve = _std.getaddrinfo


def _names_left_to_the_proxy(host: Any, port: Any, *rest: Any, **named: Any) -> list[Any]:
    """Stand for getaddrinfo where something is opened: the proxy, which is never behind a dead network, resolves."""
    if isinstance(host, str) and isinstance(port, int) and not is_local(host) and not choice.by_tunnels():
        try:
            _std.inet_pton(_std.AF_INET6 if ":" in host else _std.AF_INET, host)
        except OSError:
            return [(_std.AF_INET, _std.SOCK_STREAM, _std.IPPROTO_TCP, "", (host, port))]
    return list(_resolve(host, port, *rest, **named))


def _with_ours(function: Any, **names: Any) -> Any:
    """Return a function of the standard module that finds our class where it looks for its own."""
    known = {**vars(_std), "socket": socket, **names}
    made = types.FunctionType(function.__code__, known, function.__name__, function.__defaults__)
    made.__kwdefaults__, made.__doc__, made.__module__ = function.__kwdefaults__, function.__doc__, __name__
    return made


SocketType = socket
create_connection = _with_ours(_std.create_connection, getaddrinfo=_names_left_to_the_proxy)
create_server = _with_ours(_std.create_server)
fromfd = _with_ours(_std.fromfd)
socketpair = _std.socketpair


def configure(
    *, config_dir: str | None = None, port: int | None = None, host_socket: str | None = None,
    application: str | None = None,
) -> None:  # fmt: skip
    """Set what the environment would (choice.py). RuntimeError once a session is carried: it is too late then."""
    if choice.running is not None and (config_dir, port, host_socket) != (None, None, None):
        raise RuntimeError("sojourn.socket works already: call configure() before the first connection")
    choice.config_dir = config_dir if config_dir is not None else choice.config_dir
    choice.port = port if port is not None else choice.port
    choice.carried = Carried(host_socket) if host_socket is not None else choice.carried
    choice.application = application if application is not None else choice.application


def networks() -> list[dict[str, Any]]:
    """Return the networks: name, interface, state ("up", "down"...), address, rtt_ms, metered.

    Raises ConfigError where there is no configuration, ApiError where the host daemon may not be asked.
    """
    if choice.by_tunnels():
        rows = choice.carried.networks()
        return [{**row, "rtt_ms": (row.get("tunnel") or {}).get("rtt_ms")} for row in rows]
    client = choice.worker().client
    return [
        {
            "name": line.network.name,
            "interface": line.network.interface,
            "state": "up" if line.up else "down",
            "address": line.network.address,
            "rtt_ms": round(line.rtt * 1000, 1) if line.up else None,
            "metered": client.networks.facts(line.network).metered,
        }
        for line in list(client.mobile.lines.values())
    ]


def install() -> None:
    """Put our sockets in the place of the standard module's, for libraries that use that one."""
    for name in _PATCHED:
        setattr(_std, name, globals()[name])


def uninstall() -> None:
    """Undo `install`; what is open goes on."""
    for name, value in _standard.items():
        setattr(_std, name, value)


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
