"""The mobile host's control as one machine: `MobileHost` executes, `Decide` decides, both together.

Facts about paths that execution reports go to the decision at once; the handovers it answers
with are carried out in the same turn. What is left are orders for adapters, and `Entry`s for
the roaming log.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from sojourn.control.decide import Decide
from sojourn.control.decide_board import MEASURE_FOR
from sojourn.control.entries import Effects, entry_of, of_confirmation, of_handover
from sojourn.control.entries import Entry as Entry
from sojourn.control.measures import PathMeasured
from sojourn.control.peer_rules import PeerRules
from sojourn.control.peers import PeerFact, PeerPaths
from sojourn.control.policies import PoliciesChanged
from sojourn.control.portal_gate import PortalGate, Told
from sojourn.control.portals import PathCaptive, PathReleased, PortalProbed, Portals, ProbePortal, ProbeWanted
from sojourn.control.questions import AnswerGiven
from sojourn.model import Network
from sojourn.upmt.association_events import CredentialIssued, Left, SendSip
from sojourn.upmt.commands import AnyCommand, Measure, MoveFlows
from sojourn.upmt.events import FlowEnded, FlowMoved, FlowSeen, FlowsMoved, GapMeasured, State, TunnelMeasured
from sojourn.upmt.events_network import (
    NetworkChanged,
    NetworkDescribed,
    NetworkDown,
    NetworkUnderstood,
    NetworkUp,
)
from sojourn.upmt.host_events import (
    CloseChannel,
    FlowGone,
    Handover,
    HandoverDone,
    HandoverWanted,
    LeaseGranted,
    Notice,
    OpenChannel,
    PathBlocked,
    PathFailed,
    PathGone,
    PathOpened,
    PathRecovered,
    PathSilent,
    PathTested,
    Remember,
)
from sojourn.upmt.mobile_host import HostCommand, HostEvent, MobileHost
from sojourn.upmt.peer_commands import HOME
from sojourn.upmt.peer_events import RendezvousMoved, RendezvousStayed
from sojourn.upmt.policy_push import PushReceived

_FACTS = (PathOpened, PathTested, PathRecovered, PathSilent, PathBlocked, PathFailed, PathGone, FlowGone)
_OF_PORTALS = (NetworkDescribed, PortalProbed, ProbeWanted)
_OF_FLOWS = (FlowSeen, FlowMoved, FlowEnded, FlowsMoved)
_OF_BOTH = (NetworkUp, NetworkChanged, NetworkDown)
ControlEvent = (
    HostEvent | HandoverWanted | NetworkUnderstood | NetworkDescribed | PortalProbed | ProbeWanted
    | PoliciesChanged | AnswerGiven
)  # fmt: skip


ControlCommand = (
    AnyCommand | OpenChannel | CloseChannel | SendSip | CredentialIssued | LeaseGranted | Remember | Left | Entry
    | ProbePortal | PushReceived
)  # fmt: skip


class HostControl:
    """A machine (machine.py)."""

    def __init__(
        self, host: MobileHost, decide: Decide, portals: Portals | None = None, peers: PeerPaths | None = None
    ) -> None:
        self.host = host
        self.peers = peers
        self.decide = decide
        self.portals = portals or Portals(enabled=False)
        self.cause: dict[str, str] = {}
        """What was known of each network when the last handover was decided, in a few words each."""
        self._peer_rules = PeerRules()
        self._gate = PortalGate(self.portals)
        self._effects = Effects()
        self._degraded: set[str] = set()

    def handle(self, event: ControlEvent, now: float) -> list[ControlCommand]:
        """Take in one event."""
        if isinstance(event, State):
            event = replace(event, rows=tuple(row for row in event.rows if row.association != HOME))
        elif isinstance(event, _OF_FLOWS) and event.association == HOME:
            return []  # flows with peers go where peers do
        if self.peers is None:
            return self._handle(event, now)
        first = self.peers.handle(event) if isinstance(event, PeerFact) else []
        if isinstance(event, RendezvousMoved):
            self.peers.moved(event)
        if isinstance(event, RendezvousStayed):
            self.peers.stayed(event)
        out = [*first, *self._handle(event, now), *self.peers.follow(self.decide.active)]
        return out if isinstance(event, _OF_FLOWS) else out + self._rule_peers(now)

    def _rule_peers(self, now: float) -> list[ControlCommand]:
        """Tell what policies say of flows with peers, where that has changed."""
        return [*self._peer_rules.news(self.decide, self.peers.used, now)] if self.peers is not None else []

    def _handle(self, event: ControlEvent, now: float) -> list[ControlCommand]:
        if isinstance(event, HandoverWanted | AnswerGiven):
            return self._hand_over(self.decide.handle(event, now), now)
        if isinstance(event, PoliciesChanged):
            change = self.decide.refine_policies if event.names_only else self.decide.replace_policies
            return self._hand_over(change(event.policies, now), now)
        if isinstance(event, NetworkUnderstood):
            return self._understood(event, now)
        if isinstance(event, _OF_PORTALS):
            return self._portals(event, now)
        out = self._settle(self.host.handle(event, now), now)
        if isinstance(event, _OF_BOTH):
            return out + self._portals(event, now)
        return out + self._from_data_path(event, now)

    def deadline(self) -> float | None:
        """Return the earliest of all deadlines."""
        times = (self.host.deadline(), self.decide.deadline(), self.portals.deadline())
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> list[ControlCommand]:
        """Do what is due in any."""
        commands = self._settle(self.host.tick(now), now)
        commands += self._told(self.portals.tick(now), now)
        commands += self._hand_over(self.decide.tick(now), now)
        if self.peers is not None:
            commands += self.peers.follow(self.decide.active)
        return commands + self._rule_peers(now)

    def _settle(self, commands: Sequence[HostCommand], now: float) -> list[ControlCommand]:
        """Pass facts to the decision and carry out what it decides, until nothing more follows."""
        out: list[ControlCommand] = []
        for command in commands:
            if isinstance(command, _FACTS):
                out += entry_of(command)
                out += self._told(self._gate.pass_on(command, now), now)
            elif isinstance(command, HandoverDone):
                out.append(of_confirmation(command))
            elif isinstance(command, Notice):
                out.append(Entry(command.kind, command.network, command.text))
            else:
                out.append(command)
        return out

    def _from_data_path(self, event: ControlEvent, now: float) -> list[ControlCommand]:
        """Take note of flows, measurements and effects."""
        match event:
            case TunnelMeasured(tunnel):
                held = self.host.network_of(tunnel)
                return self._measured(PathMeasured(held.network.name, event), now) if held is not None else []
            case FlowSeen(_, flow, tunnel):
                held = self.host.network_of(tunnel)
                name = held.network.name if held is not None else None
                self.decide.flows.seen(flow, name, event.label, event.origin)
                if self.decide.would_ask(event.label):
                    return self._hand_over(self.decide.tick(now), now)
            case FlowMoved(_, flow, tunnel):
                held = self.host.network_of(tunnel)
                self.decide.flows.moved_exactly([flow], held.network.name if held is not None else None)
            case FlowsMoved():
                self._effects.moved(event)
            case GapMeasured():
                return [*self._effects.gap(event)]
            case State():
                self._restore_flows(event)
        return []

    def _measured(self, report: PathMeasured, now: float) -> list[ControlCommand]:
        """Decide on a measurement, and tell when a network is degraded, or well again."""
        out = self._hand_over(self.decide.handle(report, now), now)
        name = report.network
        degraded = self.decide.measures.of(name).degraded
        if degraded is (name in self._degraded):
            return out
        (self._degraded.add if degraded else self._degraded.discard)(name)
        return [Entry("degraded" if degraded else "well", name, self.decide.facts(now).get(name, "")), *out]

    def _restore_flows(self, state: State) -> None:
        """Take over what stands in the data path's table: control may be younger than its flows."""
        flows = self.decide.flows
        flows.clear()
        for row in state.rows:
            held = self.host.network_of(row.tunnel)
            flows.seen(row.flow, held.network.name if held is not None else None, row.label, row.origin)

    def _portals(
        self,
        event: NetworkUp | NetworkChanged | NetworkDown | NetworkDescribed | PortalProbed | ProbeWanted,
        now: float,
    ) -> list[ControlCommand]:
        return self._told(self.portals.handle(event, now), now)

    def _told(self, told: Sequence[Told], now: float) -> list[ControlCommand]:
        """Carry out what portals have to do with: the decision learns of it, the daemon asks, a tunnel is tested."""
        out: list[ControlCommand] = []
        for one in told:
            if isinstance(one, ProbePortal):
                out.append(one)
            elif isinstance(one, PathReleased):
                out += self._released(one.network, now)
            else:
                out += entry_of(one) if isinstance(one, PathCaptive) else []
                out += self._hand_over(self.decide.handle(one, now), now)
        return out

    def _released(self, network: Network, now: float) -> list[ControlCommand]:
        """Use a network whose portal was opened: at once if its tunnel answers already, else test that at once."""
        entry, held = Entry("open", network.name, "its portal was opened"), self.host.networks.get(network.name)
        if held is not None and held.state == "works":
            return [entry, *self._hand_over(self.decide.handle(PathRecovered(network.name), now), now)]
        return [entry, *self._settle(self.host.handle(NetworkChanged(network, entry.reason), now), now)]

    def _understood(self, event: NetworkUnderstood, now: float) -> list[ControlCommand]:
        """Take in what else is known of a network: no tunnel is touched, but the decision may be another."""
        network = event.network
        held, path = self.host.networks.get(network.name), self.decide.paths.get(network.name)
        if held is not None:
            held.network = network
        if path is not None:
            path.network = network
        return self._hand_over(self.decide.tick(now), now)

    def _hand_over(self, handovers: Sequence[Handover], now: float) -> list[ControlCommand]:
        """Carry out what was decided; have networks measured that flows wait for."""
        out: list[ControlCommand] = []
        if handovers:
            self.cause = self.decide.facts(now)
        for handover in handovers:
            entry = of_handover(handover)
            out.append(entry)
            commands = self._settle(self.host.handle(handover, now), now)
            for command in commands:
                if isinstance(command, MoveFlows):
                    self._effects.ordered(command.number, entry.network)
            out += commands
        for name in self.decide.to_measure(now):
            held = self.host.networks.get(name)
            if held is not None and held.tunnel is not None:
                out.append(Measure(held.tunnel, MEASURE_FOR))
        return out
