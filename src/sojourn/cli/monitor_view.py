"""What `sojourn monitor` shows, as plain values: two samples of a daemon in, rates and tables out.

`view` is what `--json` prints; `tables` are the same for people, the busiest first, cut to the room that there is.
"""

import datetime
from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import Struct

from sojourn.cli import output

Row = dict[str, Any]
WHERE_LOG: Final = 0.25
"""Share of the room for the latest moves."""
LEAST: Final = 3
"""Rows that each table gets however little room there is."""


class Sample(Struct, frozen=True):
    """What a daemon said at one moment."""

    at: float
    """Seconds of a clock that does not jump."""
    role: str
    status: Row
    flows: list[Row]
    log: list[Row]


class Table(Struct, frozen=True):
    """A heading, its columns (">": set right) and rows."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[object]]
    wide: int = 0
    """The column that gives way when the terminal is narrow."""


def view(before: Sample | None, now: Sample) -> Row:
    """Return everything with rates; without an earlier sample rates are null."""
    spent = now.at - before.at if before is not None else 0.0
    earlier_flows = _by(before.flows, "id") if before else {}
    flows = [{**row, **_rates(earlier_flows.get(row.get("id")) or {}, row, spent)} for row in now.flows]
    shown: Row = {"version": 1, "role": now.role, "state": now.status.get("state")}
    if now.role == "host":
        shown["anchor"] = now.status.get("anchor")
        shown["networks"] = _networks(before.status if before else {}, now.status, spent)
        shown["applications"] = summed(flows, "application")
    elif now.role == "anchor":
        shown["hosts"] = _hosts(now.status.get("hosts", []), flows)
        shown["refused"] = now.status.get("refused", {})
    if now.role == "rendezvous":
        earlier = before.status.get("totals", {}) if before else {}
        totals = now.status.get("totals", {})
        shown["totals"] = [
            {"name": name, "total": total, "per_s": _rate(earlier.get(name), total, spent)}
            for name, total in totals.items()
        ]
    else:
        shown["flows"] = sorted(flows, key=_busy, reverse=True)
        shown["log"] = now.log
    return shown


def summed(flows: Iterable[Row], key: str) -> list[Row]:
    """Return flows summed up by one of their values, the busiest first."""
    found: dict[object, Row] = {}
    for flow in flows:
        row = found.setdefault(
            flow.get(key), {key: flow.get(key), "flows": 0, "networks": [], "in_per_s": None, "out_per_s": None}
        )
        row["flows"] += 1
        if (network := flow.get("network")) is not None and network not in row["networks"]:
            row["networks"].append(network)
        for way in ("in_per_s", "out_per_s"):
            if flow[way] is not None:
                row[way] = (row[way] or 0.0) + flow[way]
    return sorted(found.values(), key=_busy, reverse=True)


def _networks(before: Row, now: Row, spent: float) -> list[Row]:
    earlier = _by(before.get("networks", []), "name")
    rows = []
    for row in now.get("networks", []):
        tunnel, last = row.get("tunnel") or {}, (earlier.get(row.get("name")) or {}).get("tunnel") or {}
        same = tunnel.get("id") == last.get("id")
        rows.append({**row, **_rates(last if same else {}, tunnel, spent)})
    return rows


def _hosts(hosts: Iterable[Row], flows: Iterable[Row]) -> list[Row]:
    """Return the hosts with what their flows carry; a flow is a host's by its inner address."""
    by_address = {row["local"]: row for row in summed(({**flow, "local": _address(flow)} for flow in flows), "local")}
    rows = []
    for host in hosts:
        own = [by_address[host[key]] for key in ("vipa", "vipa6") if host.get(key) in by_address]
        rates = {
            way: sum(one[way] or 0.0 for one in own) if any(one[way] is not None for one in own) else None
            for way in ("in_per_s", "out_per_s")
        }
        rows.append({**host, "flows": sum(one["flows"] for one in own), **rates})
    return sorted(rows, key=lambda row: (_busy(row), row.get("state") == "associated"), reverse=True)


def _address(flow: Row) -> str:
    text = str(flow.get("local"))
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]


def _rates(before: Row, now: Row, spent: float) -> Row:
    """Return both ways' rates, of what has counters of bytes."""
    return {f"{way}_per_s": _rate(before.get(f"bytes_{way}"), now.get(f"bytes_{way}"), spent) for way in ("in", "out")}


def _rate(before: float | None, now: float | None, spent: float) -> float | None:
    """Return how much more it is a second; None where that is not known (new, or counted anew)."""
    if before is None or now is None or spent <= 0 or now < before:
        return None
    return round((now - before) / spent, 1)


def _by(rows: Iterable[Row], key: str) -> dict[object, Row]:
    return {row.get(key): row for row in rows}


def _busy(row: Row) -> float:
    return float(row.get("in_per_s") or 0.0) + float(row.get("out_per_s") or 0.0)


# -- for people


def headline(shown: Row) -> str:
    """Return the first line: who answers, and how it is."""
    role, state = shown["role"], shown.get("state")
    if role == "host":
        return f"host, {state}: anchor {shown.get('anchor')}, {len(shown['flows'])} flows"
    if role == "anchor":
        there = sum(host.get("state") == "associated" for host in shown["hosts"])
        refused = sum(shown["refused"].values())
        known = len(shown["hosts"])
        return f"anchor, {state}: {there} of {known} hosts, {len(shown['flows'])} flows, {refused} refused"
    return f"{role}, {state}"


def tables(shown: Row, lines: int | None = None) -> list[Table]:
    """Return what to print. `lines`: as many as there is room for, all tables with their headings; None: no limit."""
    made = [table for table in _all(shown) if table.rows]
    if lines is None:
        return made
    room = max(lines - 3 * len(made), LEAST * len(made))
    share = max(LEAST, int(room * WHERE_LOG))
    left = room - sum(min(share, len(table.rows)) for table in made if table.title != "Flows")
    return [_cut(table, max(LEAST, left) if table.title == "Flows" else share) for table in made]


def _cut(table: Table, count: int) -> Table:
    rows = table.rows[-count:] if table.title == "Latest" else table.rows[:count]
    return Table(table.title, table.columns, rows, table.wide)


def _all(shown: Row) -> list[Table]:
    if shown["role"] == "rendezvous":
        rows: list[list[object]] = [[row["name"], row["total"], _plain(row["per_s"])] for row in shown["totals"]]
        return [Table("Done", ("WHAT", ">TOTAL", ">A SECOND"), rows)]
    at_anchor = shown["role"] == "anchor"
    first = [_host_table(shown["hosts"])] if at_anchor else [_network_table(shown), _application_table(shown)]
    return [*first, _flow_table(shown["flows"], shown.get("hosts")), _log_table(shown["log"])]


def _network_table(shown: Row) -> Table:
    rows = [
        [
            f"{'* ' if row.get('default') else ''}{row.get('name')}", row.get("state"),
            output.milliseconds(output.get(row, "tunnel", "rtt_ms")), output.percent(output.get(row, "tunnel", "loss")),
            _speed(row["in_per_s"]), _speed(row["out_per_s"]), row.get("reason"),
        ]
        for row in shown["networks"]
    ]  # fmt: skip
    return Table("Networks", ("NETWORK", "STATE", ">RTT", ">LOSS", ">IN", ">OUT", "REMARK"), rows, 6)


def _application_table(shown: Row) -> Table:
    rows = [
        [row["application"], row["flows"], ", ".join(row["networks"]), _speed(row["in_per_s"]),
         _speed(row["out_per_s"])]
        for row in shown["applications"]
    ]  # fmt: skip
    return Table("Applications", ("APPLICATION", ">FLOWS", "NETWORKS", ">IN", ">OUT"), rows)


def _host_table(hosts: Sequence[Row]) -> Table:
    rows = [
        [row.get("name"), row.get("state"), row.get("vipa"), len(row.get("tunnels") or ()), row["flows"],
         _speed(row["in_per_s"]), _speed(row["out_per_s"])]
        for row in hosts
    ]  # fmt: skip
    return Table("Hosts", ("HOST", "STATE", "VIPA", ">TUNNELS", ">FLOWS", ">IN", ">OUT"), rows)


def _flow_table(flows: Sequence[Row], hosts: Sequence[Row] | None) -> Table:
    names = {host[key]: host.get("name") for host in hosts or () for key in ("vipa", "vipa6") if host.get(key)}
    rows = [
        [
            row.get("application") if hosts is None else names.get(_address(row)),
            row.get("protocol"), row.get("remote"), row.get("network") or row.get("state"),
            _speed(row["in_per_s"]), _speed(row["out_per_s"]), output.duration(row.get("age_s")),
        ]
        for row in flows
    ]  # fmt: skip
    first, where = ("APPLICATION", "NETWORK") if hosts is None else ("HOST", "TUNNEL")
    return Table("Flows", (first, "PROTO", "REMOTE", where, ">IN", ">OUT", ">AGE"), rows, 2)


def _log_table(log: Sequence[Row]) -> Table:
    rows: list[list[object]] = []
    for entry in log:
        when = datetime.datetime.fromtimestamp(float(entry.get("time") or 0)).astimezone()
        gap = f"gap {output.milliseconds(entry['gap_ms'])}" if entry.get("gap_ms") is not None else None
        flows = f"{entry['flows']} flows" if entry.get("flows") is not None else None
        words = (entry.get("decision"), flows, gap, entry.get("reason"))
        rows.append(
            [
                f"{when:%H:%M:%S}",
                entry.get("event"),
                entry.get("network"),
                ", ".join(str(word) for word in words if word),
            ]
        )
    return Table("Latest", ("TIME", "EVENT", "NETWORK", "WHAT AND WHY"), rows, 3)


def _speed(rate: float | None) -> str:
    return "-" if rate is None else f"{output.size(rate)}/s"


def _plain(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.0f}"
