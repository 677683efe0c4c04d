"""`sojourn metrics`."""

import json
from pathlib import Path

from tests.harness.control_socket import answers, serving, sojourn


def test_the_text_is_printed_as_it_is(tmp_path: Path) -> None:
    path, text = str(tmp_path / "h.sock"), "# TYPE sojourn_flows gauge\nsojourn_flows 3.0\n"
    with serving(path, {}, answers({"metrics": {"version": 1, "text": text}})):
        assert sojourn("metrics", "--socket", path).out == text
        assert json.loads(sojourn("metrics", "--json", "--socket", path).out) == {"version": 1, "text": text}


def test_without_a_daemon_it_says_so(tmp_path: Path) -> None:
    assert sojourn("metrics", "--socket", str(tmp_path / "none")).code == 3
