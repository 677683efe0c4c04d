"""A small anchor for SIP peers: registrar, pool and listener as they are, with MD5 allowed.

Nothing of tunnels: what is tested with it is how SIP behaves on a wire that somebody else wrote
the other end of. One user, `alice` with the secret `wonderland`; a terminal is bound at its first use.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator

from msgspec.structs import replace

from sojourn.errors import RemoteProtocolError
from sojourn.linux.sip_listener import SipListener
from sojourn.model import Endpoint
from sojourn.sip.digest import Algorithm
from sojourn.sip.digest_server import DigestServer, make_verifier
from sojourn.sip.message import Request, parse
from sojourn.sip.registrar import Accept, Refuse, Registrar, Subscriber
from sojourn.sip.server import Incoming, Send, SipServer
from sojourn.upmt.vipa import PoolExhausted, VipaPool

USER, SECRET, REALM = "alice", "wonderland", "sojourn"


class SipAnchor:
    """Answers REGISTER on UDP and TCP; lends one address to a user."""

    def __init__(self, pool: str = "1.2.3.0/24") -> None:
        algorithms = (Algorithm.MD5,)  # all that SIPp 3.6 can do
        self.registrar = Registrar(DigestServer(REALM, os.urandom(32), algorithms))
        self.pool = VipaPool(pool)
        self.sip = SipServer()
        self.listener = SipListener(self._arrived, lambda origin: None)
        one_time = make_verifier(USER, REALM, SECRET, algorithms)
        self.subscribers = {USER: Subscriber(USER, one_time)}
        self.lent: dict[str, str] = {}
        self.accepted: list[Accept] = []
        self.malformed = 0

    def _arrived(self, origin: int, source: Endpoint, transport: str, data: bytes) -> None:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        try:
            request = parse(data)
        except RemoteProtocolError:
            self.malformed += 1
            return
        if not isinstance(request, Request):
            return
        outcome = self.sip.received(request, origin, source, transport != "UDP", now)
        if isinstance(outcome, Incoming):
            outcome = self._registered(outcome, now)
        if outcome is not None:
            self.listener.send(origin, outcome.destination, outcome.data)

    def _registered(self, incoming: Incoming, now: float) -> Send:
        decision = self.registrar.handle_register(incoming.request, incoming.source, now, self.subscribers)
        if isinstance(decision, Refuse):
            return self.sip.answer(incoming, decision.response, remember=decision.remember)
        assert isinstance(incoming.origin, int)
        self.listener.trust(incoming.origin, incoming.source)
        self.accepted.append(decision)
        user = decision.user
        if decision.expires == 0:
            self.pool.give_back(self.lent.pop(user, ""))
            return self.sip.answer(incoming, decision.answer(None))
        try:
            vipa = self.lent.get(user) or self.pool.lease(decision.wanted)[0]
        except PoolExhausted as error:
            full = decision.refuse(503, str(error), retry_after=60)
            return self.sip.answer(incoming, full.response, remember=full.remember)
        self.lent[user] = vipa
        known = self.subscribers[user]
        self.subscribers[user] = replace(known, tid=decision.tid, binding=decision.binding)
        return self.sip.answer(incoming, decision.answer(vipa))


@contextlib.asynccontextmanager
async def serving(address: str, port: int) -> AsyncIterator[SipAnchor]:
    """Run a small anchor on UDP and TCP."""
    anchor = SipAnchor()
    anchor.listener.udp(address, port)
    anchor.listener.tcp(address, port)
    running = asyncio.ensure_future(anchor.listener.run())
    await asyncio.sleep(0)
    try:
        yield anchor
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
