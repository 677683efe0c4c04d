"""Nodes that share their triggers through a store in memory, which may be silent.

host -- node -- store -- node -- host
"""

from collections.abc import Callable

from sojourn.i3.node import RendezvousNode
from sojourn.i3.node_shared import SharedNode
from sojourn.i3.orders import (
    Event,
    LookUpTrigger,
    Order,
    PutTrigger,
    StoreBack,
    StoreSilent,
    TriggerDone,
    TriggersChanged,
    TriggersFound,
)
from sojourn.i3.shares import Rates
from sojourn.model import Endpoint
from sojourn.store.triggers import TriggerBook
from tests.i3.world import World, seeded

ONE, TWO, THREE = (Endpoint(f"203.0.113.{last}", 1801) for last in (1, 2, 3))


class SharedWorld(World):
    """As World, with SharedNodes and their store."""

    def __init__(self, *nodes: Endpoint, rates: Rates | None = None, max_triggers: int = 1000) -> None:
        self.book = TriggerBook(b"s" * 32)
        self.down = False
        """The store is silent."""
        self.asked: list[Order] = []
        self.shared: dict[Endpoint, SharedNode] = {}
        super().__init__(*nodes, rates=rates, max_triggers=max_triggers)
        self.beat()

    def make(self, place: Endpoint, rates: Rates | None, max_triggers: int) -> RendezvousNode:
        node = self.shared[place] = SharedNode(seeded(str(place))(32), {place}, rates, max_triggers)
        return node

    def beat(self) -> None:
        """Tell all nodes what they have in common."""
        for node in self.shared.values():
            node.told(self.book.facts(self.now), self.now)

    def after(self, place: Endpoint) -> None:
        node = self.shared[place]
        while node.orders:
            order = node.orders.pop(0)
            self.asked.append(order)
            event = StoreSilent(order) if self.down else self.answer(order, self.changed(node))
            for data, to in node.told(event, self.now):
                self.put(data, place, Endpoint(*to))

    def answer(self, order: Order, changed: Callable[[bytes], None]) -> Event:
        if isinstance(order, LookUpTrigger):
            return TriggersFound(order.place, self.book.look_up(order.place, self.now, changed))
        kept = (
            self.book.put(order, self.now, changed)
            if isinstance(order, PutTrigger)
            else self.book.take(order, self.now, changed)
        )
        return TriggerDone(order, kept.status, kept.records)

    def changed(self, node: SharedNode) -> Callable[[bytes], None]:
        def tell(place: bytes) -> None:
            assert node.told(TriggersChanged(place), self.now) == []

        return tell

    def store_goes(self) -> None:
        self.down = True
        for node in self.shared.values():
            node.told(TriggersChanged(None), self.now)

    def store_comes_back(self, *, empty: bool = False) -> None:
        self.down = False
        if empty:
            self.book = TriggerBook(b"s" * 32)
        for place, node in self.shared.items():
            node.told(StoreBack(), self.now)
            self.after(place)
