"""What DNS answers cost the host's control, however many there are."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from sojourn.control.host_control import HostControl
from sojourn.daemon import host_names
from sojourn.daemon.host_names import HostNames
from sojourn.policy.rules import Policy, Subject

POLICIES = (Policy("site", Subject(names=("*.example.org",))),)


def answer(name: str, address: int) -> bytes:
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0\0\1\0\1"
    record = b"\xc0\x0c\0\1\0\1" + (60).to_bytes(4) + b"\0\4" + address.to_bytes(4)
    return b"\0\1\x81\x80\0\1\0\1\0\0\0\0" + question + record


def names(on_news: Callable[[], None], clock: Callable[[], float], asked: list[float]) -> HostNames:
    def remotes() -> tuple[str, ...]:
        asked.append(clock())
        return ()

    control = SimpleNamespace(decide=SimpleNamespace(flows=SimpleNamespace(remotes=remotes)))
    return HostNames("sojourn0", cast("HostControl", control), on_news)


def test_telling_news_takes_a_tenth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application may have names looked up without end: each is news for a policy with a pattern."""

    async def go() -> tuple[int, int]:
        at, told = 0.0, 0
        looked: list[float] = []

        def tell() -> None:
            nonlocal at, told
            at += 0.05  # so long does it take to give everybody the new policies
            told += 1

        monkeypatch.setattr(host_names, "now", lambda: at)
        monkeypatch.setattr(host_names, "TOGETHER", 0.001)
        held = names(tell, lambda: at, looked)
        for number in range(20):
            held._answered(answer(f"a{number}.example.org", number + 1), POLICIES)
            await asyncio.sleep(0.005)
        return told, len(looked)

    assert asyncio.run(go()) == (1, 1)


def test_every_name_is_known_when_it_is_told() -> None:
    async def go() -> HostNames:
        held = names(lambda: None, lambda: 0.0, [])
        held._answered(answer("www.example.org", 0xC0000201), POLICIES)
        held._answered(b"\0\1\x81\x80", POLICIES)
        return held

    assert asyncio.run(go()).known["192.0.2.1"] == ("www.example.org",)
