"""Policies, lanes and measurements that the tests of the decision share."""

from sojourn.control.decide import Decide, Preferences
from sojourn.control.measures import PathMeasured
from sojourn.model import TCP, UDP, Endpoint, Flow, Origin, TunnelId
from sojourn.policy.match import parse
from sojourn.policy.rules import DEFAULT, Otherwise, Policy, Require, Rule, Subject
from sojourn.upmt.commands import Labelled
from sojourn.upmt.events import TunnelMeasured
from sojourn.upmt.host_events import Handover, PlanRow, RuleRow
from tests.control.networks import PHONE, WIFI, works

CALL = Policy(
    "call",
    Subject(match=(parse("-p udp --dport 5004"),)),
    ("wifi", "ethernet", "cellular"),
    Require(loss=0.02, rtt=0.15),
)
BACKUP = Policy("backup", Subject(match=(parse("-p tcp --dport 873"),)), ("wifi", "ethernet"), otherwise=Otherwise.HOLD)
REST = Policy(DEFAULT, networks=("wifi", "ethernet", "cellular", "*"))


class Meter:
    """Counts packets of one network as both ends would, and reports on them."""

    def __init__(self, network: str, rtt: float = 0.02) -> None:
        self.network = network
        self.rtt = rtt
        self.counts = [0, 0, 0, 0]
        self.bytes = 0

    def report(self, packets: int, lost: int = 0, lost_in: int = 0, size: int = 200) -> PathMeasured:
        """Let packets pass both ways, some of them lost, and tell."""
        for place, count in enumerate((packets, packets - lost, packets, packets - lost_in)):
            self.counts[place] += count
        self.bytes += packets * size
        sent, arrived, they_sent, came = self.counts
        measured = TunnelMeasured(
            TunnelId(1), self.rtt, 0.001, 0.001, None, None, 1400, self.bytes, self.bytes, came, sent,
            counts=(sent, arrived, they_sent, came),
        )  # fmt: skip
        return PathMeasured(self.network, measured)


def decide_with(*policies: Policy) -> Decide:
    return Decide(Preferences(("wifi", "ethernet", "cellular")), policies)


def pass_by(
    decide: Decide, meter: Meter, now: float, seconds: float, loss: float = 0.0
) -> tuple[float, list[Handover]]:
    """Let 50 packets/s pass, and a share of them be lost evenly on the way out; return the time, and what followed."""
    out: list[Handover] = []
    owed = 0.0
    for _ in range(round(seconds / 0.2)):
        now += 0.2
        owed += 10 * loss
        lost, owed = int(owed), owed - int(owed)
        out += decide.handle(meter.report(10, lost), now)
        due = decide.deadline()
        if due is not None and due <= now:
            out += decide.tick(now)
    return now, out


def labelled(label: str, network: str | None, copies: tuple[str, ...] = (), *, block: bool = False) -> PlanRow:
    return PlanRow(Labelled(label), network, copies, block)


def places(decide: Decide) -> dict[str, str | None]:
    return {label: lane.place for label, lane in decide.lanes.items()}


VOICE = Flow(UDP, Endpoint("10.201.0.2", 40010), Endpoint("192.0.2.1", 5004))
SYNC = Flow(TCP, Endpoint("10.201.0.2", 40011), Endpoint("192.0.2.1", 873))
ZOOM = Origin(7, "/opt/zoom/zoom", "", "zoom")


def rules(**where: str | None) -> tuple[RuleRow, ...]:
    """Return all rules with their places; the default's last."""
    by_label = {"call": CALL.subject, "backup": BACKUP.subject, "rest": Subject()}
    return tuple(RuleRow(Rule(label.replace("rest", ""), by_label[label]), place) for label, place in where.items())


def both(*policies: Policy) -> tuple[Decide, Meter, Meter]:
    """Return a decision whose two networks work since long, with a call and a backup on the Wi-Fi."""
    decide = decide_with(*(policies or (CALL, BACKUP, REST)))
    works(decide, WIFI, PHONE)
    for flow, label in ((VOICE, "call"), (SYNC, "backup")):
        decide.flows.seen(flow, "home", label)
    wifi = Meter("home")
    assert pass_by(decide, wifi, 70.0, 2.0)[1] == []
    return decide, wifi, Meter("phone", 0.05)
