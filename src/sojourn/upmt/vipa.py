"""The anchor's pool of virtual IP addresses: which are lent, and which comes next.

The first address of each pool is the anchor's own inner address. A Vipa and its Vipa6 have the
same place in their pools. Addresses go round: one given back is lent again as late as possible,
because correspondents may go on sending to its last owner.
"""

import ipaddress

from sojourn.errors import SojournError


class PoolExhausted(SojournError):
    """Every address of the pool is lent."""


class VipaPool:
    """Lends addresses. Small pools keep no broadcast address back: nothing is broadcast in a tunnel."""

    def __init__(self, cidr: str, cidr6: str | None = None) -> None:
        """Take networks with a prefix of at most 30 (IPv4); ValueError for anything else."""
        self.network = ipaddress.IPv4Network(cidr)
        self.network6 = None if cidr6 is None else ipaddress.IPv6Network(cidr6)
        if self.network.num_addresses < 4:
            raise ValueError(f"a pool needs a prefix of at most /30: {cidr}")
        if self.network6 is not None and self.network6.num_addresses < self.network.num_addresses:
            raise ValueError(f"the IPv6 pool is smaller than the IPv4 pool: {cidr6}")
        self._places = self.network.num_addresses - 2  # 1 = the anchor; the last one stays out, as hosts expect
        self._lent: set[int] = set()
        self._next = 2

    @property
    def anchor(self) -> tuple[str, str | None]:
        """The anchor's inner addresses."""
        return self._addresses(1)

    def __len__(self) -> int:
        """Return how many addresses are lent."""
        return len(self._lent)

    @property
    def size(self) -> int:
        """How many addresses can be lent."""
        return self._places - 1

    def __contains__(self, vipa: str) -> bool:
        """Say whether an address is one that this pool lends."""
        return self._place(vipa) is not None

    def lease(self, wanted: str | None = None) -> tuple[str, str | None]:
        """Lend `wanted` when it is ours and free, else the next free address; PoolExhausted when none is."""
        place = None if wanted is None else self._place(wanted)
        if place is None or place in self._lent:
            place = self._free()
        self._lent.add(place)
        return self._addresses(place)

    def give_back(self, vipa: str) -> None:
        """Take an address back. One that is not lent changes nothing."""
        place = self._place(vipa)
        if place is not None:
            self._lent.discard(place)

    def _free(self) -> int:
        if len(self._lent) >= self.size:
            raise PoolExhausted(f"all {self.size} addresses of {self.network} are lent")
        while self._next in self._lent:
            self._step()
        place = self._next
        self._step()
        return place

    def _step(self) -> None:
        self._next = self._next + 1 if self._next < self._places else 2

    def _place(self, vipa: str) -> int | None:
        try:
            place = int(ipaddress.IPv4Address(vipa)) - int(self.network.network_address)
        except ValueError:
            return None
        return place if 2 <= place <= self._places else None

    def _addresses(self, place: int) -> tuple[str, str | None]:
        return str(self.network[place]), None if self.network6 is None else str(self.network6[place])
