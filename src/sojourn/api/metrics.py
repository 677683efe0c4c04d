"""Prometheus metrics: the catalogue of all there are, and the text that a scrape gets.

A daemon fills `Figures` (values by name and labels) and `Figures.text` writes them. What is not in the catalogue
cannot be filled in, and docs/metrics.md lists the same names (tests/api/test_metrics.py holds both together).

Labels are bounded: their values are networks, reasons, states, never flows, hosts or addresses; and whatever a
daemon meets, a metric has `MOST_SERIES` series at most.
"""

import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Literal

from msgspec import Struct
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

MOST_SERIES: Final = 100
MOST_CHARACTERS: Final = 64
OTHER: Final = "other"
"""The label value under which a counter's further series are summed."""
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

Role = Literal["host", "anchor", "rendezvous", "socks"]


class Metric(Struct, frozen=True):
    """One line of the catalogue."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ("host", "anchor")


_ALL: Final[tuple[Role, ...]] = ("host", "anchor", "rendezvous", "socks")
_HOST: Final[tuple[Role, ...]] = ("host",)
_ANCHOR: Final[tuple[Role, ...]] = ("anchor",)
_NODE: Final[tuple[Role, ...]] = ("rendezvous",)
_SOCKS: Final[tuple[Role, ...]] = ("socks",)
_NETWORKS: Final[tuple[Role, ...]] = ("host", "socks")

CATALOGUE: Final[dict[str, Metric]] = {
    # Every role.
    "sojourn_build_info": Metric("gauge", "Always 1; which program this is.", ("version", "role"), _ALL),
    "sojourn_process_cpu_seconds_total": Metric("counter", "Processor time, user and system.", ("process",), _ALL),
    "sojourn_process_resident_memory_bytes": Metric("gauge", "Memory in use (RSS).", ("process",), _ALL),
    "sojourn_process_open_fds": Metric("gauge", "Open descriptors.", ("process",), _ALL),
    "sojourn_process_max_fds": Metric("gauge", "Descriptors it may have open.", ("process",), _ALL),
    "sojourn_process_start_time_seconds": Metric("gauge", "Unix time of the start.", ("process",), _ALL),
    "sojourn_control_loop_lag_seconds": Metric("histogram", "How late a timer of control's loop rang.", (), _ALL),
    "sojourn_refused_total": Metric("counter", "What was refused, by whom and why.", ("by", "reason"), _ALL),
    # The data path of hosts and anchors.
    "sojourn_datapath_info": Metric("gauge", "Always 1; what moves the packets.", ("engine", "kernel")),
    "sojourn_datapath_restarts_total": Metric("counter", "Times that a dead data path was replaced."),
    "sojourn_datapath_packets_total": Metric("counter", "Inner packets through tunnels.", ("direction",)),
    "sojourn_datapath_bytes_total": Metric("counter", "Bytes of inner packets through tunnels.", ("direction",)),
    "sojourn_datapath_events_total": Metric("counter", "What else the data path counts.", ("event",)),
    "sojourn_flows": Metric("gauge", "Flows in the table."),
    "sojourn_flows_waiting": Metric("gauge", "Flows of which a packet waits for a network."),
    "sojourn_copies_sent_total": Metric("counter", "Further copies of packets that were sent."),
    "sojourn_copies_dropped_total": Metric("counter", "Packets that came a second time and were dropped."),
    "sojourn_kernel_path_tunnels": Metric("gauge", "Plain tunnels that the kernel carries."),
    "sojourn_kernel_path_flows": Metric("gauge", "Flows that the kernel carries."),
    "sojourn_log_lines_lost_total": Metric("counter", "Lines of the roaming log that could not be written."),
    # The mobile host.
    "sojourn_associated": Metric("gauge", "1 if associated and a network works.", (), _HOST),
    "sojourn_capturing": Metric("gauge", "1 if traffic is captured (`up`).", (), _HOST),
    "sojourn_applications_exact": Metric("gauge", "1 if the kernel tells who made a flow.", (), _HOST),
    "sojourn_network_state": Metric("gauge", "1 for the state that a network is in.", ("network", "state"), _NETWORKS),
    "sojourn_network_default": Metric("gauge", "1 for the network of flows without a policy.", ("network",), _HOST),
    "sojourn_network_metered": Metric("gauge", "1 if its use costs.", ("network",), _HOST),
    "sojourn_network_signal_ratio": Metric("gauge", "Signal, 0 to 1.", ("network",), _HOST),
    "sojourn_network_used_bytes": Metric("gauge", "Used in this period of its data cap.", ("network",), _HOST),
    "sojourn_network_cap_bytes": Metric("gauge", "Its data cap.", ("network",), _HOST),
    "sojourn_tunnel_rtt_seconds": Metric("gauge", "Smoothed round-trip time.", ("network",), _NETWORKS),
    "sojourn_tunnel_rtt_variation_seconds": Metric("gauge", "Its mean deviation.", ("network",), _HOST),
    "sojourn_tunnel_jitter_seconds": Metric("gauge", "Jitter (RFC 3550).", ("network",), _HOST),
    "sojourn_tunnel_loss_ratio": Metric("gauge", "Share lost of late, 0 to 1.", ("network", "direction"), _HOST),
    "sojourn_tunnel_rate_bytes_per_second": Metric("gauge", "The rate that was reached of late.", ("network",), _HOST),
    "sojourn_tunnel_mtu_bytes": Metric("gauge", "The largest inner packet that passes.", ("network",), _HOST),
    "sojourn_tunnel_bytes_total": Metric("counter", "Bytes of inner packets.", ("network", "direction"), _HOST),
    "sojourn_tunnel_packets_total": Metric("counter", "Inner packets.", ("network", "direction"), _HOST),
    "sojourn_handovers_total": Metric("counter", "Handovers decided, by the network they go to.", ("network",), _HOST),
    "sojourn_handover_flows_total": Metric("counter", "Flows that handovers moved.", (), _HOST),
    "sojourn_handover_gap_seconds": Metric("histogram", "How long the flows that moved heard nothing.", (), _HOST),
    "sojourn_handovers_pending": Metric("gauge", "Handovers that the anchor has not confirmed yet.", (), _HOST),
    "sojourn_roaming_events_total": Metric("counter", "Lines of the roaming log.", ("event",), _HOST),
    # The anchor.
    "sojourn_hosts": Metric("gauge", "Mobile hosts by state.", ("state",), _ANCHOR),
    "sojourn_tunnels": Metric("gauge", "Tunnels whose outer address is known.", (), _ANCHOR),
    "sojourn_pool_addresses": Metric("gauge", "Addresses (IPv4) that the pool can lend.", (), _ANCHOR),
    "sojourn_pool_addresses_lent": Metric("gauge", "Addresses (IPv4) that are lent.", (), _ANCHOR),
    "sojourn_port_forwards": Metric("gauge", "Ports that lead to hosts.", (), _ANCHOR),
    "sojourn_association_events_total": Metric("counter", "Hosts that came, stayed and left.", ("event",), _ANCHOR),
    "sojourn_socks_sessions": Metric("gauge", "Sessions of the SOCKS port.", ("state",), _ANCHOR),
    "sojourn_socks_strangers": Metric("gauge", "Connections that have asked for nothing yet.", (), _ANCHOR),
    "sojourn_socks_served_total": Metric("counter", "What the SOCKS port did.", ("kind",), _ANCHOR),
    # The rendezvous node and the local SOCKS entrance.
    "sojourn_rendezvous_triggers": Metric("gauge", "Triggers that stand.", (), _NODE),
    "sojourn_rendezvous_triggers_limit": Metric("gauge", "Triggers that there is room for.", (), _NODE),
    "sojourn_rendezvous_senders": Metric("gauge", "Senders of late.", (), _NODE),
    "sojourn_rendezvous_operations_total": Metric("counter", "What the node did.", ("operation",), _NODE),
    "sojourn_socks_client_sessions": Metric("gauge", "Connections through the local proxy.", ("network",), _SOCKS),
    "sojourn_socks_client_moves_total": Metric("counter", "Connections moved to another network.", (), _SOCKS),
}  # fmt: skip
"""Name -> what it is. A counter's name ends in _total; units are seconds, bytes, ratios."""


class Distribution:
    """A histogram: how often a value was at most so much."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Yield suffix, labels and value of each line; buckets are cumulative."""
        words = [*(repr(float(bound)) for bound in self._bounds), "+Inf"]
        total = 0
        for word, total in zip(words, itertools.accumulate(self._counts), strict=True):
            yield "_bucket", {"le": word}, total
        yield "_count", {}, total
        yield "_sum", {}, self._sum


class Rising:
    """A counter made of a figure that may fall: whoever counts it was replaced, or forgot some of it."""

    def __init__(self) -> None:
        self.value = 0.0
        self._last = 0.0

    def see(self, figure: float) -> float:
        """Take in the figure, and return the counter, which never falls."""
        self.value += figure - self._last if figure >= self._last else 0.0
        self._last = figure
        return self.value


class Figures(Collector):
    """The values of one moment. Filled on control's loop, written (`text`) in any thread."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self._values: dict[str, dict[tuple[str, ...], float]] = {}
        self._distributions: dict[str, list[tuple[str, dict[str, str], float]]] = {}
        self._later: list[Callable[[], None]] = []

    def put(self, name: str, value: float | None, **labels: str) -> None:
        """Set (a gauge) or add to (a counter) one series; None is no value. KeyError for what the catalogue lacks."""
        metric = CATALOGUE[name]
        key = tuple(labels.pop(label)[:MOST_CHARACTERS] for label in metric.labels)
        if labels or self.role not in metric.roles or metric.kind == "histogram":
            raise KeyError(f"{name} of a {self.role} has no {', '.join(labels) or 'such value'}")
        if value is None:
            return
        series = self._values.setdefault(name, {})
        if key not in series and len(series) >= MOST_SERIES - 1:
            if metric.kind == "gauge":
                return  # one more would be a wrong one
            key = (*key[:-1], OTHER) if (*key[:-1], OTHER) in series else (OTHER,) * len(key)
        series[key] = series.get(key, 0.0) + value if metric.kind == "counter" else value

    def put_all(self, name: str, values: Iterable[tuple[str, float]], **labels: str) -> None:
        """Set one series for each pair of last label and value."""
        last = CATALOGUE[name].labels[-1]
        for word, value in values:
            self.put(name, value, **{**labels, last: word})

    def put_distribution(self, name: str, distribution: Distribution) -> None:
        """Set a histogram."""
        assert CATALOGUE[name].kind == "histogram"
        self._distributions[name] = list(distribution.samples())

    def later(self, fill: Callable[[], None]) -> None:
        """Have something filled in when the text is written, away from control's loop, of values that don't change."""
        self._later.append(fill)

    def text(self) -> bytes:
        """Write everything in Prometheus' text format."""
        while self._later:
            self._later.pop()()
        return generate_latest(self)

    def collect(self) -> Iterator[Family]:
        """Yield what prometheus_client writes."""
        for name, metric in CATALOGUE.items():
            base = name.removesuffix("_total") if metric.kind == "counter" else name
            family = Family(base, metric.help, metric.kind)
            for key, value in self._values.get(name, {}).items():
                family.add_sample(name, dict(zip(metric.labels, key, strict=True)), value)
            for suffix, labels, value in self._distributions.get(name, ()):
                family.add_sample(name + suffix, labels, value)
            if family.samples:
                yield family
