"""What an association gives a mobile host: its Vipa, its tunnels and their secret, for a time.

It travels as the JSON body of REGISTER's 200 OK (docs/wire.md, association); `VIpAddr`,
`VIp6Addr` and Expires stand in headers, too, as the paper has it. Unknown fields are ignored.
"""

import base64
import ipaddress
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint, TunnelId
from sojourn.packet.seal import Aead, Secret

CONTENT_TYPE: Final = "application/json"
SLOTS: Final = 16
"""Networks that one host may have tunnels on (DESIGN §3.1)."""
SECRET_BYTES: Final = 32
MIN_MTU: Final = 576
MAX_ENDPOINTS: Final = 8
MAX_MOVE: Final = 1 << 53
"""Move numbers stay below what every JSON reader takes for a whole number (RFC 8259 §6)."""


class Lease(Struct, frozen=True):
    """All that the 200 OK says."""

    vipa: str
    vipa6: str | None
    expires: float
    """Seconds from the answer on."""
    secret: Secret | None
    """None where the channel was not TLS: such an association has plain tunnels only."""
    tunnels: tuple[TunnelId, ...]
    """The tunnel index of each slot."""
    endpoints: tuple[Endpoint, ...]
    """Where the anchor takes tunnels (UDP), best first."""
    inner_addresses: tuple[str, ...]
    """The anchor's own addresses inside: signals go there."""
    resolver: str | None = None
    keep_alive: float = 25.0
    mtu: int = 1420
    """A first guess of the inner MTU; path MTU discovery finds the truth."""
    move: int = 0
    """The highest move number that the anchor has seen of this host: one that lost its memory goes on from there."""


class Offer(Struct, frozen=True):
    """What a host says of itself in the body of REGISTER; the answer picks from it. A missing body offers this."""

    aeads: tuple[Aead, ...] = (Aead.AES_256_GCM,)
    """Best first: a processor without AES instructions puts ChaCha20-Poly1305 there."""
    plain: bool = False
    """The host is configured for plain tunnels."""
    versions: tuple[int, ...] = (0,)
    """Of the sealed datagram (packet/seal.py)."""
    push: int = 0
    """The version of the PolicyPush that it has; 0 = none."""


class _OfferBody(Struct):
    aeads: list[str] = []
    plain: bool = False
    versions: tuple[int, ...] = (0,)
    push: Annotated[int, Meta(ge=0, lt=1 << 53)] | UnsetType = UNSET


class _Secret(Struct, omit_defaults=False):
    generation: int
    key: str
    from_epoch: int
    aead: str


class _Endpoint(Struct):
    address: str
    port: int


class _Body(Struct, omit_defaults=True):
    vipa: str
    expires: float
    vipa6: str | None = None
    secret: _Secret | None = None
    tunnels: list[int] = []
    endpoints: list[_Endpoint] = []
    inner: list[str] = []
    resolver: str | None = None
    keep_alive: float = 25.0
    mtu: int = 1420
    credential: str | None = None
    move: int = 0


_AEADS: Final = {Aead.AES_256_GCM: "AES-256-GCM", Aead.CHACHA20_POLY1305: "ChaCha20-Poly1305"}
_AEAD_NUMBERS: Final = {name: number for number, name in _AEADS.items()}


def encode_offer(offer: Offer) -> bytes:
    """Write the body of REGISTER."""
    return msgspec.json.encode(
        _OfferBody([_AEADS[aead] for aead in offer.aeads], offer.plain, offer.versions, offer.push or UNSET)
    )


def decode_offer(data: bytes) -> Offer:
    """Read the body of REGISTER, b"" included; ciphers that we don't know are passed over."""
    if not data:
        return Offer()
    try:
        body = msgspec.json.decode(data, type=_OfferBody)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"the offer cannot be read: {error}", reason="offer") from error
    aeads = tuple(_AEAD_NUMBERS[name] for name in body.aeads if name in _AEAD_NUMBERS)
    return Offer(aeads or Offer().aeads, body.plain, body.versions, body.push or 0)


def encode(lease: Lease, credential: str | None = None) -> bytes:
    """Write the body; `credential` is the host's own secret, told once, at its first association."""
    secret = lease.secret
    body = _Body(
        vipa=lease.vipa,
        expires=lease.expires,
        vipa6=lease.vipa6,
        secret=None
        if secret is None
        else _Secret(secret.generation, base64.b64encode(secret.key).decode(), secret.from_epoch, _AEADS[secret.aead]),
        tunnels=[int(tunnel) for tunnel in lease.tunnels],
        endpoints=[_Endpoint(endpoint.address, endpoint.port) for endpoint in lease.endpoints],
        inner=list(lease.inner_addresses),
        resolver=lease.resolver,
        keep_alive=lease.keep_alive,
        mtu=lease.mtu,
        credential=credential,
        move=lease.move,
    )
    return msgspec.json.encode(body)


def decode(data: bytes) -> tuple[Lease, str | None]:
    """Read the body: the lease and, where it is told, the host's own credential."""
    try:
        body = msgspec.json.decode(data, type=_Body)
        lease = Lease(
            vipa=_address(body.vipa, 4),
            vipa6=None if body.vipa6 is None else _address(body.vipa6, 6),
            expires=body.expires,
            secret=None if body.secret is None else _secret(body.secret),
            tunnels=tuple(TunnelId(number) for number in body.tunnels),
            endpoints=tuple(Endpoint(_address(where.address), where.port) for where in body.endpoints),
            inner_addresses=tuple(_address(address) for address in body.inner),
            resolver=None if body.resolver is None else _address(body.resolver),
            keep_alive=body.keep_alive,
            mtu=body.mtu,
            move=body.move,
        )
    except (ValueError, KeyError, RecursionError) as error:  # msgspec's and base64's are ValueErrors
        raise RemoteProtocolError(f"the lease cannot be read: {error}", reason="lease") from error
    _check(lease)
    if body.credential is not None and not 16 <= len(body.credential) <= 256:
        raise RemoteProtocolError("the credential has an impossible length", reason="lease")
    return lease, body.credential


def _address(text: str, version: int | None = None) -> str:
    address = ipaddress.ip_address(text)
    if version is not None and address.version != version:
        raise ValueError(f"{text} is not IPv{version}")
    return str(address)


def _secret(secret: _Secret) -> Secret:
    key = base64.b64decode(secret.key, validate=True)
    if len(key) != SECRET_BYTES or not 0 <= secret.generation < 1 << 32 or not 0 <= secret.from_epoch < 1 << 32:
        raise ValueError("a secret out of bounds")
    return Secret(secret.generation, key, secret.from_epoch, _AEAD_NUMBERS[secret.aead])


def _check(lease: Lease) -> None:
    sane = (
        0 < lease.expires <= 1 << 31
        and 1 <= lease.keep_alive <= 3600
        and MIN_MTU <= lease.mtu <= 65535
        and 0 <= lease.move < MAX_MOVE
        and len(lease.tunnels) <= SLOTS
        and len(set(lease.tunnels)) == len(lease.tunnels)
        and all(0 < tunnel < 1 << 24 for tunnel in lease.tunnels)
        and len(lease.endpoints) <= MAX_ENDPOINTS
        and len(lease.inner_addresses) <= MAX_ENDPOINTS
        and all(0 < endpoint.port < 65536 for endpoint in lease.endpoints)
    )
    if not sane:
        raise RemoteProtocolError("the lease holds a value out of bounds", reason="lease")


def from_headers(vipa: str | None, vipa6: str | None, expires: float) -> Lease:
    """Make the lease of an answer without body, which is the paper's form: a Vipa and nothing else."""
    try:
        first = _address(vipa or "", 4)
        second = None if vipa6 is None else _address(vipa6, 6)
    except ValueError as error:
        raise RemoteProtocolError("the answer lends no address (VIpAddr)", reason="lease") from error
    lease = Lease(first, second, expires, None, (), (), ())
    _check(lease)
    return lease
