"""By what right somebody leads an identifier anywhere: the rules that keep triggers from being hijacked.

    KEY     private identifier -> the sender's address. Shows a secret k with key(identifier) = left(k): who knows the
            identifier alone cannot make one (i3's left rule, with k in the place of the target's key)
    LEFT    private identifier -> identifiers. key(identifier) = left(key(first of them))
    RIGHT   private identifier -> identifiers. key(first of them) = right(key(identifier))
    SIGNED  public identifier -> the sender's address. Keys that make the home address whose hash the identifier is,
            and a signature of this very request, for this very node
    HOME4   public identifier of an IPv4 home address -> the sender's address. Proves nothing (`UNPROVED_TRIGGERS`)

Both rules are one-way, and each goes another way: no chain of triggers can come back to where it began, nor two
chains from one identifier meet at another, and a public identifier leads to addresses only. Forwarding bounds by itself
what the rest of a packet's stack could do (forwarding.py).
"""

import hmac
import ipaddress
from collections.abc import Callable, Container
from typing import Final

from msgspec.structs import replace

from sojourn.i3.home import KEY_BYTES, SIGNATURE_BYTES, HomeIdentity, HomeKeys
from sojourn.i3.identifier import is_public, key_of, left, public, right
from sojourn.i3.packet import ENDPOINT_BYTES, Request, Right, Status, pack_endpoint, parse_endpoint
from sojourn.model import Endpoint

_SIGNED: Final = b"sojourn i3 request\0"


def wrong(request: Request, here: Container[Endpoint]) -> Status | None:
    """Say what is wrong with a request's right, or None. `here`: the addresses at which this node is reached.

    RemoteProtocolError if its evidence cannot be read.
    """
    leads_on = bool(request.target)
    if leads_on is not (request.right in (Right.LEFT, Right.RIGHT)):
        return Status.WRONG
    if is_public(request.identifier) is not (request.right in (Right.SIGNED, Right.HOME4)):
        return Status.WRONG
    return _CHECKS[request.right](request, here)


def sign(request: Request, identity: HomeIdentity, node: Endpoint) -> Request:
    """Return a SIGNED request with its evidence. The signature covers the node, so that none can pass it to another."""
    known = pack_endpoint(node) + identity.keys.signing + identity.keys.exchange
    return replace(request, evidence=known + identity.sign(_SIGNED + request.unsigned() + known))


def _key(request: Request, _here: Container[Endpoint]) -> Status | None:
    return _verdict(hmac.compare_digest(left(request.evidence), key_of(request.identifier)))


def _left(request: Request, _here: Container[Endpoint]) -> Status | None:
    return _verdict(left(key_of(request.target[0])) == key_of(request.identifier))


def _right(request: Request, _here: Container[Endpoint]) -> Status | None:
    return _verdict(right(key_of(request.identifier)) == key_of(request.target[0]))


def _signed(request: Request, here: Container[Endpoint]) -> Status | None:
    known, signature = request.evidence[:-SIGNATURE_BYTES], request.evidence[-SIGNATURE_BYTES:]
    keys = HomeKeys(known[ENDPOINT_BYTES : ENDPOINT_BYTES + KEY_BYTES], known[ENDPOINT_BYTES + KEY_BYTES :])
    if public(keys.address) != request.identifier:
        return Status.WRONG
    if parse_endpoint(known[:ENDPOINT_BYTES]) not in here:
        return Status.ELSEWHERE
    return _verdict(keys.signed(_SIGNED + request.unsigned() + known, signature))


def _home4(request: Request, _here: Container[Endpoint]) -> Status | None:
    return _verdict(public(str(ipaddress.IPv4Address(request.evidence))) == request.identifier)


def _verdict(right_holds: bool) -> Status | None:
    return None if right_holds else Status.WRONG


_CHECKS: Final[dict[Right, Callable[[Request, Container[Endpoint]], Status | None]]] = {
    Right.KEY: _key,
    Right.LEFT: _left,
    Right.RIGHT: _right,
    Right.SIGNED: _signed,
    Right.HOME4: _home4,
}
