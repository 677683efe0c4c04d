"""`sojourn version`."""

import json

from sojourn import __version__
from tests.harness.control_socket import sojourn


def test_json_has_stable_keys() -> None:
    facts = json.loads(sojourn("version", "--json").out)
    assert set(facts) == {"version", "sojourn", "python", "kernel"}
    assert (facts["version"], facts["sojourn"]) == (1, __version__)
