"""A call: numbered packets both ways, and what became of each."""

from itertools import pairwise

from sojourn.model import Endpoint
from sojourn.packet.ip import udp_packet, udp_parts
from tests.harness.fakenet import VIPA, Pair

CORRESPONDENT = Endpoint("93.184.216.34", 5004)


class Voice:
    """50 packets a second each way between the host and one correspondent, 160 bytes each."""

    def __init__(self, pair: Pair, port: int = 4000, *, up: bool = True, down: bool = True) -> None:
        self.local = Endpoint(VIPA, port)
        self.pair = pair
        self.sent_up: list[float] = []
        self.sent_down: list[float] = []
        self._up = up
        self._down = down

    def talk(self, seconds: float) -> None:
        """Speak for some time, from now on; the caller lets the time pass."""
        net = self.pair.net
        if self._up:
            net.every(0.02, self.say, net.now + seconds)
        if self._down:
            net.every(0.02, self.listen, net.now + seconds)

    def say(self) -> None:
        """Send one packet from the host."""
        packet = udp_packet(self.local, CORRESPONDENT, len(self.sent_up).to_bytes(160))
        self.sent_up.append(self.pair.now)
        self.pair.host.forwarder.from_inner(packet, self.pair.now)

    def listen(self) -> None:
        """Send one packet from the correspondent."""
        packet = udp_packet(CORRESPONDENT, self.local, len(self.sent_down).to_bytes(160))
        self.sent_down.append(self.pair.now)
        self.pair.anchor.forwarder.from_inner(packet, self.pair.now)

    def both(self) -> None:
        """Send one packet each way."""
        self.say()
        self.listen()

    def heard_up(self) -> list[int]:
        """Return the numbers that the correspondent got, in order of arrival."""
        return self._numbers(self.pair.to_correspondent, to_host=False)

    def heard_down(self) -> list[int]:
        """Return the numbers that the host got, in order of arrival."""
        return self._numbers(self.pair.to_host, to_host=True)

    def lost(self) -> tuple[int, int]:
        """Return how many packets never arrived, (up, down)."""
        return len(self.sent_up) - len(set(self.heard_up())), len(self.sent_down) - len(set(self.heard_down()))

    def longest_gap(self, *, to_host: bool) -> float:
        """Return the longest time without a packet between the first and the last one."""
        packets = self.pair.to_host if to_host else self.pair.to_correspondent
        times = [at for at, packet in packets if self._is_ours(packet, to_host)]
        return max((after - before for before, after in pairwise(times)), default=0.0)

    def _numbers(self, packets: list[tuple[float, bytes]], *, to_host: bool) -> list[int]:
        return [int.from_bytes(udp_parts(packet)[2]) for _, packet in packets if self._is_ours(packet, to_host)]

    def _is_ours(self, packet: bytes, to_host: bool) -> bool:
        source, destination, _ = udp_parts(packet)
        return (destination if to_host else source) == self.local
