"""Clients of the proxy that mean no good, by the clock: how long they may stay, and that nothing is left of them."""

import asyncio
import os
import socket

import pytest

from sojourn.daemon import socks_proxy
from tests.harness.socks_ground import Ground, run, until

PIECES = (b"", b"\5", b"\5\1\x8d", b"\5\1\x8d\1\0\x60" + bytes(20), b"\5\1\2", b"\5\2\0\2\1\4host")


def test_half_handshakes_are_bounded_and_end_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socks_proxy, "HANDSHAKE", 0.5)

    async def work(ground: Ground) -> None:
        before, where = len(os.listdir("/proc/self/fd")), ("127.0.0.1", ground.mobile.proxy.port)
        slow = []
        for number in range(90):
            slow.append(socket.create_connection(where, 5.0, ("127.0.0.9", 0)))
            slow[-1].sendall(PIECES[number % len(PIECES)])
        refused = ground.proxy.refused
        await until(lambda: refused["crowded"] + refused["timeout"] >= 60)
        assert ground.proxy.status()["strangers"] <= socks_proxy.STRANGERS_PER_SOURCE
        await until(lambda: refused["crowded"] + refused["timeout"] == 90)
        assert refused["crowded"] >= 90 - socks_proxy.STRANGERS_PER_SOURCE
        for sock in slow:
            sock.close()
        await until(lambda: not ground.proxy.status()["strangers"])
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before)

    run(Ground, work)


def test_a_client_that_answers_a_byte_at_a_time_has_the_same_time_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socks_proxy, "HANDSHAKE", 0.5)

    async def work(ground: Ground) -> None:
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", ground.mobile.proxy.port), 5.0) as sock:
            sock.setblocking(False)
            began = loop.time()
            with pytest.raises(OSError):
                for byte in b"\5\xff" + bytes(100):
                    await loop.sock_sendall(sock, bytes([byte]))
                    await asyncio.sleep(0.1)
            assert loop.time() - began < 5.0
        assert ground.proxy.refused["timeout"] == 1

    run(Ground, work)
