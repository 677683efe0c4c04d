"""Candidates and pairs (RFC 8445 §5.1.2, §6.1.2): their order, which addresses are checked at all, a pair's state.

WAITING   not checked yet: checked in order of priority, one every `PACE`
CHECKING  asked, again after 0.1 s, doubling; `TRIES` without an answer: FAILED
VALID     answered from where it was asked. The one in use ("selected") is asked every `CONSENT` (RFC 7675), more
          often while packets go there; `MISSING` unanswered for `patience`: FAILED
FAILED    asked again when the peer checks it, or in the next round
"""

import ipaddress
from enum import Enum, auto
from typing import Final

from sojourn.i3.direct_message import Candidate, Kind
from sojourn.i3.round_trip import RoundTrip
from sojourn.model import HOMES, Endpoint

# The protocol's (RFC 8445 §5.1.2.2).
PREFERENCE: Final = {Kind.HOST: 126, Kind.REFLEXIVE: 100}
PEER_REFLEXIVE_PREFERENCE: Final = 110
COMPONENT: Final = 1

# Ours.
PACE: Final = 0.02
FIRST_WAIT, LONGEST_WAIT = 0.1, 0.8
TRIES: Final = 6
"""Checks of an address that does not answer: 3.1 s in all, so that both NATs have seen something go out."""
CONSENT: Final = 5.0
PROVED: Final = 0.5
"""While packets go over the pair: seconds after an answer for which it needs no other."""
QUIET: Final = 0.1
"""The same, where nothing at all comes back."""
ASK_AGAIN: Final = 0.06
MISSING: Final = 4
SILENT_AFTER: Final = 0.25
ONE_WAY_AFTER: Final = 1.0
"""The same while packets come from there: answers wait in queues behind them, or only the way out is dead."""
SUSPECT: Final = 2
"""More checks in a row without an answer, and nothing else either: the path may be dead."""
LOWEST_PORT: Final = 1024
"""NATs keep to it (RFC 4787 REQ-3): nobody's data path is below, and what is there may take a check for a question."""
_PRIVATE: Final = [
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]
_NEVER: Final = [
    ipaddress.ip_network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/127",
                                            "::ffff:0:0/96", "fe80::/10", "ff00::/8", HOMES)
]  # fmt: skip
"""Nowhere, this machine, one link (and the clouds' metadata), everybody, and home addresses."""


def priority_of(preference: int, local: int = 65535) -> int:
    """Return a candidate's priority (RFC 8445 §5.1.2.1)."""
    return (preference << 24) + (local << 8) + 256 - COMPONENT


def pair_priority(mine: int, theirs: int, *, controlling: bool) -> int:
    """Return a pair's priority, the same at both ends (RFC 8445 §6.1.2.3)."""
    ours, others = (mine, theirs) if controlling else (theirs, mine)
    return (min(ours, others) << 32) + 2 * max(ours, others) + (ours > others)


def is_private(address: str) -> bool:
    """Say whether an address means something in some network only."""
    parsed = ipaddress.ip_address(address)
    return any(parsed in net for net in _PRIVATE if net.version == parsed.version)


def may_be_anywhere(endpoint: Endpoint) -> bool:
    """Say whether an address can be a peer's at all."""
    try:
        address = ipaddress.ip_address(endpoint.address)
    except ValueError:
        return False
    never = any(address in net for net in _NEVER if net.version == address.version)
    return endpoint.port >= LOWEST_PORT and not never


def may_check(endpoint: Endpoint, seen: Endpoint, theirs: tuple[Candidate, ...]) -> bool:
    """Say whether a peer's candidate is checked from a network whose outer address the node says to be `seen`.

    A private address is another machine in each network: only peers in one network have a use for it. They are where
    both have the same outer address, or where the node itself is in a private network with us.
    """
    if not may_be_anywhere(endpoint) or (":" in endpoint.address) is not (":" in seen.address):
        return False
    alike = any(each.kind is Kind.REFLEXIVE and each.endpoint.address == seen.address for each in theirs)
    return alike or is_private(seen.address) or not is_private(endpoint.address)


class State(Enum):
    """What is known of a pair."""

    WAITING = auto()
    CHECKING = auto()
    VALID = auto()
    FAILED = auto()


class Pair:
    """One of our networks ("path") and one address of the peer. Times are `now` of the caller."""

    __slots__ = (
        "answered", "due", "first", "heard", "outstanding", "path", "priority", "remote", "rtt", "stale", "state",
        "tries", "used", "wanted",
    )  # fmt: skip

    def __init__(self, path: str, remote: Endpoint, priority: int, now: float) -> None:
        self.path, self.remote, self.priority = path, remote, priority
        self.state = State.WAITING
        self.tries = 0
        self.due: float | None = now
        self.wanted = False
        """Controlled end: the other one wants it to be used."""
        self.stale = False
        """Of a network, or candidates, that others have followed since."""
        self.rtt = RoundTrip()
        self.heard = self.answered = self.used = self.first = float("-inf")
        """When anything, and an answer, came from there last; when something was sent; when it became VALID."""
        self.outstanding: list[float] = []
        """When checks were sent since the last answer, the oldest and the newest ones."""

    def asked(self, now: float) -> None:
        """Note a check that is sent."""
        self.outstanding.append(now)
        del self.outstanding[1:-15]
        self.tries += 1
        if self.state is not State.VALID:
            self.state = State.CHECKING
            self.due = now + min(FIRST_WAIT * 2 ** (self.tries - 1), LONGEST_WAIT)

    def answer(self, sent: float, now: float) -> None:
        """Take in the answer to a check that was sent then."""
        self.rtt.sample(now - sent)
        if self.state is not State.VALID:
            self.state, self.first = State.VALID, now
        self.heard = self.answered = now
        self.tries = 0
        self.outstanding.clear()
        self.due = None

    def restart(self, now: float) -> None:
        """Check it anew."""
        self.state, self.tries, self.due = State.WAITING, 0, now
        self.outstanding.clear()

    def consent_due(self) -> float:
        """When the pair in use is to be asked next."""
        calm = self.answered + CONSENT
        last = self.outstanding[-1] if self.outstanding else float("-inf")
        if self.outstanding:
            return last + (ASK_AGAIN if self.used > self.answered else FIRST_WAIT * 2 ** min(len(self.outstanding), 4))
        if self.used > self.heard:
            return min(calm, max(self.used, self.answered) + QUIET)
        if self.used > self.answered:
            return min(calm, self.answered + PROVED)
        return calm

    def is_dead(self, now: float) -> bool:
        """Say whether too many checks in a row have no answer."""
        patience = max(self._comes() * ONE_WAY_AFTER, SILENT_AFTER, self.rtt.late_after())
        return len(self.outstanding) >= MISSING and now - self.outstanding[0] >= patience

    def is_suspect(self) -> bool:
        """Say whether the path may be dead: what is sent there should be kept."""
        return len(self.outstanding) > SUSPECT and not self._comes()

    def _comes(self) -> bool:
        """Say whether anything has come since the oldest check that is unanswered."""
        return bool(self.outstanding) and self.heard > self.outstanding[0]
