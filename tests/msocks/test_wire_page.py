"""docs/wire.md, MSOCKS: the bytes on the page are the bytes on the wire."""

import re
import tomllib
from pathlib import Path

from sojourn.msocks.client import SetUp
from sojourn.msocks.frames import Reconnect, Resumed, Status
from tests.msocks.test_server import ANN, BOUND, ID, WEB, proxy, said


def test_the_page_shows_what_the_machines_say() -> None:
    page = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()
    (text,) = re.findall(r"^```toml msocks\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    given = {name: bytes.fromhex(digits) for name, digits in tomllib.loads(text).items()}
    here, there = proxy(), SetUp(ANN, b"\x04" * 32, WEB)
    assert there.begin() == given["hello"]
    assert said(here.feed(given["hello"])) + said(here.welcome(b"p" * 32)) == given["welcome"]
    assert said(there.feed(given["welcome"])) == given["request"]
    here.feed(given["request"])
    assert here.reply(BOUND, ID) == given["reply"]
    assert here.key == there.key == given["key"]
    order = Reconnect(ID, 1, 500, bytes(range(24)))
    assert order.encode(given["key"]) == given["reconnect"]
    assert Resumed(Status.RESUMED, 1, 77).encode(given["key"], order) == given["resumed"]
