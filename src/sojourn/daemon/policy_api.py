"""The verbs of policies on a mobile host's control socket; those of questions are question_api.py's.

verb             arguments                       result
policy_list      -                               list of rules in order, with how many flows each has and where
policy_show      -                               object: what holds, as TOML and as tables; mistakes; the push
policy_test      text                            object: errors, warnings, moves (nothing is applied)
policy_explain   what (flow id, application)     object: explanations
policy_reload    -                               object: ok, errors
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import msgspec

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.api.server import Arguments, Peer, Server
from sojourn.control.decide_orders import home_of
from sojourn.control.explain import explain, state_of
from sojourn.control.peer_rules import of_peer
from sojourn.control.rehearse import Moving, Running, rehearse
from sojourn.daemon.driver import now
from sojourn.daemon.flow_rows import flow_id, flow_row
from sojourn.daemon.question_api import QuestionApi
from sojourn.linux.clock import local_time
from sojourn.policy.language import Reading
from sojourn.policy.names import application_names
from sojourn.policy.problems import Problem
from sojourn.policy.rules import DEFAULT, Policy
from sojourn.policy.write import describe, table_of, toml_of
from sojourn.upmt.commands import RowState
from sojourn.upmt.peer_commands import HOME, PEERS

if TYPE_CHECKING:
    from sojourn.daemon.host import HostDaemon

MAX_EXPLAINED = 50
MAX_TEXT, MAX_LINE = 128 << 10, 4096
"""Characters of a text to be tested, and of each of its lines: a key of so many words takes a TOML reader long."""
MAX_WHAT = 256


def register(server: Server, daemon: "HostDaemon") -> None:
    """Let the server answer for this daemon's policies."""
    api = PolicyApi(daemon)
    daemon.policies.book.known = daemon.networks.known
    for verb in ("policy_list", "policy_show", "policy_test", "policy_explain", "policy_reload"):
        server.register(verb, getattr(api, verb))
    QuestionApi(daemon.policies.questions, daemon.driver.feed, daemon.policies.forgotten).register(server)


class PolicyApi:
    """One method a verb."""

    def __init__(self, daemon: "HostDaemon") -> None:
        self._daemon = daemon
        self._testing = asyncio.Lock()

    async def policy_list(self, _arguments: Arguments, _peer: Peer) -> list[dict[str, Any]]:
        """List the rules in order."""
        decide = self._daemon.control.decide
        flows, places = Counter[str](), dict[str, Counter[str]]()
        for one in self._running(await self._daemon.rows()):
            flows[one.label] += 1
            places.setdefault(one.label, Counter())[one.network or "-"] += 1
        return [
            {
                "place": place,
                "name": lane.label,
                "from": _origin(lane.policy),
                "line": lane.policy.line,
                "covers": _covers(lane.policy),
                "preset": lane.policy.preset or None,
                "networks": list(lane.policy.networks),
                "otherwise": str(lane.policy.otherwise),
                "via": str(lane.policy.via),
                "copies": lane.policy.copies,
                "state": state_of(decide, lane),
                "network": lane.place,
                "reason": lane.why,
                "flows": flows[lane.label],
                "flows_on": dict(places.get(lane.label, {})),
            }
            for place, lane in enumerate(decide.lanes.values(), 1)
        ]

    async def policy_show(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Show what holds now, presets expanded, and what is wrong with the file."""
        book = self._daemon.policies.book
        return {
            "version": 1,
            "file": book.file,
            "in_force": "the file" if not book.errors else "an older version of the file: it has mistakes now",
            "errors": [problem_row(one) for one in book.errors],
            "warnings": [problem_row(one) for one in book.warnings],
            "policies": [
                {"from": _origin(policy), "line": policy.line, "preset": policy.preset or None, **table_of(policy)}
                for policy in book.policies
            ],
            "toml": toml_of(book.policies),
            "accept": sorted(book.accept),
            "push": {
                "version": book.push.version,
                "policies": list(book.push.policies),
                "costs": dict(book.push.costs),
                "order": list(book.push.order),
                "costs_used": dict(book.costs),
                "errors": [problem_row(one) for one in book.push_errors],
            },
        }

    async def policy_test(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Validate a text, and say which flows would move if it held."""
        book, decide = self._daemon.policies.book, self._daemon.control.decide
        text = text_of(arguments)
        async with self._testing:  # one after the other, and beside the loop: it may take its time
            candidate = await asyncio.to_thread(book.examine, text, partial=True)
        reading = candidate.reading
        answer = trial_row(reading)
        if reading.errors:
            return answer
        rows = {row.flow: row for row in await self._daemon.rows()}
        running, at = self._running(rows.values()), now()
        moves = rehearse(book.with_own(candidate), book.policies, running, decide.facts_of(at), local_time(at))
        answer["flows"] = len(running)
        answer["moves"] = [move_row(one, self._flow(rows[one.flow])) for one in moves if one.flow in rows]
        return answer

    async def policy_explain(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Explain a flow, the flows of an application, or a policy by its name."""
        what = arguments.get("what")
        if not isinstance(what, str) or not 0 < len(what) <= MAX_WHAT:
            raise ApiError("policy_explain: what is a flow's ID or an application", kind=ErrorKind.USAGE)
        decide, rows = self._daemon.control.decide, await self._daemon.rows()
        at = now()
        chosen = [row for row in rows if flow_id(row.flow) == what]
        explanations: list[dict[str, Any]] = []
        if not chosen:
            chosen = [row for row in rows if any(fnmatchcase(name, what) for name in _names(row))]
        for row in chosen[:MAX_EXPLAINED]:
            told = explain(decide, self._label(row), at, row.flow, self._network(row))
            if row.association == HOME:
                told = of_peer(decide, told, self._daemon.peers.network_of(PEERS), at)
            explanations.append({"flow": self._flow(row), **msgspec.to_builtins(told)})
        if not chosen:
            label = what if what in decide.lanes else home_of(what, decide.policies).label
            explanations.append({"flow": None, **msgspec.to_builtins(explain(decide, label, at))})
        return {"version": 1, "what": what, "flows": len(chosen), "explanations": explanations}

    async def policy_reload(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Read host.toml again now."""
        ok = self._daemon.policies.reload()
        errors = [problem_row(one) for one in self._daemon.policies.book.errors]
        return {"version": 1, "ok": ok, "errors": errors, "policies": len(self._daemon.policies.book.policies) - 1}

    # -- what the answers are made of

    def _running(self, rows: Iterable[RowState]) -> list[Running]:
        peers = self._daemon.peers.network_of(PEERS)
        return [
            Running(
                row.flow, row.origin, self._label(row), self._network(row), peers if row.association == HOME else None
            )
            for row in rows
        ]  # fmt: skip

    def _label(self, row: RowState) -> str:
        return row.label if row.label in self._daemon.control.decide.lanes else DEFAULT

    def _network(self, row: RowState) -> str | None:
        return self._daemon.peers.network_of(row.tunnel)

    def _flow(self, row: RowState) -> dict[str, Any]:
        return flow_row(row, self._network(row))


def text_of(arguments: Arguments) -> str:
    """Return the text of a request, if it is one that can be read in bounded time."""
    text = arguments.get("text")
    if not isinstance(text, str):
        raise ApiError("policy_test: text is the file's text", kind=ErrorKind.USAGE)
    if len(text) > MAX_TEXT:
        raise ApiError(f"the text is longer than {MAX_TEXT} characters", "Test its policies alone.", ErrorKind.USAGE)
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > MAX_LINE:
            raise ApiError(f"line {number} is longer than {MAX_LINE} characters", "Break it.", ErrorKind.USAGE)
    return text


def _names(row: RowState) -> tuple[str, ...]:
    return application_names(row.origin) if row.origin is not None else ()


def _origin(policy: Policy) -> str:
    return "default" if policy.label == DEFAULT else policy.came_from


def _covers(policy: Policy) -> str:
    return "everything else" if policy.label == DEFAULT else describe(policy.subject)


def problem_row(problem: Problem) -> dict[str, Any]:
    """Return the JSON of a mistake."""
    return {**msgspec.to_builtins(problem), "text": str(problem)}


def trial_row(reading: Reading, also: Iterable[Problem] = ()) -> dict[str, Any]:
    """Return the JSON of a text that was tested, no flows counted yet; `also` are further warnings."""
    return {
        "version": 1,
        "errors": [problem_row(one) for one in reading.errors],
        "warnings": [problem_row(one) for one in (*reading.warnings, *also)],
        "policies": len(reading.policies) - 1 if reading.policies else 0,
        "moves": [],
        "flows": 0,
    }


def move_row(moving: Moving, flow: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of a flow that would move."""
    return {"flow": flow, "policy": moving.policy, "from": moving.came_from, "to": moving.to, "why": moving.why}
