"""The verbs of an anchor's control socket: questions and the administrator's orders (DESIGN §7)."""

import os
import time
from typing import TYPE_CHECKING, Any

from sojourn.api.log_stream import stream_log
from sojourn.api.messages import ApiError, ErrorKind
from sojourn.api.server import Arguments, Peer, Server
from sojourn.control import subscribers
from sojourn.control.token import SECRET_BYTES
from sojourn.daemon.flow_rows import flow_row
from sojourn.daemon.inquiry import copies, data_path
from sojourn.model import TCP, UDP
from sojourn.upmt.records import PortForward, Subscriber

if TYPE_CHECKING:
    from sojourn.daemon.anchor import AnchorDaemon

_PROTOCOLS = {"tcp": TCP, "udp": UDP}


def register(server: Server, daemon: "AnchorDaemon") -> None:
    """Let the server answer for this daemon."""
    api = AnchorApi(daemon)
    for verb in ("status", "flows", "hosts", "token", "revoke", "end", "expose", "exposed", "expose_remove"):
        server.register(verb, getattr(api, verb))
    server.register_stream("log", lambda arguments, _peer: stream_log(daemon.log, arguments))


class AnchorApi:
    """One method a verb."""

    def __init__(self, daemon: "AnchorDaemon") -> None:
        self._daemon = daemon

    async def status(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Say who is associated."""
        await self._daemon.inquiry.measure(tunnels=False)
        return self.current()

    def current(self) -> dict[str, Any]:
        """Return the status as far as it is known now."""
        daemon, counters = self._daemon, self._daemon.inquiry.counters
        return {
            "version": 1,
            "state": "running",
            "address": daemon.config.address,
            "hosts": self._hosts(),
            "flows": counters.flows if counters else 0,
            "totals": counters.totals if counters else {},
            "refused": {**dict(daemon.machine.refused), **(counters.refused if counters else {})},
            "copies": copies(counters),
            "data_path": data_path(counters),
            "socks": daemon.socks.status() if daemon.socks is not None else None,
        }

    async def hosts(self, _arguments: Arguments, _peer: Peer) -> list[dict[str, Any]]:
        """List the mobile hosts that may join or have joined."""
        return self._hosts()

    async def flows(self, _arguments: Arguments, _peer: Peer) -> list[dict[str, Any]]:
        """List all flows, with the tunnel of each as its network."""
        state = await self._daemon.inquiry.snapshot()
        return [flow_row(row, str(row.tunnel) if row.tunnel is not None else None) for row in state.rows]

    async def token(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Make a join token for one more host."""
        daemon, name = self._daemon, str(arguments.get("name", ""))
        known = daemon.machine.subscribers
        keys = (daemon.identity.spki, daemon.identity.socks_key)
        subscriber, token = subscribers.invite(daemon.config, known, name, os.urandom(SECRET_BYTES), keys, _today())
        self._change(subscriber)
        return {"version": 1, "name": name, "token": str(token)}

    async def revoke(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """End a host's association and credentials."""
        name = str(arguments.get("name", ""))
        self._change(subscribers.revoke(self._daemon.machine.subscribers, name))
        return {"version": 1, "name": name, "revoked": True}

    async def end(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """End a host's association: it loses its address, and may come back. `revoke` is for good."""
        name, known = str(arguments.get("name", "")), self._daemon.machine.subscribers
        there = [one for one in known.values() if one.name == name and one.vipa is not None]
        if not there:
            names = ", ".join(sorted(one.name for one in known.values() if one.vipa is not None)) or "none"
            raise ApiError(f"no host {name[:64]!r} is associated", f"Associated now: {names}.", ErrorKind.USAGE)
        for subscriber in there:
            self._daemon.end(subscriber)
        return {"version": 1, "name": name, "ended": True}

    async def expose(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Let a port of the anchor lead to a host's."""
        user = self._host(arguments.get("host"))
        protocol, port, public = self._service(arguments), _port(arguments, "port"), _port(arguments, "public_port")
        if (protocol, public) in self._daemon.config.own_ports:
            raise ApiError(f"port {public} is the anchor's own", "Choose another --as PORT.", ErrorKind.USAGE)
        forward = PortForward(protocol, public, user, port)
        self._daemon.store.put_forward(forward)
        self._daemon.forwards[protocol, public] = forward
        self._daemon.apply_forwards()
        return {"version": 1, **_exposed(forward)}

    async def exposed(self, _arguments: Arguments, _peer: Peer) -> list[dict[str, Any]]:
        """List the port forwards."""
        return self.port_forwards()

    def port_forwards(self) -> list[dict[str, Any]]:
        """Return the JSON of all port forwards."""
        daemon = self._daemon
        both = {(f.protocol, f.public_port): f for f in daemon.config.forwards} | daemon.forwards
        return [_exposed(forward) for forward in sorted(both.values())]

    async def expose_remove(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Close a port forward."""
        daemon = self._daemon
        protocol, public = self._service(arguments), _port(arguments, "public_port")
        if (protocol, public) not in daemon.forwards:
            raise ApiError(f"port {public} leads nowhere", "`sojourn expose list` shows what does.", ErrorKind.USAGE)
        daemon.store.remove_forward(protocol, public)
        del daemon.forwards[protocol, public]
        daemon.apply_forwards()
        return {"version": 1, "public_port": public, "removed": True}

    def _change(self, subscriber: Subscriber) -> None:
        self._daemon.change(subscriber)

    def _hosts(self) -> list[dict[str, Any]]:
        known = self._daemon.machine.subscribers.values()
        return [self.host_row(subscriber) for subscriber in sorted(known, key=lambda subscriber: subscriber.name)]

    def host_row(self, subscriber: Subscriber) -> dict[str, Any]:
        """Return the JSON of one host."""
        outer = self._daemon.machine.outer
        left = subscriber.lease_until - _today() if subscriber.lease_until is not None else None
        return {
            "name": subscriber.name,
            "user": subscriber.user,
            "state": host_state(subscriber, _today()),
            "vipa": subscriber.vipa,
            "vipa6": subscriber.vipa6,
            "lease_s": round(left) if left is not None else None,
            "tunnels": {str(tunnel): f"{outer[tunnel].address}:{outer[tunnel].port}"
                        for tunnel in subscriber.tunnels if tunnel in outer},
        }  # fmt: skip

    def _host(self, name: object) -> str:
        users = [s.user for s in self._daemon.machine.subscribers.values() if not s.revoked and name in (None, s.name)]
        if len(users) != 1:
            known = ", ".join(sorted(self._daemon.machine.subscribers)) or "none"
            raise ApiError(
                f"which host? {name or 'none was named'}", f"Say --host NAME; known: {known}.", ErrorKind.USAGE
            )
        return users[0]

    def _service(self, arguments: Arguments) -> int:
        try:
            return _PROTOCOLS[str(arguments.get("protocol"))]
        except KeyError as error:
            raise ApiError("only tcp and udp have ports", "Write it like tcp/22.", ErrorKind.USAGE) from error


def host_state(subscriber: Subscriber, today: float) -> str:
    """Say whether a host is "associated", "away", "invited" (never came) or "revoked"; `today`: Unix seconds."""
    if subscriber.vipa is not None and (subscriber.lease_until or 0.0) > today:
        return "associated"
    return "revoked" if subscriber.revoked else "invited" if subscriber.ha1 is None else "away"


def _port(arguments: Arguments, name: str) -> int:
    value = arguments.get(name)
    if not isinstance(value, int) or not 1 <= value <= 65535:
        raise ApiError(f"{name} is no port: {str(value)[:40]}", "Ports are numbers from 1 to 65535.", ErrorKind.USAGE)
    return value


def _exposed(forward: PortForward) -> dict[str, Any]:
    protocol = "tcp" if forward.protocol == TCP else "udp"
    return {"protocol": protocol, "public_port": forward.public_port, "host": forward.user, "port": forward.port}


def _today() -> float:
    return time.time()  # noqa: TID251 - leases end at a date, not at an uptime
