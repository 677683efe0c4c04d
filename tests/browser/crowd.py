"""A host with many flows that does not exist: what `watch` would tell of it, at any pace. And an anchor."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.api.server import Arguments, Peer, Server

APPLICATIONS = 20
RTT_MS = {"eth0": 8.9, "wlan0": 21.3, "wwan0": 48.0}


def unix() -> float:
    """Return the time as people's clocks have it."""
    return datetime.now(UTC).timestamp()


def network(name: str, kind: str, **others: object) -> dict[str, Any]:
    """Return a network's row (`networks --json`)."""
    tunnel = {
        "id": 1, "rtt_ms": RTT_MS.get(name), "rttvar_ms": 1.0, "jitter_ms": 0.8, "loss": 0.0, "loss_out": 0.0,
        "loss_in": 0.0, "loss_trend": 0.0, "rate_bps": 9e7, "in_bps": 4e6, "out_bps": 3e5, "mtu": 1448,
        "bytes_in": 1, "bytes_out": 1, "outer": None,
    }  # fmt: skip
    row = {
        "name": name, "interface": name, "label": None, "kind": kind, "metered": False, "signal": None,
        "security": None, "trusted": False, "technology": None, "operator": None, "roaming": False, "used_bytes": 0,
        "cap_bytes": None, "over_cap": False, "portal": None, "state": "up", "address": "192.0.2.7", "gateway": None,
        "default": False, "reason": None, "use": "on", "tunnel": tunnel,
    }  # fmt: skip
    return row | others


NETWORKS = [
    network("eth0", "ethernet", default=True),
    network("wlan0", "wifi", label="Corner Café", signal=0.7, security="open", state="degraded"),
    network("wwan0", "cellular", label="Travel SIM", signal=0.4, metered=True, roaming=True, technology="lte",
            used_bytes=4_600_000_000, cap_bytes=5_000_000_000),
    network("wlan1", "wifi", label="Hotel", state="captive", reason="its portal is closed", tunnel=None),
    network("usb0", "other", state="paused", use="paused", tunnel=None),
]  # fmt: skip
QUESTION = {
    "id": 1, "policy": "backup", "text": "No network fits 'backup' now, only wwan0 works. Where shall its flows go?",
    "choices": ["wwan0", "hold", "block"], "default": "hold", "seconds_left": 50.0,
    "remember": ["once", "session", "ever"],
}  # fmt: skip


def entry(number: int, event: str, where: str | None, reason: str, **others: object) -> dict[str, Any]:
    """Return a line of the roaming log."""
    row = {
        "number": number, "time": unix() - 90 + number, "event": event, "network": where, "decision": None,
        "reason": reason, "gap_ms": None, "flows": None, "known": None,
    }  # fmt: skip
    return row | others


LOG = [
    entry(1, "works", "eth0", "the anchor answers"),
    entry(2, "silent", "wlan0", "no answer for 212 ms"),
    entry(3, "handover", "eth0", "wlan0 does not answer", decision="from wlan0",
          known={"eth0": "works, rtt 8.9ms", "wlan0": "silent"}),
    entry(4, "moved", "eth0", "move 7: heard on the new path", flows=12, gap_ms=181.0),
    entry(5, "captive", "wlan1", "its portal is closed"),
]  # fmt: skip


class Crowd:
    """One host, or one anchor, and what is told of it."""

    def __init__(self, flows: int, updates: float = 4.0, role: str = "host") -> None:
        """`updates`: how many deltas a second there are, each with the rates of all flows."""
        self.role, self.updates = role, updates
        self.flows = [_flow(number) for number in range(flows)]
        self.told = 0
        self._away = False
        self._news: list[dict[str, Any]] = []

    def setup(self, server: Server) -> None:
        """Register what a window asks for."""
        server.register_stream("watch", self._watch)
        server.register("handover", self._handover)

    def move(self, application: str, to: str | None, why: str) -> None:
        """Let an application's flows move."""
        moved = [flow for flow in self.flows if flow["application"] == application]
        moves = [{"flow": flow["id"], "from": flow["network"], "to": to, "why": why} for flow in moved]
        for flow in moved:
            flow["network"] = to
        self._news.append({"flows": moved, "moves": moves})

    def hang_up(self) -> None:
        """Be as a daemon that has ended: connections end, and new ones get nothing."""
        self._away = True

    def come_back(self) -> None:
        """Answer again."""
        self._away = False

    async def _handover(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        self.move(arguments["app"], arguments["to"], "ordered by the user")
        return {"version": 1, "to": arguments["to"], "moved": 1}

    async def _watch(self, _arguments: Arguments, _peer: Peer) -> AsyncIterator[dict[str, Any]]:
        if self._away:
            raise ApiError("the daemon is not running", "Start it with `sojourn host`.", ErrorKind.NOT_RUNNING)
        yield {"event": "snapshot", "version": 1, "role": self.role, "at": unix()} | (
            self._host() if self.role == "host" else self._anchor()
        )
        started, told = time.monotonic(), 0
        while not self._away:
            while self._news:
                yield {"event": "delta", "at": unix(), **self._news.pop(0)}
            yield {"event": "delta", "at": unix(), "rates": self._rates(told)}
            told += 1
            self.told += 1
            await asyncio.sleep(max(0.001, started + told / self.updates - time.monotonic()))

    def _rates(self, turn: int) -> list[list[Any]]:
        return [
            [
                flow["id"],
                turn * 1000 + at,
                turn * 10,
                float((turn * 7919 + at * 104729) % 4_000_000),
                9000.0 + turn % 99,
            ]
            for at, flow in enumerate(self.flows)
        ]

    def _host(self) -> dict[str, Any]:
        status = {
            "version": 1, "state": "associated", "vipa": "10.201.0.2", "vipa6": None, "anchor": "203.0.113.7",
            "reason": None, "capturing": True, "flows": len(self.flows), "pending_handovers": 0, "refused": {},
        }  # fmt: skip
        orders = {"everything": None, "applications": {"app-1": "wlan0"}, "flows": {}}
        return {
            "status": status, "networks": NETWORKS, "flows": self.flows, "orders": orders, "undo": None, "log": LOG,
            "questions": [QUESTION],
        }  # fmt: skip

    def _anchor(self) -> dict[str, Any]:
        path = {"id": "17", "outer": "[2001:db8:100::25]:40112", "rtt_ms": 9.1, "loss": 0.0, "in_bps": 2e6,
                "out_bps": 9e7, "bytes_in": 10**8, "bytes_out": 10**9, "default": True}  # fmt: skip
        hosts = [
            {"name": name, "user": name, "state": state, "vipa": "10.201.0.2", "vipa6": "fdb4:5d45:3c27::2",
             "lease_s": 3300, "tunnels": {}, "paths": [path] if state == "associated" else [], "flows": 3,
             "in_bps": 2e6, "out_bps": 9e7}
            for name, state in (("laptop", "associated"), ("phone", "away"), ("tablet", "invited"))
        ]  # fmt: skip
        status = {"version": 1, "state": "running", "address": "203.0.113.7", "flows": len(self.flows), "totals": {},
                  "refused": {"unknown tunnel": 341, "replay": 12},
                  "load": {"in_bps": 2e6, "out_bps": 9e7, "in_pps": 3200, "out_pps": 8100}}  # fmt: skip
        exposed = [{"protocol": "tcp", "public_port": 2222, "host": "laptop", "port": 22, "kept": "store"}]
        flows = [flow | {"host": "laptop", "network": "17"} for flow in self.flows]
        return {
            "status": status, "hosts": hosts, "flows": flows, "flows_total": len(flows), "exposed": exposed, "log": [],
        }  # fmt: skip


def _flow(number: int) -> dict[str, Any]:
    application = number % APPLICATIONS
    return {
        "id": f"{number:08x}", "protocol": "udp" if number % 3 else "tcp", "local": f"10.201.0.2:{20000 + number}",
        "remote": f"198.51.100.{number % 250}:{443 + number % 7}", "application": f"app-{application}",
        "network": ("eth0", "wlan0", "wwan0")[application % 3], "bytes_in": 0, "bytes_out": 0, "age_s": 12.0,
        "policy": None, "state": "carried", "pid": 100, "uid": 1000, "program": "/usr/bin/app", "unit": None,
        "container": None, "exact": True, "in_bps": 0.0, "out_bps": 0.0,
    }  # fmt: skip
