"""`[rendezvous]` and `[peer.NAME]` of host.toml: where peers are found, and who they are.

A peer's key is both its public keys (64 bytes, base64): its home address follows from them. A peer may be given by
its home address alone; it is then asked for the keys, which have to make that address.
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from sojourn.control.rendezvous_config import parse_place
from sojourn.errors import ConfigError
from sojourn.i3.home import KEY_BYTES, HomeKeys
from sojourn.model import HOMES, Endpoint
from sojourn.upmt.peer_commands import PeerEntry

HOME_PREFIX: Final = ipaddress.IPv6Network(HOMES)
"""Of all home addresses (i3/home.py)."""
MAX_NODES: Final = 32
MAX_PEERS: Final = 4096
_ALPHABET: Final = b"._"
"""The last two of base64, so that a key is one word to a shell and never looks like an option."""


class RendezvousPlaces(Struct, frozen=True, forbid_unknown_fields=True):
    """`[rendezvous]`."""

    nodes: Annotated[tuple[str, ...], Meta(min_length=1, max_length=MAX_NODES)]
    """ADDR or ADDR:PORT, the nearest first. Peers have to use the same ones, or ones that share their triggers."""
    accept: Literal["peers", "anyone"] = "peers"
    """Who may speak to this host: the peers named here, or whoever knows its home address."""
    piggyback_ms: Annotated[int, Meta(ge=0, le=10000)] = 200
    """For how long a private identifier waits for a packet that takes it along (ROAM)."""

    @property
    def places(self) -> tuple[Endpoint, ...]:
        """The nodes, parsed (they were checked when the file was read)."""
        return tuple(parse_place(node, "rendezvous.nodes") for node in self.nodes)


class PeerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[peer.NAME]`."""

    key: str = ""
    address: str = ""
    direct: bool = False
    """Speak to it without a rendezvous node where that works, if it wants that, too: it then learns our addresses."""

    @property
    def keys(self) -> HomeKeys | None:
        """Its public keys, where they are given (checked when the file was read)."""
        return parse_key(self.key) if self.key else None


def parse_key(text: str) -> HomeKeys | None:
    """Read a peer's key as `sojourn peers show` prints it; None if it is none."""
    try:
        data = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=_ALPHABET, validate=True)
    except (ValueError, binascii.Error):
        return None
    return HomeKeys(data[:KEY_BYTES], data[KEY_BYTES:]) if len(data) == 2 * KEY_BYTES else None


def key_text(keys: HomeKeys) -> str:
    """Return what `parse_key` reads."""
    return base64.b64encode(keys.signing + keys.exchange, altchars=_ALPHABET).decode().rstrip("=")


def check(rendezvous: RendezvousPlaces | None, peers: Mapping[str, PeerConfig], file: str) -> None:
    """Raise ConfigError for whatever makes no sense."""
    if rendezvous is not None:
        for node in rendezvous.nodes:
            parse_place(node, f"{file}: rendezvous.nodes")
    elif peers:
        fix = 'Add [rendezvous] with nodes = ["ADDRESS"], as each peer has them.'
        raise ConfigError(f"{file}: peer", "names peers, and no rendezvous node is given", fix)
    if len(peers) > MAX_PEERS:
        raise ConfigError(f"{file}: peer", f"names more than {MAX_PEERS} peers", 'Use accept = "anyone".')
    taken: dict[str, str] = {}
    for name, peer in peers.items():
        home = _home(name, peer, f"{file}: peer.{name}")
        if home in taken:
            why = f"has the home address of [peer.{taken[home]}]"
            raise ConfigError(f"{file}: peer.{name}", why, "Give each peer its own key.")
        taken[home] = name


def _home(name: str, peer: PeerConfig, where: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", name):
        raise ConfigError(where, "is not a usable name", "Use letters, digits and '-', as in a host name.")
    if peer.key and peer.keys is None:
        raise ConfigError(f"{where}.key", "is no key", "Copy the whole line that `sojourn peers show` prints there.")
    if not peer.key and not peer.address:
        raise ConfigError(where, "has neither key nor address", "`sojourn peers show` prints them on the peer.")
    try:
        address = ipaddress.ip_address(peer.address) if peer.address else None
    except ValueError:
        address = None
    if peer.address and (address is None or address not in HOME_PREFIX):
        why = f"{peer.address!r} is no home address"
        raise ConfigError(f"{where}.address", why, f"Those begin with {HOME_PREFIX}: see `sojourn peers show` there.")
    keys = peer.keys
    if keys is not None and address is not None and keys.address != str(address):
        raise ConfigError(f"{where}.address", "is not what the key makes", "Leave it out: it follows from the key.")
    return keys.address if keys is not None else str(address)


def entries(peers: Mapping[str, PeerConfig]) -> tuple[PeerEntry, ...]:
    """Return the peers as the data path is told of them."""
    made = []
    for name, peer in peers.items():
        keys = peer.keys
        if keys is None:
            made.append(PeerEntry(name, str(ipaddress.ip_address(peer.address)), direct=peer.direct))
        else:
            made.append(PeerEntry(name, keys.address, keys.signing, keys.exchange, peer.direct))
    return tuple(made)


def added(text: str, name: str, peer: PeerConfig) -> str:
    """Return host.toml with a peer more, at its end."""
    line = f'key = "{peer.key}"' if peer.key else f'address = "{peer.address}"'
    line += "\ndirect = true" if peer.direct else ""
    return f"{text.rstrip()}\n\n[peer.{name}]\n{line}\n" if text.strip() else f"[peer.{name}]\n{line}\n"


def with_nodes(text: str, nodes: tuple[str, ...]) -> str:
    """Return host.toml with `[rendezvous]`, at its end."""
    listed = ", ".join(f'"{node}"' for node in nodes)
    return f"{text.rstrip()}\n\n[rendezvous]\nnodes = [{listed}]\n".lstrip("\n")


def removed(text: str, name: str) -> str:
    """Return host.toml without a peer: its table goes, with the comments in it."""
    kept, inside = [], False
    for line in text.splitlines(keepends=True):
        if re.match(r"\s*\[", line):
            inside = re.match(rf"\s*\[\s*peer\s*\.\s*\"?{re.escape(name)}\"?\s*\]", line) is not None
        if not inside:
            kept.append(line)
    return "".join(kept)
