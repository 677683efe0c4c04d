"""Names of addresses, learnt from DNS answers that pass by: for rules by destination name, best effort.

Only what was asked in the clear is seen (no DoH, no cache that was filled before, no address that an application
knows by itself), and one address may have many names: a rule by name is a convenience, never a boundary.

`read_answer` takes a DNS message (RFC 1035 §4) apart as far as needed: question, CNAMEs, A and AAAA. A compression
pointer must lead backwards (§4.1.4: "a prior occurrence"), so that no message can make it go round.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError

# The protocol's (RFC 1035 §2.3.4, §3.2; RFC 3596 §2.1).
A, CNAME, AAAA, IN = 1, 5, 28, 1
MAX_LABEL: Final = 63
MAX_NAME: Final = 255

# Ours.
MAX_RECORDS: Final = 64
"""Records of one answer that are looked at."""
MAX_ADDRESSES: Final = 4096
MAX_NAMES: Final = 8
"""Names of one address that are kept, the newest."""
KEEP_LEAST: Final = 600.0
"""Seconds: applications keep addresses for longer than the answer allows."""
KEEP_MOST: Final = 86400.0


class DnsAnswer(Struct, frozen=True):
    """The names that one answer gives to some addresses: the one asked for, and those it is an alias of."""

    names: tuple[str, ...]
    addresses: tuple[str, ...]
    seconds: int
    """The smallest time to live among them."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise RemoteProtocolError("a DNS message ends too soon", reason="dns")
        taken = self.data[self.at : self.at + count]
        self.at += count
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count))

    def name(self) -> str:
        """Read a name, compressed or not; what is no printable ASCII in it makes it unusable, not wrong."""
        labels: list[bytes] = []
        length, back, floor = 0, None, self.at
        while True:
            octet = self.number(1)
            if octet >= 0xC0:
                target = (octet & 0x3F) << 8 | self.number(1)
                if target >= floor:
                    raise RemoteProtocolError("a DNS name points forward", reason="dns")
                back = self.at if back is None else back
                self.at = floor = target
            elif octet > MAX_LABEL:
                raise RemoteProtocolError("a DNS label of an unknown kind", reason="dns")
            elif octet == 0:
                break
            else:
                labels.append(self.take(octet))
                length += octet + 1
                if length > MAX_NAME:
                    raise RemoteProtocolError("a DNS name is too long", reason="dns")
        self.at = self.at if back is None else back
        text = b".".join(labels).decode("latin-1").lower()
        return text if text.isascii() and text.isprintable() else ""


def read_answer(data: bytes) -> DnsAnswer | None:
    """Read a DNS message; None when it is no answer that gives an address. Raises RemoteProtocolError."""
    reader = _Reader(data)
    reader.take(2)
    flags = reader.number(2)
    questions, answers = reader.number(2), reader.number(2)
    reader.take(4)
    if not flags & 0x8000 or flags & 0x780F or questions != 1:  # a query, not QUERY, an error; more than one question
        return None
    names = {reader.name(): None}
    reader.take(4)
    addresses: dict[str, None] = {}
    seconds = int(KEEP_MOST)
    for _ in range(min(answers, MAX_RECORDS)):
        owner = reader.name()
        kind, network, ttl, size = reader.number(2), reader.number(2), reader.number(4), reader.number(2)
        end = reader.at + size
        if network == IN and kind == CNAME and owner in names:
            names[reader.name()] = None
        elif network == IN and (kind, size) in {(A, 4), (AAAA, 16)} and owner in names:
            packed = reader.take(size)
            addresses[str(IPv4Address(packed) if kind == A else IPv6Address(packed))] = None
        if reader.at > end:
            raise RemoteProtocolError("a DNS record is longer than it says", reason="dns")
        reader.take(end - reader.at)
        seconds = min(seconds, ttl)
    known = tuple(name for name in names if name)
    return DnsAnswer(known, tuple(addresses), seconds) if known and addresses else None


class DnsNames(Mapping[str, tuple[str, ...]]):
    """Address -> names, bounded, the newest kept. A mapping, as `compile_rules` wants it."""

    def __init__(self, most: int = MAX_ADDRESSES) -> None:
        self._most = most
        self._known: OrderedDict[str, dict[str, float]] = OrderedDict()

    def __getitem__(self, address: str) -> tuple[str, ...]:
        return tuple(self._known[address])

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, answer: DnsAnswer, now: float) -> bool:
        """Take an answer in; say whether an address has a name that it did not have."""
        until = now + min(max(answer.seconds, KEEP_LEAST), KEEP_MOST)
        news = False
        for address in answer.addresses:
            names = self._known.pop(address, None) or {}
            for name in answer.names:
                news = news or name not in names
                names[name] = max(names.pop(name, 0.0), until)
            while len(names) > MAX_NAMES:
                del names[next(iter(names))]
            self._known[address] = names
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return news

    def expire(self, now: float, in_use: Collection[str] = ()) -> bool:
        """Forget what is too old, but for addresses `in_use`; say whether there was anything."""
        before = sum(map(len, self._known.values()))
        for address, names in list(self._known.items()):
            if address in in_use:
                continue
            left = {name: until for name, until in names.items() if until > now}
            if left:
                self._known[address] = left
            else:
                del self._known[address]
        return sum(map(len, self._known.values())) < before
