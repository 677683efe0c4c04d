"""The redirect is tested on packets in tests/net/test_nft.py; here is who is asked to do what."""

import asyncio
from pathlib import Path

import pytest

from sojourn.linux import dns, nft
from tests.linux.fresh import namespace

__all__ = ["namespace"]


@pytest.fixture
def resolvectl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine whose resolv.conf names resolved's stub; the file returned lists what resolvectl was told."""
    log, program = tmp_path / "log", tmp_path / "resolvectl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\ntest ! -e {tmp_path}/broken\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.53\noptions edns0\n")
    monkeypatch.setattr(dns, "RESOLV_CONF", tmp_path / "resolv.conf")
    return log


def up() -> None:
    asyncio.run(dns.up("sojourn0", "10.201.0.7", None, "10.201.0.1"))


def test_resolved_gets_the_resolver_for_all_names_on_our_device(namespace: None, resolvectl: Path) -> None:
    up()
    assert resolvectl.read_text().splitlines() == [
        "dns sojourn0 10.201.0.1",
        "domain sojourn0 ~.",
        "default-route sojourn0 yes",
        "flush-caches",
    ]
    assert not nft.is_there(nft.HOST_TABLE)


def test_down_undoes_it(namespace: None, resolvectl: Path) -> None:
    asyncio.run(dns.down("sojourn0"))
    assert resolvectl.read_text().splitlines() == ["revert sojourn0", "flush-caches"]


def test_a_resolved_that_refuses_leaves_the_redirect(namespace: None, resolvectl: Path) -> None:
    resolvectl.with_name("broken").touch()
    up()
    assert nft.is_there(nft.HOST_TABLE)
    asyncio.run(dns.down("sojourn0"))
    assert not nft.is_there(nft.HOST_TABLE)


def test_a_resolved_that_applications_do_not_ask_is_left_alone(namespace: None, resolvectl: Path) -> None:
    resolvectl.with_name("resolv.conf").write_text("nameserver 192.0.2.1\n")
    up()
    assert not resolvectl.exists()
    assert nft.is_there(nft.HOST_TABLE)


def test_resolv_conf_is_read_as_the_c_library_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dns, "RESOLV_CONF", tmp_path / "resolv.conf")
    assert dns.nameservers() == []
    text = "search example\n#nameserver 1.1.1.1\nnameserver\nnameserver 192.0.2.1 # home\n\tnameserver fe80::1%eth0\n"
    (tmp_path / "resolv.conf").write_text(text)
    assert dns.nameservers() == ["192.0.2.1", "fe80::1%eth0"]
