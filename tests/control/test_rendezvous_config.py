import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.control import rendezvous_config
from sojourn.control.rendezvous_config import RENDEZVOUS_PORT, parse_place, parse_rendezvous, written
from sojourn.errors import ConfigError
from sojourn.model import Endpoint

PLACES = st.builds(
    Endpoint, st.ip_addresses().map(str).filter(lambda text: "%" not in text), st.integers(1, 65535)
)  # fmt: skip


def test_one_line_is_enough() -> None:
    config = parse_rendezvous('listen = ["203.0.113.9", "[2001:db8::9]:2000"]')
    assert config.listening == (Endpoint("203.0.113.9", RENDEZVOUS_PORT), Endpoint("2001:db8::9", 2000))
    assert config.known_as == frozenset(config.listening)


def test_a_node_on_a_wildcard_must_say_how_hosts_reach_it() -> None:
    with pytest.raises(ConfigError, match="says not who this node is"):
        parse_rendezvous('listen = ["0.0.0.0"]')
    config = rendezvous_config.given(["0.0.0.0"], ["203.0.113.9"])
    assert config.known_as == {Endpoint("203.0.113.9", RENDEZVOUS_PORT)}


@pytest.mark.parametrize(
    "text",
    ["", "listen = []", 'listen = ["1.2.3.4", "1.2.3.5"]',
     'listen = ["here"]', 'listen = ["1.2.3.4:0"]', 'listen = ["1.2.3.4", "1.2.3.4"]',
     'listen = ["1.2.3.4"]\naddress = ["::"]', 'listen = ["1.2.3.4"]\ntriggers = 1', 'listen = ["fe80::1%eth0"]'],
)  # fmt: skip
def test_what_cannot_be_used_is_told_with_its_remedy(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_rendezvous(text)
    assert caught.value.fix


@given(PLACES)
def test_an_address_is_read_as_it_is_written(place: Endpoint) -> None:
    assert parse_place(written(place), "listen") == place


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_config_error(text: str) -> None:
    try:
        place = parse_place(text, "listen")
    except ConfigError:
        return
    assert 1 <= place.port <= 65535


def test_a_store_is_named_by_its_servers() -> None:
    config = parse_rendezvous('listen = ["203.0.113.9"]\nstore = ["redis://10.0.0.1:6379", "rediss://u:p@10.0.0.2"]')
    assert config.store == ("redis://10.0.0.1:6379", "rediss://u:p@10.0.0.2")
    with pytest.raises(ConfigError, match="no address of a store") as caught:
        parse_rendezvous('listen = ["203.0.113.9"]\nstore = ["http://u:secret@10.0.0.1"]')
    assert "secret" not in str(caught.value)
