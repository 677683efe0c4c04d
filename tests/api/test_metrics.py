"""The catalogue of figures, and the text that is made of them."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from sojourn.api.metrics import CATALOGUE, MOST_SERIES, OTHER, Distribution, Figures, Rising, Role

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
ROLES: tuple[Role, ...] = ("host", "anchor", "rendezvous", "socks")


def read(figures: Figures) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return what Prometheus' own parser makes of the text."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(figures.text().decode())
        for sample in family.samples
    }


@pytest.mark.parametrize("name", CATALOGUE)
def test_names_and_units_keep_to_the_conventions(name: str) -> None:
    metric = CATALOGUE[name]
    assert re.fullmatch(r"sojourn_[a-z]+(_[a-z]+)*", name)
    assert (metric.kind == "counter") == name.endswith("_total")
    assert not re.search(r"_(ms|milliseconds|kb|mb|bits|percent)(_|$)", name)
    assert metric.help.endswith(".")
    assert not set(metric.labels) & {"le", "flow", "host", "address", "user", "name"}, "a series each would be too many"


def test_the_page_lists_the_catalogue_and_nothing_else() -> None:
    rows = re.findall(r"^\| `(sojourn_\w+)` \| (\w+) \| (.*?) \| (.*?) \| (.*?) \|$", PAGE.read_text(), re.MULTILINE)
    said = {name: (kind, labels, roles, text) for name, kind, labels, roles, text in rows}
    assert len(said) == len(rows)
    meant = {
        name: (
            metric.kind, ", ".join(f"`{label}`" for label in metric.labels) or "–", ", ".join(metric.roles), metric.help
        )
        for name, metric in CATALOGUE.items()
    }  # fmt: skip
    assert said == meant


@pytest.mark.parametrize("role", ROLES)
def test_all_that_a_role_has_is_read_back_as_it_was_put_in(role: Role) -> None:
    figures = Figures(role)
    put = {}
    for number, (name, metric) in enumerate(CATALOGUE.items()):
        if role not in metric.roles or metric.kind == "histogram":
            continue
        labels = {label: f'{label} "\n\\' for label in metric.labels}
        figures.put(name, number, **labels)
        put[name, tuple(sorted(labels.items()))] = float(number)
    assert read(figures) == put


def test_a_histogram_counts_up_to_and_with_each_bound() -> None:
    distribution = Distribution((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 3.0):
        distribution.observe(value)
    figures = Figures("host")
    figures.put_distribution("sojourn_handover_gap_seconds", distribution)
    name = "sojourn_handover_gap_seconds"
    assert read(figures) == {
        (f"{name}_bucket", (("le", "0.1"),)): 2,
        (f"{name}_bucket", (("le", "1.0"),)): 3,
        (f"{name}_bucket", (("le", "+Inf"),)): 4,
        (f"{name}_count", ()): 4,
        (f"{name}_sum", ()): 3.65,
    }


def test_what_the_catalogue_lacks_cannot_be_put_in() -> None:
    figures = Figures("host")
    for name, labels in (
        ("sojourn_flows_by_id", {}),
        ("sojourn_flows", {"flow": "1"}),
        ("sojourn_refused_total", {"by": "datapath"}),
        ("sojourn_hosts", {"state": "away"}),  # an anchor's
        ("sojourn_handover_gap_seconds", {}),
    ):
        with pytest.raises(KeyError):
            figures.put(name, 1, **labels)
    assert figures.text() == b""


def test_however_many_reasons_there_are_the_series_are_bounded_and_nothing_is_lost() -> None:
    figures = Figures("host")
    for number in range(10 * MOST_SERIES):
        figures.put("sojourn_refused_total", 1, by="datapath", reason=f"reason {number}" + "x" * 1000)
        figures.put("sojourn_network_metered", 1, network=f"usb{number}")
    values = read(figures)
    refused = {labels: value for (name, labels), value in values.items() if name == "sojourn_refused_total"}
    assert len(refused) <= MOST_SERIES
    assert sum(refused.values()) == 10 * MOST_SERIES
    assert any(dict(labels)["reason"] == OTHER for labels in refused)
    assert len(values) - len(refused) < MOST_SERIES
    assert all(len(word) <= 64 for _, labels in values for _, word in labels)


@given(st.lists(st.integers(0, 1000)))
def test_a_counter_made_of_figures_that_begin_anew_never_falls(seen: list[int]) -> None:
    rising, last, grown = Rising(), 0.0, 0.0
    for before, figure in zip([0, *seen], seen, strict=False):
        grown += max(0, figure - before)
        assert rising.see(figure) >= last
        last = rising.value
    assert rising.value == grown
