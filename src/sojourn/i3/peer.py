"""One peer as a ROAM proxy knows it: its keys, where it is sent to, where it sends to, and what was not sent yet.

no session   a packet for it, or its Hello -> greeting (a new Hello after 0.5 s, doubling to 5 s)
session      renewed after 120 s by whoever began it, ended after 180 s; the one before opens late packets
owed         it does not use the private identifier that we have for it: told with the next packet, or alone
"""

from collections import deque
from typing import Final

from sojourn.i3.client import Wanted
from sojourn.i3.direct import Agent
from sojourn.i3.flow_triggers import FlowTriggers
from sojourn.i3.handshake import Greeting, Session
from sojourn.i3.home import HomeKeys
from sojourn.i3.identifier import Identifier, public
from sojourn.packet.path_mtu import MIN_INNER_MTU

# The protocol's (DESIGN §5; the rest as WireGuard has it).
RENEW_AFTER: Final = 120.0
END_AFTER: Final = 180.0
RENEW_PACKETS: Final = 1 << 22
FIRST_AGAIN: Final = 0.5
LONGEST_AGAIN: Final = 5.0
GIVE_UP_AFTER: Final = 60.0
"""Nothing was to be sent to a peer that does not answer for so long: it is not asked any more."""
KEEP_ALIVE: Final = 3.0
"""Something came and nothing was sent back for so long: an empty packet says that we are there."""
DEAF_AFTER: Final = 6.5
"""We send and nothing comes back: the peer has lost its keys or its trigger; greet it anew, by its public one."""

# Ours.
HELD: Final = 32
"""Packets kept for a peer that has not answered yet, the newest."""


class Peer:
    """Mutable: only roam.py writes it."""

    def __init__(self, name: str, home: str, keys: HomeKeys | None, *, configured: bool) -> None:
        self.name, self.home, self.keys, self.configured = name, home, keys, configured
        self.public = public(home)
        self.identifier: Identifier | None = None
        """The translation table's entry: the private identifier that leads to it."""
        self.own: Wanted | None = None
        """The private identifier that it is to send to."""
        self.previous: Wanted | None = None
        """The one before, until the peer uses the new one."""
        self.previous_until = 0.0
        self.flows = FlowTriggers()
        """Identifiers of single flows."""
        self.owed: float | None = None
        """When our private identifier goes alone, if no packet took it along."""
        self.greeting: Greeting | None = None
        self.greet_at: float | None = None
        self.keys_at: float | None = None
        """When it is asked for its keys the next time; None: they are known, or nobody has configured it."""
        self.key_asks = 0
        self.tries = 0
        self.wanted_at = float("-inf")
        """When something was last to be sent to it."""
        self.session: Session | None = None
        self.before: Session | None = None
        self.next: Session | None = None
        """Made by its Hello, and not used by it yet."""
        self.newest_hello = 0
        self.held: deque[bytes] = deque(maxlen=HELD)
        self.heard: float | None = None
        self.sent = float("-inf")
        self.answer_at: float | None = None
        """When an empty packet says that we are there."""
        self.unanswered_since: float | None = None
        self.again_at = float("-inf")
        """When it last got what was sent to it lately once more."""
        self.again_due: float | None = None
        """When it gets that the next time: it has asked too soon."""
        self.ask_at: float | None = None
        """When it is asked for that again, because nothing was heard of it since we moved."""
        self.asks = 0
        self.packets_in = self.packets_out = self.bytes_in = self.bytes_out = self.duplicates = 0
        self.moves = 0
        self.direct = False
        """Whether it may learn where we are, and be spoken to without a node (direct.py)."""
        self.agent: Agent | None = None
        self.refused_at = float("-inf")
        """When it was last told that there is no direct path here."""
        self.problem = ""

    def room(self) -> int:
        """Return the size of the largest packet that the way to it carries now."""
        agent = self.agent
        return agent.mtu.inner if agent is not None and agent.selected is not None else MIN_INNER_MTU

    def usable(self, now: float) -> Session | None:
        """Return the session to send in, if there is one."""
        session = self.session
        return session if session is not None and now - session.began < END_AFTER else None

    def renew(self, session: Session, now: float) -> bool:
        """Say whether it is time for new keys."""
        age = now - session.began
        late = RENEW_AFTER if session.initiator else RENEW_AFTER + 15.0
        return self.greet_at is None and (age > late or session.sealer.counter > RENEW_PACKETS)

    def sessions(self) -> list[Session]:
        """Return all that may open something."""
        return [each for each in (self.session, self.next, self.before) if each is not None]
