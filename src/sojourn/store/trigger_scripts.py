"""What is done to a place of triggers in one step, inside Redis or Valkey, and how triggers are written there.

    PREFIX:t:{PLACE}   hash; all of a place is one key, so one slot of a cluster, one step and one unit of caching
        A identifier target (19)       -> expires (15 digits, ms), number (20), owner (19), via (19 each)
        S identifier identifiers       -> the same: a stack
        R identifier target owner      -> expires, number: removed, and not to be brought back by an older request
    PREFIX:o:{NEIGHBOURHOOD}   sorted set: a digest of each trigger -> when it expires
    {PREFIX}:secret      what challenges are made with
    {PREFIX}:nodes       sorted set: address of a node -> when it expires

Braces are part of these names: they say by what a cluster finds the slot of a key.

Numbers are written with leading zeros, so that their order is that of text. Each script reads its server's clock.
The rules are `TriggerBook`'s (triggers.py), which is the oracle of the tests.
"""

import hashlib
from typing import Final

from sojourn.errors import RemoteProtocolError
from sojourn.i3.challenge import NONCE_LIFE
from sojourn.i3.identifier import IDENTIFIER_BYTES, Identifier
from sojourn.i3.orders import Record
from sojourn.i3.packet import ENDPOINT_BYTES, pack_endpoint, parse_endpoint
from sojourn.i3.table import Target, is_address
from sojourn.model import Endpoint
from sojourn.store.triggers import MOST_ADDRESSES, MOST_REMOVED, MOST_STACKS

PLACE_AT: Final = b":t:{"
"""What is between the prefix of a place's key and the place, in hexadecimal digits."""
_EXPIRES_DIGITS: Final = 15
_NUMBER_DIGITS: Final = 20
HEAD_BYTES: Final = _EXPIRES_DIGITS + _NUMBER_DIGITS
_KEY_LIFE_MS: Final = int(NONCE_LIFE * 1000) + 1000
_MEMBER_BYTES: Final = 12

_BEGIN: Final = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local sub = string.sub
local function expires(value) return tonumber(sub(value, 1, 15)) end
local function at(life) return string.format('%015d', now + life) end
local function get(field)
  local value = redis.call('HGET', KEYS[1], field)
  return value and expires(value) > now and value
end
local function living()
  local all, out = redis.call('HGETALL', KEYS[1]), {}
  for i = 1, #all, 2 do
    local left = expires(all[i + 1]) - now
    if left > 0 and sub(all[i], 1, 1) ~= 'R' then
      out[#out + 1] = all[i]
      out[#out + 1] = all[i + 1]
      out[#out + 1] = left
    end
  end
  return out
end
"""

LOOK_UP: Final = _BEGIN + "return living()\n"
"""KEYS: the place. Returns field, value, milliseconds left, and so on."""

PUT: Final = (
    (
        _BEGIN
        + """
local field, grave, number, life, tail, may, most = unpack(ARGV)
local known, status = get(field), 0
local function keep(value)
  redis.call('HSET', KEYS[1], field, at(life) .. value)
  redis.call('PEXPIRE', KEYS[1], KEY_LIFE)
end
if known then
  if sub(known, 36, 54) ~= sub(tail, 1, 19) then
    keep(sub(known, 16))
  elseif number < sub(known, 16, 35) then
    status = 3
  elseif number > sub(known, 16, 35) then
    keep(number .. tail)
  end
else
  local removed = get(grave)
  if removed and number <= sub(removed, 16, 35) then
    status = 3
  else
    local kind, alike = 0, 0
    local all = redis.call('HGETALL', KEYS[1])
    for i = 1, #all, 2 do
      if expires(all[i + 1]) <= now then
        redis.call('HDEL', KEYS[1], all[i])
      elseif sub(all[i], 1, 1) == sub(field, 1, 1) then
        kind = kind + 1
        if sub(all[i], 2, 33) == sub(field, 2, 33) then alike = alike + 1 end
      end
    end
    local room = ADDRESSES
    if sub(field, 1, 1) == 'S' then room = STACKS end
    if may ~= '1' or alike >= tonumber(most) or kind >= room then
      status = 5
    else
      keep(number .. tail)
    end
  end
end
return {status, living()}
"""
    )
    .replace("KEY_LIFE", str(_KEY_LIFE_MS))
    .replace("ADDRESSES", str(MOST_ADDRESSES))
    .replace("STACKS", str(MOST_STACKS))
)
"""KEYS: the place. Returns the status and what LOOK_UP does."""

TAKE: Final = (
    (
        _BEGIN
        + """
local field, grave, number, owner = unpack(ARGV)
local known, status = get(field), 1
if known and sub(field, 1, 1) == 'S' and sub(known, 36, 54) ~= owner then
  status = 2
elseif known and number <= sub(known, 16, 35) then
  status = 3
else
  redis.call('HDEL', KEYS[1], field)
  local count, first, when = 0, nil, nil
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local over = expires(all[i + 1])
    if over <= now then
      redis.call('HDEL', KEYS[1], all[i])
    elseif sub(all[i], 1, 1) == 'R' and all[i] ~= grave then
      count = count + 1
      if not when or over < when then first, when = all[i], over end
    end
  end
  if count >= REMOVED then redis.call('HDEL', KEYS[1], first) end
  redis.call('HSET', KEYS[1], grave, at(GRAVE_LIFE) .. number)
  redis.call('PEXPIRE', KEYS[1], KEY_LIFE)
end
return {status, living()}
"""
    )
    .replace("KEY_LIFE", str(_KEY_LIFE_MS))
    .replace("GRAVE_LIFE", str(int(NONCE_LIFE * 1000)))
    .replace("REMOVED", str(MOST_REMOVED))
)

RESERVE: Final = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local member, room, life = unpack(ARGV)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local may = redis.call('ZSCORE', KEYS[1], member) or redis.call('ZCARD', KEYS[1]) < tonumber(room)
if may then
  redis.call('ZADD', KEYS[1], now + life, member)
  redis.call('PEXPIRE', KEYS[1], life + 1000)
  return 1
end
return 0
"""
"""KEYS: the neighbourhood. Returns 1 if it may have this trigger, which is then counted."""

FACTS: Final = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'NX')
for i = 2, #ARGV do redis.call('ZADD', KEYS[2], now + 30000, ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
return {redis.call('GET', KEYS[1]), now, redis.call('ZRANGE', KEYS[2], 0, 999)}
"""
"""KEYS: the secret, the nodes. ARGV: the secret if there is none yet, our addresses."""


def field_of(identifier: Identifier, target: Target) -> bytes:
    """Return the field of a trigger."""
    if is_address(target):
        return b"A" + identifier + pack_endpoint(Endpoint(*target))
    return b"S" + identifier + b"".join(each for each in target if isinstance(each, bytes))


def grave_of(identifier: Identifier, target: Target, owner: tuple[str, int]) -> bytes:
    """Return the field under which its removal is remembered."""
    return b"R" + field_of(identifier, target)[1:] + pack_endpoint(Endpoint(*owner))


def tail_of(record: Record) -> bytes:
    """Return what a trigger's value has beside its times."""
    return b"".join(map(pack_endpoint, (Endpoint(*record.owner), *record.via)))


def number_of(number: int) -> bytes:
    """Return a number as its order wants it."""
    return b"%0*d" % (_NUMBER_DIGITS, number)


def member_of(identifier: Identifier, target: Target) -> bytes:
    """Return what a neighbourhood's set has for a trigger."""
    return hashlib.blake2s(field_of(identifier, target), digest_size=_MEMBER_BYTES).digest()


def record_of(field: bytes, value: bytes, left_ms: int) -> Record:
    """Read a trigger; RemoteProtocolError for what no node has written."""
    kind, identifier, rest = field[:1], Identifier(field[1 : 1 + IDENTIFIER_BYTES]), field[1 + IDENTIFIER_BYTES :]
    head, tail = value[:HEAD_BYTES], value[HEAD_BYTES:]
    if (
        len(identifier) < IDENTIFIER_BYTES
        or not head.isdigit()
        or len(head) < HEAD_BYTES
        or len(tail) % ENDPOINT_BYTES
        or not tail
    ):
        raise RemoteProtocolError("no trigger of ours", reason="store")
    owner, *via = (parse_endpoint(tail[at : at + ENDPOINT_BYTES]) for at in range(0, len(tail), ENDPOINT_BYTES))
    target: Target
    if kind == b"A" and len(rest) == ENDPOINT_BYTES and (place := parse_endpoint(rest)) is not None:
        target = (place.address, place.port)
    elif kind == b"S" and rest and not len(rest) % IDENTIFIER_BYTES:
        target = tuple(Identifier(rest[at : at + IDENTIFIER_BYTES]) for at in range(0, len(rest), IDENTIFIER_BYTES))
    else:
        raise RemoteProtocolError("no target", reason="store")
    if owner is None or None in via:
        raise RemoteProtocolError("a trigger of nobody", reason="store")
    reached = tuple(each for each in via if each is not None)
    number = int(head[_EXPIRES_DIGITS:])
    return Record(identifier, target, (owner.address, owner.port), number, left_ms / 1000, reached)
