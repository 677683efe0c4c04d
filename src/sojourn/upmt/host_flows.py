"""A mobile host's flows: handovers carried out and told to the anchor, and what the data path says of each flow.

An anchor learns by itself where a flow goes (sealed tunnels), but not that its packets are copied, and nothing in
plain tunnels: of such a flow it is told as soon as the flow is seen.
"""

from sojourn.model import Flow, TunnelId
from sojourn.upmt import events
from sojourn.upmt.commands import Exactly, Move, MoveFlows
from sojourn.upmt.handover_rows import rows_for_anchor
from sojourn.upmt.host_events import FlowGone, Handover, HostCommand
from sojourn.upmt.host_tunnels import ME, HostTunnels


class HostFlows(HostTunnels):
    """What is done with flows."""

    def _hand_over(self, order: Handover, now: float) -> list[HostCommand]:
        """Change our rows now, and tell the anchor in the tunnel that the flows go to."""
        if order.rules is not None:
            self.rules = order.rules
        if self.lease is None:
            return []
        rules = self._tell_rules()
        if not order.plan:
            return rules
        moves = tuple(
            Move(row.select, *self._place(None if row.block else row.network, row.copies), row.block)
            for row in order.plan
        )
        number, commands = self._next_number()
        # The signal first: our own rows, when there are ten thousand, take their time, and it need not wait for them.
        commands += self._from_sender(self.sender.order(number, rows_for_anchor(moves, self.flows), now))
        moved = MoveFlows(ME, number, moves)
        self.flows.apply(moved, now)
        return [*commands, *rules, moved]

    def _next_number(self) -> tuple[int, list[HostCommand]]:
        number, remember = self.sender.next_number()
        return number, [self._remember()] if remember else []

    def _tell_place(self, flow: Flow, label: str, now: float) -> list[HostCommand]:
        """Tell the anchor of a flow's first place, where it does not learn that by itself (copies; plain tunnels)."""
        place = self.flows.flows.get(flow)
        if place is None or place.tunnel is None or self.lease is None:
            return []
        if not place.copies and (self.settings.sealed or not label):
            return []
        number, commands = self._next_number()
        move = Move(Exactly((flow,)), place.tunnel, place.copies)
        return commands + self._from_sender(self.sender.order(number, [move], now))

    def _flows_found(self, state: events.State, now: float) -> None:
        """Take over the flows of a data path that is older than we are."""
        self.flows.flows.clear()
        for told in state.rules:
            self._told_rules = told
        for row in state.rows:
            self.flows.restore(row, now)

    def _tell_places(self, now: float) -> list[HostCommand]:
        """Tell the anchor of all copied flows: what a predecessor told it nobody knows."""
        lists: dict[tuple[TunnelId, tuple[TunnelId, ...]], list[Flow]] = {}
        for flow, place in self.flows.flows.items():
            if place.copies and place.tunnel is not None:
                lists.setdefault((place.tunnel, place.copies), []).append(flow)
        if not lists or self.lease is None:
            return []
        number, commands = self._next_number()
        moves = [Move(Exactly(tuple(flows)), *where) for where, flows in lists.items()]
        return commands + self._from_sender(self.sender.order(number, moves, now))

    def _flow_told(
        self, event: events.FlowSeen | events.FlowMoved | events.FlowEnded | events.State, now: float
    ) -> list[HostCommand]:
        match event:
            case events.FlowSeen():
                self.flows.saw(event, now)
                return self._tell_place(event.flow, event.label, now)
            case events.FlowMoved():
                self.flows.followed(event)
                return self._tell_place(event.flow, "", now)
            case events.FlowEnded(_, flow):
                self.flows.ended(flow)
                return [FlowGone(flow)]
            case events.State():
                self._flows_found(event, now)
                return self._tell_places(now)

    def _after_closing(self) -> list[HostCommand]:
        """Take tunnels out of the table that were closed. Later than that: the handover that follows leaves them."""
        if not self._closed_tunnels:
            return []
        for tunnel in self._closed_tunnels:
            self.flows.leave(tunnel)
        self._closed_tunnels.clear()
        return self._tell_rules()
