"""Peers of `sojourn host`: its home address, what the data path is told of them, and the control socket's verbs."""

import time
from typing import TYPE_CHECKING, Any

import structlog
from msgspec.structs import replace

from sojourn.api.messages import ApiError
from sojourn.api.server import Arguments, Peer, Server
from sojourn.control import peer_config
from sojourn.control.entries import Entry
from sojourn.control.rendezvous_config import written
from sojourn.daemon.driver import now
from sojourn.daemon.host_system import PEERS_MTU
from sojourn.errors import ConfigError
from sojourn.i3.home import HomeIdentity
from sojourn.linux.home import lead, leave
from sojourn.model import TunnelId
from sojourn.store import home_key
from sojourn.upmt.commands import AddAssociation, AnyCommand, RemoveAssociation, Role, RowState, Setup
from sojourn.upmt.events import AnyEvent
from sojourn.upmt.peer_commands import HOME, PEERS, SetHome
from sojourn.upmt.peer_events import PeerChanged, PeersTold, RendezvousMoved, RendezvousStayed

if TYPE_CHECKING:
    from sojourn.daemon.host import HostDaemon

_log = structlog.get_logger(__name__)


class HostPeers:
    """Everything of peers that a daemon keeps. Without `[rendezvous]` it does nothing."""

    def __init__(self, daemon: "HostDaemon") -> None:
        self._daemon = daemon
        self.told: PeersTold | None = None
        self.identity: HomeIdentity | None = None
        self._keys = (b"", b"")
        if daemon.config.rendezvous is not None:
            self._keys = home_key.load_or_make(daemon.directory)
            self.identity = HomeIdentity(*self._keys)
            daemon.system.home = self.identity.address

    def register(self, server: Server) -> None:
        """Let the server answer for peers."""
        server.register("peers", self.list)
        server.register("peers-reload", self.reload)

    async def set_up(self) -> list[AnyCommand]:
        """Make the device with the home address; return the first orders for the data path."""
        assert self.identity is not None
        config = self._daemon.config
        await self._daemon.system.up_home()
        await lead(config.device, self.identity.address)
        setup = Setup(Role.HOST, config.device, PEERS_MTU)
        return [setup, self._order(), AddAssociation(HOME, "", self.identity.address, ())]

    async def leave(self) -> None:
        """Without `[rendezvous]` now: have a data path that an earlier control has left us serve no peers."""
        data_path = self._daemon.data_path
        state = data_path.adopted if data_path is not None else None
        if data_path is None or state is None or HOME not in {each.association for each in state.associations}:
            return
        data_path.submit([RemoveAssociation(HOME)])
        await leave(self._daemon.config.device)
        _log.info("peers are served no more", because="host.toml has no [rendezvous] now")

    def _order(self) -> SetHome:
        config = self._daemon.config
        assert config.rendezvous is not None
        return SetHome(
            *self._keys,
            config.rendezvous.places,
            peer_config.entries(config.peers),
            config.rendezvous.accept == "anyone",
            config.rendezvous.piggyback_ms / 1000,
            time.time() - now(),  # noqa: TID251
        )

    # -- what happens

    def see(self, event: AnyEvent) -> None:
        """Take note of what the data path tells."""
        match event:
            case PeersTold():
                self.told = event
            case RendezvousMoved(network, came_from, seconds, soft):
                if self.told is not None:
                    self.told = replace(self.told, network=network)
                how = "softly" if soft else "at once"
                reason = f"peers are reached over {network} now" + (f", {how} from {came_from}" if came_from else "")
                self._daemon.note(Entry("peers", network, reason, {"after_ms": round(seconds * 1000, 1)}))
            case RendezvousStayed(network):
                self._daemon.note(Entry("peers", network, "peers could not be moved there: the network before serves"))
            case PeerChanged(home, what):
                self._daemon.note(Entry("peer", None, f"{self.name_of(home) or home} {what}"))

    def name_of(self, home: str) -> str | None:
        """Return what the configuration calls a home address."""
        found = next((each.name for each in peer_config.entries(self._daemon.config.peers) if each.home == home), None)
        return found or (home if self.identity is not None and home in _homes(self.told) else None)

    def peer_of(self, row: RowState) -> str | None:
        """Return whom a flow is with; None for one with the world."""
        return self.name_of(row.flow.remote.address) if row.association == HOME else None

    def network_of(self, tunnel: TunnelId | None) -> str | None:
        """Return the network that a row's place means: what its tunnel runs over, or what peers are reached over."""
        if tunnel == PEERS:
            return self.told.network if self.told is not None else None
        held = self._daemon.control.host.network_of(tunnel)
        return held.network.name if held is not None else None

    # -- the control socket

    def row(self) -> dict[str, Any] | None:
        """Return what `status` says of peers; None without `[rendezvous]`."""
        config = self._daemon.config
        if self.identity is None or config.rendezvous is None:
            return None
        told = self.told
        return {
            "home": self.identity.address,
            "key": peer_config.key_text(self.identity.keys),
            "nodes": [written(place) for place in config.rendezvous.places],
            "node": told.node if told is not None else None,
            "network": told.network if told is not None else None,
            "rtt_ms": round(told.rtt * 1000, 3) if told is not None and told.rtt is not None else None,
            "accept": config.rendezvous.accept,
            "networks": {
                name: {"state": path.state, "reason": path.why or None}
                for name, path in (self._daemon.control.peers.paths if self._daemon.control.peers else {}).items()
            },
            "peers": [
                {
                    "name": each.name or None, "home": each.home, "configured": each.configured,
                    "state": "met" if each.met else each.problem or "not met",
                    "private": each.private, "mtu": each.mtu,
                    "direct": {
                        "state": each.direct, "reason": each.direct_why or None, "network": each.direct_network,
                        "remote": each.direct_remote or None,
                        "rtt_ms": round(each.direct_rtt * 1000, 3) if each.direct_rtt is not None else None,
                    },
                    "heard_s": round(each.heard, 1) if each.heard is not None else None,
                    "packets_in": each.packets_in, "packets_out": each.packets_out,
                    "bytes_in": each.bytes_in, "bytes_out": each.bytes_out, "duplicates": each.duplicates,
                }
                for each in (told.peers if told is not None else ())
            ],
            "refused": told.refused if told is not None else {},
        }  # fmt: skip

    async def list(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Say who the peers are, and how it stands with each."""
        await self._daemon.inquiry.measure()
        row = self.row()
        if row is None:
            raise ApiError("this host has no peers", "`sojourn peers add NAME KEY --node ADDRESS` adds the first one.")
        return {"version": 1, **row}

    async def reload(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Read the peers in host.toml again; the rest of it is as it was."""
        daemon = self._daemon
        try:
            config = daemon.directory.host()
        except ConfigError as error:
            raise ApiError(str(error), error.fix) from error
        if (
            self.identity is None
            or config.rendezvous is None
            or config.rendezvous.nodes != (daemon.config.rendezvous.nodes if daemon.config.rendezvous else ())
        ):
            raise ApiError("other rendezvous nodes take effect after a restart", "Restart `sojourn host`.")
        daemon.take_peers(config)
        daemon.submit(self._order())
        return {"version": 1, "peers": len(config.peers)}


def _homes(told: PeersTold | None) -> set[str]:
    return {each.home for each in told.peers} if told is not None else set()
