"""What goes in and out of the mobile host's control machines, beside the data path's own vocabulary.

`MobileHost` (MM-EE) turns data-path events into facts about paths, by network name; `Decide`
(MMOCE, control/decide.py) turns facts into `Handover` plans; `MobileHost` carries those out.
"""

from msgspec import Struct

from sojourn.model import Endpoint, Flow, Network
from sojourn.policy.match import Match
from sojourn.policy.rules import Rule
from sojourn.upmt import events
from sojourn.upmt.association_events import (
    ChannelClosed,
    ChannelOpened,
    CredentialIssued,
    Leave,
    Left,
    RefreshWanted,
    SendSip,
    SipReceived,
)
from sojourn.upmt.commands import AnyCommand, Resumed, Select
from sojourn.upmt.events_network import NetworkChanged, NetworkDown, NetworkUp
from sojourn.upmt.lease import Lease
from sojourn.upmt.policy_push import PushReceived


class PathOpened(Struct, frozen=True, tag=True):
    """A network got a tunnel, or its address changed: the path is being tested."""

    network: Network


class PathTested(Struct, frozen=True, tag=True):
    """The anchor answered over this network."""

    network: str
    rtt: float
    by: str = "the anchor"
    """Or who else leads on, where there is no anchor."""


class PathRecovered(Struct, frozen=True, tag=True):
    """A silent path answers again."""

    network: str


class PathSilent(Struct, frozen=True, tag=True):
    """A path that worked has stopped to answer."""

    network: str
    after: float


class PathBlocked(Struct, frozen=True, tag=True):
    """A path never answered: its NAT or firewall lets no tunnel through, or the anchor is not there."""

    network: str
    why: str


class PathFailed(Struct, frozen=True, tag=True):
    """The system refuses to send on this path."""

    network: str
    why: str


class PathGone(Struct, frozen=True, tag=True):
    """The network is not there any more."""

    network: str
    why: str
    wanted: bool = False
    """The user took it away: it has not failed."""


class FlowGone(Struct, frozen=True, tag=True):
    """A flow has ended."""

    flow: Flow


HostFact = (
    PathOpened | PathTested | PathRecovered | PathSilent | PathBlocked | PathFailed | PathGone | FlowGone
)  # fmt: skip


class PlanRow(Struct, frozen=True):
    """Some flows and the network for them; None = they wait."""

    select: Select
    network: str | None
    copies: tuple[str, ...] = ()
    """Further networks that get a copy of each packet."""
    block: bool = False


class RuleRow(Struct, frozen=True):
    """A rule, and the network for new flows that it covers; None = they wait."""

    rule: Rule
    network: str | None
    copies: tuple[str, ...] = ()
    block: bool = False


class Handover(Struct, frozen=True, tag=True):
    """An order to the execution entity: these rows, carried out as a whole."""

    plan: tuple[PlanRow, ...]
    reason: str
    came_from: str | None = None
    rules: tuple[RuleRow, ...] | None = None
    """All rules with their places, where these changed: for flows to come. An order without any plan is possible."""


class HandoverWanted(Struct, frozen=True, tag=True):
    """The user's order (`sojourn handover`). Neither `flows` nor `match` nor `application` = everything."""

    network: str | None
    """None: what was ordered before is released, and goes back to where the policies want it."""
    flows: tuple[Flow, ...] | None = None
    match: Match | None = None
    reason: str = "by the user"
    application: str | None = None
    """Its flows, those to come included."""


class HandoverDone(Struct, frozen=True, tag=True):
    """The anchor has confirmed a handover; `seconds` since it was ordered."""

    number: int
    network: str | None
    seconds: float
    counts: dict[str, int]


class OpenChannel(Struct, frozen=True, tag=True):
    """Open a SIP connection to the anchor from this address and interface."""

    channel: int
    network: str
    interface: str
    address: str
    anchor: Endpoint


class CloseChannel(Struct, frozen=True, tag=True):
    """Give a SIP connection up, open or half open."""

    channel: int


class LeaseGranted(Struct, frozen=True, tag=True):
    """The anchor lent us an address: the device and the capture rules can be set up."""

    lease: Lease
    changed: bool
    """The address, the MTU or the resolver is not what it was (or this is the first lease)."""


class Remember(Struct, frozen=True, tag=True):
    """What must survive a restart of control."""

    state: "HostState"


class HostState(Struct, frozen=True):
    """The mobile host's memory over restarts (state.json)."""

    move: int = 0
    """A move number that is higher than every one used so far."""
    vipa: str | None = None
    slots: dict[str, int] = {}
    """Slot of each network's name: slots keep their epoch when reused (DESIGN §3.2)."""


class Notice(Struct, frozen=True, tag=True):
    """Something for the roaming log that is not a handover."""

    kind: str
    text: str
    network: str | None = None


class HostSettings(Struct, frozen=True):
    """What the configuration says about execution."""

    anchor: Endpoint
    """Where the anchor's SIP is."""
    sealed: bool = True
    keep_alive: float | None = None
    """Seconds; None = what the anchor suggests."""
    ports: dict[str, int] = {}
    """The local UDP port of a network's tunnel, by name; any port where none is given."""
    stream: str | None = "TLS"
    """What the SIP channel is: TLS, TCP, or None for datagrams."""


HostEvent = (
    NetworkUp | NetworkChanged | NetworkDown | ChannelOpened | ChannelClosed | SipReceived | Handover | Leave
    | Resumed | RefreshWanted | events.AnyEvent
)  # fmt: skip
HostCommand = (
    AnyCommand | OpenChannel | CloseChannel | SendSip | CredentialIssued | LeaseGranted | Remember | Notice
    | HandoverDone | PathOpened | PathTested | PathRecovered | PathSilent | PathBlocked | PathFailed | PathGone
    | FlowGone | Left | PushReceived
)  # fmt: skip
