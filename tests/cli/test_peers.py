"""`sojourn peers`: one line makes two hosts peers."""

import json
from pathlib import Path

import pytest

from sojourn.cli import peers as peers
from sojourn.control import peer_config
from sojourn.store.config_dir import ConfigDir
from tests.harness.control_socket import sojourn


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    return str(tmp_path / "a"), str(tmp_path / "b")


def test_the_line_that_one_host_prints_is_the_command_for_the_other(folders: tuple[str, str]) -> None:
    a, b = folders
    Path(a).mkdir()
    (Path(a) / "host.toml").write_text('name = "alice"\n[rendezvous]\nnodes = ["203.0.113.9"]\n')
    shown = json.loads(sojourn("peers", "show", "--config-dir", a, "--json").out)
    assert shown["line"] == f"sojourn peers add alice {shown['key']} --node 203.0.113.9"
    ran = sojourn(*shown["line"].split()[1:], "--config-dir", b, "--socket", "/nonexistent")
    assert (ran.code, ran.err) == (0, "")
    assert shown["home"] in ran.out
    config = ConfigDir(b).host()
    assert config.rendezvous is not None
    assert config.rendezvous.nodes == ("203.0.113.9",)
    assert list(config.peers) == ["alice"]
    assert sojourn("peers", "remove", "alice", "--config-dir", b, "--socket", "/nonexistent").code == 0
    assert not ConfigDir(b).host().peers


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "bob", "fd53:6f6a::1"), "Give --node"),
        (("add", "bob", "rubbish", "--node", "203.0.113.9"), "is no key"),
        (("remove", "bob"), "no peer 'bob'"),
    ],
)
def test_what_cannot_be_is_told_with_a_remedy_and_changes_nothing(
    folders: tuple[str, str], words: tuple[str, ...], said: str
) -> None:
    ran = sojourn("peers", *words, "--config-dir", folders[0], "--socket", "/nonexistent")
    assert ran.code
    assert said in ran.err
    assert not (Path(folders[0]) / "host.toml").exists()


def test_a_name_is_given_once(folders: tuple[str, str]) -> None:
    for code in (0, 2):
        ran = sojourn("peers", "add", "bob", "fd53:6f6a::1", "--node", "203.0.113.9", "--config-dir", folders[0])
        assert ran.code == code, ran.err


def test_a_direct_path_is_off_unless_it_is_asked_for(folders: tuple[str, str]) -> None:
    for name, more in (("bob", ()), ("carol", ("--direct",))):
        address = f"fd53:6f6a::{len(name)}"
        ran = sojourn("peers", "add", name, address, "--node", "203.0.113.9", "--config-dir", folders[0], *more)
        assert ran.code == 0, ran.err
    config = ConfigDir(folders[0]).host()
    assert {name: peer.direct for name, peer in config.peers.items()} == {"bob": False, "carol": True}
    assert [entry.direct for entry in peer_config.entries(config.peers)] == [False, True]


@pytest.mark.parametrize(
    ("direct", "said"),
    [
        ({"state": "on", "network": "wifi", "rtt_ms": 12.3}, "direct over wifi, 12 ms"),
        ({"state": "no", "reason": "the peer does not allow it"}, "node: the peer does not allow it"),
        ({"state": "off", "reason": None}, "node"),
        ({}, "node"),
    ],
)
def test_the_list_says_by_which_way_packets_go_and_why(direct: dict[str, object], said: str) -> None:
    assert said in peers._row({"name": "bob", "direct": direct})
