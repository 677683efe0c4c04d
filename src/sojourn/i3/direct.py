"""The agent of one peer's direct path: ICE (RFC 8445) between two hosts that have a session, and both want it.

    wish        both have said by way of the node that they want it; candidates are told only to who has said so
    checks      of each pair; what is checked by the peer is checked at once (triggered checks, peer-reflexive ones)
    nomination  the end with the lower X25519 key is the controlling one: best valid pair first, with USE in its checks
    size        what passes there is searched (direct_mtu.py); until then, and by way of the node, 1280 bytes inside
    use         packets go there; checks go on (RFC 7675). What was sent since the last answer is kept: if no answer
                comes, it goes by the node once more, and the peer's replay window drops what it had
    a move      new candidates, new pairs. The pair in use stays ("stale") until another is nominated, `MAKE` at most;
                if its network has gone, packets go by the node at once, and the peer is told LOST

Bounds: 8 candidates a peer, `MAX_FOUND` peer-reflexive ones an offer, `ANSWERS`, and `CHECKS` of what has not answered.
"""

from collections.abc import Callable
from typing import Final

from sojourn.i3.direct_checks import PREFERENCE, priority_of
from sojourn.i3.direct_message import Candidate, Kind, Offer
from sojourn.i3.direct_orders import Say
from sojourn.i3.direct_pairs import Pairs, Place
from sojourn.packet.path_mtu import MIN_INNER_MTU

# Ours.
OFFER_AGAIN: Final = 0.5
OFFER_TRIES: Final = 6
OFFER_SPACING: Final = 0.05


class Agent(Pairs):
    """What happened is a method's; orders are in `out` until they are taken."""

    def __init__(
        self, random: Callable[[int], bytes], now: float, *, controlling: bool, device_mtu: int = MIN_INNER_MTU
    ) -> None:
        super().__init__(random, now, controlling=controlling, device_mtu=device_mtu)
        self._number = (int.from_bytes(random(4)) | 1) << 32 | 1
        self._acked = 0
        self._lost = False
        self._offer_at: float | None = None
        self._offered = float("-inf")
        self._offer_tries = 0

    # What its driver says.

    def wake(self, now: float) -> None:
        """There are keys: say what we want, unless the peer knows."""
        if self._acked != self._number:
            self._offer_soon(now)

    def move(self, place: Place, now: float) -> None:
        """We are elsewhere."""
        if place != self.place:
            self.place = place
            self._number += 1
            self._offer_soon(now)
            self._form(now)

    def path_gone(self, path: str, now: float) -> None:
        """Send nothing over a network any more."""
        for key in [key for key in self.pairs if key[0] == path]:
            del self.pairs[key]
        if self.place is not None and self.place.path == path:
            self.place = None
        if self.selected is not None and self.selected.path == path:
            self._lose("its network has gone", now)
            self._say_lost()

    def end(self) -> None:
        """There are no keys any more, or nobody wants it any more."""
        self.selected = self._offer_at = self._round_at = self._nominate_at = self._nominated = None
        self.pairs.clear()
        self.mtu.stop()
        self._forget_kept()

    # What the peer says.

    def offered(self, offer: Offer, now: float) -> None:
        """Take in what the peer wants, and its candidates."""
        theirs = self.theirs
        if not offer.wants:
            if self.selected is not None:
                self._lose("the peer does not allow it", now)
            self.end()
            self.theirs, self.why = offer, "the peer does not allow it"
            return
        again = theirs is not None and theirs.wants and theirs.number >> 32 == offer.number >> 32
        newer = theirs is None or not again or offer.number > theirs.number
        if offer.had == self._number:
            self._acked, self._lost = offer.had, False
        if newer:
            self.theirs = offer
            if not again:
                self._number += 1  # with candidates now
                self.why = "it is being looked for"
            if offer.lost and self.selected is not None:
                self._lose("the peer has moved", now)
            if not again or theirs is None or offer.candidates != theirs.candidates or offer.lost:
                self._form(now)
        if newer or offer.had != self._number:
            self._offer_soon(now)

    # Time.

    def deadline(self) -> float | None:
        """When `tick` wants to be called next."""
        times = [self._offer_at, self.pairs_deadline(), self._make_until if self.selected is not None else None]
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.selected is not None and now >= self._make_until:
            self._lose("no pair of the new addresses answers", now)
            self._say_lost()
            self._offer_soon(now)
        if self._offer_at is not None and self._offer_at <= now:
            self._offer(now)
        self.pairs_tick(now)

    # Offers.

    def _offer_soon(self, now: float) -> None:
        self._offer_tries = 0
        self._offer_at = max(now, self._offered + OFFER_SPACING)

    def _offer(self, now: float) -> None:
        self._offered, self._offer_tries = now, self._offer_tries + 1
        done = self._acked == self._number or self._offer_tries >= OFFER_TRIES
        self._offer_at = None if done else now + OFFER_AGAIN * 2 ** (self._offer_tries - 1)
        theirs, place = self.theirs, self.place
        candidates: list[Candidate] = []
        if place is not None and theirs is not None and theirs.wants:
            candidates.append(Candidate(Kind.HOST, priority_of(PREFERENCE[Kind.HOST]), place.local))
            if place.seen != place.local:
                candidates.append(Candidate(Kind.REFLEXIVE, priority_of(PREFERENCE[Kind.REFLEXIVE]), place.seen))
        had = theirs.number if theirs is not None else 0
        self.out.append(Say(bytes(Offer(True, self._number, had, tuple(candidates), self._lost))))

    def _say_lost(self) -> None:
        self._lost = True
        self._number += 1  # told with the next offer: from the next place, or by `tick`
