"""Names of destinations for policies that go by name: DNS answers of the anchor's resolver, read as they arrive.

Best effort. Seen are answers over UDP from the resolver that the anchor lent (`dns = "anchor"`), while some policy has
a name in it; the first packet of a flow may be placed a moment before its name is known, and the flow then moves.
"""

import asyncio
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from sojourn.control.host_control import HostControl
from sojourn.daemon.driver import now
from sojourn.errors import RemoteProtocolError
from sojourn.linux import dns_tap
from sojourn.policy.dns_names import DnsNames, read_answer
from sojourn.policy.rules import Policy

RETRY = 0.1
"""Seconds after which the device is looked for again, while it is not there."""
LOOK_EVERY = 1.0
"""Seconds after which policies that want names are noticed."""
TOGETHER = 0.02
"""Seconds for which news are gathered: A and AAAA come one after the other."""
SHARE = 10
"""Telling takes at most one part in so many of the time, however many names an application asks for."""
EXPIRE_EVERY = 60.0


class HostNames:
    """Owns what is known; calls `on_news` when a policy covers another address by that."""

    def __init__(self, device: str, control: HostControl, on_news: Callable[[], None]) -> None:
        self.known = DnsNames()
        self._device = device
        self._control = control
        self._on_news = on_news
        self._soon: asyncio.TimerHandle | None = None
        self._quiet_until = 0.0
        self._expire_at = 0.0

    async def run(self, policies: Callable[[], Sequence[Policy]]) -> None:
        """Read answers for as long as any policy wants names."""
        try:
            while True:
                wanted = any(policy.subject.names for policy in policies())
                if wanted:
                    await self._read(policies)
                await asyncio.sleep(RETRY if wanted else LOOK_EVERY)
        finally:
            if self._soon is not None:
                self._soon.cancel()

    async def _read(self, policies: Callable[[], Sequence[Policy]]) -> None:
        try:
            async for server, message in dns_tap.answers(self._device):
                lease = self._control.host.lease
                if lease is not None and server == lease.resolver:
                    self._answered(message, policies())
        except OSError:
            return  # the device is not there yet, or not any more

    def _answered(self, message: bytes, policies: Sequence[Policy]) -> None:
        try:
            answer = read_answer(message)
        except RemoteProtocolError:
            return
        if answer is None:
            return
        at = now()
        if at >= self._expire_at:
            self._expire_at = at + EXPIRE_EVERY
            self.known.expire(at, self._control.decide.flows.remotes())
        wanted = any(
            fnmatchcase(name, glob) for policy in policies for glob in policy.subject.names for name in answer.names
        )
        if self.known.learn(answer, at) and wanted and self._soon is None:
            wait = max(TOGETHER, self._quiet_until - at)
            self._soon = asyncio.get_running_loop().call_later(wait, self._tell)

    def _tell(self) -> None:
        self._soon = None
        began = now()
        self._on_news()
        self._quiet_until = now() + SHARE * (now() - began)
