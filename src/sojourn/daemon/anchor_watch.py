"""An anchor's picture for `watch`: who is associated over which tunnels, its flows, its load, its port forwards.

An anchor may have a hundred thousand flows: the busiest are listed, and none where there are so many that looking at
them would cost those who use them.
"""

import contextlib
import heapq
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sojourn.api.server import Server
from sojourn.control.picture import KEPT_LOG, Picture
from sojourn.control.roaming_log import RoamingEntry
from sojourn.daemon.anchor_api import AnchorApi
from sojourn.daemon.driver import Tasks, now
from sojourn.daemon.flow_rows import flow_row
from sojourn.daemon.watch import Watch
from sojourn.model import AssociationId, Flow, TunnelId
from sojourn.upmt.anchor import association_of
from sojourn.upmt.commands import Report, RowState
from sojourn.upmt.events import AnyEvent, State, TunnelMeasured
from sojourn.upmt.records import Subscriber

if TYPE_CHECKING:
    from sojourn.daemon.anchor import AnchorDaemon

MEASURE_EVERY: Final = 1.0
COUNT_EVERY: Final = 1.0
SPARING: Final = 50.0
MOST_LISTED: Final = 500
MOST_LOOKED_AT: Final = 5000
"""Flows above which none is listed."""


class AnchorWatch:
    """Fills the picture while somebody watches."""

    def __init__(self, daemon: "AnchorDaemon", tasks: Tasks) -> None:
        self._daemon = daemon
        self.picture = Picture(("hosts", "flows"))
        self.watch = Watch("anchor", self.picture, tasks, self._look)
        self._api = AnchorApi(daemon)
        self._measured: dict[TunnelId, TunnelMeasured] = {}
        self._rates: dict[object, tuple[float, tuple[int, ...], tuple[int, ...]]] = {}
        """By what counts: when, its counters then, and how much they grow a second."""
        self._flows: dict[Flow, str] = {}
        """The id of each flow that is listed."""
        self._flows_of: Counter[str] = Counter()
        self._defaults: dict[AssociationId, TunnelId | None] = {}
        self._measure_at = self._count_at = 0.0
        for entry in daemon.log.entries(KEPT_LOG):
            self.picture.log(msgspec.to_builtins(entry))
        daemon.log.listen(self._logged)

    def see(self, event: AnyEvent) -> None:
        """Take in an event of the data path."""
        if self.watch.watched and isinstance(event, TunnelMeasured):
            self._measured[event.tunnel] = event

    def _logged(self, entry: RoamingEntry) -> None:
        self.picture.log(msgspec.to_builtins(entry))
        self.watch.poke()
        self.watch.tell()

    async def _look(self) -> None:
        at = now()
        if at >= self._measure_at:
            self._measure_at = at + MEASURE_EVERY
            self._daemon.submit(Report())
        status = {key: value for key, value in self._api.current().items() if key != "hosts"}
        self.picture.set("status", status | {"load": self._load(at)})
        self.picture.set("exposed", self._exposed())
        counters = self._daemon.inquiry.counters
        total = counters.flows if counters is not None else 0
        self.picture.set("flows_total", total)
        if at >= self._count_at:
            await self._look_at_flows(total)
        self._hosts(at)

    def _exposed(self) -> list[dict[str, Any]]:
        kept = self._daemon.forwards
        numbers = {"tcp": 6, "udp": 17}
        return [
            {**row, "kept": "store" if (numbers[row["protocol"]], row["public_port"]) in kept else "file"}
            for row in self._api.port_forwards()
        ]

    def _load(self, at: float) -> dict[str, int]:
        counters = self._daemon.inquiry.counters
        totals = counters.totals if counters is not None else {}
        names = ("bytes_in", "bytes_out", "packets_in", "packets_out")
        rates = self._rate("load", tuple(totals.get(name, 0) for name in names), at)
        return {"in_bps": rates[0] * 8, "out_bps": rates[1] * 8, "in_pps": rates[2], "out_pps": rates[3]}

    def _rate(self, key: object, counted: tuple[int, ...], at: float) -> tuple[int, ...]:
        """Return how much counters grow a second, told anew about once a second."""
        since, before, rates = self._rates.get(key, (at, counted, (0,) * len(counted)))
        if key not in self._rates or any(new < old for new, old in zip(counted, before, strict=True)):
            self._rates[key] = (at, counted, rates)
        elif at - since >= MEASURE_EVERY * 0.8:
            rates = tuple(int((new - old) / (at - since)) for new, old in zip(counted, before, strict=True))
            self._rates[key] = (at, counted, rates)
        return rates

    # -- hosts

    def _hosts(self, at: float) -> None:
        rows, known = self.picture.tables["hosts"], self._daemon.machine.subscribers
        for subscriber in sorted(known.values(), key=lambda one: one.name):
            rows.put(subscriber.name, self._host(subscriber, at))
        rows.keep_only({subscriber.name for subscriber in known.values()})
        tunnels = {tunnel for one in known.values() for tunnel in one.tunnels}
        self._measured = {tunnel: event for tunnel, event in self._measured.items() if tunnel in tunnels}

    def _host(self, subscriber: Subscriber, at: float) -> dict[str, Any]:
        row = self._api.host_row(subscriber)
        row.pop("lease_s")  # it changes each second
        paths = [self._path(int(tunnel), outer, subscriber, at) for tunnel, outer in row["tunnels"].items()]
        return {
            **row,
            "lease_until": subscriber.lease_until,
            "paths": paths,
            "flows": self._flows_of[subscriber.user],
            "in_bps": sum(path["in_bps"] for path in paths),
            "out_bps": sum(path["out_bps"] for path in paths),
        }

    def _path(self, number: int, outer: str, subscriber: Subscriber, at: float) -> dict[str, Any]:
        tunnel = TunnelId(number)
        measured = self._measured.get(tunnel)
        counted = (measured.bytes_in, measured.bytes_out) if measured is not None else (0, 0)
        rates = self._rate(tunnel, counted, at)
        losses = (measured.loss_in, measured.loss_out) if measured is not None else (None, None)
        known = [loss for loss in losses if loss is not None]
        association = association_of(subscriber.vipa) if subscriber.vipa is not None else None
        return {
            "id": str(number),
            "outer": outer,
            "rtt_ms": round(measured.srtt * 1000, 2) if measured is not None and measured.srtt is not None else None,
            "loss": round(max(known), 4) if known else None,
            "in_bps": rates[0] * 8,
            "out_bps": rates[1] * 8,
            "bytes_in": counted[0],
            "bytes_out": counted[1],
            "default": association is not None and self._defaults.get(association) == tunnel,
        }

    # -- flows

    async def _look_at_flows(self, total: int) -> None:
        began = time.thread_time()
        if total > MOST_LOOKED_AT:
            self._list([])
            self._flows_of.clear()
            self._count_at = now() + COUNT_EVERY
            return
        with contextlib.suppress(TimeoutError):
            state: State = await self._daemon.inquiry.snapshot()
            at = now()
            self._defaults = {one.association: one.tunnel for one in state.defaults}
            self._flows_of = Counter(self._user(row.association) for row in state.rows)
            rated = [(row, self._rate(row.flow, (row.bytes_in, row.bytes_out), at)) for row in state.rows]
            self._list(heapq.nlargest(MOST_LISTED, rated, key=lambda one: (sum(one[1]), one[0].bytes_in)))
            present = {row.flow for row in state.rows}
            self._rates = {
                key: kept for key, kept in self._rates.items() if not isinstance(key, Flow) or key in present
            }
        self._count_at = now() + max(COUNT_EVERY, SPARING * (time.thread_time() - began))

    def _list(self, rated: list[tuple[RowState, tuple[int, ...]]]) -> None:
        listed: dict[Flow, str] = {}
        for row, rates in rated:
            told = flow_row(row, str(row.tunnel) if row.tunnel is not None else None)
            key = listed[row.flow] = told["id"]
            subscriber = self._daemon.machine.user_of(row.association)
            old = self.picture.tables["flows"].get(key)
            if old is None or old["network"] != told["network"] or old["state"] != told["state"]:
                self.picture.tables["flows"].put(key, told | {"host": subscriber.name if subscriber else None})
            self.picture.rates.put(key, (row.bytes_in, row.bytes_out, rates[0] * 8, rates[1] * 8))
        for flow, key in self._flows.items():
            if flow not in listed:
                self.picture.drop_flow(key)
        self._flows = listed

    def _user(self, association: AssociationId) -> str:
        subscriber = self._daemon.machine.user_of(association)
        return subscriber.user if subscriber is not None else ""


def register(server: Server, watch: AnchorWatch) -> None:
    """Let the server answer `watch`."""
    server.register_stream("watch", watch.watch.stream)
