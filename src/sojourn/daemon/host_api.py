"""The verbs of a mobile host's control socket: questions and orders in, JSON out (DESIGN §7)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from sojourn.api.log_stream import stream_log
from sojourn.api.messages import ApiError, ErrorKind
from sojourn.api.server import Arguments, Peer, Server
from sojourn.control.decide import PathState
from sojourn.control.decide_orders import DIRECT, WORDS, word_of
from sojourn.control.network_use import NetworkUse
from sojourn.control.undo_orders import orders_before, said
from sojourn.daemon.driver import now
from sojourn.daemon.flow_rows import app_rows, flow_id, flow_row
from sojourn.daemon.inquiry import copies, data_path
from sojourn.errors import RemoteProtocolError
from sojourn.model import NetworkState
from sojourn.policy.match import parse as parse_match
from sojourn.upmt.commands import RowState
from sojourn.upmt.host_events import HandoverWanted
from sojourn.upmt.mobile_host import HostNetwork

if TYPE_CHECKING:
    from sojourn.daemon.host import HostDaemon

RELEASE = "policy"
"""`sojourn handover --to policy`: what was ordered before ends. A network of that name is ordered by its interface."""
MAX_APPLICATION = 128
"""Characters of an application's name."""

_STATES = {
    "works": NetworkState.UP,
    "testing": NetworkState.DOWN,
    "silent": NetworkState.DOWN,
    "failed": NetworkState.DOWN,
    "down": NetworkState.DOWN,
    "blocked": NetworkState.BLOCKED,
}


def register(server: Server, daemon: "HostDaemon") -> None:
    """Let the server answer for this daemon."""
    api = HostApi(daemon)
    for verb in ("status", "networks", "flows", "apps", "handover", "undo", "network_use"):
        server.register(verb, getattr(api, verb))
    for verb in ("up", "down", "expose", "exposed"):
        server.register(verb, getattr(api, verb))
    server.register_stream("log", lambda arguments, _peer: stream_log(daemon.log, arguments))


class HostApi:
    """One method a verb; each takes the arguments and who asks."""

    def __init__(self, daemon: "HostDaemon") -> None:
        self._daemon = daemon

    async def status(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Say whether we are associated, and how the networks are."""
        await self._daemon.inquiry.measure()
        return self.current()

    def current(self) -> dict[str, Any]:
        """Return the status as far as it is known now."""
        host = self._daemon.control.host
        lease, config = host.lease, self._daemon.config
        networks = self.network_rows()
        works = any(held.state == "works" for held in host.networks.values())
        state = "connecting" if host.networks and not host.refused else "offline"
        if lease is not None and works:
            state = "associated"
        elif not config.anchor and works:
            state = "reachable"
        return {
            "version": 1,
            "state": state,
            "vipa": lease.vipa if lease else None,
            "vipa6": lease.vipa6 if lease else None,
            "anchor": config.anchor or None,
            "reason": host.problem,
            "capturing": self._daemon.system.capturing,
            "networks": networks,
            "flows": self._daemon.inquiry.counters.flows if self._daemon.inquiry.counters else 0,
            "pending_handovers": host.sender.pending(),
            "refused": self._daemon.inquiry.counters.refused if self._daemon.inquiry.counters else {},
            "copies": copies(self._daemon.inquiry.counters),
            "data_path": data_path(self._daemon.inquiry.counters),
            "peers": self._daemon.peers.row(),
            "applications": {"exact": not self._daemon.owners.why, "reason": self._daemon.owners.why or None},
        }

    async def networks(self, _arguments: Arguments, _peer: Peer) -> list[dict[str, Any]]:
        """List the networks."""
        await self._daemon.inquiry.measure()
        return self.network_rows()

    async def flows(self, _arguments: Arguments, _peer: Peer) -> list[dict[str, Any]]:
        """List the flows."""
        return [self._flow(row) for row in await self._daemon.rows()]

    async def apps(self, arguments: Arguments, peer: Peer) -> list[dict[str, Any]]:
        """List applications with their flows summed up."""
        return app_rows(await self.flows(arguments, peer))

    async def handover(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Carry out the user's order and say what became of the rows."""
        order = await self._order(arguments)
        back = orders_before(self._daemon.control.decide.orders, order)
        counts = await self._daemon.hand_over(order)
        self._daemon.undo.done(said(order), lambda: self._again(back))
        return {"version": 1, "to": word_of(order.network or RELEASE), **counts}

    async def _again(self, orders: Iterable[HandoverWanted]) -> None:
        for order in orders:
            await self._daemon.hand_over(order)

    async def undo(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Take the user's last order back."""
        what = await self._daemon.undo.undo()
        return {"version": 1, "undone": what, "undo": self._daemon.undo.told()}

    async def network_use(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Pause a network, exclude it, or use it again."""
        name, use = self._daemon.networks.known_as(arguments.get("network")), arguments.get("use")
        if use not in tuple(NetworkUse):
            raise ApiError(f"{str(use)[:40]!r} is no use", "Say on, paused or excluded.", ErrorKind.USAGE)
        before = await self._daemon.networks.use(name, NetworkUse(use))
        if before != use:
            done = {"on": "used {} again", "paused": "paused {}", "excluded": "excluded {}"}[str(use)].format(name)
            self._daemon.undo.done(done, lambda: self._daemon.networks.use(name, before))
        return {"version": 1, "network": name, "use": str(use), "before": str(before)}

    async def up(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Capture traffic (again)."""
        await self._daemon.system.capture()
        return {"version": 1, "state": "up"}

    async def down(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Stop capturing; the daemon and its tunnels stay."""
        await self._daemon.system.release()
        return {"version": 1, "state": "down"}

    async def expose(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Refuse: the forward stands at the anchor, and its owner makes it."""
        name = self._daemon.config.name
        raise ApiError("port forwards are made at the anchor", f"Run `sojourn expose ... --host {name}` there.")

    async def exposed(self, _arguments: Arguments, _peer: Peer) -> list[dict[str, Any]]:
        """Refuse, likewise."""
        raise ApiError("port forwards are listed at the anchor", "Run `sojourn expose list` there.")

    # -- what the answers are made of

    def network_rows(self) -> list[dict[str, Any]]:
        """Return the JSON of all networks: those in use by preference, then those that the user has put aside."""
        control = self._daemon.control
        held = sorted(control.host.networks.values(), key=lambda held: control.decide.preferences.rank(held.network))
        return [*(self._network(one) for one in held), *self._aside()]

    def _aside(self) -> list[dict[str, Any]]:
        return [
            {
                "name": network.name,
                "interface": network.interface,
                **self._daemon.networks.row(network),
                "portal": None,
                "state": str(use),
                "use": str(use),
                "address": network.address,
                "gateway": network.gateway,
                "default": False,
                "reason": f"{use} by the user",
                "tunnel": None,
            }
            for network, use in self._daemon.networks.aside()
        ]

    def _network(self, held: HostNetwork) -> dict[str, Any]:
        decide, network = self._daemon.control.decide, held.network
        path = decide.paths.get(network.name)
        captive = path is not None and path.state is PathState.CAPTIVE
        state = NetworkState.CAPTIVE if captive else _STATES[held.state]
        if state is NetworkState.UP and decide.measures.of(network.name).degraded:
            state = NetworkState.DEGRADED
        return {
            "name": network.name,
            "interface": network.interface,
            **self._daemon.networks.row(network),
            "portal": self._daemon.control.portals.portal(network.name),
            "state": str(state),
            "use": "on",
            "address": network.address,
            "gateway": network.gateway,
            "default": decide.active == network.name,
            "reason": None if (held.state == "works" and not captive) or path is None else path.why,
            "tunnel": None if held.tunnel is None else self._tunnel(held),
        }

    def _tunnel(self, held: HostNetwork) -> dict[str, Any]:
        """Return what is measured of a tunnel. `loss`: the worse direction's mean of the last seconds."""
        measured = self._daemon.measured.get(held.tunnel) if held.tunnel is not None else None
        measures, at = self._daemon.control.decide.measures.of(held.network.name), now()
        losses = measures.loss(at)
        known = [loss for loss in losses if loss is not None]
        milliseconds = {
            f"{name}_ms": round(value * 1000, 3) if value is not None else None
            for name, value in (
                ("rtt", measured.srtt if measured else None),
                ("rttvar", measured.rttvar if measured else None),
                ("jitter", measured.jitter if measured else None),
            )
        }
        return {
            "id": held.tunnel,
            **milliseconds,
            "loss": max(known, default=None),
            "loss_out": losses[0],
            "loss_in": losses[1],
            "loss_trend": measures.trend(at),
            "rate_bps": measures.rate(at),
            "mtu": measured.mtu if measured else None,
            "bytes_in": measured.bytes_in if measured else 0,
            "bytes_out": measured.bytes_out if measured else 0,
            "outer": msgspec.to_builtins(measured.outer) if measured and measured.outer else None,
        }

    def _flow(self, row: RowState) -> dict[str, Any]:
        peers = self._daemon.peers
        return {**flow_row(row, peers.network_of(row.tunnel)), "peer": peers.peer_of(row)}

    async def _order(self, arguments: Arguments) -> HandoverWanted:
        host = self._daemon.control.host
        if not self._daemon.carries:
            raise ApiError("not associated", "`sojourn status` says why.", ErrorKind.NOT_ASSOCIATED)
        target = None if arguments.get("to") == RELEASE else self._target(arguments.get("to"), arguments)
        if (app := arguments.get("app")) is not None:
            return self._order_application(target, str(app))
        if (text := arguments.get("match")) is not None:
            try:
                return HandoverWanted(target, match=parse_match(str(text)))
            except RemoteProtocolError as error:
                raise ApiError(str(error), "Write it like '-p tcp --dport 22'.", ErrorKind.USAGE) from error
        if (wanted := arguments.get("flow")) is not None:
            ids = {str(one) for one in wanted} if isinstance(wanted, list) else {str(wanted)}
            flows = [row.flow for row in await self._daemon.rows() if flow_id(row.flow) in ids]
            if not flows:
                raise ApiError(f"no flow {wanted!r}", "`sojourn flows` lists them.", ErrorKind.USAGE)
            return HandoverWanted(target, tuple(flows))
        state = host.networks[target].state if target is not None else "works"
        if state != "works" and any(held.state == "works" for held in host.networks.values()):
            raise ApiError(f"{target} does not work now ({state})", "`sojourn networks` and `sojourn log` say why.")
        return HandoverWanted(target)

    def _target(self, word: object, arguments: Arguments) -> str:
        """Return the network that an order means, or what stands for one."""
        if (place := WORDS.get(str(word))) is not None:
            if place == DIRECT and arguments.get("app") is None:
                fix = "Order the application: its flows to come will be direct."
                raise ApiError("a flow that runs cannot become direct", fix, ErrorKind.USAGE)
            if all(arguments.get(key) is None for key in ("app", "flow", "match")):
                raise ApiError(f"everything cannot be put on {word}", "Say which flows.", ErrorKind.USAGE)
            return place
        networks = self._daemon.control.host.networks
        target = self._daemon.networks.named(word)
        if target not in networks:
            names = ", ".join(networks) or "none"
            raise ApiError(f"no network {word!r} is up", f"Up now: {names}.", ErrorKind.USAGE)
        if self._daemon.control.portals.is_captive(target):
            raise ApiError(f"{target} is behind a closed portal", f"Log in: `sojourn networks open {target}`.")
        return target

    def _order_application(self, target: str | None, name: str) -> HandoverWanted:
        orders = self._daemon.control.decide.orders.applications
        if not name or len(name) > MAX_APPLICATION or not name.isprintable():
            raise ApiError("that is no application's name", "`sojourn apps` lists them.", ErrorKind.USAGE)
        if target is None and name not in orders:
            ordered = ", ".join(orders) or "none"
            raise ApiError(f"nothing is ordered for {name!r}", f"Ordered now: {ordered}.", ErrorKind.USAGE)
        return HandoverWanted(target, application=name)
