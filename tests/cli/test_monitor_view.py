"""What the live view shows, of two samples."""

from typing import Any

import pytest

from sojourn.cli.monitor_view import Sample, headline, tables, view


def flow(number: int, came: int, went: int, application: str = "zoom", network: str = "wifi") -> dict[str, Any]:
    return {
        "id": str(number), "application": application, "network": network, "protocol": "udp", "state": "carried",
        "local": f"10.201.0.2:{number}", "remote": "192.0.2.9:443", "bytes_in": came, "bytes_out": went, "age_s": 5,
    }  # fmt: skip


def host(at: float, flows: list[dict[str, Any]], came: int = 0) -> Sample:
    tunnel = {"id": 1, "rtt_ms": 9.5, "loss": 0.01, "bytes_in": came, "bytes_out": 2 * came}
    network = {"name": "wifi", "state": "up", "default": True, "tunnel": tunnel, "reason": None}
    status = {"state": "associated", "anchor": "45.0.0.1", "networks": [network, {"name": "usb0", "tunnel": None}]}
    log = [{"time": 0, "event": "moved", "network": "wifi", "gap_ms": 23.4, "flows": 2, "reason": "heard"}]
    return Sample(at, "host", status, flows, log)


def test_rates_are_what_was_carried_in_between_and_the_busiest_come_first() -> None:
    before = host(10.0, [flow(1, 100, 0), flow(2, 0, 0, "ssh")], 1000)
    after = host(12.0, [flow(1, 300, 50), flow(2, 0, 4000, "ssh"), flow(3, 9, 9)], 3000)
    shown = view(before, after)
    assert [(row["id"], row["in_per_s"], row["out_per_s"]) for row in shown["flows"]] == [
        ("2", 0.0, 2000.0), ("1", 100.0, 25.0), ("3", None, None)
    ]  # fmt: skip
    assert [(row["application"], row["flows"], row["out_per_s"]) for row in shown["applications"]] == [
        ("ssh", 1, 2000.0), ("zoom", 2, 25.0)
    ]  # fmt: skip
    assert (shown["networks"][0]["in_per_s"], shown["networks"][0]["out_per_s"]) == (1000.0, 2000.0)
    assert shown["networks"][1]["in_per_s"] is None


@pytest.mark.parametrize("before", [None, host(10.0, [flow(1, 500, 500)], 500)])
def test_without_an_earlier_figure_or_one_that_is_larger_there_is_no_rate(before: Sample | None) -> None:
    shown = view(before, host(10.0 if before is None else 11.0, [flow(1, 100, 100)], 100))
    assert shown["flows"][0]["in_per_s"] is None
    assert shown["networks"][0]["in_per_s"] is None


def anchor(at: float, came: int) -> Sample:
    hosts = [
        {"name": "tablet", "state": "away", "vipa": None, "vipa6": None, "tunnels": {}},
        {"name": "laptop", "state": "associated", "vipa": "10.201.0.2", "vipa6": "fd00::2",
         "tunnels": {"1": "a", "2": "b"}},
    ]  # fmt: skip
    six = {**flow(9, came, 0), "local": "[fd00::2]:9", "network": "2"}
    return Sample(
        at, "anchor", {"state": "running", "hosts": hosts, "refused": {"forged": 3}}, [flow(1, came, 0), six], []
    )


def test_at_an_anchor_flows_are_their_host_s() -> None:
    shown = view(anchor(1.0, 0), anchor(2.0, 700))
    assert [(row["name"], row["flows"], row["in_per_s"]) for row in shown["hosts"]] == [
        ("laptop", 2, 1400.0), ("tablet", 0, None)
    ]  # fmt: skip
    assert headline(shown) == "anchor, running: 1 of 2 hosts, 2 flows, 3 refused"
    first, flows = tables(shown)
    assert first.rows[0][:5] == ["laptop", "associated", "10.201.0.2", 2, 2]
    assert [row[0] for row in flows.rows] == ["laptop", "laptop"]


def test_a_node_s_totals_have_rates() -> None:
    def sample(at: float, count: int) -> Sample:
        return Sample(at, "rendezvous", {"state": "running", "totals": {"received": count}}, [], [])

    shown = view(sample(0.0, 5), sample(2.0, 25))
    assert shown["totals"] == [{"name": "received", "total": 25, "per_s": 10.0}]
    assert tables(shown)[0].rows == [["received", 25, "10"]]
    assert headline(shown) == "rendezvous, running"


@pytest.mark.parametrize("lines", [5, 24, 50, 200])
def test_a_thousand_flows_take_the_room_that_is_left_and_all_tables_stay(lines: int) -> None:
    many = [flow(number, number, number, f"app{number % 50}") for number in range(1000)]
    made = tables(view(host(0.0, many), host(1.0, many)), lines)
    assert [table.title for table in made] == ["Networks", "Applications", "Flows", "Latest"]
    used = sum(len(table.rows) + 3 for table in made)
    assert used <= max(lines, 24)
    assert all(table.rows for table in made)
    assert len(tables(view(None, host(1.0, many)))[2].rows) == 1000


def test_a_move_tells_its_gap_and_its_reason() -> None:
    latest = tables(view(None, host(0.0, [])))[-1]
    assert latest.rows[0][1:] == ["moved", "wifi", "2 flows, gap 23.4 ms, heard"]
