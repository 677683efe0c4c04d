"""What policies are told of a network: the owner's word first, then NetworkManager's, then the kernel's."""

import pytest
from msgspec.structs import replace

from sojourn.control.config import NetworkConfig
from sojourn.control.network_facts import NetworkBook, NetworkFacts
from sojourn.model import Network
from sojourn.upmt.events_network import Description

WIFI = Network("wlan0", "wlan0", "192.0.2.5", "192.0.2.1", "wifi")
CELLULAR = Network("sim", "wwan0", "198.51.100.5", None, "other")
HOTEL = Description(
    label="Hotel", kind="wifi", metered=True, signal=0.6, ssid="HotelGuests", security="open", connectivity="portal"
)


def test_a_network_that_nobody_described_is_as_the_kernel_shows_it() -> None:
    assert NetworkBook({}).facts(WIFI) == NetworkFacts("wlan0", "wlan0", "wifi")


def test_what_network_manager_says_is_taken_over() -> None:
    book = NetworkBook({})
    assert book.describe("wlan0", HOTEL)
    assert not book.describe("wlan0", HOTEL)
    facts = book.facts(WIFI)
    assert (facts.label, facts.metered, facts.cost, facts.signal) == ("Hotel", True, "metered", 0.6)
    assert facts.security == ("open",)


def test_the_owners_word_goes_before_network_managers() -> None:
    book = NetworkBook({"wlan0": NetworkConfig(cost="free", trusted=True, kind="ethernet")})
    book.describe("wlan0", HOTEL)
    facts = book.facts(WIFI)
    assert (facts.metered, facts.cost, facts.kind, facts.security) == (False, "free", "ethernet", ("trusted", "open"))


@pytest.mark.parametrize("ssid", ["ethernet", "wifi", "*", "sim"])
def test_a_stranger_does_not_take_a_word_of_policies_by_naming_a_wifi_so(ssid: str) -> None:
    book = NetworkBook({"sim": NetworkConfig(cost="free")})
    book.pushed = {"ethernet": "free", "sim": "free", "*": "free"}
    book.describe("wlan0", replace(HOTEL, label=ssid))
    facts = book.facts(WIFI)
    assert facts.label is None
    assert facts.metered
    assert book.named(ssid, [WIFI]) is None


def test_a_description_that_ends_leaves_nothing() -> None:
    book = NetworkBook({})
    book.describe("wlan0", HOTEL)
    assert book.describe("wlan0", Description())
    assert book.facts(WIFI).label is None


def test_ipv6_of_an_interface_counts_on_the_same_word_of_the_owner() -> None:
    book = NetworkBook({"wlan0": NetworkConfig(cost="metered")})
    assert book.facts(Network("wlan0-6", "wlan0", "2001:db8::5")).metered


def test_a_cap_is_exceeded_when_what_was_used_reaches_it() -> None:
    book = NetworkBook({"sim": NetworkConfig(cap="1kB")})
    facts = book.facts(CELLULAR)
    assert (facts.cap, facts.used, facts.over_cap) == (1000, 0, False)
    book.used = {"sim": 1000}
    facts = book.facts(CELLULAR)
    assert facts.over_cap


def test_without_a_cap_nothing_exceeds_it() -> None:
    book = NetworkBook({})
    book.used = {"sim": 10**15}
    facts = book.facts(CELLULAR)
    assert not facts.over_cap


def test_a_closed_portal_is_a_fact_of_the_network() -> None:
    book = NetworkBook({})
    book.captive.add("wlan0")
    assert book.facts(WIFI).captive
    assert not book.facts(CELLULAR).captive


def test_a_label_that_one_network_has_stands_for_its_name() -> None:
    book = NetworkBook({})
    book.describe("wlan0", HOTEL)
    assert book.named("Hotel", [WIFI, CELLULAR]) == "wlan0"
    assert book.named("sim", [WIFI, CELLULAR]) == "sim"
    assert book.named("Office", [WIFI, CELLULAR]) is None


def test_a_label_of_two_networks_stands_for_none_and_a_name_goes_before_a_label() -> None:
    book = NetworkBook({})
    book.describe("wlan0", Description(label="Home"))
    book.describe("wwan0", Description(label="Home"))
    assert book.named("Home", [WIFI, CELLULAR]) is None
    book.describe("wwan0", Description(label="wlan0"))
    assert book.named("wlan0", [WIFI, CELLULAR]) == "wlan0"


def test_a_cost_that_the_anchor_says_counts_unless_the_owner_says_otherwise() -> None:
    book = NetworkBook({"home": NetworkConfig(cost="free")})
    book.pushed = {"wifi": "metered", "wwan0": "free"}
    assert book.facts(replace(WIFI, name="cafe")).metered
    assert not book.facts(replace(WIFI, name="home")).metered
    book.describe(WIFI.interface, Description(metered=True))
    book.pushed = {"cafe": "free"}
    assert book.facts(replace(WIFI, name="cafe")).cost == "free"
