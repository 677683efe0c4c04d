"""Names that lead where nobody may go: what is asked about is what is called."""

import asyncio
import socket

import pytest

from sojourn.control.socks_access import Access
from sojourn.control.socks_config import SocksConfig
from sojourn.daemon import socks_open
from sojourn.daemon.socks_open import NotOpened, Opener
from sojourn.msocks.socks5 import Address, Code

PRIVATE = ("10.0.0.0/8", "127.0.0.1/32", "::1/128")


def opener() -> Opener:
    return Opener(Access(SocksConfig(), PRIVATE, ()))


def refused(wanted: Address, *, kind: int = socket.SOCK_STREAM) -> NotOpened:
    one = opener()
    try:
        with pytest.raises(NotOpened) as error:
            asyncio.run(one.addresses("ann", wanted, kind))
    finally:
        one.close()
    return error.value


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::ffff:127.0.0.1", "2130706433", "0x7f.1", "127.1", "0"])
def test_this_machine_is_closed_whatever_it_is_called(host: str) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        assert refused(Address(host, 80), kind=kind).code == Code.NOT_ALLOWED


def test_a_name_that_changes_its_address_after_it_was_asked_about_leads_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [["127.0.0.9", "10.0.0.1"], ["10.0.0.1"]]  # the second look-up would give the private one alone
    asked = 0

    def resolve(wanted: Address, _kind: int) -> list[Address]:
        nonlocal asked
        asked += 1
        return [Address(host, wanted.port) for host in answers[asked - 1]]

    monkeypatch.setattr(socks_open, "_resolve", resolve)

    async def main() -> tuple[str, int]:
        with socket.create_server(("127.0.0.9", 0)) as listening:
            one = opener()
            try:
                with await one.connect("ann", Address("rebinding.example", listening.getsockname()[1])) as sock:
                    return sock.getpeername()[0], asked
            finally:
                one.close()

    assert asyncio.run(main()) == ("127.0.0.9", 1)


def test_a_name_with_private_addresses_alone_is_not_allowed_and_one_that_nobody_knows_is_not_there() -> None:
    assert refused(Address("10.255.255.1", 80)).code == Code.NOT_ALLOWED
    assert refused(Address("no.such.name.invalid", 80)).code == Code.HOST_UNREACHABLE
