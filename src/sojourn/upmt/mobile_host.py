"""The mobile host's execution entity (MM-EE): association, tunnels and handovers, as one machine.

Networks come and go (netlink), the data path reports on tunnels, the SIP channel opens and
closes, `Decide` orders handovers; out come orders for the data path, the transport and the
kernel, and facts about paths for `Decide`.

    no lease -> a channel on some network -> REGISTER -> Associated(lease)
    lease + network -> OpenTunnel in the network's slot -> TunnelTested -> PathTested
    plain tunnels: OpenTunnel, set up by signalling (plain_host.py) -> OpenTunnel, ready -> the same
    Handover(plan) -> MoveFlows here at once, HandoverRequest in the new tunnel (handover_sender.py)

Timers: the association's (association.py), the channel's (sip_channel.py), the pending
signal's (handover_sender.py), and `_reopen`: a tunnel that the system refused is tried again.
"""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from sojourn.errors import RemoteProtocolError
from sojourn.model import Network, TunnelId
from sojourn.packet import ip
from sojourn.sip.message import Request
from sojourn.upmt import association_events, events, policy_push
from sojourn.upmt.association import (
    Associated,
    AssociationCommand,
    ChannelClosed,
    ChannelOpened,
    CredentialIssued,
    Leave,
    Left,
    PassedOn,
    RefreshWanted,
    Refused,
    SendSip,
    SipReceived,
    Unreachable,
)
from sojourn.upmt.commands import (
    AddAssociation,
    CloseTunnel,
    InstallSecret,
    Resumed,
    SendInner,
    SetDefault,
)
from sojourn.upmt.events_network import NetworkChanged, NetworkDown, NetworkUp
from sojourn.upmt.host_events import (
    CloseChannel,
    Handover,
    LeaseGranted,
    Notice,
    PathBlocked,
    PathFailed,
    PathGone,
    PathRecovered,
    PathSilent,
    PathTested,
)
from sojourn.upmt.host_events import HostCommand as HostCommand
from sojourn.upmt.host_events import HostEvent as HostEvent
from sojourn.upmt.host_events import HostSettings as HostSettings
from sojourn.upmt.host_flows import HostFlows
from sojourn.upmt.host_tunnels import ME as ME
from sojourn.upmt.lease import Lease
from sojourn.upmt.plain_host import PlainCommand, TunnelReady, TunnelRefused
from sojourn.upmt.slots import HostNetwork as HostNetwork

HEAL_EVERY = 10.0
"""Seconds between two attempts to get a new secret when no tunnel works: the anchor may have lost the old one."""
REOPEN_AFTER = 1.0
"""Seconds after which a tunnel that the system refused to open or to send on is tried again."""


class MobileHost(HostFlows):
    """The machine. `rank` orders networks for the SIP channel (control decides how)."""

    # -- the machine's surface

    def handle(self, event: HostEvent, now: float) -> list[HostCommand]:
        """Take in one fact or order."""
        before = self._after_closing() if not isinstance(event, Handover) else []
        match event:
            case NetworkUp(network) | NetworkChanged(network):
                commands = self._network_up(network, now)
            case NetworkDown():
                commands = self._network_down(event, now)
            case Handover():
                commands = self._hand_over(event, now)
            case ChannelOpened(channel):
                commands = self._channel_opened(event, now) if self.channels.opened(channel) else []
            case ChannelClosed():
                commands = self._channel_closed(event, now)
            case SipReceived() | Leave() | RefreshWanted():
                commands = self._associate(event, now)
            case Resumed():
                self.channels.forget_failures()
                commands = [event, *self.channels.leave()]
                for held in self.networks.values():
                    commands += self._set_up(held, now, anew=True)
            case _:
                commands = self._from_data_path(event, now)
        return before + commands + self._keep_channel(now)

    def deadline(self) -> float | None:
        """Return the earliest of all timers (see the module's list)."""
        times = [self.association.deadline(), self.sender.deadline(), self.channels.retry_at(self._candidates())]
        times.append(self.plain.deadline())
        times += [held.reopen_at for held in self.networks.values()]
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> list[HostCommand]:
        """Do what is due."""
        commands: list[HostCommand] = []
        commands += self._from_association(self.association.tick(now), now)
        commands += self._from_sender(self.sender.tick(now))
        commands += self._from_plain(self.plain.tick(now), now)
        for held in self.networks.values():
            if held.reopen_at is not None and held.reopen_at <= now:
                held.reopen_at = None
                commands += self._open_tunnel(held, now)
        return commands + self._keep_channel(now)

    # -- networks and tunnels

    def _network_up(self, network: Network, now: float) -> list[HostCommand]:
        held = self.networks.get(network.name)
        self.channels.forget_failures(network.name)
        commands: list[HostCommand] = []
        if held is None:
            if self._slots.take(network.name, {other.slot for other in self.networks.values()}):
                commands = [self._remember()]
            held = self.networks[network.name] = HostNetwork(network, self._slots.by_name[network.name])
        elif held.network != network and self.channels.network == network.name:
            commands += self.channels.leave()
        held.network = network
        return commands + self._open_tunnel(held, now)

    def _network_down(self, fact: NetworkDown, now: float) -> list[HostCommand]:
        name = fact.name
        held = self.networks.pop(name, None)
        if held is None:
            return []
        commands: list[HostCommand] = [PathGone(name, fact.reason, fact.wanted)]
        if self.channels.network == name:
            commands += self.channels.leave()
        if held.tunnel is not None:
            self.plain.stop(held.tunnel)
            commands += self._from_sender(self.sender.tunnel_lost(held.tunnel, now))
            commands.append(CloseTunnel(held.tunnel))
            self._closed_tunnels.append(held.tunnel)
        return commands

    def _from_plain(self, commands: Sequence[PlainCommand], now: float) -> list[HostCommand]:
        out: list[HostCommand] = []
        for command in commands:
            if isinstance(command, SendInner):
                out.append(command)
            elif isinstance(command, TunnelReady):
                held = self.network_of(command.tunnel)
                if held is not None and held.order is not None:
                    out.append(replace(held.order, ready=True))
                    out += self._from_sender(self.sender.confirmed(command.handovers, command.answers, now))
                    out += self._from_sender(self.sender.tunnel_works(command.tunnel, now))
            else:
                out += self._blocked(command, now)
        return out

    def _blocked(self, refused: TunnelRefused, now: float) -> list[HostCommand]:
        return self._path(refused.tunnel, "blocked", lambda name: PathBlocked(name, refused.why), now)

    # -- what the data path says

    def _from_data_path(self, event: events.AnyEvent, now: float) -> list[HostCommand]:
        match event:
            case events.InnerReceived():
                return self._inner(event, now)
            case events.SecretNeeded():
                return self._associate(RefreshWanted(), now)
            case events.FlowSeen() | events.FlowMoved() | events.FlowEnded() | events.State():
                return self._flow_told(event, now)
            case events.TunnelTested(tunnel, _, rtt):
                self.sender.measured(tunnel, rtt)
                return self._path(tunnel, "works", lambda name: PathTested(name, rtt), now)
            case events.TunnelRecovered(tunnel):
                return self._path(tunnel, "works", PathRecovered, now)
            case events.TunnelSilent(tunnel, after):
                return self._path(tunnel, "silent", lambda name: PathSilent(name, after), now)
            case events.TunnelBlocked(tunnel, reason):
                return self._path(tunnel, "blocked", lambda name: PathBlocked(name, reason), now)
            case events.TunnelClosed(tunnel):
                return self._closed(tunnel, now)
            case events.TunnelFailed(tunnel, why):
                return self._path(tunnel, "failed", lambda name: PathFailed(name, why), now)
            case events.TunnelMeasured(tunnel, srtt):
                self.sender.measured(tunnel, srtt)
        return []

    def _path(
        self,
        tunnel: TunnelId,
        state: str,
        fact: Callable[[str], PathTested | PathRecovered | PathSilent | PathBlocked | PathFailed],
        now: float,
    ) -> list[HostCommand]:
        held = self.network_of(tunnel)
        if held is None:
            return []
        commands: list[HostCommand] = [fact(held.network.name)]
        held.state = state
        if state == "failed":
            held.reopen_at = now + REOPEN_AFTER
        if state == "works":
            self.plain.stop(tunnel)
            return commands + self._from_sender(self.sender.tunnel_works(tunnel, now))
        if self._others_work(held):
            commands += self.channels.leave() if self.channels.network == held.network.name else []
        elif now - self._healed >= HEAL_EVERY:
            self._healed = now
            commands += self._associate(RefreshWanted(), now)
        commands += self._from_sender(self.sender.tunnel_lost(tunnel, now))
        return commands + (self._set_up(held, now) if state != "failed" else [])

    def _closed(self, tunnel: TunnelId, now: float) -> list[HostCommand]:
        """Ask why: the anchor closes tunnels when an association has ended there (revoked, lent to another)."""
        held = self.network_of(tunnel)
        if held is None:
            return []
        held.state = "blocked"
        commands: list[HostCommand] = [PathBlocked(held.network.name, "the anchor has closed the tunnel")]
        commands += self._from_sender(self.sender.tunnel_lost(tunnel, now))
        return commands + (self._associate(RefreshWanted(), now) if not self.refused else [])

    def _others_work(self, held: HostNetwork) -> bool:
        return any(other.state == "works" for other in self.networks.values() if other is not held)

    def _inner(self, event: events.InnerReceived, now: float) -> list[HostCommand]:
        try:
            _, _, payload = ip.udp_parts(event.packet)
        except RemoteProtocolError:
            return []
        answered = self.plain.received(payload, now)
        return (
            self._from_sender(self.sender.received(payload, now))
            if answered is None
            else (self._from_plain(answered, now))
        )

    # -- association

    def _associate(
        self, event: ChannelOpened | ChannelClosed | SipReceived | Leave | RefreshWanted, now: float
    ) -> list[HostCommand]:
        return self._from_association(self.association.handle(event, now), now)

    def _channel_opened(self, event: ChannelOpened, now: float) -> list[HostCommand]:
        """Register on every new connection: the anchor takes signals only there, and ends those of strangers."""
        commands = self._associate(event, now)
        return commands + (self._associate(RefreshWanted(), now) if self.lease is not None else [])

    def _channel_closed(self, event: ChannelClosed, now: float) -> list[HostCommand]:
        """Tell the association. One that was left before is no news; one that never opened tells nobody else why."""
        was_open, ours = self.channels.open, self.channels.closed(event.channel, now)
        heeded = [order for order in self.association.handle(event, now) if ours or not isinstance(order, Unreachable)]
        commands = self._from_association(heeded, now)
        return commands + (self._unreachable(event.why) if ours and not was_open else [])

    def _from_association(self, commands: Sequence[AssociationCommand], now: float) -> list[HostCommand]:
        out: list[HostCommand] = []
        for command in commands:
            match command:
                case Associated(lease):
                    out += self._associated(lease, now)
                case Refused(status, why, remedy, permanent):
                    self.problem = f"{why}: {remedy}" if remedy else why
                    self.refused = permanent
                    out.append(Notice("refused", f"the anchor answered {status}, {self.problem}"))
                case Unreachable(why):
                    out += self._unreachable(why)
                case association_events.CloseChannel(channel, why):
                    out += [Notice("unreachable", why), CloseChannel(channel)]
                    out += (
                        self._associate(ChannelClosed(channel, why), now) if self.channels.closed(channel, now) else []
                    )
                case PassedOn(channel, Request() as asked):
                    if self.settings.stream == "TLS":  # where the anchor has proved who it is
                        for said in policy_push.received(channel, asked):
                            if isinstance(said, policy_push.PushReceived):
                                self.association.push = said.push.version
                            out.append(said)
                case PassedOn(_, message):
                    out += self._from_sender(self.sender.received(bytes(message), now))
                case SendSip() | CredentialIssued() | Left():
                    if isinstance(command, CredentialIssued):
                        self._proof.use_secret(command.secret)
                    out.append(command)
        return out

    def _unreachable(self, why: str) -> list[HostCommand]:
        """Note that the anchor did not answer. Said once, not at every attempt."""
        said, self.problem = self.problem, why
        leave = self.channels.leave() if self.channels.open else []
        return [*([Notice("unreachable", why)] if said != why else []), *leave]

    def _associated(self, lease: Lease, now: float) -> list[HostCommand]:
        before, self.lease = self.lease, lease
        self.problem, self.refused = None, False
        same = before is not None and (before.vipa, before.vipa6, before.mtu, before.resolver, before.tunnels) == (
            lease.vipa, lease.vipa6, lease.mtu, lease.resolver, lease.tunnels)  # fmt: skip
        commands: list[HostCommand] = [LeaseGranted(lease, not same), self._remember()]
        commands.append(AddAssociation(ME, lease.vipa, lease.vipa6, lease.tunnels))
        if lease.secret is not None:
            commands.append(InstallSecret(ME, lease.secret))
        self.sender.lease(lease, self.association.settings.user)
        self.sender.go_on_from(lease.move)
        self.plain.lease(lease, self.association.settings.user)
        self.channels.resolved([endpoint.address for endpoint in lease.endpoints])
        if self._registered != self.channels.channel:
            self._registered = self.channels.channel
            commands += self._from_sender(self.sender.registered(now))
        if same and before is not None and before.endpoints == lease.endpoints:
            return commands
        commands.append(SetDefault(ME, None))
        if before is not None:
            commands += [PathGone(name, "the anchor lent other addresses") for name in self.networks]
        for held in sorted(self.networks.values(), key=lambda held: held.slot):
            commands += self._open_tunnel(held, now)
        return commands

    # -- the SIP channel

    def _candidates(self) -> list[Network]:
        """Return the networks for the channel, those with a working tunnel first."""
        if self.refused:
            return []
        order = self._rank([held.network for held in self.networks.values()])
        return sorted(order, key=lambda network: self.networks[network.name].state not in ("works", "down", "testing"))

    def _keep_channel(self, now: float) -> list[HostCommand]:
        return list(self.channels.choose(self._candidates(), now))
