"""A row of the table as `flows --json` prints it, on a host and on an anchor."""

import hashlib
from collections.abc import Iterable
from typing import Any

from sojourn.model import ICMP, ICMPV6, TCP, UDP, Endpoint, Flow
from sojourn.packet import ip
from sojourn.policy.names import application_name, container_names, path_of, unit_of
from sojourn.upmt.commands import RowState

_PROTOCOLS = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "icmpv6"}


def flow_row(row: RowState, network: str | None) -> dict[str, Any]:
    """Return the JSON of one flow (DESIGN §7)."""
    return {
        "id": flow_id(row.flow),
        "protocol": _PROTOCOLS.get(row.flow.protocol, str(row.flow.protocol)),
        "local": _text(row.flow.local),
        "remote": _text(row.flow.remote),
        "application": application_name(row.origin),
        "network": network,
        "bytes_in": row.bytes_in,
        "bytes_out": row.bytes_out,
        "age_s": round(row.age, 1),
        "policy": row.label or None,
        "state": state_of(row),
        **owner_of(row),
    }


def state_of(row: RowState) -> str:
    """Return what is done with a flow's packets: "carried", "copied", "waiting" for a network, or "blocked"."""
    if row.blocked:
        return "blocked"
    if row.tunnel is None:
        return "waiting"
    return "copied" if row.copies else "carried"


def owner_of(row: RowState) -> dict[str, Any]:
    """Return what is known of the program that made a flow; `exact` False: found by looking, not told by the kernel."""
    origin = row.origin
    if origin is None:
        return {"pid": None, "uid": None, "program": None, "unit": None, "container": None, "exact": None}
    return {
        "pid": origin.pid or None,
        "uid": origin.uid,
        "program": path_of(origin) or origin.command or None,
        "unit": unit_of(origin.cgroup),
        "container": next(iter(container_names(origin)), None),
        "exact": origin.exact,
    }


def app_rows(flows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the JSON of the applications that some flows (as `flow_row` made them) belong to, the busiest first."""
    found: dict[str | None, dict[str, Any]] = {}
    for flow in flows:
        app = found.setdefault(
            flow["application"],
            {
                "application": flow["application"], "flows": 0, "networks": [], "policies": [],
                "bytes_in": 0, "bytes_out": 0,
            },
        )  # fmt: skip
        app["flows"] += 1
        app["bytes_in"] += flow["bytes_in"]
        app["bytes_out"] += flow["bytes_out"]
        for many, one in (("networks", "network"), ("policies", "policy")):
            if flow[one] is not None and flow[one] not in app[many]:
                app[many].append(flow[one])
    return sorted(found.values(), key=lambda app: -(app["bytes_in"] + app["bytes_out"]))


def flow_id(flow: Flow) -> str:
    """Return the name by which people call a flow: it stays the same as long as the flow lives."""
    return hashlib.blake2s(ip.key_of(flow), digest_size=4).hexdigest()


def _text(endpoint: Endpoint) -> str:
    address = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    return f"{address}:{endpoint.port}" if endpoint.port else endpoint.address
