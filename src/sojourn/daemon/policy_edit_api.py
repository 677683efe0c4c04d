"""The verbs by which the window looks at host.toml's policies, tries changes of them, and writes them.

verb               arguments                        result
policy_file        -                                object: text, hash, tables, rules, what may be written
policy_edit_test   edits and hash, or text          object: as policy_test, and the text as it would be
policy_save        hash, and edits or text          object: ok, hash

The file is root's: this daemon writes it, in one step, with the owner and mode that it had, and only if it still is
what the change was made from (`hash`). A text with a mistake in it is not written, nor one that changes more than
policies and their order: who is trusted to steer flows may not say which anchor this computer trusts.
"""

import asyncio
import hashlib
import tomllib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.api.server import Arguments, Peer, Server
from sojourn.daemon.policy_api import MAX_TEXT, PolicyApi, problem_row, text_of
from sojourn.errors import ConfigError
from sojourn.policy.edit import Edit, edited, tables_of
from sojourn.policy.language import KEYS
from sojourn.policy.locate import Lines
from sojourn.policy.presets import PRESETS
from sojourn.policy.rules import DEFAULT
from sojourn.store import config_dir

if TYPE_CHECKING:
    from sojourn.daemon.host import HostDaemon

MAX_EDITS_BYTES: Final = 16 << 10
"""Of all edits of a request, as JSON: writing TOML takes long."""


def register(server: Server, daemon: "HostDaemon") -> None:
    """Let the server answer for this daemon's file of policies."""
    api = PolicyEditApi(daemon)
    for verb in ("policy_file", "policy_edit_test", "policy_save"):
        server.register(verb, getattr(api, verb))


class PolicyEditApi:
    """One method a verb."""

    def __init__(self, daemon: "HostDaemon") -> None:
        self._daemon = daemon
        self._policies = PolicyApi(daemon)
        self._saving = asyncio.Lock()
        self._editing = asyncio.Lock()

    async def policy_file(self, arguments: Arguments, peer: Peer) -> dict[str, Any]:
        """Show the file as it is now, what holds, and what may be written."""
        text = await self._read()
        book = self._daemon.policies.book
        reading = book.examine(text).reading
        names = {policy.line: policy.label for policy in reading.policies if policy.label != DEFAULT}
        lines = Lines(text)
        return {
            "version": 1,
            "file": book.file,
            "hash": hash_of(text),
            "text": text,
            "order": list(book.order),
            "policies": [
                {"index": index, "table": table, "line": (line := lines.of("policy", index)), "name": names.get(line)}
                for index, table in enumerate(_tables(text))
            ],
            "rules": await self._policies.policy_list(arguments, peer),
            "presets": [{"name": name, "about": preset.meaning} for name, preset in PRESETS.items()],
            "keys": list(KEYS),
            "errors": [problem_row(one) for one in reading.errors],
            "warnings": [problem_row(one) for one in reading.warnings],
            "in_force": "the file" if not book.errors else "an older version of the file: it has mistakes now",
        }  # fmt: skip

    async def policy_edit_test(self, arguments: Arguments, peer: Peer) -> dict[str, Any]:
        """Say what a changed file would do to the flows that run now."""
        text = await self._wanted(arguments, await self._read())
        return {**await self._policies.policy_test({"text": text}, peer), "text": text}

    async def policy_save(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Write a changed file, and go by it at once."""
        if not isinstance(arguments.get("hash"), str):
            raise ApiError("policy_save: hash is what the change was made from", kind=ErrorKind.USAGE)
        async with self._saving:
            before = await self._read()
            text = await self._wanted(arguments, before)
            await asyncio.to_thread(_check_rest, self._daemon.policies.book.file, before, text)
            await self._write(text, hash_of(before))
        if text != before:
            self._daemon.undo.done("changed the policies", lambda: self._put_back(before, hash_of(text)))
        count = len(self._daemon.policies.book.policies) - 1
        return {"version": 1, "ok": True, "hash": hash_of(text), "policies": count}

    async def _put_back(self, text: str, expected: str) -> None:
        async with self._saving:
            await self._write(text, expected)

    async def _wanted(self, arguments: Arguments, text: str) -> str:
        """Return the text that is meant, if the file still is what it was made from."""
        expected = arguments.get("hash")
        if expected is not None and expected != hash_of(text):
            raise _changed(self._daemon.policies.book.file)
        if arguments.get("edits") is None:
            return text_of(arguments)
        try:
            edits = msgspec.convert(arguments["edits"], list[Edit])
        except msgspec.ValidationError as error:
            raise ApiError(f"edits: {error}", "docs/window.md has their form.", ErrorKind.USAGE) from error
        if len(msgspec.json.encode(arguments["edits"])) > MAX_EDITS_BYTES:
            raise ApiError(f"edits are more than {MAX_EDITS_BYTES} bytes", "Save now and then.", ErrorKind.USAGE)
        async with self._editing:  # one after the other, and beside the loop: it may take its time
            changed = await asyncio.to_thread(edited, text, edits)
        return text_of({"text": changed})

    async def _read(self) -> str:
        book = self._daemon.policies.book
        data = await asyncio.to_thread(config_dir.read, self._daemon.directory.host_toml, "Put it back.")
        if len(data) > 4 * MAX_TEXT:
            raise ApiError(f"{book.file} is too long to be changed here", "Change it by hand.")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise ConfigError(book.file, "is not UTF-8 text", "Save it as UTF-8.") from error

    async def _write(self, text: str, expected: str) -> None:
        """Write a text that is right in place of one that is known, and read it."""
        policies, file = self._daemon.policies, self._daemon.directory.host_toml
        candidate = await asyncio.to_thread(policies.book.examine, text)
        if candidate.reading.errors:
            raise candidate.reading.errors[0].error()

        def replace() -> bool:
            if hash_of(config_dir.read(file, "Put it back.").decode(errors="replace")) != expected:
                return False
            config_dir.rewrite(file, text)
            return True

        if not await asyncio.to_thread(replace):
            raise _changed(policies.book.file)
        policies.reload()


def hash_of(text: str) -> str:
    """Return what a text is known by."""
    return hashlib.sha256(text.encode()).hexdigest()


def _check_rest(file: str, before: str, text: str) -> None:
    """Raise ApiError where a text changes what is neither a policy nor their order."""
    try:
        old, new = tomllib.loads(before), tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(file, f"is no TOML ({error})", "Mend it by hand first.") from error
    other = [key for key in {**old, **new} if key not in ("policy", "order") and old.get(key) != new.get(key)]
    if other:
        fix = "Only policies and their order are changed here: the rest is root's, who changes it by hand."
        raise ApiError(f"this changes {', '.join(other)[:200]}, too", fix, ErrorKind.NO_PERMISSION)


def _tables(text: str) -> list[dict[str, Any]]:
    try:
        return tables_of(text)
    except ValueError:  # the file is no TOML now: its mistakes are told beside
        return []


def _changed(file: str) -> ApiError:
    fix = "Look at it as it is now, and make your change again."
    return ApiError(f"{file} was changed meanwhile", fix, ErrorKind.CHANGED)
