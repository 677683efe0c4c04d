"""What the policy verbs take from whoever may use the control socket."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.api.server import Arguments, Peer
from sojourn.control.policies import PolicyBook
from sojourn.daemon.host import HostDaemon
from sojourn.daemon.policy_api import MAX_LINE, MAX_TEXT, MAX_WHAT, PolicyApi

ME = Peer(1, 1000, 1000)


def api() -> PolicyApi:
    book = PolicyBook("host.toml", lambda _name: None)
    daemon = SimpleNamespace(policies=SimpleNamespace(book=book), control=SimpleNamespace(decide=None))
    return PolicyApi(cast("HostDaemon", daemon))


@pytest.mark.parametrize("text", [None, 7, "x" * (MAX_TEXT + 1), "a = 1\na" + ".a" * MAX_LINE + " = 1"])
def test_a_text_that_would_be_read_for_ever_is_refused(text: object) -> None:
    arguments: Arguments = {"text": text}
    with pytest.raises(ApiError) as refused:
        asyncio.run(api().policy_test(arguments, ME))
    assert refused.value.kind is ErrorKind.USAGE


@pytest.mark.parametrize("what", [None, "", "a*" * MAX_WHAT])
def test_a_pattern_has_an_end(what: object) -> None:
    with pytest.raises(ApiError):
        asyncio.run(api().policy_explain({"what": what}, ME))


def test_everything_else_goes_on_while_a_text_is_read() -> None:
    async def go() -> tuple[list[Any], float]:
        verbs, longest, last = api(), 0.0, time.monotonic()
        slow = ("a" + ".a" * 1500 + " = 1\n") * 2  # the second one is a mistake
        reading = [asyncio.ensure_future(verbs.policy_test({"text": slow}, ME)) for _ in range(4)]
        while not all(one.done() for one in reading):
            await asyncio.sleep(0.001)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        return [one.result()["errors"] for one in reading], longest

    errors, longest = asyncio.run(go())
    assert all(errors)
    assert longest < 0.5
