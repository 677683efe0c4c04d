"""The module beside the standard one: the same names and signatures, and what never goes through a proxy."""

import inspect
import socket as standard
import threading
from typing import Any, cast

import pytest

import sojourn.socket as ours
from sojourn.errors import ConfigError
from sojourn.socket.choice import Choice, choice
from sojourn.socket.stream import is_local, name_on_the_wire
from sojourn.socket.stream import socket as moving


def test_every_public_name_of_the_standard_module_is_there() -> None:
    for name in standard.__all__:
        assert hasattr(ours, name), name
    assert ours.gaierror is standard.gaierror
    assert ours.AF_INET is standard.AF_INET


@pytest.mark.parametrize("name", ["create_connection", "create_server", "fromfd", "getaddrinfo"])
def test_functions_have_the_standard_signatures(name: str) -> None:
    assert inspect.signature(getattr(ours, name)) == inspect.signature(getattr(standard, name))


def test_methods_take_what_the_standard_ones_take() -> None:
    for name in (
        "connect",
        "connect_ex",
        "bind",
        "listen",
        "accept",
        "getsockopt",
        "getpeername",
        "getsockname",
        "dup",
    ):
        assert hasattr(standard.socket, name)
        assert callable(getattr(moving, name))
    assert issubclass(moving, standard.socket)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("a.localhost", True), ("fe80::1%eth0", True),
     ("169.254.1.1", True), ("224.0.0.1", True), ("", True), ("192.0.2.1", False), ("2001:db8::1", False),
     ("example.org", False)],
)  # fmt: skip
def test_what_never_leaves_this_machine_or_its_link_is_the_kernels(host: str, local: bool) -> None:
    assert is_local(host) is local


def test_connections_to_this_machine_need_neither_configuration_nor_worker() -> None:
    with ours.create_server(("127.0.0.1", 0)) as server:
        got: list[bytes] = []

        def serve() -> None:
            taken, _ = server.accept()
            with taken:
                got.append(taken.recv(10))
                taken.sendall(b"there")

        thread = threading.Thread(target=serve)
        thread.start()
        with ours.create_connection(server.getsockname(), 5.0) as sock:
            assert isinstance(sock, moving)
            assert sock.network is None
            assert sock.outer is None
            sock.sendall(b"hello")
            assert sock.recv(10) == b"there"
            with pytest.raises(OSError, match="nothing that moves"):
                sock.move("wifi")
        thread.join()
    assert got == [b"hello"]
    assert choice.running is None


def test_datagrams_and_unix_sockets_are_as_ever() -> None:
    one, other = ours.socketpair()
    with one, other:
        one.sendall(b"x")
        assert other.recv(1) == b"x"
    with moving(ours.AF_INET, ours.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        sock.send(b"y")
        assert sock.recv(1) == b"y"


def test_without_configuration_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(choice, "config_dir", str(tmp_path))
    monkeypatch.setattr(choice.carried, "path", "/nowhere")
    with moving() as sock, pytest.raises(ConfigError, match="sojourn join"):
        sock.connect(("192.0.2.1", 80))


@pytest.mark.parametrize(
    "address",
    [("192.0.2.1", 70000), ("192.0.2.1", -1), ("a\0b", 80), ("\udc80", 80), ("a..b", 80), ("a" * 70 + ".example", 80),
     ("2001:db8::1", 80), ("192.0.2.1",), "192.0.2.1", ("192.0.2.1", "80")],
)  # fmt: skip
def test_what_is_no_address_is_refused_as_the_standard_module_does(
    address: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice.carried, "path", "/nowhere")
    refusals = []
    for kind in (standard.socket, moving):
        with (
            kind(standard.AF_INET, standard.SOCK_STREAM) as sock,
            pytest.raises((OSError, TypeError, OverflowError)) as refused,
        ):
            cast("Any", sock).connect(address)
        refusals.append((type(refused.value), str(refused.value)))
    assert refusals[0] == refusals[1]


@pytest.mark.parametrize(
    ("host", "name"),
    [("b\u00fccher.example", "xn--bcher-kva.example"), ("2001:db8::1", "2001:db8::1"), ("a.example.", "a.example."),
     ("a." * 128, None), ("a..b", None)],
)  # fmt: skip
def test_the_proxy_is_told_names_as_the_dns_knows_them(host: str, name: str | None) -> None:
    assert name_on_the_wire(host) == name


def test_libraries_find_our_sockets_while_installed() -> None:
    before = standard.socket
    ours.install()
    try:
        assert standard.socket is moving
        with standard.socket() as sock:
            assert isinstance(sock, moving)
    finally:
        ours.uninstall()
    assert standard.socket is before


def test_the_environment_says_where_everything_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("APP", "zoom"), ("CONFIG_DIR", "/etc/x"), ("SOCKS_PORT", "1090"), ("HOST_SOCKET", "/h.sock")):
        monkeypatch.setenv(f"SOJOURN_{name}", value)
    made = Choice()
    assert (made.application, made.config_dir, made.port, made.carried.path) == ("zoom", "/etc/x", 1090, "/h.sock")
    assert made.origin().name == "zoom"
