"""Claims: messages taken from Redis lists and kept there until they are acknowledged.

kombu pops a message and records it as unacknowledged in two steps, and what dies in between is lost. Here a message
is recorded and popped in one script, so that it is always in its queue or claimed, and a claim that nobody settles
returns to its queue when its time is over.

A claim is a field of one hash (tag -> the bytes of the message) and a member of one sorted set (tag -> its deadline,
in milliseconds of the server's clock). The tag carries the queue's key, so that nothing here ever looks into a
message. Both keys differ from kombu's own, whose sweepers therefore leave ours alone. `transport.py` decides when to
claim and what a message means; this module knows neither kombu nor Celery.

Redis does not undo a script that fails half way. So each script looks at the types of its keys before it moves
anything, and always writes the new place of a message before it clears the old one: at worst a message is there
twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from redis import Redis

MIN_SERVER = (6, 2)
"""BLMOVE, with which the transport waits, came with Redis 6.2. All versions of Valkey have it."""

MAX_CLAIM = 10_000
"""Messages a script may move: about 40 ms in which the server does nothing else."""

RESTORE_CHUNK = 1_000
"""Tags a restoring script is given: the server does other work between two of them."""

RESTORE_MAX_BYTES = 32 * 1024 * 1024
"""Bytes after which the script that restores what is overdue leaves the rest to the next run."""

STUCK_MS = 60_000
"""How long a claim is left alone whose queue cannot take it back (its key holds no list), so that it hides no other."""

# A first write that changes nothing. It fails on a key of a wrong type before anything has moved; and since neither
# command needs memory, a server at its `maxmemory`, which refuses a script's first growing write but none after
# another write, lets a full queue be worked off.
_OPEN = """
local claims, index = KEYS[1], KEYS[2]
local function refused(key, reply)
  if type(reply) == 'table' and reply.err then return redis.error_reply(reply.err .. ' (key ' .. key .. ')') end
end
local refusal = refused(claims, redis.pcall('HDEL', claims, '')) or refused(index, redis.pcall('ZREM', index, ''))
for i = 3, #KEYS do refusal = refusal or refused(KEYS[i], redis.pcall('LLEN', KEYS[i])) end
if refusal then return refusal end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# NX guards against a tag used twice, which would overwrite a message: nobody retries a claim, see `Claims`.
_CLAIM = (
    _OPEN
    + """
local claimer, number, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local max_bytes, deadline = tonumber(ARGV[4]), now + ARGV[5]
local taken, bytes = {}, 0
for i = 3, #KEYS do
  while #taken < limit do
    local raw = redis.call('LINDEX', KEYS[i], -1)
    if not raw then break end
    bytes = bytes + #raw
    if #taken > 0 and bytes > max_bytes then return taken end
    local tag = claimer .. ':' .. string.format('%016d', number + #taken) .. ':' .. KEYS[i]
    if redis.call('ZADD', index, 'NX', deadline, tag) == 0 then
        return redis.error_reply('ERR claimed before: ' .. tag)
    end
    redis.call('HSET', claims, tag, raw)
    redis.call('RPOP', KEYS[i])
    taken[#taken + 1] = {tag, KEYS[i], raw}
  end
end
return taken
"""
)

# A script and no MULTI: Redis 7.0 queues nothing for a MULTI at its `maxmemory`, not even what frees memory.
_ACKNOWLEDGE = (
    _OPEN
    + """
local acknowledged = 0
for i = 1, #ARGV do
  acknowledged = acknowledged + redis.call('HDEL', claims, ARGV[i])
  redis.call('ZREM', index, ARGV[i])
end
return acknowledged
"""
)

# `put_back` answers with the bytes it moved, or with false where there was nothing to move or no list to take it.
_PUT_BACK = (
    _OPEN
    + f"""
local function put_back(tag, push)
  local raw, key = redis.call('HGET', claims, tag), string.match(tag, '^[^:]*:[^:]*:(.+)$')
  if raw then
    if not key or type(redis.pcall('LLEN', key)) == 'table' then
      redis.call('ZADD', index, 'XX', now + {STUCK_MS}, tag)
      return false
    end
    redis.call(push, key, raw)
  end
  redis.call('HDEL', claims, tag)
  redis.call('ZREM', index, tag)
  return raw and #raw
end
"""
)

_RESTORE = (
    _PUT_BACK
    + """
local restored = 0
for i = 2, #ARGV do if put_back(ARGV[i], ARGV[1]) then restored = restored + 1 end end
return restored
"""
)

# From the latest to the earliest, each pushed to the head: the one claimed first will be claimed first again.
_RESTORE_OVERDUE = (
    _PUT_BACK
    + f"""
local overdue = redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, ARGV[1])
local restored, bytes = 0, 0
for i = #overdue, 1, -1 do
  local moved = put_back(overdue[i], 'RPUSH')
  if moved then restored, bytes = restored + 1, bytes + moved end
  if bytes > {RESTORE_MAX_BYTES} then break end
end
return restored
"""
)


class UnsupportedServer(RuntimeError):
    """The server is too old to be worked with."""


class Claim(NamedTuple):
    """A message taken from a queue: its tag, the key it came from (and returns to), and its bytes, untouched."""

    tag: str
    key: str
    raw: bytes


class Claims:
    """Takes messages from lists, and acknowledges or restores them by tag. May be used by many threads at once.

    The client must not decode responses, and must not repeat a command by itself: a claim whose answer was lost is not
    asked for again; it comes back when its time is over. Errors of the connection are raised as redis-py raises them.
    """

    def __init__(
        self, client: Redis, claims_key: str = "unacked_claims", index_key: str = "unacked_claims_index"
    ) -> None:
        self._client = client
        self._keys = (claims_key, index_key)
        self._claimer = uuid4().hex
        self._calls = count()
        self._claim = client.register_script(_CLAIM)
        self._acknowledge = client.register_script(_ACKNOWLEDGE)
        self._restore = client.register_script(_RESTORE)
        self._restore_overdue = client.register_script(_RESTORE_OVERDUE)

    def require_server(self) -> None:
        """Raise `UnsupportedServer` unless the server knows the commands that claims and the transport need."""
        require_version(self._client.info("server"))

    def claim(self, keys: Sequence[str], limit: int, max_bytes: int, visibility_timeout_s: float) -> list[Claim]:
        """Take up to `limit` messages from the right end of the lists, the first list first, in one atomic step.

        They add up to `max_bytes` at most, unless a single one is larger. Each returns to its list once
        `visibility_timeout_s` have passed on the server's clock, unless it was acknowledged or restored before.
        """
        assert 1 <= limit <= MAX_CLAIM, limit
        first = next(self._calls) * MAX_CLAIM
        deadline_ms = int(visibility_timeout_s * 1000)
        taken = self._claim([*self._keys, *keys], [self._claimer, first, limit, max_bytes, deadline_ms])
        return [Claim(tag.decode(), key.decode(), raw) for tag, key, raw in taken]

    def acknowledge(self, tags: Iterable[str]) -> int:
        """Forget the messages with these tags, in one round trip; return how many of them were still claimed."""
        return int(self._acknowledge(self._keys, list(tags)))

    def restore(self, tags: Iterable[str], at: Literal["head", "tail"] = "head") -> int:
        """Put the messages back, byte for byte, those that are still claimed; return how many were.

        At the head they are the next to be claimed, at the tail the last; in the order of `tags` either way. Each is
        moved in one step; many are moved in several.
        """
        ordered = list(tags) if at == "tail" else list(tags)[::-1]
        push = "LPUSH" if at == "tail" else "RPUSH"
        chunks = (ordered[i : i + RESTORE_CHUNK] for i in range(0, len(ordered), RESTORE_CHUNK))
        return sum(self._restore(self._keys, [push, *chunk]) for chunk in chunks)

    def restore_overdue(self, limit: int = RESTORE_CHUNK) -> int:
        """Put back, at the head, up to `limit` messages whose deadline has passed, whoever claimed them; count them."""
        return int(self._restore_overdue(self._keys, [limit]))

    def outstanding(self) -> int:
        """Count the messages that are claimed at present, by anybody."""
        return int(self._client.hlen(self._keys[0]))


def require_version(server: Mapping[str, Any]) -> None:
    """Raise `UnsupportedServer` if this section of INFO tells of a server older than `MIN_SERVER`.

    Valkey gives the version of Redis that it stands for.
    """
    version = str(server["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < MIN_SERVER:
        needed = ".".join(map(str, MIN_SERVER))
        raise UnsupportedServer(f"the broker is Redis {version}; Redis {needed} or newer, or Valkey, is needed")
