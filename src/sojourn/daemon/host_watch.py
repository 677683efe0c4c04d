"""A mobile host's picture for `watch`: what its data path's table holds, its networks, orders, questions and log.

Flows come from the data path alone, so that the picture shows what is, not what was wished: it tells of single flows
as they come, move and go; after a handover, and for counters, its whole table is asked for. That costs time that grows
with the number of flows, so it is done more rarely where there are very many (`SPARING`).
"""

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sojourn.api.server import Server
from sojourn.control.entries import DECISIONS
from sojourn.control.host_control import Entry
from sojourn.control.orders_told import orders_told
from sojourn.control.picture import KEPT_LOG, Picture
from sojourn.control.roaming_log import RoamingEntry
from sojourn.daemon.driver import Tasks, now
from sojourn.daemon.flow_rows import flow_id, flow_row, state_of
from sojourn.daemon.host_api import HostApi
from sojourn.daemon.question_api import question_row
from sojourn.daemon.watch import Watch
from sojourn.model import Flow, Origin, TunnelId
from sojourn.upmt.commands import Report, RowState
from sojourn.upmt.events import AnyEvent, FlowEnded, FlowMoved, FlowSeen, FlowsMoved

if TYPE_CHECKING:
    from sojourn.daemon.host import HostDaemon

COUNT_EVERY: Final = 0.25
"""Seconds between two looks at the counters of flows..."""
SPARING: Final = 20.0
"""...and no less than so many times what one look takes of the processor: waiting for the data path costs nothing."""
MEASURE_EVERY: Final = 1.0
RATE_OVER: Final = 0.8
"""Seconds over which a network's rate is told, at least."""


class HostWatch:
    """Fills the picture while somebody watches."""

    def __init__(self, daemon: "HostDaemon", tasks: Tasks) -> None:
        self._daemon = daemon
        self.picture = Picture(("networks", "flows"))
        self.watch = Watch("host", self.picture, tasks, self._look)
        self._api = HostApi(daemon)
        self._known: dict[Flow, tuple[str, Origin | None, object]] = {}
        """Of each flow its id, who made it, and where it was put by what."""
        self._counted: dict[Flow, tuple[float, int, int]] = {}
        self._count_at = 0.0
        self._measure_at = 0.0
        self._why: str | None = None
        """The reason of the last handover."""
        self._whole = False
        """The table must be asked for: rows moved that are not told one by one."""
        self._rates: dict[str, tuple[float, int, int, int, int]] = {}
        """By network: since when, its counters then, and the rates that were found."""
        for entry in daemon.log.entries(KEPT_LOG):
            self.picture.log(msgspec.to_builtins(entry))
        daemon.log.listen(self._logged)

    # -- what is told of

    def see(self, event: AnyEvent) -> None:
        """Take in an event of the data path, after control has."""
        if not self.watch.watched:
            self._whole = True  # whoever comes next looks at all
            return
        match event:
            case FlowSeen(association, flow, tunnel):
                row = RowState(
                    association, flow, tunnel, 0, 0, 0, 0, 0, 0.0, event.origin, event.label, event.copies,
                    event.blocked,
                )  # fmt: skip
                self._put(row, "the policies want it there")
            case FlowMoved(_, flow, tunnel):
                self._moved(flow, tunnel)
            case FlowEnded(flow=flow):
                self._forget(flow)
            case FlowsMoved():
                self._whole = True
                self.watch.poke()
                return
            case _:
                return
        self.watch.tell()

    def noted(self, entry: Entry) -> None:
        """Take in what goes to the roaming log: something has happened to the networks."""
        if entry.event == DECISIONS[0]:
            self._why = entry.reason
        self.watch.poke()

    def _logged(self, entry: RoamingEntry) -> None:
        self.picture.log(msgspec.to_builtins(entry))
        self.watch.tell()

    # -- what is looked at

    async def _look(self) -> None:
        at = now()
        if at >= self._measure_at:
            self._measure_at = at + MEASURE_EVERY
            self._daemon.submit(Report())
        self._networks(at)
        control = self._daemon.control
        self.picture.set("status", {key: value for key, value in self._api.current().items() if key != "networks"})
        self.picture.set("orders", orders_told(control.decide.orders, flow_id))
        self.picture.set("undo", self._daemon.undo.told())
        self.picture.set("questions", self._questions())
        if self._whole or at >= self._count_at:
            self._whole = False
            with contextlib.suppress(TimeoutError):  # a data path that is being replaced: the next look will do
                await self._flows()

    def _questions(self) -> list[dict[str, Any]]:
        """Return the open questions; how long each has left is told once, for those who count down themselves."""
        before = {one["id"]: one for one in self.picture.value("questions") or ()}
        asked = self._daemon.policies.questions.open
        return [before.get(one.id) or question_row(one) for one in asked]

    def _networks(self, at: float) -> None:
        rows, networks = self.picture.tables["networks"], self._api.network_rows()
        for row in networks:
            tunnel = row["tunnel"]
            if tunnel is not None:
                tunnel["in_bps"], tunnel["out_bps"] = self._rate(row["name"], tunnel, at)
            rows.put(row["name"], row)
        names = [row["name"] for row in networks]
        rows.keep_only(names)
        self.picture.set("network_order", names)

    def _rate(self, name: str, tunnel: dict[str, Any], at: float) -> tuple[int, int]:
        """Return the bit/s that a network carries now, in and out."""
        came, went = tunnel["bytes_in"], tunnel["bytes_out"]
        since, before_in, before_out, bps_in, bps_out = self._rates.get(name, (at, came, went, 0, 0))
        if at - since >= RATE_OVER or came < before_in or went < before_out or name not in self._rates:
            spent = max(at - since, RATE_OVER)
            bps_in = int(max(0, came - before_in) * 8 / spent)
            bps_out = int(max(0, went - before_out) * 8 / spent)
            self._rates[name] = (at, came, went, bps_in, bps_out)
        return bps_in, bps_out

    async def _flows(self) -> None:
        began = time.thread_time()
        rows, at = await self._daemon.rows(), now()
        for row in rows:
            self._put(row, self._why)
            self._count(row, at)
        present = {row.flow for row in rows}
        for flow in [flow for flow in self._known if flow not in present]:
            self._forget(flow)
        self._count_at = at + max(COUNT_EVERY, SPARING * (time.thread_time() - began))
        await asyncio.sleep(0)

    # -- single flows

    def _put(self, row: RowState, why: str | None) -> None:
        place = (row.tunnel, row.label, row.blocked, row.copies, self._daemon.peers.network_of(row.tunnel))
        known = self._known.get(row.flow)
        if known is not None and known[1:] == (row.origin, place):
            return
        network = place[-1]
        before = self.picture.tables["flows"].get(known[0]) if known is not None else None
        if known is not None and before is not None and known[1] == row.origin:
            told = {**before, "network": network, "policy": row.label or None, "state": state_of(row)}
        else:
            told = {**flow_row(row, network), "peer": self._daemon.peers.peer_of(row)}
        key = told["id"]
        self._known[row.flow] = (key, row.origin, place)
        self.picture.tables["flows"].put(key, told)
        if before is not None and before["network"] != network:
            self.picture.moved(key, {"flow": key, "from": before["network"], "to": network, "why": why})

    def _moved(self, flow: Flow, tunnel: TunnelId) -> None:
        known = self._known.get(flow)
        row = self.picture.tables["flows"].get(known[0]) if known is not None else None
        if known is None or row is None:
            return
        network = self._daemon.peers.network_of(tunnel)
        told = {**row, "network": network, "state": "carried" if row["state"] == "waiting" else row["state"]}
        self._known[flow] = (known[0], known[1], None)  # the next look fills in the rest
        self.picture.tables["flows"].put(known[0], told)
        if row["network"] != network:
            self.picture.moved(known[0], {"flow": known[0], "from": row["network"], "to": network, "why": self._why})

    def _count(self, row: RowState, at: float) -> None:
        last = self._counted.get(row.flow)
        came, went = row.bytes_in, row.bytes_out
        bps_in = bps_out = 0
        if last is not None and at > last[0] and came >= last[1] and went >= last[2]:
            bps_in = int((came - last[1]) * 8 / (at - last[0]))
            bps_out = int((went - last[2]) * 8 / (at - last[0]))
        self._counted[row.flow] = (at, came, went)
        self.picture.rates.put(self._known[row.flow][0], (came, went, bps_in, bps_out))

    def _forget(self, flow: Flow) -> None:
        known = self._known.pop(flow, None)
        self._counted.pop(flow, None)
        if known is not None:
            self.picture.drop_flow(known[0])


def register(server: Server, watch: HostWatch) -> None:
    """Let the server answer `watch`."""
    server.register_stream("watch", watch.watch.stream)
