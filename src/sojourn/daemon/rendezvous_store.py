"""Carries a node's orders to the store that it shares its triggers through, and the answers back.

`WORKERS` orders are under way at once; what the store changes, what it forgets and when it comes back are told to the
node, and each server's state to the log, once.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from sojourn.daemon.driver import Tasks, now
from sojourn.i3.forwarding import Send
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
from sojourn.store.triggers import StoreUnavailable
from sojourn.store.valkey_triggers import ValkeyTriggers

WORKERS = 128
FACTS_EVERY = 1.0

_log = structlog.get_logger()


class SharedTriggers:
    """One node's way to the store."""

    def __init__(
        self, node: SharedNode, urls: Sequence[str], prefix: str, send: Callable[[list[Send]], None], tasks: Tasks
    ) -> None:
        """`send`: sends what an answer has set free. ConfigError if a URL is none."""
        self.node = node
        self._send, self._tasks = send, tasks
        addresses = sorted({one.address for one in node.table.via})
        self.store = ValkeyTriggers(urls, self._changed, self._told, addresses, prefix)
        self._orders: asyncio.Queue[Order] = asyncio.Queue()

    async def start(self) -> None:
        """Connect, and learn what all nodes have in common, if the store is there."""
        await self.store.start()
        await self._facts()
        for number in range(WORKERS):
            self._tasks.start(self._work(), f"store {number}")
        self._tasks.start(self._ask_facts(), "store facts")

    async def close(self) -> None:
        """Let go of the store."""
        await self.store.close()

    def carry_out(self) -> None:
        """Take over what the node has ordered."""
        orders, self.node.orders = self.node.orders, []
        for order in orders:
            self._orders.put_nowait(order)

    def _tell(self, event: Event) -> None:
        self._send(self.node.told(event, now()))
        self.carry_out()

    async def _work(self) -> None:
        while True:
            order = await self._orders.get()
            try:
                event = await self._answer(order)
            except StoreUnavailable:
                event = StoreSilent(order)
            self._tell(event)

    async def _answer(self, order: Order) -> Event:
        if isinstance(order, LookUpTrigger):
            return TriggersFound(order.place, await self.store.look_up(order.place))
        kept = await (self.store.put(order) if isinstance(order, PutTrigger) else self.store.take(order))
        return TriggerDone(order, kept.status, kept.records)

    async def _ask_facts(self) -> None:
        while True:
            await asyncio.sleep(FACTS_EVERY)
            await self._facts()

    async def _facts(self) -> None:
        try:
            self._tell(await self.store.facts())
        except StoreUnavailable:
            return  # `_told` has said so

    def _changed(self, place: bytes | None) -> None:
        self._tell(TriggersChanged(place))

    def _told(self, server: str, why: str | None) -> None:
        if why is None:
            _log.info("store server is there", server=server)
            self._tell(StoreBack())
        else:
            _log.warning("store server does not answer: what is cached is served, new triggers are refused (later)",
                         server=server, why=why)  # fmt: skip
