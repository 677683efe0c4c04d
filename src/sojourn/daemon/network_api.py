"""The verbs by which `sojourn networks open` puts a program on one network: the rest happens in the caller."""

from typing import TYPE_CHECKING, Any

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.api.server import Arguments, Peer, Server
from sojourn.model import Network

if TYPE_CHECKING:
    from sojourn.daemon.host import HostDaemon

MAX_NAME = 255


def register(server: Server, daemon: "HostDaemon") -> None:
    """Let the server answer for this daemon's networks."""
    api = NetworkApi(daemon)
    server.register("probe", api.probe)
    server.register("resolve", api.resolve)


class NetworkApi:
    """One method a verb."""

    def __init__(self, daemon: "HostDaemon") -> None:
        self._daemon = daemon

    async def probe(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Ask over a network now whether its portal is open."""
        network = self._network(arguments)
        found = await self._daemon.networks.ask_portal(network.name) if self._daemon.config.portal.url else None
        portals = self._daemon.control.portals
        return {
            "version": 1,
            "name": network.name,
            "interface": network.interface,
            "address": network.address,
            "captive": portals.is_captive(network.name),
            "found": str(found.verdict) if found is not None else "unknown",
            "portal": portals.portal(network.name),
            "url": self._daemon.config.portal.url,
        }

    async def resolve(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Look a name up as a network's own DNS servers know it."""
        network, name = self._network(arguments), arguments.get("name")
        if not isinstance(name, str) or len(name) > MAX_NAME:
            raise ApiError("no name is given", "Give a host name.", ErrorKind.USAGE)
        try:
            return {"version": 1, "addresses": await self._daemon.networks.resolve(name, network)}
        except OSError as error:
            raise ApiError(str(error), "Is the name right, and does the network have a DNS server?") from error

    def _network(self, arguments: Arguments) -> Network:
        networks = self._daemon.networks
        name = networks.named(arguments.get("network"))
        if name is None:
            names = ", ".join(networks.present) or "none"
            raise ApiError(f"no network {arguments.get('network')!r} is up", f"Up now: {names}.", ErrorKind.USAGE)
        return networks.present[name]
