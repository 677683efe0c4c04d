"""A mobile host's figures for Prometheus (api/metrics.py): its networks, tunnels and handovers."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from sojourn.api.metrics import Distribution, Figures, Role
from sojourn.api.server import Server
from sojourn.control.entries import DECISIONS
from sojourn.control.roaming_log import RoamingEntry
from sojourn.daemon.driver import Tasks
from sojourn.daemon.host_api import HostApi
from sojourn.daemon.metering import DataPathFigures, meter
from sojourn.model import NetworkState

if TYPE_CHECKING:
    from sojourn.daemon.host import HostDaemon

GAP_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
_OF_NETWORK: Final = (("metered", "metered"), ("signal", "signal_ratio"), ("used_bytes", "used_bytes"),
                      ("cap_bytes", "cap_bytes"))  # fmt: skip
_TIMES: Final = (("rtt_ms", "rtt"), ("rttvar_ms", "rtt_variation"), ("jitter_ms", "jitter"))


def register(server: Server, daemon: "HostDaemon", tasks: Tasks) -> None:
    """Begin to measure, with the port of `[metrics]` where there is one."""
    meter(server, tasks, daemon.config.metrics, HostMeter(daemon))


class HostMeter:
    """See the module. It hears the roaming log from its making on."""

    role: Role = "host"

    def __init__(self, daemon: "HostDaemon") -> None:
        self._daemon = daemon
        self._api = HostApi(daemon)
        self._data_path = DataPathFigures()
        self._gaps = Distribution(GAP_BOUNDS)
        self._handovers: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._moved = 0
        daemon.log.listen(self._heard)

    def _heard(self, entry: RoamingEntry) -> None:
        self._events[entry.event] += 1
        if entry.event == DECISIONS[0]:
            self._handovers[entry.network or "none"] += 1
        if entry.event == "moved":
            self._moved += entry.flows or 0
            if entry.gap_ms is not None:
                self._gaps.observe(entry.gap_ms / 1000)

    def processes(self) -> Mapping[str, int]:
        """Return the data path's process."""
        data_path = self._daemon.data_path
        return {} if data_path is None else {"datapath": data_path.pid}

    def fill(self, figures: Figures) -> None:
        """Put in what control knows now."""
        daemon, host = self._daemon, self._daemon.control.host
        path = daemon.data_path
        self._data_path.fill(figures, daemon.inquiry.counters, path.restarts if path is not None else 0)
        rows = self._api.network_rows()
        works = any(held.state == "works" for held in host.networks.values())
        figures.put("sojourn_associated", host.lease is not None and works)
        figures.put("sojourn_capturing", daemon.system.capturing)
        figures.put("sojourn_applications_exact", not daemon.owners.why)
        figures.put("sojourn_handovers_pending", host.sender.pending())
        figures.put("sojourn_handover_flows_total", self._moved)
        figures.put("sojourn_log_lines_lost_total", daemon.journal.lost)
        figures.put_distribution("sojourn_handover_gap_seconds", self._gaps)
        figures.put_all("sojourn_handovers_total", self._handovers.items())
        figures.put_all("sojourn_roaming_events_total", self._events.items())
        for row in rows:
            self._network(figures, row)

    def _network(self, figures: Figures, row: dict[str, Any]) -> None:
        name = str(row["name"])
        states = ((str(state), float(state == row["state"])) for state in NetworkState)
        figures.put_all("sojourn_network_state", states, network=name)
        figures.put("sojourn_network_default", row["default"], network=name)
        for key, word in _OF_NETWORK:
            figures.put(f"sojourn_network_{word}", row[key], network=name)
        tunnel = row["tunnel"]
        if tunnel is None:
            return
        for key, word in _TIMES:
            figures.put(f"sojourn_tunnel_{word}_seconds", seconds(tunnel[key]), network=name)
        rate = tunnel["rate_bps"]
        figures.put("sojourn_tunnel_rate_bytes_per_second", None if rate is None else rate / 8, network=name)
        figures.put("sojourn_tunnel_mtu_bytes", tunnel["mtu"], network=name)
        measured = self._daemon.measured.get(tunnel["id"])
        for direction in ("in", "out"):
            figures.put("sojourn_tunnel_loss_ratio", tunnel[f"loss_{direction}"], network=name, direction=direction)
            for what in ("bytes", "packets"):
                count = getattr(measured, f"{what}_{direction}", 0)
                self._data_path.rise(figures, f"sojourn_tunnel_{what}_total", count, network=name, direction=direction)


def seconds(milliseconds: float | None) -> float | None:
    """Return the base unit of what `status` says in milliseconds."""
    return None if milliseconds is None else milliseconds / 1000
