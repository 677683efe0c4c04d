"""The figures of each program and what is to be reached: the one place where targets are written."""

import math
from collections.abc import Callable
from typing import Any, Final

from bench._figure import Figure, Get, Json, at, both, named, worst

NEWEST, DEBIAN = "wireguard-go-named", "wireguard-go-debian"
PEERS: Final = {
    "bare": "bare forwarding", "forwarding": "forwarding", "vxlan": "VXLAN", "openvpn": "OpenVPN", "dante": "dante",
    DEBIAN: "Debian's wireguard-go", NEWEST: "newest wireguard-go", "sojourn-python": "the Python engine",
    f"{NEWEST}, median": "newest wireguard-go's median",
}  # fmt: skip
"""What a peer is called on the page. One without a value is said to be missing; of others nothing is said."""


def _flow(what: str, mode: str, unit: str, key: str, by: str, names: tuple[str, ...], us: str = "sojourn",
          plotted: bool = True, least: float | None = None, most: float | None = None) -> Figure:  # fmt: skip
    """Return a row about one TCP flow, both directions."""
    beside = named(names, lambda name: both(mode, "peers", name, key=key))
    return Figure(
        what, both(mode, "peers", us, key=key), unit, by=by, beside=beside, plotted=plotted, least=least, most=most
    )


def _super(name: str, *path: str) -> Get:
    return at("super", "peers", name, *path)


SEALED: Final = [
    _flow("one TCP flow, super-packets whole, by the newest wireguard-go", "super", "Gbit/s", "gbit_s", NEWEST,
          (NEWEST, "openvpn", "bare"), least=2.0),
    _flow("super-packets whole, by bare forwarding", "super", "Gbit/s", "gbit_s", "bare", ("bare",), least=0.3,
          plotted=False),
    _flow("one TCP flow, frames cut before the cable, by bare forwarding", "split", "Gbit/s", "gbit_s", "bare",
          ("bare", NEWEST, "openvpn"), least=0.42),
    _flow("CPU-seconds a GB, by the newest wireguard-go", "super", "s", "cpu_s_per_gb", NEWEST,
          (NEWEST, "openvpn", "bare"), most=0.5),
    _flow("ChaCha20-Poly1305, one TCP flow, by the newest wireguard-go", "super", "Gbit/s", "gbit_s", NEWEST,
          (NEWEST,), us="sojourn-chacha20", least=1.6, plotted=False),
    _flow("ChaCha20-Poly1305, frames cut, by the newest wireguard-go", "split", "Gbit/s", "gbit_s", NEWEST,
          (NEWEST,), us="sojourn-chacha20", least=1.6, plotted=False),
    Figure("eight flows' CPU-seconds a GB, by one flow's", _super("sojourn", "eight_flows_up", "cpu_s_per_gb"), "s",
           most=1.05, by="one flow", beside={"one flow": _super("sojourn", "up", "cpu_s_per_gb")}, plotted=False),
    Figure("64-byte UDP under 1 % loss, by the newest wireguard-go", _super("sojourn", "small", "packets_s"),
           "packets/s", least=4.0, by=NEWEST,
           beside=named((NEWEST, "openvpn", "bare"), lambda name: _super(name, "small", "packets_s"))),
    Figure("UDP round trip, median, beyond bare forwarding's", _super("sojourn", "round_trip", "median_us"), "µs",
           most=80.0, beyond="bare",
           beside=named(("bare", NEWEST, "openvpn"), lambda name: _super(name, "round_trip", "median_us"))),
    Figure("UDP round trip, slowest hundredth, by the median of the newest wireguard-go",
           _super("sojourn", "round_trip", "p99_us"), "µs", most=1.0, by=f"{NEWEST}, median",
           beside={f"{NEWEST}, median": _super(NEWEST, "round_trip", "median_us"),
                   **named(("bare", NEWEST, "openvpn"), lambda name: _super(name, "round_trip", "p99_us"))}),
]  # fmt: skip


def _plain(
    what: str, mode: str, unit: str, get: Callable[[str], Get], least: float | None = None, most: float | None = None
) -> Figure:
    """Return a row about the kernel path beside bare forwarding and VXLAN."""
    return Figure(what, get("kernel"), unit, by="bare", beside=named(("bare", "vxlan"), get), least=least, most=most)


def _plain_tcp(mode: str) -> Callable[[str], Get]:
    return lambda name: both("modes", mode, "peers", name, key="gbit_s")


def _plain_small(key: str) -> Callable[[str], Get]:
    return lambda name: at("modes", "super", "peers", name, "small", key)


def _moved(way: str, key: str, kind: str = "handover") -> Get:
    return at(kind, way, key)


KERNEL: Final = [
    _plain("one TCP flow, super-packets whole, by bare forwarding", "super", "Gbit/s", _plain_tcp("super"), least=0.9),
    _plain("one TCP flow, frames cut before the cable, GRO off", "split", "Gbit/s", _plain_tcp("split"), least=0.85),
    _plain("one TCP flow, frames cut before the cable, GRO on", "split-gro", "Gbit/s", _plain_tcp("split-gro")),
    _plain("64-byte UDP", "super", "packets/s", _plain_small("packets_s"), least=0.75),
    _plain("processor time of a 64-byte datagram, its sender's", "super", "µs", _plain_small("cpu_us")),
    *(Figure(f"handover at full load, {way}: longest gap at an order, by the run's other gaps",
             _moved(way, "longest_gap_at_a_handover_ms"), "ms", by="other gaps", most=1.0,
             beside={"other gaps": _moved(way, "longest_other_gap_ms"),
                     "ordered to stay": _moved(way, "longest_gap_at_a_handover_ms", "no_handover")})
      for way in ("up", "down")),
    *(Figure(f"segments out of order, {way}", _moved(way, "out_of_order"), plotted=False,
             beside={"ordered to stay": _moved(way, "out_of_order", "no_handover")}) for way in ("up", "down")),
]  # fmt: skip


CORE: Final = [
    Figure(f"{title}, {name}: two threads by one", at(f"{key}_{way}", "two_threads", "gbit_s"), "Gbit/s", least=1.5,
           by="one thread", beside={"one thread": at(f"{key}_{way}", "one_thread", "gbit_s")})
    for key, title in (("aes_256_gcm", "AES-256-GCM"), ("chacha20_poly1305", "ChaCha20-Poly1305"))
    for way, name in (("send", "sending"), ("receive", "receiving"))
]  # fmt: skip

PATHS: Final = ("openvpn", DEBIAN, NEWEST, "bare", "sojourn-python")


def _speed(name: str, key: str, *others: str, least: float | None = None, most: float | None = None) -> Figure:
    what, unit = ("one TCP flow", "Gbit/s") if key == "gbit_s" else ("CPU-seconds a GB", "s")
    beside = named((name, *others), lambda name: both("peers", name, key=key))
    return Figure(f"{what}, by {PEERS[name]}", both("peers", "sojourn", key=key), unit, by=name, beside=beside,
                  least=least, most=most, plotted=bool(others))  # fmt: skip


THROUGHPUT: Final = [
    _speed("openvpn", "gbit_s", *PATHS[1:], least=3.0), _speed(DEBIAN, "gbit_s", least=4.0),
    _speed(NEWEST, "gbit_s", least=0.8), _speed("openvpn", "cpu_s_per_gb", *PATHS[1:], most=1 / 3),
]  # fmt: skip


def _trip(key: str) -> dict[str, Get]:
    return named(PATHS, lambda name: at("peers", name, key))


LATENCY: Final = [
    Figure("UDP round trip, 64 bytes, median, by the newest wireguard-go", at("peers", "sojourn", "median_us"), "µs",
           most=1.0, by=NEWEST, beside=_trip("median_us")),
    Figure("UDP round trip, slowest hundredth", at("peers", "sojourn", "p99_us"), "µs", beside=_trip("p99_us")),
]  # fmt: skip

OVERHEAD: Final = [
    Figure("sealed, over IPv4", at("bytes", "sojourn"), "bytes", most=52.0, beside={DEBIAN: at("bytes", DEBIAN)}),
    Figure("plain, over IPv4", at("bytes", "sojourn-plain"), "bytes", most=28.0),
]


def _burst(which: str, *path: str | int) -> Get:
    return at(which, *path)


def _core_time(which: str, end: str) -> Get:
    return lambda found: _sum(at(which, "us_per_flow", f"{end}_path", kind)(found) for kind in ("sending", "receiving"))


def _sum(values: Any) -> float | None:  # noqa: ANN401 - of floats and None
    known = [value for value in values if value is not None]
    return sum(known) if known else None


NEWFLOWS: Final = [
    *(Figure(f"processor time a flow in the core's threads, {end}", _core_time("alone", end), "µs", most=40.0,
             beside={"the whole data path": at("alone", "us_per_flow_path", end)}) for end in ("host", "anchor")),
    Figure("a pass of the slow path", at("slow_path", "one_pass_us"), "µs", most=300.0),
    Figure("flows that the anchor knows of, of all opened", at("alone", "known_at_anchor"), by="opened", least=0.99,
           beside={"opened": at("alone", "opened", "count")}, plotted=False),
    Figure("lost of a stream of 200 packets/s", at("alone", "stream", "lost"), "packets", most=0.0, plotted=False,
           beside={"its longest gap, ms": at("alone", "stream", "longest_gap_ms")}),
    Figure("the same with the crowd's flows in the table", at("crowded", "stream", "lost"), "packets", most=0.0,
           plotted=False, beside={"its longest gap, ms": at("crowded", "stream", "longest_gap_ms"),
                                  "flows in the table before": at("crowded", "flows_before_at_anchor")}),
    Figure("the anchor's data path a flow, with them", at("crowded", "us_per_flow_path", "anchor"), "µs"),
]  # fmt: skip


SCALE: Final = [
    Figure("hosts, three sealed tunnels each", at("sizes", -1, "associations"), least=10000.0, plotted=False),
    Figure("data path a packet, the same ten talk: the most hosts by the fewest", at("sizes", -1, "us_per_packet"),
           "µs", most=1.2, by="fewest hosts", beside={"fewest hosts": at("sizes", 0, "us_per_packet")}, plotted=False),
    Figure("the same, ten others after 400 packets each", at("sizes", -1, "us_per_long"), "µs", plotted=False,
           beside={"fewest hosts, of whom none are others": at("sizes", 0, "us_per_long")}),
    Figure("the same, ten others after 40", at("sizes", -1, "us_per_short"), "µs", plotted=False,
           beside={"fewest hosts": at("sizes", 0, "us_per_short")}),
    Figure("registrations a second", at("sizes", -1, "registered", "per_s"), plotted=False),
    Figure("tunnels that did not open", at("sizes", -1, "registered", "open", "missing"), most=0.0, plotted=False),
    Figure("memory of a host with its tunnels", at("kb_per_association_with_3_tunnels"), "kB", plotted=False,
           beside={"of a flow": at("kb_per_flow")}),
    Figure("idle, with the most hosts: data path, of one processor", at("sizes", -1, "idle_percent", "path"), "%",
           plotted=False, beside={"control": at("sizes", -1, "idle_percent", "control")}),
]  # fmt: skip


def _runs(scenario: str) -> Callable[[Json], list[Json]]:
    return lambda found: list(found.get("scenarios", {}).get(scenario, {}).get("sojourn", []))


def _ms(text: str) -> float:
    return float(text.removesuffix(" ms")) if text.endswith(" ms") else math.inf


def _nearest(scenario: str, key: str) -> Get:
    """Return what reads a figure in ms, or its limit, of the run that came nearest to its limit, or beyond it."""

    def get(found: Json) -> float | None:
        checks = [check for run in _runs(scenario)(found) for check in run["checks"] if check["limit"].endswith(" ms")]
        nearest = max(checks, key=lambda check: _ms(check["measured"]) / _ms(check["limit"]), default=None)
        return _ms(nearest[key]) if nearest else None

    return get


def _counted(scenario: str, *keys: str) -> Get:
    """Return what reads a sum over all streams of all runs."""

    def get(found: Json) -> float | None:
        streams = [stream for run in _runs(scenario)(found) for stream in run["streams"]]
        return float(sum(stream[key] or 0 for stream in streams for key in keys)) if streams else None

    return get


def _without(scenario: str) -> Get:
    def get(found: Json) -> float | None:
        streams = found.get("scenarios", {}).get(scenario, {}).get("without", [])
        return max((math.inf if stream["broken"] else stream["longest_gap_ms"] for stream in streams), default=None)

    return get


HANDOVER: Final = [
    *(Figure(f"{what}: longest gap, by its limit", _nearest(scenario, "measured"), "ms", most=1.0, by="limit",
             beside={"limit": _nearest(scenario, "limit"), "without Sojourn": _without(scenario)}, plotted=False)
      for scenario, what in (
          ("planned", "20 moves by order"), ("link-pulled", "active link pulled"),
          ("silent-death", "active network silently dead"), ("new-network-after-none", "a network after none"),
          ("unequal-delay", "between networks of 20 and 200 ms"))),
    *(Figure(f"{what}: packets lost or doubled", _counted(scenario, "lost", "doubled"), most=0.0, plotted=False)
      for scenario, what in (("planned", "20 moves by order"), ("unequal-delay", "between 20 and 200 ms"))),
]  # fmt: skip


def _confirmed(kind: str) -> Get:
    return lambda found: max((one["ms"] for one in found.get("ms", {}).get(kind, []) if "ms" in one), default=None)


FLOWS: Final = [
    Figure("10,000 flows by match, to the anchor's confirmation", _confirmed("match"), "ms", most=52.0),
    Figure("10,000 flows as a list", _confirmed("list"), "ms", most=266.0),
]
"""50 ms and one round trip of the lab, which is 2 ms; 250 ms and eight."""

IDLE: Final = [
    Figure("host with two networks, of one processor", at("host", "percent"), "%", most=0.5,
           beside={"its anchor": at("anchor", "percent")}),
]  # fmt: skip

DECIDE: Final = [
    Figure(f"{what}, 10,000 flows", at(key, "median_ms"), "ms", most=100.0, beside={"worst": at(key, "worst_ms")})
    for key, what in (("policies, network silent", "a network died, 20 policies"),
                      ("policies, loss of 10 %", "a network got worse, 20 policies"),
                      ("default alone, network silent", "a network died, no policy"))
]  # fmt: skip

CLASSIFY: Final = [
    Figure("short flows of 20 programs told right", at("right"), least=1.0, by="flows", beside={"flows": at("flows")},
           plotted=False),
    Figure("first packet beyond an unclassified flow's, median", at("first_packet_beyond_us"), "µs", most=100.0),
    Figure("later packets", at("later_packets_beyond_us"), "µs"),
]  # fmt: skip

COPIES: Final = [
    Figure("two copies, one network dies: packets lost", at("lost"), most=0.0, beside={"kills": at("kills")}),
    Figure("packets doubled", at("doubled"), most=0.0, beside={"longest gap, ms": at("longest_gap_ms")}),
]

DIRECT: Final = [
    Figure(f"one TCP flow, {way}, by the sealed anchor tunnel", at("direct", way, "gbit_s"), "Gbit/s", by="tunnel",
           beside={"tunnel": at("tunnel", way, "gbit_s")}) for way in ("up", "down")
]  # fmt: skip


def _longest(*path: str) -> Get:
    """Return what reads the largest number of a list."""

    def get(found: Json) -> float | None:
        for step in path:
            found = found.get(step, {})
        return max(found, default=None)

    return get


ROAM: Final = [
    Figure("both move every 4 s: datagrams lost", at("soft", "lost"), most=0.0, plotted=False,
           beside={"longest gap, ms": at("soft", "longest_gap_ms")}),
    Figure("one TCP flow with 0.25 moves/s, less than without", at("throughput", "less_percent"), "%", most=6.0,
           plotted=False),
    Figure("both in the same second: flowing again after the later address (asked: two round trips + 100 ms)",
           _longest("both", "after_the_later_address_ms"), "ms", plotted=False),
]  # fmt: skip

SOCKS: Final = [
    *(Figure(f"{what}, relay, by dante", at("peers", f"sojourn {way}", key), unit, by="dante",
             beside={"dante": at("peers", f"dante {way}", key)})
      for way in ("up", "down")
      for key, what, unit in (("gbit_s", f"one TCP flow {way}", "Gbit/s"),
                              ("cpu_s_per_gb", f"CPU-seconds a GB {way}", "s"))),
    Figure("a session returns", at("reconnect", "reconnect_ms"), "ms", plotted=False,
           beside={"a new one": at("reconnect", "new_session_ms"), "TCP alone": at("reconnect", "tcp_ms")}),
]  # fmt: skip


def _rows(kind: str, of: Callable[[Json], float]) -> Get:
    """Return what reads the largest of one list's rows."""
    return lambda found: max((of(row) for row in found.get(kind, []) if row.get("rtt_ms") is not None), default=None)


SOCKS_SILENCE: Final = [
    Figure("a network dies silently: longest silence beyond two round trips",
           _rows("silent", lambda row: float(row["gap_ms"] - 2 * row["rtt_ms"])), "ms", most=300.0,
           beside={"in all": _rows("silent", lambda row: float(row["gap_ms"]))}),
    Figure("ordered to move: session is back, in round trips", _rows("ordered", lambda row: float(row["round_trips"])),
           most=2.0, plotted=False, beside={"ms": _rows("ordered", lambda row: float(row["resumed_ms"]))}),
]  # fmt: skip


def _way(name: str, key: str) -> Get:
    return at("ways", name, key)


def _least(*each: Get) -> Get:
    def get(found: Json) -> float | None:
        return min((value for one in each if (value := one(found)) is not None), default=None)

    return get


_HOWS: Final = ("forwarding", "relay", "dante", "masquerade")


def _spliced(what: str, key: str, unit: str, least: float | None = None, most: float | None = None) -> Figure:
    return Figure(f"{what}, splice by forwarding", _way("splice", key), unit, by="forwarding",
                  beside=named(_HOWS, lambda name: _way(name, key)), least=least, most=most)  # fmt: skip


SPLICE: Final = [
    _spliced("one byte there and back, median", "median_us", "µs", most=1.0),
    _spliced("one byte there and back, mean", "mean_us", "µs", most=1.0),
    _spliced("one TCP flow", "gbit_s", "Gbit/s", least=0.9),
    Figure("CPU-seconds a GB, by the best proxy's", _way("splice", "cpu_s_per_gb"), "s", most=0.5, by="best proxy",
           beside={"best proxy": _least(_way("relay", "cpu_s_per_gb"), _way("dante", "cpu_s_per_gb")),
                   "forwarding": _way("forwarding", "cpu_s_per_gb")}),
    Figure("among 5,000 sessions, by alone", at("crowd", "among_all_gbit_s"), "Gbit/s", by="alone", plotted=False,
           beside={"alone": at("crowd", "alone_gbit_s")}),
]  # fmt: skip

RENDEZVOUS: Final = [
    *(Figure(f"packets/s, {size} bytes, {flows}", at("forwarding", "packets", f"{size} bytes, {flows}", "per_s"),
             least=72000.0 if size == 64 else None)
      for flows in ("1 flow", "64 flows") for size in (64, 1000)),
    Figure("a trigger in memory", at("memory", "bytes_each"), "bytes", plotted=False,
           beside={"inserts a second": at("memory", "inserts_per_s")}),
]  # fmt: skip

WINDOW: Final = [
    Figure("longest task before 1,000 flows, by the clock",
           worst(*(at("crowd", "rounds", number, "longest_by_clock", "clock_ms") for number in range(3))), "ms",
           most=50.0),
    Figure("a pull is shown after", at("pulled", "longest_ms"), "ms", most=200.0,
           beside={"median": at("pulled", "median_ms")}),
]  # fmt: skip

TABLES: Final[dict[str, list[Figure]]] = {
    "sealed": SEALED, "kernel": KERNEL, "core": CORE, "throughput": THROUGHPUT, "latency": LATENCY,
    "overhead": OVERHEAD, "newflows": NEWFLOWS, "scale": SCALE, "handover": HANDOVER, "flows": FLOWS, "idle": IDLE,
    "decide": DECIDE, "classify": CLASSIFY, "copies": COPIES, "direct": DIRECT, "roam": ROAM, "socks": SOCKS,
    "socks_silence": SOCKS_SILENCE, "splice": SPLICE, "rendezvous": RENDEZVOUS, "window": WINDOW,
}  # fmt: skip
"""By program. bench/rendezvous_nodes.py has a picture alone, bench/socks_moves.py counts and fails."""
