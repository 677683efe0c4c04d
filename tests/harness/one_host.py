"""A mobile host's machine, and an anchor's machine that answers what it sends on its SIP channel."""

from collections.abc import Sequence

from sojourn.model import TCP, Endpoint, Flow, Network, TunnelId
from sojourn.sip.server import Send
from sojourn.upmt import events
from sojourn.upmt.anchor import SipArrived
from sojourn.upmt.association import (
    AssociationClient,
    AssociationSettings,
    ChannelOpened,
    SendSip,
    SipReceived,
)
from sojourn.upmt.commands import (
    Everything,
)
from sojourn.upmt.events_network import NetworkUp
from sojourn.upmt.host_events import (
    Handover,
    HostState,
    OpenChannel,
    PlanRow,
)
from sojourn.upmt.mobile_host import HostCommand, HostSettings, MobileHost
from tests.harness.registering import SECRET, TUNNELS_AT, Counting, anchor

ANCHOR = Endpoint("203.0.113.1", 5061)
WIFI = Network("wifi", "wlan0", "10.0.2.2", "10.0.2.1", "wifi")
PHONE = Network("phone", "wwan0", "10.0.3.2", "10.0.3.1", "cellular")
SIX = Network("six", "eth0", "2001:db8::2", "fe80::1", "ethernet")
FLOW = Flow(TCP, Endpoint("10.201.0.2", 40000), Endpoint("192.0.2.1", 80))


class Host:
    """The machine, and an anchor's machine that answers what it sends on its channel."""

    def __init__(self, *, secret: str = SECRET, state: HostState | None = None, plan: Sequence[Endpoint] = ()) -> None:
        self.anchor = anchor(endpoints=tuple(plan) or (TUNNELS_AT,))
        settings = AssociationSettings("laptop", ANCHOR.address, "tid-1", secret)
        client = AssociationClient(settings, Counting(10**6))
        self.machine = MobileHost(
            HostSettings(ANCHOR, ports={"wifi": 4500}), client, state or HostState(), Counting(10**7), list
        )

    def tell(self, event: object, now: float = 0.0) -> list[HostCommand]:
        """Hand in an event."""
        return self.machine.handle(event, now)  # type: ignore[arg-type]

    def answered(self, commands: list[HostCommand], now: float = 0.0) -> list[HostCommand]:
        """Let the anchor answer what was sent on the channel, until nothing is sent any more."""
        for command in list(commands):
            if isinstance(command, SendSip):
                source = Endpoint("198.51.100.1", 40000 + command.channel)
                for reply in self.anchor.handle(SipArrived(command.channel, source, "TLS", command.data), now):
                    if isinstance(reply, Send):
                        got = self.tell(SipReceived(command.channel, reply.data), now)
                        commands = self.answered(got, now)
        return commands

    def associate(self, *networks: Network) -> list[HostCommand]:
        """Bring networks up, the channel on the first one, and return what the answer brings."""
        for network in networks:
            self.tell(NetworkUp(network))
        return self.answered(self.tell(opened(1)))

    def tunnel(self, slot: int) -> TunnelId:
        """Return the tunnel of a slot."""
        assert self.machine.lease is not None
        return self.machine.lease.tunnels[slot]


def opening(channel: int, network: Network) -> OpenChannel:
    return OpenChannel(channel, network.name, network.interface, network.address, ANCHOR)


def opened(channel: int) -> ChannelOpened:
    return ChannelOpened(channel, Endpoint("10.0.2.2", 50000 + channel), True)


def everything(network: str) -> Handover:
    return Handover((PlanRow(Everything(), network),), "a reason")


def kinds(commands: Sequence[HostCommand]) -> list[str]:
    return [type(command).__name__ for command in commands]


def let_work(host: Host, *slots: int) -> None:
    for slot in slots:
        host.tell(events.TunnelTested(host.tunnel(slot), None, 0.02))
