"""A mobile host's flows: handovers carried out and told to the anchor, and what the data path says of each flow.

An anchor learns by itself where a flow goes (sealed tunnels), but not that its packets are copied, and nothing in
plain tunnels: of such a flow it is told as soon as the flow is seen.
"""

from sojourn.model import Flow, TunnelId
from sojourn.upmt import events
from sojourn.upmt.commands import Exactly, Move, MoveFlows
from sojourn.upmt.handover_rows import rows_for_anchor
from sojourn.upmt.host_events import FlowGone, Handover, HostCommand
from sojourn.upmt.host_tunnels import ME, NO_RULES, HostTunnels


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

    def _flows_found(self, state: events.State, now: float) -> list[HostCommand]:
        """Take over the flows of a data path: one that is older than we are, or whose events were too many.

        What was ordered meanwhile is not in it yet, so a flow that an order has placed later stays as it is. The
        anchor is told of copied flows that are news to us: what a predecessor told it nobody knows.
        """
        before, lists = dict(self.flows.flows), dict[tuple[TunnelId, tuple[TunnelId, ...]], list[Flow]]()
        self.flows.forget()
        for told in (rules for rules in state.rules if rules.association == ME):
            self._told_rules = told if self._told_rules is NO_RULES else self._told_rules
        for row in state.rows:
            known = before.get(row.flow)
            if known is not None and known.move > row.move:
                self.flows.put(row.flow, known)
                continue
            self.flows.restore(row, now)
            is_news = known is None or (known.tunnel, known.copies) != (row.tunnel, row.copies)
            if is_news and row.copies and row.tunnel is not None:
                lists.setdefault((row.tunnel, row.copies), []).append(row.flow)
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
                return self._flows_found(event, now)

    def _after_closing(self) -> list[HostCommand]:
        """Take tunnels out of the table that were closed. Later than that: the handover that follows leaves them."""
        if not self._closed_tunnels:
            return []
        for tunnel in self._closed_tunnels:
            self.flows.leave(tunnel)
        self._closed_tunnels.clear()
        return self._tell_rules()
