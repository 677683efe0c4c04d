"""Networks, flows and plans that the tests of the decision share."""

from sojourn.control.decide import Decide
from sojourn.model import TCP, Endpoint, Flow, Network
from sojourn.policy.match import parse
from sojourn.upmt.commands import Everything, Exactly
from sojourn.upmt.host_events import Handover, PathOpened, PathSilent, PathTested, PlanRow

WIRE = Network("wire", "eth0", "10.0.1.2", "10.0.1.1", "ethernet")
WIFI = Network("home", "wlan0", "10.0.2.2", "10.0.2.1", "wifi")
PHONE = Network("phone", "wwan0", "10.0.3.2", "10.0.3.1", "cellular", metered=True)
OTHER_WIFI = Network("cafe", "wlan1", "10.0.4.2", "10.0.4.1", "wifi")

SSH = Flow(TCP, Endpoint("10.201.0.2", 40000), Endpoint("192.0.2.1", 22))
WEB = Flow(TCP, Endpoint("10.201.0.2", 40001), Endpoint("192.0.2.1", 80))
HTTP = parse("-p tcp --dport 80")


def everything(network: str, reason: str, came_from: str | None) -> Handover:
    return Handover((PlanRow(Everything(), network),), reason, came_from)


def flows(network: str, *which: Flow) -> PlanRow:
    return PlanRow(Exactly(which), network)


def works(decide: Decide, *networks: Network, at: float = 0.0) -> None:
    """Bring networks up, and let them settle."""
    for network in networks:
        decide.handle(PathOpened(network), at)
        decide.handle(PathTested(network.name, 0.02), at)
    decide.tick(at + 60.0)


def silent(name: str) -> PathSilent:
    return PathSilent(name, 0.25)
