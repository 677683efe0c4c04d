"""The metrics of a daemon: what every role has, its port, and the verb of its control socket.

Figures are taken on control's loop in one short step, of what it knows anyway: a scrape asks nothing of the data
path, whose own report is some seconds old at most. They are written as text in a thread.
"""

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Final, Protocol

from prometheus_client.process_collector import ProcessCollector

from sojourn import __version__
from sojourn.api.metrics import CATALOGUE, Distribution, Figures, Rising, Role
from sojourn.api.metrics_server import MetricsServer
from sojourn.api.server import Arguments, Peer, Server
from sojourn.control.metrics_config import MetricsConfig
from sojourn.daemon.driver import Tasks
from sojourn.upmt.events import Counters

LAG_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
LAG_EVERY: Final = 1.0
_OWN_TOTALS: Final = frozenset(
    ("packets_in", "packets_out", "bytes_in", "bytes_out", "waiting", "copies-sent", "duplicates-dropped",
     "kernel-tunnels", "kernel-rows")
)  # fmt: skip
"""Totals of the data path that have a metric of their own."""


class Meter(Protocol):
    """What a role adds."""

    role: Role

    def fill(self, figures: Figures) -> None:
        """Put this role's values in; short, on control's loop."""
        ...

    def processes(self) -> Mapping[str, int]:
        """Return the process ids by what they do, this one left out."""
        ...


class Metering:
    """The figures of one daemon."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._lag = Distribution(LAG_BOUNDS)

    async def watch_loop(self) -> None:
        """Measure for ever how late the loop is (a suspended machine's time does not count)."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_EVERY
            await asyncio.sleep(LAG_EVERY)
            self._lag.observe(max(0.0, loop.time() - due))

    async def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        figures = Figures(self._meter.role)
        figures.put("sojourn_build_info", 1, version=__version__, role=self._meter.role)
        figures.put_distribution("sojourn_control_loop_lag_seconds", self._lag)
        self._meter.fill(figures)
        processes = {"control": os.getpid(), **self._meter.processes()}
        return await asyncio.to_thread(_write, figures, processes)

    async def answer(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Answer the verb `metrics`."""
        return {"version": 1, "text": (await self.text()).decode()}


def meter(server: Server | None, tasks: Tasks, config: MetricsConfig, role: Meter) -> None:
    """Begin to measure; let the control socket answer `metrics`, and a port, where one is configured."""
    metering = Metering(role)
    tasks.start(metering.watch_loop(), "loop lag")
    if server is not None:
        server.register("metrics", metering.answer)
    if config.endpoint is not None:
        tasks.start(MetricsServer(config.endpoint, config.names, metering.text).run(), "metrics")


def _write(figures: Figures, processes: Mapping[str, int]) -> bytes:
    for process, pid in processes.items():
        if pid:
            fill_process(figures, process, pid)
    return figures.text()


def fill_process(figures: Figures, process: str, pid: int) -> None:
    """Put in what /proc says of a process; one that is gone has no figures."""
    for family in ProcessCollector(namespace="sojourn", pid=lambda: pid, registry=None).collect():
        for sample in family.samples:
            if sample.name in CATALOGUE:
                figures.put(sample.name, sample.value, process=process)


class DataPathFigures:
    """The data path's own counts. Its process may be replaced by one that begins at nothing: counters go on."""

    def __init__(self) -> None:
        self._rising: dict[tuple[str, ...], Rising] = {}

    def fill(self, figures: Figures, counters: Counters | None, restarts: int) -> None:
        """Put in what was reported last."""
        figures.put("sojourn_datapath_restarts_total", restarts)
        if counters is None:
            return
        totals, served = counters.totals, counters.served_by
        kernel = "unused" if "kernel" not in served else "no" if served["kernel"] else "yes"
        figures.put("sojourn_datapath_info", 1, engine=served.get("engine", ""), kernel=kernel)
        figures.put("sojourn_flows", counters.flows)
        figures.put("sojourn_flows_waiting", totals.get("waiting", 0))
        figures.put("sojourn_kernel_path_tunnels", totals.get("kernel-tunnels", 0))
        figures.put("sojourn_kernel_path_flows", totals.get("kernel-rows", 0))
        for direction in ("in", "out"):
            for what in ("packets", "bytes"):
                self.rise(figures, f"sojourn_datapath_{what}_total", totals.get(f"{what}_{direction}", 0),
                          direction=direction)  # fmt: skip
        self.rise(figures, "sojourn_copies_sent_total", totals.get("copies-sent", 0))
        self.rise(figures, "sojourn_copies_dropped_total", totals.get("duplicates-dropped", 0))
        for event, count in sorted(totals.items()):
            if event not in _OWN_TOTALS:
                self.rise(figures, "sojourn_datapath_events_total", count, event=event)
        for reason, count in sorted(counters.refused.items()):
            self.rise(figures, "sojourn_refused_total", count, by="datapath", reason=reason)

    def rise(self, figures: Figures, name: str, count: float, **labels: str) -> None:
        """Put in a counter, made of a figure that may begin anew."""
        rising = self._rising.setdefault((name, *labels.values()), Rising())
        figures.put(name, rising.see(count), **labels)
