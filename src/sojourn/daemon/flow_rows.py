"""A row of the table as `flows --json` prints it, on a host and on an anchor."""

import hashlib
from typing import Any

from sojourn.model import ICMP, ICMPV6, TCP, UDP, Endpoint, Flow
from sojourn.packet import ip
from sojourn.upmt.commands import RowState

_PROTOCOLS = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "icmpv6"}


def flow_row(row: RowState, network: str | None) -> dict[str, Any]:
    """Return the JSON of one flow (DESIGN §7)."""
    return {
        "id": flow_id(row.flow),
        "protocol": _PROTOCOLS.get(row.flow.protocol, str(row.flow.protocol)),
        "local": _text(row.flow.local),
        "remote": _text(row.flow.remote),
        "application": None,
        "network": network,
        "bytes_in": row.bytes_in,
        "bytes_out": row.bytes_out,
        "age_s": round(row.age, 1),
    }


def flow_id(flow: Flow) -> str:
    """Return the name by which people call a flow: it stays the same as long as the flow lives."""
    return hashlib.blake2s(ip.key_of(flow), digest_size=4).hexdigest()


def _text(endpoint: Endpoint) -> str:
    address = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    return f"{address}:{endpoint.port}" if endpoint.port else endpoint.address
