from pathlib import Path

import pytest

from sojourn.linux import nft, sysctl
from sojourn.linux.sysctl import FORWARD4, FORWARD6, Forwarding, read, restore, saved_values, set_values
from tests.linux.fresh import namespace, sh

__all__ = ["namespace"]


def settings() -> str:
    return sh("sysctl -a --pattern '^net.ipv[46].(conf|ip_forward)' | grep -v stable_secret")


def test_forwarding_and_router_advertisements_come_back_exactly(namespace: None) -> None:
    sh("ip link add e0 type veth peer name e1; ip link set e0 up; ip link set e1 up")
    for setup in (
        "sysctl -qw net.ipv4.ip_forward=0",
        "sysctl -qw net.ipv4.conf.all.accept_redirects=0",
        "sysctl -qw net.ipv4.conf.e1.forwarding=1 net.ipv6.conf.e1.forwarding=1",
        "sysctl -qw net.ipv4.ip_forward=1",
    ):
        sh(setup)
        before = settings()
        Forwarding().up("e0")
        assert (read(FORWARD4), read(FORWARD6), read("net/ipv6/conf/e0/accept_ra")) == ("1", "1", "2")
        assert read("net/ipv6/conf/e1/accept_ra") == "1"
        Forwarding().up("e0")
        Forwarding().down()
        assert settings() == before, setup


def test_what_was_saved_first_counts_and_another_process_finds_it(namespace: None) -> None:
    set_values({"net/ipv4/ip_forward": "1"})
    set_values({"net/ipv4/ip_forward": "0"})
    assert saved_values()["net/ipv4/ip_forward"] == "0"
    assert "net/ipv4/ip_forward" in restore()
    assert restore() == []
    assert not nft.is_there(sysctl.SAVED_TABLE)


def test_a_setting_that_is_right_already_is_not_saved(namespace: None) -> None:
    sh("sysctl -qw net.ipv4.ip_forward=1")
    set_values({"net/ipv4/ip_forward": "1", "net/ipv4/there_is_none": "1"})
    assert saved_values() == {}


def test_settings_of_an_interface_that_is_gone_are_passed_over(namespace: None) -> None:
    sh("ip link add e0 type veth peer name e1")
    set_values({"net/ipv6/conf/e0/accept_ra": "2"})
    sh("ip link del e0")
    assert restore() == ["net/ipv6/conf/e0/accept_ra"]


def test_a_kernel_without_the_setting_reads_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sysctl, "ROOT", tmp_path)
    assert read("net/ipv6/conf/all/forwarding") is None
