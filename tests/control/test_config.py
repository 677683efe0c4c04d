"""host.toml and anchor.toml: what is accepted, and what is said about the rest."""

import contextlib

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from sojourn.control.capture import Capture
from sojourn.control.config import (
    Credentials,
    NetworkConfig,
    parse_anchor,
    parse_credentials,
    parse_host,
    parse_service,
)
from sojourn.errors import ConfigError
from sojourn.model import TCP, UDP
from sojourn.policy import match
from sojourn.upmt.records import PortForward

HOST = f'anchor = "192.0.2.1"\nspki = "{"ab" * 32}"\nuser = "laptop"\ntid = "0123456789abcdef"\n'
ANCHOR = 'address = "anchor.example.org"\n'


def test_a_host_needs_four_keys_and_has_sensible_defaults_for_the_rest() -> None:
    config = parse_host(HOST)
    assert (config.anchor, config.port, config.user) == ("192.0.2.1", 5061, "laptop")
    assert config.order == ("ethernet", "wifi", "cellular", "*")
    assert (config.dns, config.tunnels, config.kill_switch, config.keep_alive) == ("anchor", "sealed", False, 25.0)
    assert config.captures == ()


def test_a_host_file_with_everything_is_understood() -> None:
    text = HOST + (
        'order = ["home", "*"]\nkill_switch = true\ndns = "network"\ntunnels = "plain"\n'
        '[network.home]\ninterface = "eth0"\ncost = "free"\n[network.wwan0]\ncost = "metered"\nuse = false\n'
        '[signalling]\nnetworks = ["home"]\n'
        '[[capture]]\nmatch = "-d 192.0.2.0/24"\naction = "direct"\n[[capture]]\nprotocol = "udp"\nuid = 1000\n'
        '[[policy]]\napplication = "zoom"\n'
    )
    config = parse_host(text)
    assert config.networks["home"] == NetworkConfig(interface="eth0", cost="free")
    assert config.networks["wwan0"].cost == "metered"
    assert config.captures == (
        Capture(match.parse("-d 192.0.2.0/24"), "direct"),
        Capture(match.parse("-p udp"), "tunnel", (1000, 1000)),
        Capture(match.Match(), "direct"),
    )
    assert config.policies == ({"application": "zoom"},)
    assert config.signalling.networks == ("home",)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_sip_in_the_clear_goes_with_plain_tunnels_only(transport: str) -> None:
    text = HOST + f'[signalling]\ntransport = "{transport}"\n'
    config = parse_host('tunnels = "plain"\n' + text)
    assert (config.signalling.transport, config.signalling.port) == (transport, 5060)
    with pytest.raises(ConfigError) as caught:
        parse_host(text)
    assert str(caught.value) == (
        f"host.toml: signalling.transport: SIP over {transport.upper()} is in the clear: it brings no secret for "
        'sealed tunnels. Set tunnels = "plain", or transport = "tls".'
    )


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ('dns = "cloudflare"', "host.toml: dns"),
        ('[signalling]\ntransport = "sctp"', "host.toml: signalling.transport"),
        ("port = 0", "host.toml: port"),
        ("keep_alive = 0.0", "host.toml: keep_alive"),
        ('[network."a b"]', "host.toml: network.a b"),
        ('[network.a]\ninterface = "e"\n[network.b]\ninterface = "e"', "host.toml: network.b.interface"),
        ('[network.a]\ncost = "dear"', "host.toml: network[...].cost"),
        ('[[capture]]\nmatch = "-p nonsense"', "host.toml: capture[0]"),
        ('device = "a/b"', "host.toml: device"),
        ("killswitch = true", "host.toml: killswitch"),
    ],
)
def test_a_wrong_line_in_host_toml_is_named(line: str, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_host(HOST + line + "\n")
    assert caught.value.where == where
    assert caught.value.fix


@pytest.mark.parametrize("anchor", ["", "a b", "-x", "x..y", "exa_mple", "http://x", "x:5061"])
def test_an_anchor_that_is_no_address_and_no_name_is_refused(anchor: str) -> None:
    with pytest.raises(ConfigError, match="anchor"):
        parse_host(HOST.replace("192.0.2.1", anchor))


def test_credentials_do_not_print_their_secret() -> None:
    credentials = parse_credentials('secret = "hunter2hunter2"\n')
    assert credentials == Credentials("hunter2hunter2", one_time=True)
    assert "hunter2" not in repr(credentials)


def test_a_broken_credentials_file_does_not_put_its_secret_into_the_error() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_credentials('secret = "hunter2hunter2"\none_time = "hunter2"\n')
    assert "hunter2" not in str(caught.value)


def test_an_anchor_needs_its_address_only() -> None:
    config = parse_anchor(ANCHOR)
    assert (config.address, config.sip_port, config.tunnel_port) == ("anchor.example.org", 5061, 1800)
    assert (config.pool, config.isolate, config.sip_plain, config.plain_tunnels) == (
        "10.201.0.0/16",
        True,
        False,
        False,
    )
    assert (config.expires.minimum, config.expires.default, config.expires.maximum) == (60, 600, 3600)


def test_exposed_ports_become_port_forwards() -> None:
    config = parse_anchor(ANCHOR + '[[expose]]\nhost = "laptop"\nport = "tcp/22"\nas = 2222\n')
    assert config.forwards == (PortForward(TCP, 2222, "laptop", 22),)


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ('pool = "10.201.0.1/16"', "anchor.toml: pool"),
        ('pool = "10.201.0.0/31"', "anchor.toml: pool"),
        ('pool = "fd00::/64"', "anchor.toml: pool"),
        ('pool6 = "10.0.0.0/8"', "anchor.toml: pool6"),
        ('listen = ["all"]', "anchor.toml: listen"),
        ('resolver = "dns"', "anchor.toml: resolver"),
        ('allow = ["10.0.0.1/8"]', "anchor.toml: allow"),
        ("[expires]\nminimum = 700", "anchor.toml: expires"),
        ('[[expose]]\nhost = "a"\nport = "tcp/0"\nas = 1', "anchor.toml: expose.port"),
        (
            '[[expose]]\nhost = "a"\nport = "tcp/1"\nas = 9\n[[expose]]\nhost = "b"\nport = "tcp/1"\nas = 9',
            "anchor.toml: expose.as",
        ),
        ('[[expose]]\nhost = "a"\nport = "udp/9"\nas = 1800', "anchor.toml: expose.as"),
        (
            'sip_plain = true\n[[expose]]\nhost = "a"\nport = "tcp/22"\nas = 5060',
            "anchor.toml: expose.as",
        ),
    ],
)
def test_a_wrong_line_in_anchor_toml_is_named(line: str, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_anchor(ANCHOR + line + "\n")
    assert caught.value.where == where
    assert caught.value.fix


def test_a_service_is_a_protocol_and_a_port() -> None:
    assert parse_service("tcp/22") == (TCP, 22)
    assert parse_service("UDP/65535") == (UDP, 65535)


WRONG_SERVICES = ["", "22", "tcp", "tcp/", "tcp/x", "sctp/1", "tcp/0", "tcp/65536", "tcp/-1", "tcp/²", "tcp/22/1"]


@pytest.mark.parametrize("text", WRONG_SERVICES)
def test_what_is_no_service_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a service|no valid port"):
        parse_service(text)


@given(st.text() | st.binary())
def test_any_text_is_a_configuration_or_a_config_error(text: str | bytes) -> None:
    for parse in (parse_host, parse_anchor, parse_credentials):
        with contextlib.suppress(ConfigError):
            parse(text)


SCALARS = st.booleans() | st.integers(-(1 << 63), 1 << 63) | st.floats() | st.text(max_size=20)


@given(
    st.sampled_from(["pool", "pool6", "listen", "allow", "resolver", "sip_port", "expose", "expires", "address"]),
    st.recursive(
        SCALARS.filter(lambda value: value is not None), lambda inner: st.lists(inner, max_size=3), max_leaves=5
    ),
)
def test_any_value_at_any_key_is_a_configuration_or_a_config_error(key: str, value: object) -> None:
    document = tomlkit.document()
    document.update({"address": "192.0.2.1", key: value})
    with contextlib.suppress(ConfigError):
        parse_anchor(tomlkit.dumps(document))


def test_a_network_s_tunnel_may_have_a_fixed_port() -> None:
    config = parse_host(HOST + "[network.if0]\nport = 1500\n[network.if1]\n", "host.toml")
    assert [network.port for network in config.networks.values()] == [1500, None]


@pytest.mark.parametrize(
    ("text", "size"),
    [("5GB", 5_000_000_000), ("500 MB", 500_000_000), ("2GiB", 2 << 30), ("1.5k", 1500), ("7", 7), ("7B", 7)],
)
def test_a_cap_is_read_as_operators_write_it(text: str, size: int) -> None:
    config = parse_host(HOST + f'[network.wwan0]\ncap = "{text}"\ncap_day = 15\n')
    assert config.networks["wwan0"].cap_bytes == size


@pytest.mark.parametrize("text", ["", "GB", "5 apples", "-1GB", "5GBB", "1e9"])
def test_a_cap_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_host(HOST + f'[network.wwan0]\ncap = "{text}"\n')


def test_the_portal_probe_may_be_another_or_none() -> None:
    assert parse_host(HOST).portal.url.startswith("http://")
    assert parse_host(HOST + '[portal]\nurl = ""\n').portal.url == ""
    probe = parse_host(HOST + '[portal]\nurl = "http://192.0.2.1/x"\nexpect = "204"\n').portal
    assert (probe.url, probe.expect) == ("http://192.0.2.1/x", "204")


@pytest.mark.parametrize("line", ['url = "https://example.org/"', 'url = "http://a b/"', 'expect = "302"'])
def test_a_portal_probe_that_cannot_work_is_refused(line: str) -> None:
    with pytest.raises(ConfigError):
        parse_host(HOST + f"[portal]\n{line}\n")


def test_what_an_anchor_offers_is_checked_when_the_file_is_read() -> None:
    text = 'address = "192.0.2.1"\n[push]\norder = ["wifi"]\ncost = { cellular = "metered" }\n[[push.policies]]\n'
    config = parse_anchor(text + 'application = "zoom"\nuser = "somebody"\n')
    assert config.offered.costs == {"cellular": "metered"}
    assert config.offered.policies == ({"application": "zoom", "user": "somebody"},)
    assert parse_anchor('address = "192.0.2.1"\n').offered.version == 0
    with pytest.raises(ConfigError, match=r"anchor.toml: push.policies\[0\].aplication: there is no such key"):
        parse_anchor(text + 'aplication = "zoom"\n')
    with pytest.raises(ConfigError, match="past the tunnels"):
        parse_anchor(text + 'via = "direct"\n')
    names = ", ".join(repr("y" * 240 + str(number)) for number in range(60))
    with pytest.raises(ConfigError, match="larger than"):
        parse_anchor(text + "port = 1\n" + f"[[push.policies]]\napplication = [{names}]\n" * 3)
