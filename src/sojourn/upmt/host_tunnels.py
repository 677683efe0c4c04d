"""What a mobile host has: its lease, its networks and their tunnels, and how signals leave it.

A tunnel is opened in its network's slot. A sealed one can be used at once; a plain one is opened only for
signals at first (`ready` False), and the anchor is asked to take its packets (plain_host.py).
"""

from collections.abc import Callable, Sequence
from typing import Final

from sojourn.model import AssociationId, Endpoint, Network, TunnelId
from sojourn.upmt.association import AssociationClient, SendSip
from sojourn.upmt.commands import OpenTunnel, Placed, SendInner, SetRules
from sojourn.upmt.flow_table import FlowTable
from sojourn.upmt.handover_sender import HandoverSender, SenderCommand
from sojourn.upmt.host_events import (
    HandoverDone,
    HostCommand,
    HostSettings,
    HostState,
    PathBlocked,
    PathOpened,
    Remember,
    RuleRow,
)
from sojourn.upmt.lease import Lease
from sojourn.upmt.plain_host import PlainHost
from sojourn.upmt.signal_proof import SignalProof
from sojourn.upmt.sip_channel import ChannelKeeper
from sojourn.upmt.slots import HostNetwork, Slots

ME = AssociationId(1)
"""A mobile host knows one association, its own."""
NO_RULES: Final = SetRules(ME, ())
"""What a data path that was told nothing goes by."""


class HostTunnels:
    """The state of a mobile host, and what is done with a single tunnel."""

    def __init__(
        self,
        settings: HostSettings,
        association: AssociationClient,
        state: HostState,
        random: Callable[[int], bytes],
        rank: Callable[[Sequence[Network]], list[Network]],
    ) -> None:
        self.settings = settings
        self.association = association
        self.lease: Lease | None = None
        self.networks: dict[str, HostNetwork] = {}
        self.channels = ChannelKeeper(settings.anchor)
        own = association.settings
        self._proof = SignalProof(own.user, own.secret, random)
        proof = None if settings.sealed else self._proof
        self.sender = HandoverSender(random, state.move, proof, settings.stream)
        self.plain = PlainHost(self._proof, random, self.sender.waiting_for)
        self.flows = FlowTable()
        """The flows that the data path has, for handovers by rule."""
        self.rules: tuple[RuleRow, ...] = ()
        """Where new flows go, by network."""
        self._told_rules = NO_RULES
        self._closed_tunnels: list[TunnelId] = []
        self.problem: str | None = None
        """Why there is no association, in one line with the remedy."""
        self.refused = False
        """The anchor said no for good; only a new token or a restart helps."""
        self._slots = Slots(state.slots)
        self._rank = rank
        self._healed = float("-inf")
        self._registered: int | None = None
        """The channel that the association was last accepted on."""

    def network_of(self, tunnel: TunnelId | None) -> HostNetwork | None:
        """Return the network that a tunnel runs over now."""
        return next((held for held in self.networks.values() if held.tunnel == tunnel), None) if tunnel else None

    def _open_tunnel(self, held: HostNetwork, now: float) -> list[HostCommand]:
        if self.lease is None:
            return []
        network = held.network
        remote = next((at for at in self.lease.endpoints if (":" in at.address) == (":" in network.address)), None)
        held.tunnel = self.lease.tunnels[held.slot] if held.slot < len(self.lease.tunnels) else None
        if remote is None or held.tunnel is None:
            held.state = "blocked"
            family = "IPv6" if ":" in network.address else "IPv4"
            why = f"the anchor has no {family} address" if remote is None else "the anchor lent no tunnel for it"
            return [PathOpened(network), PathBlocked(network.name, why)]
        held.state = "testing"
        held.order = OpenTunnel(
            ME,
            held.tunnel,
            network.interface,
            Endpoint(network.address, self.settings.ports.get(network.name, 0)),
            remote,
            self.settings.sealed,
            self.settings.keep_alive or self.lease.keep_alive,
            ready=self.settings.sealed,
        )
        if self.settings.sealed:
            signals = self._from_sender(self.sender.tunnel_works(held.tunnel, now))
        else:
            signals = self._set_up(held, now, anew=True)
        return [held.order, *self._tell_rules(), *signals, PathOpened(network)]

    def _tell_rules(self) -> list[HostCommand]:
        """Tell the data path where new flows go, if that is news: by tunnel, and tunnels come and go."""
        placed = tuple(
            Placed(row.rule, *self._place(row.network, row.copies), row.block) for row in self.rules
        )  # fmt: skip
        told = SetRules(ME, placed)
        if told == self._told_rules:
            return []
        self._told_rules = told
        self.flows.set_rules(tuple(each.rule for each in placed))
        return [told]

    def _place(self, network: str | None, copies: Sequence[str]) -> tuple[TunnelId | None, tuple[TunnelId, ...]]:
        """Return the tunnels of networks, as far as they have any; the first one, and those for copies."""
        names = dict.fromkeys([network, *copies] if network is not None else [])
        held = [self.networks[name].tunnel for name in names if name in self.networks]
        tunnels = [tunnel for tunnel in held if tunnel is not None]
        return (tunnels[0], tuple(tunnels[1:])) if tunnels else (None, ())

    def _set_up(self, held: HostNetwork, now: float, *, anew: bool = False) -> list[HostCommand]:
        """Have the anchor take the packets of a plain tunnel from where it is now; handovers wait for that."""
        if self.settings.sealed or held.tunnel is None:
            return []
        asked = self.plain.start(held.tunnel, self.sender.rtt(held.tunnel), now, anew=anew)
        return [*asked, *self._from_sender(self.sender.hold(held.tunnel, now))]

    def _from_sender(self, commands: Sequence[SenderCommand]) -> list[HostCommand]:
        out: list[HostCommand] = []
        for command in commands:
            if isinstance(command, HandoverDone):
                held = self.network_of(TunnelId(int(command.network))) if command.network else None
                name = held.network.name if held is not None else None
                out.append(HandoverDone(command.number, name, command.seconds, command.counts))
            elif isinstance(command, SendInner):
                out.append(command)
            elif self.channels.channel is not None and self.channels.channel == self._registered:
                out.append(SendSip(self.channels.channel, command.data))
        return out

    def _remember(self) -> Remember:
        vipa = self.lease.vipa if self.lease is not None else None
        return Remember(HostState(self.sender.reserved, vipa, dict(self._slots.by_name)))
