"""The verbs of `sojourn socks`'s control socket: as a mobile host's, with sessions for flows and lines for tunnels."""

import asyncio
from typing import TYPE_CHECKING, Any, Final

from sojourn.api.log_stream import stream_log
from sojourn.api.messages import ApiError, ErrorKind
from sojourn.api.server import Arguments, Peer, Server
from sojourn.control.decide_lanes import Lane
from sojourn.control.steering import left_out
from sojourn.daemon.flow_rows import app_rows, flow_id
from sojourn.daemon.host_api import RELEASE
from sojourn.daemon.policy_api import move_row, text_of, trial_row
from sojourn.daemon.question_api import QuestionApi
from sojourn.errors import RemoteProtocolError, SojournError
from sojourn.linux.clock import local_time, now
from sojourn.policy.match import parse as parse_match
from sojourn.policy.rules import DEFAULT
from sojourn.policy.write import describe
from sojourn.socket.line import Line
from sojourn.socket.session import MobileSession
from sojourn.upmt.host_events import HandoverWanted

if TYPE_CHECKING:
    from sojourn.daemon.socks_entrance import Entrance

MAX_APPLICATION: Final = 128


def register(server: Server, entrance: "Entrance") -> None:
    """Let the server answer for this entrance."""
    api = SocksApi(entrance)
    for verb in ("status", "networks", "flows", "apps", "handover", "policy_list", "policy_test", "policy_reload"):
        server.register(verb, getattr(api, verb))
    mobile, policies = entrance.mobile, entrance.client.policies
    QuestionApi(
        policies.questions, lambda given: mobile.decided(mobile.steering.handle(given, now())), policies.forgotten
    ).register(server)
    server.register_stream("log", lambda arguments, _peer: stream_log(entrance.client.log, arguments))


class SocksApi:
    """One method a verb; each takes the arguments and who asks."""

    def __init__(self, entrance: "Entrance") -> None:
        self._entrance = entrance
        self._mobile = entrance.mobile
        self._testing = asyncio.Lock()

    async def status(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Say how the networks are, and what goes on."""
        entrance, networks = self._entrance, self._networks()
        sessions = [self._flow(session) for session in self._mobile.sessions.values()]
        carried = "tunnels" if entrance.direct.is_there else "msocks"
        up = carried == "tunnels" or any(network["state"] == "up" for network in networks)
        return {
            "version": 1,
            "state": "associated" if up else "offline",
            "anchor": entrance.client.anchor,
            "flows": len(sessions),
            "networks": networks,
            "carried_by": carried,
            "sessions": sessions,
            "moved": self._mobile.moved,
            "direct": entrance.direct.count,
            "strangers": entrance.strangers,
            "served": dict(entrance.served),
            "refused": dict(entrance.refused),
        }

    async def networks(self, _arguments: Arguments, _peer: Peer) -> list[dict[str, Any]]:
        """List the networks."""
        return self._networks()

    async def flows(self, _arguments: Arguments, _peer: Peer) -> list[dict[str, Any]]:
        """List the sessions."""
        return [self._flow(session) for session in self._mobile.sessions.values()]

    async def apps(self, arguments: Arguments, peer: Peer) -> list[dict[str, Any]]:
        """List applications with their sessions summed up."""
        return app_rows(await self.flows(arguments, peer))

    async def handover(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Carry out the user's order and say how many sessions move."""
        order = self._order(arguments)
        try:
            moved = self._mobile.order(order)
        except SojournError as error:
            raise ApiError(str(error), "`sojourn networks` and `sojourn log` say why.") from error
        return {"version": 1, "to": order.network or RELEASE, "moved": moved}

    async def policy_list(self, _arguments: Arguments, _peer: Peer) -> list[dict[str, Any]]:
        """List the rules in order."""
        decide, flows = self._mobile.steering.decide, [self._flow(one) for one in self._mobile.sessions.values()]
        return [self._policy(place, lane, flows) for place, lane in enumerate(decide.lanes.values(), 1)]

    async def policy_test(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Validate a text, say what of it is left out here, and which sessions would move if it held."""
        book, text = self._entrance.client.policies.book, text_of(arguments)
        async with self._testing:
            candidate = await asyncio.to_thread(book.examine, text, partial=True)
        reading, sessions = candidate.reading, self._mobile.by_flow
        answer = {**trial_row(reading, left_out(reading.policies, book.file)), "flows": len(sessions)}
        if not reading.errors:
            at = now()
            moves = self._mobile.steering.rehearsed(book.with_own(candidate), book.policies, at, local_time(at))
            answer["moves"] = [move_row(one, self._flow(sessions[one.flow])) for one in moves if one.flow in sessions]
        return answer

    async def policy_reload(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        """Read host.toml again now."""
        policies = self._entrance.client.policies
        ok = policies.reload()
        errors = [{"text": str(problem)} for problem in policies.book.errors]
        return {"version": 1, "ok": ok, "errors": errors, "policies": len(policies.book.policies) - 1}

    # -- what the answers are made of

    def _networks(self) -> list[dict[str, Any]]:
        return [self._network(line) for line in self._mobile.lines.values()]

    def _network(self, line: Line) -> dict[str, Any]:
        network, decide = line.network, self._mobile.steering.decide
        facts = self._entrance.client.networks.facts(network)
        rtt = round(line.rtt * 1000, 1) if line.up else None
        lost, _ = decide.measures.of(network.name).loss(now())
        mine = [one.session for one in self._mobile.sessions.values() if one.line is line]
        return {
            "name": network.name,
            "interface": network.interface,
            "kind": facts.kind,
            "metered": facts.metered,
            "address": network.address,
            "state": "up" if line.up else "down",
            "default": decide.active == network.name,
            "why": line.why,
            "reason": line.why or None,
            "rtt_ms": rtt,
            "silences": line.silences,
            "tunnel": {
                "id": None,
                "rtt_ms": rtt,
                "loss": lost,
                "mtu": None,
                "bytes_in": sum(one.into.head for one in mine),
                "bytes_out": sum(one.out.head for one in mine),
            },
        }

    def _flow(self, session: MobileSession) -> dict[str, Any]:
        steered = self._mobile.steering[session.flow]
        waits = session.relay.leg is None
        return {
            "id": flow_id(session.flow),
            "protocol": "tcp",
            "local": f"{session.flow.local.address}:{session.flow.local.port}",
            "remote": str(session.to),
            "application": self._mobile.steering.called(steered),
            "network": session.line.network.name,
            "bytes_in": session.session.into.head,
            "bytes_out": session.session.out.head,
            "age_s": round(now() - session.began, 1),
            "policy": steered.label or None,
            "state": "waiting" if waits else "carried",
            "moves": session.moves,
            "gap_ms": None if session.gap is None else round(session.gap * 1000, 1),
        }

    def _policy(self, place: int, lane: Lane, flows: list[dict[str, Any]]) -> dict[str, Any]:
        policy = lane.policy
        mine = sum((flow["policy"] or DEFAULT) == lane.label for flow in flows)
        covers = "everything else" if lane.label == DEFAULT else describe(policy.subject)
        state = "blocked" if lane.blocked else "waiting" if lane.place is None else "carried"
        return {
            "place": place, "name": lane.label, "from": policy.came_from, "line": policy.line, "covers": covers,
            "preset": policy.preset or None, "networks": list(policy.networks), "otherwise": str(policy.otherwise),
            "via": str(policy.via), "copies": policy.copies, "state": state, "network": lane.place,
            "reason": lane.why, "flows": mine, "flows_on": {},
        }  # fmt: skip

    def _order(self, arguments: Arguments) -> HandoverWanted:
        target = None if arguments.get("to") == RELEASE else str(arguments.get("to", ""))
        if target is not None and target not in self._mobile.lines:
            names = ", ".join(self._mobile.lines) or "none"
            raise ApiError(f"no network {target!r} is up", f"Up now: {names}.", ErrorKind.USAGE)
        if (name := arguments.get("app")) is not None:
            if not 0 < len(str(name)) <= MAX_APPLICATION or not str(name).isprintable():
                raise ApiError("that is no application's name", "`sojourn apps` lists them.", ErrorKind.USAGE)
            return HandoverWanted(target, application=str(name))
        if (text := arguments.get("match")) is not None:
            try:
                return HandoverWanted(target, match=parse_match(str(text)))
            except RemoteProtocolError as error:
                raise ApiError(str(error), "Write it like '-p tcp --dport 22'.", ErrorKind.USAGE) from error
        if (wanted := arguments.get("flow")) is not None:
            flows = tuple(flow for flow in self._mobile.by_flow if flow_id(flow) == str(wanted))
            if not flows:
                raise ApiError(f"no flow {wanted!r}", "`sojourn flows` lists them.", ErrorKind.USAGE)
            return HandoverWanted(target, flows)
        return HandoverWanted(target)
