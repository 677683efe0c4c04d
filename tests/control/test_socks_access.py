"""Who may reach what through the proxy, and who may use it how."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.control.config import parse_anchor
from sojourn.control.socks_access import DISGUISED, Access
from sojourn.control.socks_account import is_password, password_of, secret_of
from sojourn.control.socks_config import SocksConfig
from sojourn.errors import ConfigError

PRIVATE = ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "fc00::/7", "fe80::/10", *DISGUISED)
OWN = ("203.0.113.7", "2001:db8::7")


def access(**settings: object) -> Access:
    return Access(msgspec.convert(settings, SocksConfig), PRIVATE, OWN)


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "127.0.0.1", "169.254.169.254", "203.0.113.7", "2001:db8::7", "fe80::1%eth0", "::", "0.0.0.0",
     "::ffff:10.1.2.3", "::ffff:203.0.113.7", "fd00::1", "::10.1.2.3", "64:ff9b:1::a01:203", "2002:a01:203::1",
     "2001:0:1:2:3:4:f5fe:fdfc", "fec0::1", "192.0.0.1"],
)  # fmt: skip
def test_the_proxy_and_its_neighbours_are_closed(address: str) -> None:
    assert not access().may("ann", address, 80)


@pytest.mark.parametrize("address", ["198.51.100.1", "2001:db8:1::1", "::ffff:198.51.100.1"])
def test_the_internet_is_open(address: str) -> None:
    assert access().may("ann", address, 80)


def test_what_is_allowed_by_name_is_open_and_what_is_refused_is_closed() -> None:
    rules = access(allow=["10.1.0.0/16", "203.0.113.7/32"], refuse=["198.51.100.0/24"])
    assert rules.may("ann", "10.1.2.3", 80)
    assert rules.may("ann", "203.0.113.7", 80)
    assert not rules.may("ann", "10.2.2.3", 80)
    assert not rules.may("ann", "198.51.100.1", 80)


def test_the_first_rule_that_fits_decides() -> None:
    rules = access(rule=[
        {"action": "refuse", "ports": ["25"]},
        {"action": "allow", "user": ["ann"], "to": ["10.0.0.0/8"], "ports": ["1000-2000"]},
        {"action": "refuse", "user": ["bob"]},
    ])  # fmt: skip
    assert not rules.may("ann", "198.51.100.1", 25)
    assert rules.may("ann", "10.0.0.1", 1500)
    assert not rules.may("ann", "10.0.0.1", 80)
    assert not rules.may("bob", "198.51.100.1", 80)
    assert rules.may("eve", "198.51.100.1", 80)


@pytest.mark.parametrize(
    ("passwords", "source", "may"),
    [("local", "127.0.0.1", True), ("local", "10.201.0.9", True), ("local", "198.51.100.1", False),
     ("anywhere", "198.51.100.1", True), ("never", "127.0.0.1", False), ("local", "::ffff:127.0.0.1", True)],
)  # fmt: skip
def test_passwords_are_taken_where_nobody_listens(passwords: str, source: str, may: bool) -> None:
    assert access(passwords=passwords).password(source, ["10.201.0.0/16"]) is may


def test_nobody_is_anonymous_unless_configured() -> None:
    assert not access().anonymous("127.0.0.1")
    assert access(anonymous=["127.0.0.0/8"]).anonymous("127.0.0.1")


def test_a_password_is_the_users_and_no_other() -> None:
    secret = secret_of(bytes(16))
    assert is_password(secret, password_of(secret))
    assert not is_password(secret_of(b"x" * 16), password_of(secret))
    assert not is_password(secret, "pässword")


@given(st.ip_addresses().map(str), st.integers(0, 65535))
def test_any_address_gets_an_answer(address: str, port: int) -> None:
    assert access().may("ann", address, port) in (True, False)


@pytest.mark.parametrize(
    "text", ["[socks]\nallow = ['nonsense']", "[[socks.rule]]\naction = 'allow'\nto = ['example.org']",
             "[socks]\nport = 0", "[[socks.rule]]\naction = 'maybe'"],
)  # fmt: skip
def test_a_mistake_in_the_file_is_told_with_its_place(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_anchor(f"address = 'a.example'\n{text}")
    assert "socks" in error.value.where


def test_the_proxys_port_is_the_anchors_own() -> None:
    assert (6, 1080) in parse_anchor("address = 'a.example'\n[socks]\nport = 1080").own_ports
