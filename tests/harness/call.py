"""A voice call through a `World`: numbered packets both ways, and what became of each."""

from itertools import pairwise

from msgspec import Struct

from sojourn.model import UDP, Endpoint, Flow
from sojourn.packet.ip import udp_parts
from tests.harness.pair import Laptop, World

CORRESPONDENT = Endpoint("93.184.216.34", 5004)
SPACING = 0.02
"""50 packets a second, each way."""


class Fate(Struct, frozen=True):
    """What became of one direction. `gap`: the longest time between two arrivals, seconds."""

    lost: int
    doubled: int
    gap: float


class Call:
    """One UDP flow. `begun_by_correspondent`: its first packet comes from outside."""

    def __init__(self, world: World, laptop: Laptop, port: int = 4000, *, begun_by_correspondent: bool = False) -> None:
        self.world = world
        self.laptop = laptop
        self.flow = Flow(UDP, Endpoint(laptop.vipa, port), CORRESPONDENT)
        self._later = begun_by_correspondent
        self._sent: dict[bool, int] = {True: 0, False: 0}
        self._marks: dict[bool, tuple[int, float]] = {True: (0, 0.0), False: (0, 0.0)}
        self.mark()

    def talk(self, seconds: float, *, spacing: float = SPACING, up: bool = True, down: bool = True) -> None:
        """Speak from now on; the caller lets the time pass. Who began the call speaks first."""
        net, until = self.world.net, self.world.net.now + seconds
        for is_up, wanted in ((True, up), (False, down)):
            if wanted:
                later = 0.0 if is_up is not self._later else spacing / 2
                net.at(net.now + later, lambda is_up=is_up: net.every(spacing, lambda: self.say(up=is_up), until))  # type: ignore[misc]

    def say(self, *, up: bool) -> None:
        """Send one packet, from the host or from the correspondent."""
        payload = self._sent[up].to_bytes(160)
        self._sent[up] += 1
        if up:
            self.laptop.call(self.flow.local, CORRESPONDENT, payload)
        else:
            self.world.anchor.call(CORRESPONDENT, self.flow.local, payload)

    def mark(self) -> None:
        """Let `fate` speak of what is sent from now on only."""
        self._marks = {up: (sent, self.world.net.now) for up, sent in self._sent.items()}

    def fate(self, *, up: bool) -> Fate:
        """Return what became of the packets sent since the last `mark`."""
        first, since = self._marks[up]
        heard = self._heard(up)
        numbers = [number for _, number in heard if number >= first]
        gaps = [after - before for (before, _), (after, _) in pairwise(heard) if after >= since]
        lost = self._sent[up] - first - len(set(numbers))
        return Fate(lost, len(numbers) - len(set(numbers)), round(max(gaps, default=0.0), 6))

    def last(self, *, up: bool) -> float:
        """Return when the last packet arrived."""
        return self._heard(up)[-1][0]

    def heard_after(self, since: float, *, up: bool) -> float:
        """Return when the first packet after `since` arrived."""
        return next(at for at, _ in self._heard(up) if at > since)

    def place(self) -> tuple[str, str]:
        """Return the networks that carry the flow by the host's table and by the anchor's."""
        host = next(row for row in self.laptop.data_path.forwarder.state(0.0).rows if row.flow == self.flow)
        anchor = next(row for row in self.world.anchor.data_path.forwarder.state(0.0).rows if row.flow == self.flow)
        return tuple(self.world.network_of(row.tunnel or 0) for row in (host, anchor))  # type: ignore[return-value]

    def _heard(self, up: bool) -> list[tuple[float, int]]:
        heard = []
        for at, packet in self.world.anchor.arrived if up else self.laptop.arrived:
            source, destination, payload = udp_parts(packet)
            if (source if up else destination) == self.flow.local:
                heard.append((at, int.from_bytes(payload)))
        return heard
