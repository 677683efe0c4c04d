"""The mobile host's control as one machine: `MobileHost` executes, `Decide` decides, both together.

Facts about paths that execution reports go to the decision at once; the handovers it answers
with are carried out in the same turn. What is left are orders for adapters, and `Entry`s for
the roaming log.
"""

from collections.abc import Sequence

from msgspec import Struct

from sojourn.control.decide import Decide
from sojourn.control.policies import PoliciesChanged
from sojourn.control.portal_gate import PortalGate, Told
from sojourn.control.portals import PathCaptive, PathReleased, PortalProbed, Portals, ProbePortal, ProbeWanted
from sojourn.control.questions import AnswerGiven
from sojourn.model import Network
from sojourn.upmt.association_events import CredentialIssued, Left, SendSip
from sojourn.upmt.commands import AnyCommand
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
    HostFact,
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

_FACTS = (PathOpened, PathTested, PathRecovered, PathSilent, PathBlocked, PathFailed, PathGone, FlowGone)
_OF_PORTALS = (NetworkDescribed, PortalProbed, ProbeWanted)
_OF_BOTH = (NetworkUp, NetworkChanged, NetworkDown)
ControlEvent = (
    HostEvent | HandoverWanted | NetworkUnderstood | NetworkDescribed | PortalProbed | ProbeWanted
    | PoliciesChanged | AnswerGiven
)  # fmt: skip


class Entry(Struct, frozen=True, tag=True):
    """One line of the roaming log."""

    event: str
    network: str | None
    reason: str
    details: dict[str, object] = {}


ControlCommand = (
    AnyCommand | OpenChannel | CloseChannel | SendSip | CredentialIssued | LeaseGranted | Remember | Left | Entry
    | ProbePortal
)  # fmt: skip


class HostControl:
    """A machine (machine.py)."""

    def __init__(self, host: MobileHost, decide: Decide, portals: Portals | None = None) -> None:
        self.host = host
        self.decide = decide
        self.portals = portals or Portals(enabled=False)
        self._gate = PortalGate(self.portals)

    def handle(self, event: ControlEvent, now: float) -> list[ControlCommand]:
        """Take in one event."""
        if isinstance(event, HandoverWanted | AnswerGiven):
            return self._hand_over(self.decide.handle(event, now), now)
        if isinstance(event, PoliciesChanged):
            return self._hand_over(self.decide.replace_policies(event.policies, now), now)
        if isinstance(event, NetworkUnderstood):
            return self._understood(event, now)
        if isinstance(event, _OF_PORTALS):
            return self._portals(event, now)
        out = self._settle(self.host.handle(event, now), now)
        return out + self._portals(event, now) if isinstance(event, _OF_BOTH) else out

    def deadline(self) -> float | None:
        """Return the earliest of all deadlines."""
        times = (self.host.deadline(), self.decide.deadline(), self.portals.deadline())
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> list[ControlCommand]:
        """Do what is due in any."""
        commands = self._settle(self.host.tick(now), now)
        commands += self._told(self.portals.tick(now), now)
        return commands + self._hand_over(self.decide.tick(now), now)

    def _settle(self, commands: Sequence[HostCommand], now: float) -> list[ControlCommand]:
        """Pass facts to the decision and carry out what it decides, until nothing more follows."""
        out: list[ControlCommand] = []
        for command in commands:
            if isinstance(command, _FACTS):
                out += _entry_of(command)
                out += self._told(self._gate.pass_on(command, now), now)
            elif isinstance(command, HandoverDone):
                details: dict[str, object] = {"seconds": round(command.seconds, 4), **command.counts}
                out.append(Entry("confirmed", command.network, f"move {command.number}", details))
            elif isinstance(command, Notice):
                out.append(Entry(command.kind, command.network, command.text))
            else:
                out.append(command)
        return out

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
                out += _entry_of(one) if isinstance(one, PathCaptive) else []
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
        out: list[ControlCommand] = []
        for handover in handovers:
            target = handover.plan[0].network if handover.plan else None
            out.append(Entry("handover", target, handover.reason, {"from": handover.came_from}))
            out += self._settle(self.host.handle(handover, now), now)
        return out


def _entry_of(fact: HostFact | PathCaptive) -> list[Entry]:
    match fact:
        case PathCaptive(name, portal):
            return [
                Entry("captive", name, f"its portal is closed: run `sojourn networks open {name}`", {"portal": portal})
            ]
        case PathOpened(network):
            return [Entry("network", network.name, f"{network.interface} has {network.address}")]
        case PathTested(name, rtt):
            return [Entry("works", name, "the anchor answers", {"rtt_ms": round(rtt * 1000, 2)})]
        case PathRecovered(name):
            return [Entry("recovered", name, "answers again")]
        case PathSilent(name, after):
            return [Entry("silent", name, f"no answer for {after * 1000:.0f} ms")]
        case PathBlocked(name, why) | PathFailed(name, why):
            return [Entry("blocked" if isinstance(fact, PathBlocked) else "failed", name, why)]
        case PathGone(name, why):
            return [Entry("gone", name, why)]
    return []
