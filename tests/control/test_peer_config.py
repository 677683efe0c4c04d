"""`[rendezvous]` and `[peer.NAME]`: read, refused with a remedy, and edited in place."""

import pytest

from sojourn.control import peer_config
from sojourn.control.config import parse_host
from sojourn.control.peer_config import PeerConfig
from sojourn.errors import ConfigError
from sojourn.i3.home import HomeIdentity, HomeKeys

BOB = HomeIdentity(bytes(range(32)), bytes(range(32, 64)))
KEY = peer_config.key_text(BOB.keys)
ALONE = '[rendezvous]\nnodes = ["203.0.113.9"]\n'


def test_a_key_in_text_reads_back_and_rubbish_does_not() -> None:
    assert peer_config.parse_key(KEY) == BOB.keys
    assert len(KEY) == 86
    assert peer_config.key_text(HomeKeys(b"\xfb" * 32, b"\xff" * 32)).startswith("."), "never an option"
    for wrong in ("", "x", KEY[:-1], KEY + "AAAA", "!" * 86, "ä" * 86):
        assert peer_config.parse_key(wrong) is None


def test_a_host_may_have_peers_and_no_anchor() -> None:
    config = parse_host(f'{ALONE}accept = "anyone"\n[peer.bob]\nkey = "{KEY}"\n')
    assert config.anchor == ""
    assert config.rendezvous is not None
    assert config.rendezvous.places[0].port == 1801
    (entry,) = peer_config.entries(config.peers)
    assert (entry.name, entry.home, entry.exchange) == ("bob", BOB.address, BOB.keys.exchange)


def test_a_peer_may_be_known_by_its_address_alone() -> None:
    config = parse_host(f'{ALONE}[peer.bob]\naddress = "{BOB.address}"\n')
    assert peer_config.entries(config.peers)[0].signing == b""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is missing"),
        (f'[peer.bob]\nkey = "{KEY}"\n', "no rendezvous node"),
        ('[rendezvous]\nnodes = ["no address"]\n', "is no address"),
        ("[rendezvous]\nnodes = []\n", "rendezvous"),
        (f"{ALONE}[peer.bob]\n", "neither key nor address"),
        (f'{ALONE}[peer.bob]\nkey = "short"\n', "is no key"),
        (f'{ALONE}[peer."b b"]\nkey = "{KEY}"\n', "usable name"),
        (f'{ALONE}[peer.bob]\naddress = "2001:db8::1"\n', "no home address"),
        (f'{ALONE}[peer.bob]\nkey = "{KEY}"\naddress = "fd53:6f6a::1"\n', "not what the key makes"),
        (f'{ALONE}[peer.bob]\nkey = "{KEY}"\n[peer.bert]\nkey = "{KEY}"\n', "home address of"),
    ],
)
def test_what_makes_no_sense_is_told_with_a_remedy(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        parse_host(text)
    assert caught.value.fix


def test_peers_are_added_and_removed_and_the_rest_of_the_file_stays() -> None:
    before = '# mine\nname = "laptop"\n\n' + ALONE + "# to the end\n"
    one = peer_config.added(before, "bob", PeerConfig(key=KEY))
    two = peer_config.added(one, "eve", PeerConfig(address="fd53:6f6a::1"))
    assert list(parse_host(two).peers) == ["bob", "eve"]
    without = peer_config.removed(two, "bob")
    assert list(parse_host(without).peers) == ["eve"]
    assert peer_config.removed(without, "eve").strip() == before.strip()
    assert parse_host(peer_config.with_nodes("", ("203.0.113.9",))).rendezvous is not None
