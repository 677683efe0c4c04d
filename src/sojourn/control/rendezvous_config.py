"""rendezvous.toml: where a rendezvous node listens, how hosts call it, and what each may use of it."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta, Struct

from sojourn.control.decode import decode
from sojourn.control.metrics_config import MetricsConfig
from sojourn.errors import ConfigError
from sojourn.model import Endpoint

RENDEZVOUS_PORT: Final = 1801
MAX_PLACES: Final = 2
_STORE: Final = re.compile(r"(redis|valkey)s?://[^\s/]+(/0?)?$")

Places = Annotated[tuple[str, ...], Meta(min_length=1, max_length=MAX_PLACES)]


class RendezvousConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A node's configuration. Addresses are written ADDR:PORT or [ADDR]:PORT; the port may be left out."""

    listen: Places
    """UDP addresses, one of each family at most: NATs let in only what comes from where their host has sent to.
    Wildcards (0.0.0.0, ::) need `address`, and a machine with one address of that family."""
    address: tuple[str, ...] = ()
    """The addresses that hosts know this node by, where those are others: behind a 1:1 NAT, or with a wildcard.
    Hosts sign which node they speak to, and one that is not named here is refused ("elsewhere")."""
    triggers: Annotated[int, Meta(ge=16, le=100_000_000)] = 1_000_000
    """Triggers in all; some 600 bytes each."""
    packets_per_sender: Annotated[float, Meta(ge=1, le=1e9)] = 20000.0
    """A second, from one IPv4 address or IPv6 /64; twice as many may come at once."""
    requests_per_sender: Annotated[float, Meta(ge=1, le=1e9)] = 500.0
    metrics: MetricsConfig = MetricsConfig()
    store: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
    """Redis or Valkey servers to share the triggers through with other nodes: of a cluster some, else the one."""
    store_prefix: Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,32}$")] = "i3"
    """What the names of all keys begin with: nodes with another one are another group."""

    @property
    def listening(self) -> tuple[Endpoint, ...]:
        """`listen`, parsed (it was checked when the file was read)."""
        return tuple(parse_place(place, "listen") for place in self.listen)

    @property
    def known_as(self) -> frozenset[Endpoint]:
        """All addresses that hosts may sign."""
        named = (parse_place(place, "address") for place in self.address)
        return frozenset(place for place in (*named, *self.listening) if not _wildcard(place))


def parse_rendezvous(text: str | bytes, file: str = "rendezvous.toml") -> RendezvousConfig:
    """Read rendezvous.toml, whole and checked. Raises ConfigError only."""
    return check(decode(text, RendezvousConfig, file), f"{file}: ")


def given(listen: Sequence[str], address: Sequence[str], store: Sequence[str] = ()) -> RendezvousConfig:
    """Return the configuration that the command line alone gives. Raises ConfigError."""
    return check(RendezvousConfig(tuple(listen), tuple(address), store=tuple(store)), "--")


def check(config: RendezvousConfig, where: str) -> RendezvousConfig:
    """Return a configuration whose addresses all make sense; ConfigError otherwise."""
    listening = [parse_place(place, f"{where}listen") for place in config.listen]
    named = [parse_place(place, f"{where}address") for place in config.address]
    for place in named:
        if _wildcard(place):
            raise ConfigError(f"{where}address", f"{place.address} is no address", "Name one that hosts can send to.")
    for place in listening:
        if _wildcard(place) and not any(_six(place) is _six(other) for other in named):
            fix = f"Name the addresses to listen on; or say with {where}address how hosts reach this node."
            raise ConfigError(f"{where}listen", f"{place.address} says not who this node is", fix)
    if len({_six(place) for place in listening}) < len(listening):
        why = "names two addresses of one family: what came to one would be sent on from the other"
        raise ConfigError(f"{where}listen", why, "Run a second node there.")
    for url in config.store:
        if not _STORE.match(url):
            fix = "Write it like redis://HOST:6379, or rediss://USER:PASSWORD@HOST:6379 with TLS."
            raise ConfigError(f"{where}store", f"{url.split('@')[-1]!r} is no address of a store", fix)
    return config


def parse_place(text: str, where: str) -> Endpoint:
    """Read "192.0.2.1:1801", "192.0.2.1", "[2001:db8::1]:1801" or "2001:db8::1"; ConfigError."""
    found = re.fullmatch(r"\[(.*)\](?::([0-9]{1,5}))?|([^:]*)(?::([0-9]{1,5}))?|(.*)", text, re.DOTALL)
    assert found is not None
    six, six_port, four, four_port, bare = found.groups()
    port = int(six_port or four_port or RENDEZVOUS_PORT)
    try:
        address = ipaddress.ip_address(six or four or bare or "")
    except ValueError:
        address = None
    if address is None or not 1 <= port <= 65535 or "%" in text:
        fix = f"Write it like 192.0.2.1:{RENDEZVOUS_PORT} or [2001:db8::1]:{RENDEZVOUS_PORT}."
        raise ConfigError(where, f"{text!r} is no address", fix)
    return Endpoint(str(address), port)


def written(place: Endpoint) -> str:
    """Return what `parse_place` reads."""
    return f"[{place.address}]:{place.port}" if _six(place) else f"{place.address}:{place.port}"


def _six(place: Endpoint) -> bool:
    return ":" in place.address


def _wildcard(place: Endpoint) -> bool:
    return place.address in ("0.0.0.0", "::")
