"""Triggers in Redis or Valkey: one server, or the masters of a cluster. See trigger_scripts.py for what stands there.

    a server   connected -> lost (no answer, closed) -> tried again after 0.1 s, doubling to `LONGEST_WAIT`
    the slots  read at the start, when a server says MOVED, when one is lost, and every `SLOTS_EVERY` seconds

What depends on a server that is lost fails at once with StoreUnavailable; the rest goes on (in a cluster that is told
`cluster-require-full-coverage no`). An answer that makes no sense (valkey_answers.py) is counted in `refused`, and is
none: StoreUnavailable.
"""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from msgspec import Struct
from valkey.crc import key_slot
from valkey.exceptions import ResponseError

from sojourn.errors import RemoteProtocolError
from sojourn.i3.orders import PutTrigger, Record, StoreFacts, TakeTrigger
from sojourn.i3.packet import ENDPOINT_BYTES
from sojourn.i3.table import TRIGGER_LIFE
from sojourn.store import trigger_scripts as scripts
from sojourn.store import valkey_answers as answers
from sojourn.store.triggers import Kept, StoreUnavailable
from sojourn.store.valkey_link import Answer, Link, options_of

# Ours.
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0
SLOTS_EVERY: Final = 10.0
LOOK_EVERY: Final = 0.1


class Server(Struct):
    """One master, as we know it."""

    options: dict[str, Any]
    link: Link | None = None
    wait: float = FIRST_WAIT
    again: float = 0.0
    """When it is tried again, by the loop's clock."""
    why: str = "not tried yet"

    @property
    def name(self) -> str:
        """Host and port."""
        return f"{self.options['host']}:{self.options['port']}"


class ValkeyTriggers:
    """A TriggerStore. `changed`: a place has, None: all may have. `told`: a server was lost (why) or is back (None)."""

    def __init__(
        self,
        urls: Sequence[str],
        changed: Callable[[bytes | None], None],
        told: Callable[[str, str | None], None],
        addresses: Sequence[str] = (),
        prefix: str = "i3",
    ) -> None:
        """`addresses`: our own, which the other nodes are told of. ConfigError if a URL is none."""
        self._seeds = [options_of(url) for url in urls]
        self._changed, self._told = changed, told
        self._addresses = addresses
        self._prefix = prefix.encode()
        self._secret = secrets.token_bytes(answers.SECRET_BYTES)
        self._servers: dict[str, Server] = {}
        self._slots: list[str | None] = [None] * answers.SLOTS
        self._slots_due = 0.0
        self._keeper: asyncio.Task[None] | None = None
        self.refused: Counter[str] = Counter()
        """Answers that made no sense, and parts of answers."""

    async def start(self) -> None:
        """Connect once and begin to keep connected. A store that is silent is no error."""
        for options in self._seeds:
            server = Server(options)
            self._servers.setdefault(server.name, server)
        await self._look()
        await self._look()  # those that the first ones have told of
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    @property
    def servers(self) -> dict[str, str | None]:
        """Each server, and why it is of no use now (None: it is)."""
        return {name: None if server.link is not None else server.why for name, server in self._servers.items()}

    async def look_up(self, place: bytes) -> tuple[Record, ...]:
        """Return what stands in a place."""
        answer = await self._run(scripts.LOOK_UP, self._place_key(place))
        with self._sense():
            return answers.records(place, answer, self._count)

    async def put(self, order: PutTrigger) -> Kept:
        """Keep or refresh a trigger: first it is counted, then it is put in its place."""
        record = order.record
        member, life = scripts.member_of(record.identifier, record.target), int(TRIGGER_LIFE * 1000)
        whose = b"%b:o:{%b}" % (self._prefix, order.neighbourhood.encode())
        answer = await self._run(scripts.RESERVE, whose, member, order.room, life)
        with self._sense():
            may = answers.reserved(answer)
        answer = await self._run(
            scripts.PUT,
            self._place_key(order.place),
            scripts.field_of(record.identifier, record.target),
            scripts.grave_of(record.identifier, record.target, record.owner),
            scripts.number_of(record.number),
            int(record.life * 1000),
            scripts.tail_of(record),
            may,
            order.most,
        )
        with self._sense():
            return answers.kept(order.place, answer, self._count)

    async def take(self, order: TakeTrigger) -> Kept:
        """Take a trigger out."""
        grave = scripts.grave_of(order.identifier, order.target, order.owner)
        answer = await self._run(
            scripts.TAKE,
            self._place_key(order.place),
            scripts.field_of(order.identifier, order.target),
            grave,
            scripts.number_of(order.number),
            grave[-ENDPOINT_BYTES:],
        )
        with self._sense():
            return answers.kept(order.place, answer, self._count)

    async def facts(self) -> StoreFacts:
        """Return what all nodes have in common; the first one's secret is everybody's."""
        names = (b"{%b}:secret" % self._prefix, b"{%b}:nodes" % self._prefix)
        answer = await self._run(scripts.FACTS, names, self._secret, *self._addresses)
        try:
            links = [server.link for server in self._servers.values() if server.link is not None]
            sizes = [await link.call("DBSIZE") for link in links]
        except ResponseError as error:  # its user may not
            raise StoreUnavailable(str(error)) from error
        with self._sense():
            facts = answers.facts(answer, sizes)
        self._secret = facts.secret
        return facts

    async def close(self) -> None:
        """Let go of all servers."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        for server in self._servers.values():
            if server.link is not None:
                await server.link.close()

    # -- one command

    def _count(self, reason: str) -> None:
        self.refused[reason] += 1

    @contextlib.contextmanager
    def _sense(self) -> Iterator[None]:
        """Count an answer that makes no sense, and let the store be silent for whoever has asked."""
        try:
            yield
        except RemoteProtocolError as error:
            self._count(error.reason)
            raise StoreUnavailable(str(error)) from error

    def _place_key(self, place: bytes) -> bytes:
        return b"%b%b%b}" % (self._prefix, scripts.PLACE_AT, place.hex().encode())

    async def _run(self, script: str, keys: bytes | tuple[bytes, ...], *arguments: object) -> Answer:
        named = keys if isinstance(keys, tuple) else (keys,)
        for turn in range(2):
            link = self._link_for(named[0])
            try:
                with self._sense():
                    return await link.script(script, named, *arguments)
            except ResponseError as error:
                word = str(error).partition(" ")[0]
                if word != "MOVED" or turn:
                    raise StoreUnavailable(str(error)) from error
                await self._read_slots()
        raise StoreUnavailable("a slot that keeps moving")

    def _link_for(self, key: bytes) -> Link:
        name = self._slots[key_slot(key)]
        server = self._servers.get(name) if name is not None else None
        if server is None:
            raise StoreUnavailable("no server has this slot")
        if server.link is None or server.link.lost is not None:
            raise StoreUnavailable(f"{server.name}: {server.why if server.link is None else server.link.lost}")
        return server.link

    # -- staying connected

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await self._look()

    async def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for server in list(self._servers.values()):
            if server.link is not None and server.link.lost is not None:
                await server.link.close()
                server.why, server.link = server.link.lost, None
                server.wait, server.again = FIRST_WAIT, now + FIRST_WAIT
                self._slots_due = now
                self._changed(None)
                self._told(server.name, server.why)
        waiting = [one for one in self._servers.values() if one.link is None and one.again <= now]
        await asyncio.gather(*(self._connect(server) for server in waiting))
        if now >= self._slots_due and any(server.link is not None for server in self._servers.values()):
            await self._read_slots()

    async def _connect(self, server: Server) -> None:
        link = Link(server.options, self._keys_changed)
        try:
            await link.open()
            await self._ready(link)
        except StoreUnavailable as error:
            first = server.why == "not tried yet"
            server.why = str(error)
            server.again = asyncio.get_running_loop().time() + server.wait * (0.75 + secrets.randbelow(500) / 1000)
            server.wait = min(server.wait * 2, LONGEST_WAIT)
            if first:
                self._told(server.name, server.why)
            return
        server.link, server.wait = link, FIRST_WAIT
        self._slots_due = 0.0
        self._told(server.name, None)

    async def _ready(self, link: Link) -> None:
        """Refuse a server that has just come back and does not know yet what is its own."""
        try:
            state = await link.call("CLUSTER INFO")
        except ResponseError:  # no cluster
            return
        try:
            with self._sense():
                if not answers.ready(state):
                    raise StoreUnavailable("it is there, but its cluster is not ready")
        except StoreUnavailable:
            await link.close()
            raise

    async def _read_slots(self) -> None:
        """Learn which master has which slot, from the first that says so. One that is no cluster has all."""
        self._slots_due = asyncio.get_running_loop().time() + SLOTS_EVERY
        for server in list(self._servers.values()):
            if server.link is None:
                continue
            try:
                answer = await server.link.call("CLUSTER SLOTS")
                with self._sense():
                    told = answers.slots(answer)
            except ResponseError:
                self._slots = [server.name] * answers.SLOTS
                return
            except StoreUnavailable:
                continue
            slots: list[str | None] = [None] * answers.SLOTS
            for first, last, host, port in told:
                known = Server({**self._seeds[0], "host": host or server.options["host"], "port": port})
                name = self._servers.setdefault(known.name, known).name
                slots[first : last + 1] = [name] * (last + 1 - first)
            if any(slots):
                self._slots = slots
                self._forget_others({name for name in slots if name is not None})
                return

    def _forget_others(self, masters: set[str]) -> None:
        """Give up servers that neither have slots nor were configured."""
        seeds = {Server(options).name for options in self._seeds}
        for name in [name for name, one in self._servers.items() if one.link is None and name not in masters | seeds]:
            del self._servers[name]

    def _keys_changed(self, message: object) -> None:
        try:
            places = answers.changed(message)
        except RemoteProtocolError as error:
            self._count(error.reason)
            places = None
        if places is None:
            self._changed(None)
        for place in places or []:
            self._changed(place)
