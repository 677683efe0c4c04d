"""Who may join an anchor: inviting and revoking, as the daemon and `sojourn anchor` both do it."""

from collections.abc import Mapping
from typing import Final

import msgspec

from sojourn.control import socks_account
from sojourn.control.config import REALM, AnchorConfig
from sojourn.control.token import JoinToken
from sojourn.errors import ConfigError
from sojourn.sip.digest import Algorithm
from sojourn.sip.digest_server import make_verifier
from sojourn.upmt.candidates import stored
from sojourn.upmt.records import Subscriber

MAX_SUBSCRIBERS: Final = 10_000


def invite(
    config: AnchorConfig,
    known: Mapping[str, Subscriber],
    name: str,
    secret: bytes,
    keys: tuple[bytes, bytes],
    time: float,
) -> tuple[Subscriber, JoinToken]:
    """Make a subscriber and the token by which it joins; `secret` is 16 fresh random bytes.

    `keys` are the SPKI hash and the SOCKS public key, `time` Unix seconds. A user that has joined
    already is refused with ConfigError: a second token would lock the first computer out.
    """
    before = known.get(name)
    if before is not None and before.ha1 is not None and not before.revoked:
        fix = f"Choose another --name, or end that one first: sojourn anchor revoke {name}."
        raise ConfigError(f"name {name!r}", "has joined already", fix)
    if before is None and len(known) >= MAX_SUBSCRIBERS:
        raise ConfigError("this anchor", f"knows {MAX_SUBSCRIBERS} hosts already", "Revoke some.")
    try:
        token = msgspec.convert((config.address, config.sip_port, keys[0], name, secret, keys[1]), JoinToken)
    except msgspec.ValidationError as error:
        fix = "Letters, digits, '.', '_' and '-', at most 63, the first a letter or a digit."
        raise ConfigError(f"name {name!r}", "cannot be a user's name", fix) from error
    once = stored(make_verifier(name, REALM, token.password, algorithms(config)))
    return Subscriber(name, name, once, created=time, socks_secret=socks_account.secret_of(secret)), token


def algorithms(config: AnchorConfig) -> tuple[Algorithm, ...]:
    """Return the digest algorithms of this anchor, the preferred first."""
    return tuple(Algorithm(name) for name in config.digest)


def revoke(known: Mapping[str, Subscriber], name: str) -> Subscriber:
    """Return the subscriber as it stands after its credentials were ended. Unknown: ConfigError."""
    before = known.get(name)
    if before is None:
        names = ", ".join(sorted(known)[:20]) or "none"
        raise ConfigError(f"name {name!r}", "is not known here", f"Known names: {names}.")
    return msgspec.structs.replace(before, revoked=True, ha1=None, ha1_once=None, secrets=(), socks_secret=b"")
