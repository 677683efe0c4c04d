from collections.abc import Callable

from sojourn.linux.interfaces import (
    IFA_F_DADFAILED,
    IFA_F_DEPRECATED,
    IFA_F_OPTIMISTIC,
    IFA_F_TEMPORARY,
    IFA_F_TENTATIVE,
    INET,
    INET6,
    READY,
    Address,
    Default,
    Interfaces,
    Link,
)
from sojourn.model import Network
from sojourn.upmt.events_network import NetworkChanged, NetworkDown, NetworkUp

WIFI = Link(2, "wlan0", READY, "wifi")
HOME = Address(2, INET, "192.168.1.5")
ROUTER = Default(2, INET, "192.168.1.1", 600)
NETWORK = Network(name="wlan0", interface="wlan0", address="192.168.1.5", gateway="192.168.1.1", kind="wifi")


def at_home() -> Interfaces:
    interfaces = Interfaces()
    interfaces.replace([WIFI], [HOME], [ROUTER])
    assert interfaces.facts() == [NetworkUp(NETWORK)]
    return interfaces


def test_what_is_unchanged_is_not_told_again() -> None:
    interfaces = at_home()
    assert interfaces.facts() == []
    assert not interfaces.set_link(WIFI)
    assert interfaces.facts() == []


def test_a_network_needs_carrier_an_address_and_a_way_out() -> None:
    for links, addresses, routes in (
        ([Link(2, "wlan0", READY & ~0x10000)], [HOME], [ROUTER]),
        ([Link(2, "wlan0", READY & ~0x40)], [HOME], [ROUTER]),
        ([WIFI], [], [ROUTER]),
        ([WIFI], [HOME], []),
        ([WIFI], [Address(2, INET, "169.254.3.4")], [ROUTER]),
        ([WIFI], [Address(3, INET, "192.168.1.5")], [ROUTER]),
    ):
        interfaces = Interfaces()
        interfaces.replace(links, addresses, routes)
        assert interfaces.facts() == []


def test_each_loss_has_its_reason() -> None:
    losses: list[tuple[Callable[[Interfaces], object], str]] = [
        (lambda i: i.set_link(Link(2, "wlan0", 0x1003, "wifi")), "no carrier"),
        (lambda i: i.set_link(Link(2, "wlan0", 0x1002, "wifi")), "interface was taken down"),
        (lambda i: i.drop_link(2), "interface is gone"),
        (lambda i: i.drop_address(HOME), "address lost"),
        (lambda i: i.drop_default(ROUTER), "no default route"),
    ]
    for lose, reason in losses:
        interfaces = at_home()
        lose(interfaces)
        assert interfaces.facts() == [NetworkDown("wlan0", reason)]


def test_an_interface_that_was_taken_down_has_lost_its_routes() -> None:
    interfaces = at_home()
    interfaces.set_link(Link(2, "wlan0", 0x1002, "wifi"))
    interfaces.facts()
    interfaces.set_link(WIFI)
    assert interfaces.facts() == []
    interfaces.set_default(ROUTER)
    assert interfaces.facts() == [NetworkUp(NETWORK)]


def test_a_gateway_that_is_replaced_is_one_change() -> None:
    interfaces = at_home()
    interfaces.set_default(Default(2, INET, "192.168.1.254", 600), replaces=True)
    after = Network(name="wlan0", interface="wlan0", address="192.168.1.5", gateway="192.168.1.254", kind="wifi")
    assert interfaces.facts() == [NetworkChanged(after, "gateway changed")]


def test_a_good_address_is_kept_when_another_comes_and_left_when_it_is_deprecated() -> None:
    interfaces = Interfaces()
    first, second = Address(2, INET6, "2001:db8::1"), Address(2, INET6, "2001:db8::2")
    interfaces.replace([WIFI], [second], [Default(2, INET6, "fe80::1")])
    (up,) = interfaces.facts()
    assert isinstance(up, NetworkUp)
    assert up.network.name == "wlan0-6"
    interfaces.set_address(first)
    assert interfaces.facts() == []
    interfaces.set_address(Address(2, INET6, "2001:db8::2", flags=IFA_F_DEPRECATED))
    (changed,) = interfaces.facts()
    assert isinstance(changed, NetworkChanged)
    assert (changed.network.address, changed.why) == ("2001:db8::1", "address changed")


def test_an_ipv6_address_is_used_only_when_nobody_else_can_have_it() -> None:
    interfaces = Interfaces()
    for flag in (IFA_F_TENTATIVE, IFA_F_TENTATIVE | IFA_F_OPTIMISTIC, IFA_F_DADFAILED | IFA_F_TENTATIVE):
        interfaces.replace([WIFI], [Address(2, INET6, "2001:db8::1", flags=flag)], [Default(2, INET6, "fe80::1")])
        assert interfaces.facts() == []
    interfaces.set_address(Address(2, INET6, "2001:db8::1"))
    assert [type(fact) for fact in interfaces.facts()] == [NetworkUp]


def test_global_and_stable_ipv6_addresses_are_preferred() -> None:
    local, temporary = Address(2, INET6, "fd00::1"), Address(2, INET6, "2001:db8::a", flags=IFA_F_TEMPORARY)
    stable = Address(2, INET6, "2001:db8::1")
    interfaces = Interfaces()
    interfaces.replace([WIFI], [local, temporary, stable], [Default(2, INET6, "fe80::1")])
    interfaces.facts()
    assert interfaces.networks["wlan0-6"].address == "2001:db8::1"


def test_ipv6_is_the_network_only_while_there_is_no_ipv4() -> None:
    interfaces = Interfaces()
    interfaces.replace([WIFI], [Address(2, INET6, "2001:db8::1"), HOME], [Default(2, INET6, "fe80::1"), ROUTER])
    assert list(interfaces.networks) == []
    assert interfaces.facts() == [NetworkUp(NETWORK)]
    interfaces.drop_address(HOME)
    down, up = interfaces.facts()
    assert down == NetworkDown("wlan0", "address lost")
    assert isinstance(up, NetworkUp)
    assert up.network.name == "wlan0-6"
    interfaces.set_address(HOME)
    interfaces.set_default(ROUTER)
    assert interfaces.facts() == [NetworkDown("wlan0-6", "IPv4 has come"), NetworkUp(NETWORK)]


def test_names_come_from_the_configuration_and_ignored_interfaces_are_none() -> None:
    interfaces = Interfaces(ignore={"eth0"}, names={"wlan0": "home"})
    interfaces.replace(
        [WIFI, Link(3, "eth0", READY)],
        [HOME, Address(3, INET, "10.0.0.2")],
        [ROUTER, Default(3, INET, "10.0.0.1")],
    )
    (fact,) = interfaces.facts()
    assert isinstance(fact, NetworkUp)
    assert (fact.network.name, fact.network.interface) == ("home", "wlan0")


def test_somebodys_tunnel_is_a_network_only_when_it_is_named() -> None:
    for names, count in (({}, 0), ({"wg0": "office"}, 1)):
        interfaces = Interfaces(names=names)
        interfaces.replace(
            [Link(4, "wg0", READY, virtual=True)], [Address(4, INET, "10.9.0.2")], [Default(4, INET, None)]
        )
        assert len(interfaces.facts()) == count


def test_a_point_to_point_peer_is_a_way_out() -> None:
    interfaces = Interfaces()
    interfaces.replace([Link(5, "ppp0", READY, "cellular")], [Address(5, INET, "10.64.0.2", peer="10.64.0.1")], [])
    (fact,) = interfaces.facts()
    assert isinstance(fact, NetworkUp)
    assert fact.network.gateway is None


def test_of_several_default_routes_the_main_tables_lowest_metric_counts() -> None:
    interfaces = Interfaces()
    routes = [Default(2, INET, "192.168.1.9", 1, table=100), Default(2, INET, "192.168.1.8", 700), ROUTER]
    interfaces.replace([WIFI], [HOME], routes)
    interfaces.facts()
    assert interfaces.networks["wlan0"].gateway == "192.168.1.1"
