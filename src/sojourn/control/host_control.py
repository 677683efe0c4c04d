"""The mobile host's control as one machine: `MobileHost` executes, `Decide` decides, both together.

Facts about paths that execution reports go to the decision at once; the handovers it answers
with are carried out in the same turn. What is left are orders for adapters, and `Entry`s for
the roaming log.
"""

from collections.abc import Sequence

from msgspec import Struct

from sojourn.control.decide import Decide
from sojourn.upmt.association_events import CredentialIssued, Left, SendSip
from sojourn.upmt.commands import AnyCommand
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
ControlEvent = HostEvent | HandoverWanted


class Entry(Struct, frozen=True, tag=True):
    """One line of the roaming log."""

    event: str
    network: str | None
    reason: str
    details: dict[str, object] = {}


ControlCommand = (
    AnyCommand | OpenChannel | CloseChannel | SendSip | CredentialIssued | LeaseGranted | Remember | Left | Entry
)  # fmt: skip


class HostControl:
    """A machine (machine.py)."""

    def __init__(self, host: MobileHost, decide: Decide) -> None:
        self.host = host
        self.decide = decide

    def handle(self, event: ControlEvent, now: float) -> list[ControlCommand]:
        """Take in one event."""
        if isinstance(event, HandoverWanted):
            return self._hand_over(self.decide.handle(event, now), now)
        return self._settle(self.host.handle(event, now), now)

    def deadline(self) -> float | None:
        """Return the earlier of the two deadlines."""
        times = [time for time in (self.host.deadline(), self.decide.deadline()) if time is not None]
        return min(times, default=None)

    def tick(self, now: float) -> list[ControlCommand]:
        """Do what is due in either."""
        commands = self._settle(self.host.tick(now), now)
        return commands + self._hand_over(self.decide.tick(now), now)

    def _settle(self, commands: Sequence[HostCommand], now: float) -> list[ControlCommand]:
        """Pass facts to the decision and carry out what it decides, until nothing more follows."""
        out: list[ControlCommand] = []
        for command in commands:
            if isinstance(command, _FACTS):
                out += _entry_of(command)
                out += self._hand_over(self.decide.handle(command, now), now)
            elif isinstance(command, HandoverDone):
                details: dict[str, object] = {"seconds": round(command.seconds, 4), **command.counts}
                out.append(Entry("confirmed", command.network, f"move {command.number}", details))
            elif isinstance(command, Notice):
                out.append(Entry(command.kind, command.network, command.text))
            else:
                out.append(command)
        return out

    def _hand_over(self, handovers: Sequence[Handover], now: float) -> list[ControlCommand]:
        out: list[ControlCommand] = []
        for handover in handovers:
            target = handover.plan[0].network if handover.plan else None
            out.append(Entry("handover", target, handover.reason, {"from": handover.came_from}))
            out += self._settle(self.host.handle(handover, now), now)
        return out


def _entry_of(fact: HostFact) -> list[Entry]:
    match fact:
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
