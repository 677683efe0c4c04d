"""Dashboard and alerts: each query speaks of metrics that the exporter has, with labels that they have."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sojourn.api.metrics import CATALOGUE

EXAMPLES = Path(__file__).parent.parent / "examples"
RULES = EXAMPLES / "prometheus" / "sojourn.rules.yml"
DASHBOARD: dict[str, Any] = json.loads((EXAMPLES / "grafana" / "sojourn.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
DRAWN = [panel for panel in PANELS if panel["type"] != "row"]
ADDED = {"instance", "job", "le"}
"""Labels that Prometheus puts there, and those of histograms."""


def expressions() -> list[str]:
    found = [target["expr"] for panel in DRAWN for target in panel["targets"]]
    return found + re.findall(r"^ +expr: (.*)$", RULES.read_text(), re.MULTILINE)


@pytest.mark.parametrize("expression", expressions())
def test_a_query_names_metrics_and_labels_that_exist(expression: str) -> None:
    names = re.findall(r"\b(?:sojourn_\w+|up\b)", expression)
    assert names
    known = set(ADDED)
    for name in names:
        base = re.sub(r"_bucket$", "", name)
        assert base == "up" or base in CATALOGUE, name
        assert (base in CATALOGUE and CATALOGUE[base].kind == "histogram") == name.endswith("_bucket")
        known |= set(CATALOGUE[base].labels) if base in CATALOGUE else set()
    used = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression))
    used |= {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(",")}
    assert used <= known
    assert all(expression.count(one) == expression.count(other) for one, other in ("()", "{}", "[]"))


@pytest.mark.parametrize("name", [name for name, metric in CATALOGUE.items() if metric.kind == "counter"])
def test_counters_are_asked_for_their_rate_only(name: str) -> None:
    for expression in expressions():
        for found in re.finditer(rf"\b{name}\b", expression):
            assert re.search(r"(rate|increase)\($", expression[: found.start()]), expression


def test_the_dashboard_has_what_grafana_wants_of_one() -> None:
    assert DASHBOARD["id"] is None, "Grafana gives it one"
    assert DASHBOARD["schemaVersion"] >= 36
    assert {"uid", "title", "panels", "templating", "time", "refresh", "version", "__requires"} <= DASHBOARD.keys()
    identities = [panel["id"] for panel in PANELS]
    assert len(set(identities)) == len(identities)
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert (variables["source"]["type"], variables["source"]["query"]) == ("datasource", "prometheus")
    required = {one["id"] for one in DASHBOARD["__requires"] if one["type"] == "panel"}
    assert {panel["type"] for panel in DRAWN} <= required
    for panel in DRAWN:
        assert {"title", "type", "gridPos", "datasource", "fieldConfig", "options"} <= panel.keys()
        assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        assert all("$instance" in target["expr"] for target in panel["targets"])


def test_no_panel_lies_over_another_or_beside_the_page() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_figure_that_a_role_has_is_shown_or_alerted_on_or_named_here() -> None:
    text = " ".join(expressions())
    plain = {
        "sojourn_process_start_time_seconds", "sojourn_datapath_bytes_total", "sojourn_datapath_events_total",
        "sojourn_datapath_info", "sojourn_copies_sent_total", "sojourn_copies_dropped_total",
        "sojourn_kernel_path_tunnels", "sojourn_kernel_path_flows", "sojourn_capturing", "sojourn_applications_exact",
        "sojourn_network_default", "sojourn_network_metered", "sojourn_network_signal_ratio",
        "sojourn_tunnel_rtt_variation_seconds", "sojourn_tunnel_rate_bytes_per_second", "sojourn_tunnel_mtu_bytes",
        "sojourn_tunnel_packets_total", "sojourn_handover_flows_total", "sojourn_handovers_pending",
        "sojourn_port_forwards", "sojourn_association_events_total", "sojourn_socks_strangers",
        "sojourn_socks_served_total", "sojourn_rendezvous_triggers_limit", "sojourn_socks_client_sessions",
        "sojourn_socks_client_moves_total",
    }  # fmt: skip
    assert {name for name in CATALOGUE if name not in text} == plain


def test_every_alert_says_how_bad_it_is_and_the_guide_says_what_to_do() -> None:
    text, guide = RULES.read_text(), (EXAMPLES.parent / "docs" / "guide" / "operate.md").read_text()
    alerts = re.findall(r"^ +- alert: (\w+)$", text, re.MULTILINE)
    assert len(alerts) == len(set(alerts)) == text.count("severity: ") == text.count("summary: ")
    assert set(re.findall(r"`(Sojourn\w+)`", guide)) == set(alerts)


def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool (Debian: prometheus) is not installed")
    config = tmp_path / "prometheus.yml"
    config.write_text(f"rule_files: [{json.dumps(str(RULES))}]\n")
    for words in (("check", "rules", str(RULES)), ("check", "config", str(config))):
        done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_client_is_one_of_the_program_s_own_packages() -> None:
    project = tomllib.loads((EXAMPLES.parent / "pyproject.toml").read_text())["project"]
    assert any(name.startswith("prometheus_client") for name in project["dependencies"])
