"""The figures of daemons: what the data path tells goes on over its death, and costs control's loop nothing."""

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from sojourn.api.metrics import Figures, Role
from sojourn.daemon import anchor_metrics
from sojourn.daemon.anchor_metrics import EntranceMeter, fill_hosts
from sojourn.daemon.metering import DataPathFigures, Metering, fill_process
from sojourn.upmt.events import Counters
from sojourn.upmt.records import Subscriber

TODAY = 1_800_000_000.0


def values(text: bytes) -> dict[str, float]:
    """Return each series as it is written, with its value."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def report(packets: int, refused: int = 0, **more: int) -> Counters:
    totals = {"packets_in": packets, "bytes_in": 100 * packets, "copies-sent": 3, "too-big": 2, "waiting": 1, **more}
    return Counters(totals, {"forged": refused}, 7, {"engine": "core", "because": "it was built"})


def filled(figures: DataPathFigures, counters: Counters, restarts: int) -> dict[str, float]:
    made = Figures("host")
    figures.fill(made, counters, restarts)
    return values(made.text())


def test_what_the_data_path_counts_goes_on_over_its_death() -> None:
    data_path = DataPathFigures()
    assert filled(data_path, report(100, 5), 0)["sojourn_datapath_packets_total{direction=in}"] == 100
    after = filled(data_path, report(10), 1)  # another process, from nothing
    assert after["sojourn_datapath_packets_total{direction=in}"] == 100
    assert after["sojourn_refused_total{by=datapath,reason=forged}"] == 5
    assert after["sojourn_datapath_restarts_total{}"] == 1
    assert filled(data_path, report(30, 1), 1)["sojourn_datapath_packets_total{direction=in}"] == 120


def test_totals_that_have_a_name_of_their_own_are_told_once() -> None:
    found = filled(DataPathFigures(), report(1, **{"kernel-tunnels": 4, "kernel-rows": 5}), 0)
    events = {name for name in found if name.startswith("sojourn_datapath_events_total")}
    assert events == {"sojourn_datapath_events_total{event=too-big}"}
    assert (found["sojourn_kernel_path_tunnels{}"], found["sojourn_kernel_path_flows{}"]) == (4, 5)
    assert found["sojourn_flows{}"] == 7
    assert found["sojourn_datapath_info{engine=core,kernel=unused}"] == 1


def test_hosts_are_counted_by_state_when_the_text_is_written_and_not_on_control_s_loop() -> None:
    known = [
        Subscriber("a", "a", ha1="x", vipa="10.201.0.2", lease_until=TODAY + 60),
        Subscriber("b", "b", ha1="x", vipa="10.201.0.3", lease_until=TODAY - 60),
        Subscriber("c", "c"),
        Subscriber("d", "d", revoked=True),
        Subscriber("e", "e", revoked=True),
    ]
    figures = Figures("anchor")
    counted = []

    def count() -> None:
        counted.append(True)
        fill_hosts(figures, known, TODAY)

    figures.later(count)
    assert not counted
    found = values(figures.text())
    assert [found[f"sojourn_hosts{{state={state}}}"] for state in anchor_metrics.HOST_STATES] == [1, 1, 1, 2]


def test_a_process_has_its_figures_and_one_that_is_gone_has_none() -> None:
    figures = Figures("host")
    fill_process(figures, "control", os.getpid())
    fill_process(figures, "datapath", 2**22 + 1)
    found = values(figures.text())
    assert found["sojourn_process_resident_memory_bytes{process=control}"] > 1_000_000
    assert not [name for name in found if "datapath" in name]


class Mobile:
    """A local proxy's status."""

    def status(self) -> dict[str, Any]:
        networks = [{"name": "wifi", "state": "up", "rtt_ms": 20.0}, {"name": "usb0", "state": "down", "rtt_ms": None}]
        return {"networks": networks, "sessions": [{"network": "wifi"}, {"network": "wifi"}], "moved": 4}


def test_a_local_proxy_s_text_has_its_networks_and_the_lag_of_its_loop() -> None:
    class Meter(EntranceMeter):
        role: Role = "socks"

        def processes(self) -> Mapping[str, int]:
            return {"nobody": 0}

    found = values(asyncio.run(Metering(Meter(Mobile())).text()))
    assert found["sojourn_socks_client_sessions{network=wifi}"] == 2
    assert found["sojourn_socks_client_sessions{network=usb0}"] == 0
    assert found["sojourn_network_state{network=usb0,state=down}"] == 1
    assert found["sojourn_tunnel_rtt_seconds{network=wifi}"] == 0.02
    assert found["sojourn_socks_client_moves_total{}"] == 4
    assert found["sojourn_control_loop_lag_seconds_count{}"] == 0
    assert not [name for name in found if "nobody" in name]
