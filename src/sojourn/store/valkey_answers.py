"""What a store's answers mean, whatever a server makes of them: each reader returns values or RemoteProtocolError.

An answer is None, a number, bytes, a list of these or an error among them, as the client library hands it on. A server
that was taken over, or is none of this kind, can so make a node forget, doubt or not find triggers; what else it can
do is what anybody can who writes to the store (docs/guide/rendezvous.md). Reasons, as `status` counts them:

    store-type      no answer of the kind that was asked for
    store-length    more than a store of ours has: triggers in a place, nodes, masters, addresses of one node
    store-value     a number, an address or a status that there is not
    store-trigger   one trigger that no node has written; the others of its place count
"""

import contextlib
import ipaddress
from collections.abc import Callable
from typing import Any, Final

from sojourn.errors import RemoteProtocolError
from sojourn.i3.identifier import IDENTIFIER_BYTES, PLACE_BYTES, place_of
from sojourn.i3.orders import Record, StoreFacts
from sojourn.i3.packet import ENDPOINT_BYTES, MAX_TARGET, Status
from sojourn.store import trigger_scripts as scripts
from sojourn.store.triggers import MOST_ADDRESSES, MOST_STACKS, Kept

Refused = Callable[[str], None]
"""Told the reason of each part of an answer that is left out."""

# Ours.
MOST_NODES: Final = 1000
MOST_MASTERS: Final = 1000
SLOTS: Final = 16384
MOST_VIA: Final = 8
SECRET_BYTES: Final = 32
_LATEST_MS: Final = 1 << 47
_FIELD_BYTES: Final = 1 + IDENTIFIER_BYTES * (1 + MAX_TARGET)
_VALUE_BYTES: Final = scripts.HEAD_BYTES + ENDPOINT_BYTES * (1 + MOST_VIA)
_PORTS: Final = range(1, 1 << 16)


def fail(reason: str) -> RemoteProtocolError:
    """Return the error of a reason, without its prefix."""
    return RemoteProtocolError(f"the store's answer makes no sense ({reason})", reason=f"store-{reason}")


def _list(answer: object, most: int, least: int = 0) -> list[Any]:
    if not isinstance(answer, list) or len(answer) < least:
        raise fail("type")
    if len(answer) > most:
        raise fail("length")
    return answer


def _bytes(answer: object, most: int) -> bytes:
    if not isinstance(answer, bytes):
        raise fail("type")
    if len(answer) > most:
        raise fail("length")
    return answer


def _number(answer: object, within: range) -> int:
    if not isinstance(answer, int) or isinstance(answer, bool):
        raise fail("type")
    if answer not in within:
        raise fail("value")
    return answer


def records(place: bytes, answer: object, refused: Refused) -> tuple[Record, ...]:
    """Read the triggers of a place: field, value and milliseconds left of each."""
    listed = _list(answer, 3 * (MOST_ADDRESSES + MOST_STACKS))
    if len(listed) % 3:
        raise fail("type")
    found: dict[tuple[object, ...], Record] = {}
    for at in range(0, len(listed), 3):
        try:
            record = _record(*listed[at : at + 3])
        except RemoteProtocolError:
            refused("store-trigger")
            continue
        key = (record.identifier, record.target)
        if place_of(record.identifier) != place or key in found:
            refused("store-trigger")
        else:
            found[key] = record
    return tuple(found.values())


def _record(field: object, value: object, left_ms: object) -> Record:
    return scripts.record_of(_bytes(field, _FIELD_BYTES), _bytes(value, _VALUE_BYTES), _number(left_ms, range(1 << 31)))


def kept(place: bytes, answer: object, refused: Refused) -> Kept:
    """Read what became of an order, and what its place has now."""
    status, listed = _list(answer, 2, 2)
    if _number(status, range(256)) not in set(Status):
        raise fail("value")
    return Kept(Status(status), records(place, listed, refused))


def reserved(answer: object) -> int:
    """Read whether a neighbourhood may have one more trigger."""
    return _number(answer, range(2))


def facts(answer: object, sizes: list[Any]) -> StoreFacts:
    """Read what all nodes have in common; `sizes`: how many keys each server has."""
    secret, now_ms, nodes = _list(answer, 3, 3)
    if len(_bytes(secret, SECRET_BYTES)) != SECRET_BYTES:
        raise fail("value")
    count = sum(_number(size, range(1 << 62)) for size in sizes)
    return StoreFacts(secret, _number(now_ms, range(1, _LATEST_MS)) / 1000, count,
                      tuple(map(_address, _list(nodes, MOST_NODES))))  # fmt: skip


def _address(node: object) -> str:
    try:
        return str(ipaddress.ip_address(_bytes(node, 64).decode("ascii")))
    except ValueError as error:
        raise fail("value") from error


def slots(answer: object) -> list[tuple[int, int, str, int]]:
    """Read which master has which slots: first, last, host (empty: the one that was asked) and port."""
    told, found = _list(answer, SLOTS), []
    for each in told:
        first, last, master, *_ = _list(each, 64, 3)
        host, port, *_ = _list(master, 64, 2)
        found.append((_number(first, range(SLOTS)), _number(last, range(SLOTS)),
                      _host(host), _number(port, _PORTS)))  # fmt: skip
    if len({(host, port) for _, _, host, port in found}) > MOST_MASTERS:
        raise fail("length")
    return found


def _host(told: object) -> str:
    if told is None:
        return ""
    try:
        name = _bytes(told, 253).decode("ascii")
    except UnicodeDecodeError as error:
        raise fail("value") from error
    if not all(each.isalnum() or each in "-.:_%" for each in name):
        raise fail("value")
    return name


def ready(answer: object) -> bool:
    """Read whether a cluster is in order; a server that is none has answered with an error."""
    return b"cluster_state:ok" in _bytes(answer, 1 << 16)


def digest(answer: object) -> bytes:
    """Read by what name a server keeps a script."""
    name = _bytes(answer, 40)
    if len(name) != 40 or not name.isalnum():
        raise fail("value")
    return name


def changed(message: object) -> list[bytes] | None:
    """Read which places have changed; None: all may have. Other keys are left out."""
    _, keys, *_ = _list(message, 64, 2)
    if keys is None:
        return None
    places = []
    for key in _list(keys, 1 << 20):
        _, found, place = _bytes(key, 4096).partition(scripts.PLACE_AT)
        with contextlib.suppress(ValueError):
            if found and len(known := bytes.fromhex(place[:-1].decode("ascii", "replace"))) == PLACE_BYTES:
                places.append(known)
    return places
