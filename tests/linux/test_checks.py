import os
import socket
from pathlib import Path

import pytest

from sojourn.linux import checks, dns, nft, sysctl
from sojourn.linux.checks import Check, anchor_checks, host_checks
from tests.linux.fresh import namespace, sh

__all__ = ["namespace"]


def by_name(found: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def test_everything_needed_is_here_where_the_tests_run(namespace: None) -> None:
    sh("ip route add default dev lo")
    for found in (host_checks(), anchor_checks("sojourn-a")):
        assert [check for check in found if check.needed and not check.ok] == []
        assert all(check.remedy for check in found if not check.ok)


def test_checking_changes_nothing(namespace: None) -> None:
    before = sh("ip link; ip rule; nft list ruleset")
    host_checks()
    anchor_checks("sojourn-a")
    assert sh("ip link; ip rule; nft list ruleset") == before


def test_a_forward_policy_that_drops_is_named_with_its_remedy(namespace: None) -> None:
    sh("nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'")
    check = by_name(anchor_checks("sojourn-a"))["forward policy"]
    assert not check.ok
    assert check.needed
    assert "ip filter FORWARD" in check.found
    sh(check.remedy)
    assert "forward policy" not in by_name(anchor_checks("sojourn-a"))


def test_closed_ports_are_named_with_their_remedy(namespace: None) -> None:
    sh("nft 'table ip filter { chain INPUT { type filter hook input priority 0; policy drop; }; }'")
    found = by_name(anchor_checks("sojourn-a", tunnel_port=1801, sip_port=5062))
    for name in ("port 1801/udp", "port 5062/tcp"):
        assert not found[name].ok
        sh(found[name].remedy)
    assert by_name(anchor_checks("sojourn-a", tunnel_port=1801, sip_port=5062))["firewall"].ok


def test_an_anchor_without_a_default_route_is_told(namespace: None) -> None:
    assert not by_name(anchor_checks("sojourn-a"))["uplink"].ok
    sh("ip link add e0 type veth peer name p0; ip link set e0 up; ip addr add 192.0.2.2/24 dev e0")
    sh("ip link set p0 up; ip route add default via 192.0.2.1")
    assert by_name(anchor_checks("sojourn-a"))["uplink"] == Check("uplink", True, "e0")


def test_strict_reverse_paths_are_told_but_nothing_that_must_be_mended(namespace: None) -> None:
    sh("sysctl -qw net.ipv4.conf.lo.rp_filter=1")
    check = by_name(host_checks())["rp_filter"]
    assert (check.ok, check.needed) == (False, False)
    assert "lo" in check.found
    sh("sysctl -qw net.ipv4.conf.all.rp_filter=2")
    assert by_name(host_checks())["rp_filter"].ok


def test_a_narrow_interface_is_named(namespace: None) -> None:
    names = [name for _, name in socket.if_nameindex()]
    assert names == ["lo"]
    assert by_name(host_checks())["MTU"].ok


def test_missing_tools_devices_and_rights_have_remedies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    check = checks._nft(nft.HELD_TEXT)
    assert (check.ok, check.remedy) == (False, "apt install nftables")
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "x", "6.1.0-18-amd64", "", "")))
    check = checks._tun_batches()
    assert (check.ok, check.needed) == (False, False)
    monkeypatch.setattr(sysctl, "ROOT", tmp_path)
    assert "container" in checks._forwarding().remedy


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        ("nameserver 192.0.2.1\n", True),
        ("", False),
        ("nameserver fe80::1%wlan0\nnameserver 2001:db8::1\n", False),
        ("# nothing\nnameserver 2001:db8::1\nnameserver 192.0.2.1", True),
    ],
)
def test_name_servers_are_judged(text: str, ok: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text(text)
    monkeypatch.setattr(dns, "RESOLV_CONF", tmp_path / "resolv.conf")
    assert checks._names().ok is ok


def test_why_plain_tunnels_are_not_the_kernel_s_is_told(
    namespace: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert by_name(host_checks())["BPF for plain tunnels"].ok
    monkeypatch.setattr("sojourn.linux.bpf.OBJECTS", tmp_path)
    check = by_name(host_checks())["BPF for plain tunnels"]
    assert not check.ok
    assert not check.needed
    assert "plain.bpf.o, which was not built" in check.found
