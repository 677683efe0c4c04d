"""What the verbs that change host.toml let whoever may use the control socket do to it."""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.api.server import Peer
from sojourn.control.policies import PolicyBook
from sojourn.daemon.host import HostDaemon
from sojourn.daemon.policy_edit_api import MAX_EDITS_BYTES, PolicyEditApi, hash_of
from sojourn.daemon.undo import Undo
from sojourn.errors import ConfigError
from sojourn.store.config_dir import ConfigDir

ME = Peer(1, 1000, 1000)
HEAD = f'anchor = "192.0.2.1"\nspki = "{"a" * 64}"\nuser = "me"\ntid = "t1"\n'
POLICY = '\n[[policy]]\napplication = "call"\nnetworks = ["wifi"]\n'


def api(folder: Path, text: str) -> tuple[PolicyEditApi, Path]:
    directory = ConfigDir(str(folder))
    directory.host_toml.write_text(text)
    book = PolicyBook(str(directory.host_toml), lambda _name: None)
    book.load(text)

    def reload() -> bool:
        return book.load(directory.host_toml.read_text())

    daemon = SimpleNamespace(policies=SimpleNamespace(book=book, reload=reload), directory=directory, undo=Undo())
    return PolicyEditApi(cast("HostDaemon", daemon)), directory.host_toml


def save(folder: Path, before: str, **arguments: Any) -> str:  # noqa: ANN401 - JSON
    verbs, file = api(folder, before)
    asyncio.run(verbs.policy_save({"hash": hash_of(before), **arguments}, ME))
    return file.read_text()


def test_policies_and_their_order_are_written(tmp_path: Path) -> None:
    text = 'order = ["cell", "*"]\n' + HEAD + POLICY.replace("wifi", "cell")
    assert save(tmp_path, HEAD + POLICY, text=text) == text


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (HEAD.replace("192.0.2.1", "192.0.2.66") + POLICY, "anchor"),
        (HEAD.replace("a" * 64, "b" * 64) + POLICY, "spki"),
        (HEAD + POLICY + '\n[metrics]\nlisten = "0.0.0.0"\n', "metrics"),
        ("kill_switch = false\n" + HEAD + POLICY, "kill_switch"),
    ],
)
def test_which_anchor_is_trusted_is_not_a_policy(tmp_path: Path, text: str, key: str) -> None:
    before = HEAD + POLICY
    with pytest.raises(ApiError, match=key) as refused:
        save(tmp_path, before, text=text)
    assert refused.value.kind is ErrorKind.NO_PERMISSION
    assert (tmp_path / "host.toml").read_text() == before


def test_a_file_that_is_no_toml_is_left_to_its_owner(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="by hand"):
        save(tmp_path, HEAD + "[[policy]\n", text=HEAD + POLICY)


def test_a_table_of_any_size_is_refused(tmp_path: Path) -> None:
    edits = [{"op": "set", "at": 0, "table": {"networks": ["w" * 30] * (MAX_EDITS_BYTES // 30)}}]
    with pytest.raises(ApiError, match="edits") as refused:
        save(tmp_path, HEAD + POLICY, edits=edits)
    assert refused.value.kind is ErrorKind.USAGE


def test_everything_else_goes_on_while_edits_are_made(tmp_path: Path) -> None:
    async def go() -> tuple[int, float]:
        verbs, _ = api(tmp_path, HEAD + POLICY * 100)
        edits = [{"op": "set", "at": at, "table": {"application": f"a{at}", "networks": ["cell"]}} for at in range(64)]
        longest, last = 0.0, time.monotonic()
        wanted = {"hash": hash_of(HEAD + POLICY * 100), "edits": edits}
        saving = asyncio.ensure_future(verbs.policy_save(wanted, ME))
        while not saving.done():
            await asyncio.sleep(0.001)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        return saving.result()["policies"], longest

    count, longest = asyncio.run(go())
    assert count == 100
    assert longest < 0.5
