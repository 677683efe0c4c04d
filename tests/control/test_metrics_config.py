"""`[metrics]`."""

import pytest

from sojourn.control.config import parse_anchor
from sojourn.control.rendezvous_config import parse_rendezvous
from sojourn.errors import ConfigError
from sojourn.model import Endpoint


def test_it_is_off_unless_somebody_turns_it_on() -> None:
    assert parse_anchor('address = "192.0.2.1"').metrics.endpoint is None


@pytest.mark.parametrize(
    ("text", "meant"), [("127.0.0.1:9464", Endpoint("127.0.0.1", 9464)), ("[::1]:80", Endpoint("::1", 80))]
)
def test_an_address_and_a_port_are_read(text: str, meant: Endpoint) -> None:
    assert parse_anchor(f'address = "192.0.2.1"\n[metrics]\nlisten = "{text}"').metrics.endpoint == meant
    assert parse_rendezvous(f'listen = ["192.0.2.1"]\n[metrics]\nlisten = "{text}"').metrics.endpoint == meant


@pytest.mark.parametrize(
    "text", ["9464", "localhost:9464", "::1:9464", "127.0.0.1", "127.0.0.1:x", "", "127.0.0.1:999999"]
)
def test_anything_else_is_told_with_its_place(text: str) -> None:
    with pytest.raises(ConfigError) as told:
        parse_anchor(f'address = "192.0.2.1"\n[metrics]\nlisten = "{text}"', "anchor.toml")
    assert "metrics.listen" in str(told.value)
