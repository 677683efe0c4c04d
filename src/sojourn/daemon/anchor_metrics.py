"""The figures of an anchor, of its SOCKS port alone, of a rendezvous node and of a local proxy (api/metrics.py).

No series is a host's: an anchor has thousands, and who they are is nobody's who may only read figures.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sojourn.api.metrics import Figures, Role
from sojourn.api.server import Server
from sojourn.control.roaming_log import RoamingEntry
from sojourn.daemon.anchor_api import host_state
from sojourn.daemon.driver import Tasks
from sojourn.daemon.metering import DataPathFigures, meter
from sojourn.upmt.records import Subscriber

if TYPE_CHECKING:
    from sojourn.daemon.anchor import AnchorDaemon
    from sojourn.daemon.rendezvous import RendezvousDaemon
    from sojourn.daemon.socks_proxy import SocksProxy

HOST_STATES = ("associated", "away", "invited", "revoked")
NETWORK_STATES = ("up", "down")


def register(server: Server, daemon: "AnchorDaemon", tasks: Tasks) -> None:
    """Begin to measure, with the port of `[metrics]` where there is one."""
    meter(server, tasks, daemon.config.metrics, AnchorMeter(daemon))


class AnchorMeter:
    """An anchor's."""

    role: Role = "anchor"

    def __init__(self, daemon: "AnchorDaemon") -> None:
        self._daemon = daemon
        self._data_path = DataPathFigures()
        self._events: Counter[str] = Counter()
        daemon.log.listen(self._heard)

    def _heard(self, entry: RoamingEntry) -> None:
        self._events[entry.event] += 1

    def processes(self) -> Mapping[str, int]:
        """Return the data path's process."""
        data_path = self._daemon.data_path
        return {} if data_path is None else {"datapath": data_path.pid}

    def fill(self, figures: Figures) -> None:
        """Put in what control knows now."""
        daemon, path = self._daemon, self._daemon.data_path
        self._data_path.fill(figures, daemon.inquiry.counters, path.restarts if path is not None else 0)
        known, today = list(daemon.machine.subscribers.values()), time.time()  # noqa: TID251 - leases end at a date
        figures.later(lambda: fill_hosts(figures, known, today))
        figures.put("sojourn_tunnels", len(daemon.machine.outer))
        figures.put("sojourn_pool_addresses", daemon.pool.size)
        figures.put("sojourn_pool_addresses_lent", len(daemon.pool))
        figures.put("sojourn_port_forwards", len(daemon.forwards) + len(daemon.config.forwards))
        figures.put("sojourn_log_lines_lost_total", daemon.journal.lost)
        figures.put_all("sojourn_association_events_total", self._events.items())
        figures.put_all("sojourn_refused_total", sorted(daemon.machine.refused.items()), by="signals")
        if daemon.socks is not None:
            fill_proxy(figures, daemon.socks)


def fill_hosts(figures: Figures, known: Sequence[Subscriber], today: float) -> None:
    """Put in how many hosts are in which state; of ten thousand that takes some milliseconds."""
    states = Counter(host_state(subscriber, today) for subscriber in known)
    figures.put_all("sojourn_hosts", ((state, states[state]) for state in HOST_STATES))


def fill_proxy(figures: Figures, proxy: "SocksProxy") -> None:
    """Put in what the SOCKS port does."""
    status = proxy.status()
    waiting = status["waiting"]
    sessions = (("served", status["sessions"] - waiting), ("waiting", waiting))
    figures.put_all("sojourn_socks_sessions", sessions)
    figures.put("sojourn_socks_strangers", status["strangers"])
    figures.put_all("sojourn_socks_served_total", sorted(status["served"].items()))
    figures.put_all("sojourn_refused_total", sorted(status["refused"].items()), by="socks")


class ProxyMeter:
    """Of `sojourn anchor --only socks`."""

    role: Role = "anchor"

    def __init__(self, proxy: "SocksProxy") -> None:
        self._proxy = proxy

    def processes(self) -> Mapping[str, int]:
        """There is no other one."""
        return {}

    def fill(self, figures: Figures) -> None:
        """Put in what the proxy knows."""
        fill_proxy(figures, self._proxy)


class NodeMeter:
    """Of a rendezvous node."""

    role: Role = "rendezvous"

    def __init__(self, daemon: "RendezvousDaemon") -> None:
        self._daemon = daemon

    def processes(self) -> Mapping[str, int]:
        """There is no other one."""
        return {}

    def fill(self, figures: Figures) -> None:
        """Put in what the node counts."""
        node = self._daemon.node
        figures.put("sojourn_rendezvous_triggers", node.triggers)
        figures.put("sojourn_rendezvous_triggers_limit", self._daemon.config.triggers)
        figures.put("sojourn_rendezvous_senders", len(node.shares))
        figures.put_all("sojourn_rendezvous_operations_total", sorted(node.totals.items()))
        figures.put_all("sojourn_refused_total", sorted(node.refused.items()), by="rendezvous")


class EntranceMeter:
    """Of `sojourn socks`, whose `status` is all that it needs."""

    role: Role = "socks"

    def __init__(self, mobile: Any) -> None:  # noqa: ANN401 - whatever has its `status`
        self._mobile = mobile

    def processes(self) -> Mapping[str, int]:
        """There is no other one."""
        return {}

    def fill(self, figures: Figures) -> None:
        """Put in its networks and how many connections each carries."""
        status = self._mobile.status()
        carried = Counter(session["network"] for session in status["sessions"])
        for network in status["networks"]:
            name = network["name"]
            states = ((state, float(state == network["state"])) for state in NETWORK_STATES)
            figures.put_all("sojourn_network_state", states, network=name)
            rtt = network["rtt_ms"]
            figures.put("sojourn_tunnel_rtt_seconds", None if rtt is None else rtt / 1000, network=name)
            figures.put("sojourn_socks_client_sessions", carried[name], network=name)
        figures.put("sojourn_socks_client_moves_total", status["moved"])
