"""NetworkManager's and ModemManager's objects, as they are and as they should never be."""

from typing import Any

from dbus_fast import Variant
from hypothesis import given
from hypothesis import strategies as st

from sojourn.linux import modemmanager, networkmanager
from sojourn.linux.properties import MAX_LABEL, label
from sojourn.upmt.events_network import Description
from tests.harness.desktop import MM, NM, modem, wifi

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.binary(max_size=5), st.floats(allow_nan=False)
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner), max_leaves=6)
DEVICE = next(iter(wifi("wlan0", "x")))


def test_a_wired_interface_is_named_and_says_nothing_of_the_air() -> None:
    objects = {
        "/d": {f"{NM}.Device": {"Interface": Variant("s", "eth0"), "DeviceType": Variant("u", 1),
                                "ActiveConnection": Variant("o", "/a"), "Metered": Variant("u", 0)}},
        "/a": {f"{NM}.Connection.Active": {"Id": Variant("s", "Office")}},
    }  # fmt: skip
    assert networkmanager.describe(objects) == {"eth0": Description(label="Office", kind="ethernet")}


def test_an_interface_without_a_connection_has_its_kind_only_and_an_unmanaged_one_nothing() -> None:
    device = {"Interface": Variant("s", "wlan1"), "DeviceType": Variant("u", 2), "ActiveConnection": Variant("o", "/")}
    assert networkmanager.describe({"/d": {f"{NM}.Device": device}}) == {"wlan1": Description(kind="wifi")}
    assert networkmanager.describe({"/d": {f"{NM}.Device": device | {"Managed": Variant("b", False)}}}) == {}


def test_an_open_access_point_with_an_encrypted_twin_is_open() -> None:
    assert networkmanager.describe(wifi("w", "x", rsn=networkmanager.OWE_TRANSITION))["w"].security == "encrypted"
    objects = wifi("w", "x")
    point = next(held[f"{NM}.AccessPoint"] for held in objects.values() if f"{NM}.AccessPoint" in held)
    point["RsnFlags"] = Variant("u", networkmanager.OWE_TRANSITION)
    assert networkmanager.describe(objects)["w"].security == "open"


def test_a_name_that_somebody_else_chose_cannot_speak_to_the_terminal() -> None:
    evil = networkmanager.describe(wifi("w", "a\x1b[31m\nb\u202ec", ssid=b"\xff\x00ok"))["w"]
    assert (evil.label, evil.ssid) == ("a[31mbc", "\ufffdok")
    assert label("x" * 1000) == "x" * MAX_LABEL
    assert label(" \x07 ") is None


def test_the_best_technology_in_use_is_named() -> None:
    path, objects = next(iter(modem("wwan0").items()))
    for bits, name in ((1 << 15 | 1 << 14, "5g"), (1 << 5, "umts"), (1 << 9, "hspa"), (0, None), (1 << 31, None)):
        objects[f"{MM}.Modem"]["AccessTechnologies"] = Variant("u", bits)
        assert modemmanager.describe({path: objects})["wwan0"].technology == name


def test_a_modem_at_home_does_not_roam_and_one_that_searches_is_not_known() -> None:
    assert modemmanager.describe(modem("w", state=1))["w"].roaming is False
    assert modemmanager.describe(modem("w", state=2))["w"].roaming is None


@given(st.sampled_from(["Interface", "IpInterface", "DeviceType", "Metered", "ActiveConnection", "Ip4Connectivity",
                        "Managed", "Ip4Config", "Ip6Config"]), VALUES)  # fmt: skip
def test_any_value_of_any_property_of_a_device_is_survived(name: str, value: Any) -> None:  # noqa: ANN401
    objects: dict[str, Any] = wifi("wlan0", "x")
    objects[DEVICE][f"{NM}.Device"][name] = value
    networkmanager.describe(objects)


@given(st.sampled_from(["Ssid", "Strength", "Flags", "WpaFlags", "RsnFlags", "Id", "NameserverData", "Nameservers"]),
       VALUES)  # fmt: skip
def test_any_value_of_any_property_elsewhere_is_survived(name: str, value: Any) -> None:  # noqa: ANN401
    objects: dict[str, Any] = wifi("wlan0", "x")
    for held in objects.values():
        for table in held.values():
            if name in table:
                table[name] = value
    description = networkmanager.describe(objects)["wlan0"]
    assert description.signal is None or 0 <= description.signal <= 1


@given(st.dictionaries(st.text(max_size=3), st.dictionaries(st.sampled_from([f"{NM}.Device", f"{MM}.Modem"]), VALUES)))
def test_objects_of_any_form_are_survived(objects: dict[str, Any]) -> None:
    networkmanager.describe(objects)
    networkmanager.access_points(objects)
    modemmanager.describe(objects)


@given(st.sampled_from(["Ports", "SignalQuality", "AccessTechnologies", "OperatorName", "RegistrationState"]), VALUES)
def test_any_value_of_any_property_of_a_modem_is_survived(name: str, value: Any) -> None:  # noqa: ANN401
    objects: dict[str, Any] = modem("wwan0")
    for held in objects.values():
        for table in held.values():
            if name in table:
                table[name] = value
    for description in modemmanager.describe(objects).values():
        assert description.signal is None or 0 <= description.signal <= 1
