"""One connection to Redis, from the time it is joined until it is lost.

All keys begin with `{prefix}:`, so that they are in one slot of a Redis Cluster:

- `era`: a hash. `id` is another one after everything may have been forgotten or left untold: then
  everybody takes all keys as written just now. `run` is the Redis process that it was made under:
  one that was started anew, or promoted in the place of another, may lack the newest marks. Nothing
  is certain before `settled` (ms), by when all who can have joined again.
- `members`: a sorted set of the processes that write, by when their leases end (ms). While one is
  late, it may have written what it could tell nobody.
- `stamp`: a counter of announcements.
- `key:` and a digest: `ERA:STAMP` of the newest announcement of a key, and, once it is known,
  behind it the timeline and position where all that was announced by then ends. A stamp always
  covers those before it, so there is nothing to compare.

Times are those of Redis. It needs Redis 5 or newer, and commands for scripts.
"""

import contextlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

LEASE_S = 3.0
# Longer than any that can needs to join again: a timeout, a pause, and some.
SETTLES_S = 3.0
# Who was not heard of for so long is not waited for any more.
FORGOTTEN_S = 600.0
TIMEOUT_S = 1.0

FAILURES = (RedisError, OSError, TimeoutError, ValueError)
"""What a session ends by."""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# KEYS: era, members. ARGV: member, run, lease ms, 1 when something was left untold, an id for a new
# era, settling ms, forgetting ms. Result: the era.
_JOIN = (
    _NOW
    + """
local era = redis.call('HMGET', KEYS[1], 'id', 'run')
if not era[1] or era[2] ~= ARGV[2] then
    redis.call('HSET', KEYS[1], 'id', ARGV[5], 'run', ARGV[2], 'settled', now + ARGV[6])
elseif ARGV[4] == '1' then
    redis.call('HSET', KEYS[1], 'id', ARGV[5])
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[7])
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
return redis.call('HGET', KEYS[1], 'id')
"""
)

# KEYS: members. ARGV: member, lease ms. Result: those who are late.
_RENEW = (
    _NOW
    + """
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)
"""
)

# KEYS: era, stamp, keys. ARGV: time to live ms, an id for a new era where all keys are written.
# Result: the mark, false without an era.
_ANNOUNCE = """
local era = redis.call('HGET', KEYS[1], 'id')
if not era then return false end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'id', ARGV[2]) end
local mark = era .. ':' .. redis.call('INCR', KEYS[2])
for i = 3, #KEYS do redis.call('SET', KEYS[i], mark, 'PX', ARGV[1]) end
return mark
"""

# KEYS: era, members, keys. Result: the era, 1 when what is not there was not written, marks.
_ASK = (
    _NOW
    + """
local era = redis.call('HMGET', KEYS[1], 'id', 'settled')
local certain = 0
if era[1] and tonumber(era[2]) <= now and redis.call('ZCOUNT', KEYS[2], '-inf', now) == 0 then
    certain = 1
end
local marks = {}
for i = 3, #KEYS do marks[i - 2] = redis.call('GET', KEYS[i]) end
return {era[1], certain, marks}
"""
)

# KEYS: keys. ARGV: for each its mark and what is to be written behind it, unless it is another now.
_SETTLE = """
for i = 1, #KEYS do
    if redis.call('GET', KEYS[i]) == ARGV[2 * i - 1] then
        redis.call('SET', KEYS[i], ARGV[2 * i - 1] .. ' ' .. ARGV[2 * i], 'KEEPTTL')
    end
end
"""


@dataclass(frozen=True, slots=True)
class RedisTerms:
    """How Redis is reached, and what keys are called there.

    password: in place of the URL's, or None. ca: who signs its certificate, None for the system's.
    ttl_s: marks are forgotten after so long.
    """

    url: str = field(repr=False)
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    prefix: str = "pgweir"
    ttl_s: float = 3600.0


class Heard(NamedTuple):
    """What Redis knows: which era it is, whether marks tell everything, and those of the keys."""

    era: bytes
    is_certain: bool
    marks: Sequence[bytes | None]


def digest_of(cluster: str, key: str) -> str:
    """What a key is called in Redis: nothing that is told of anybody, and short."""
    return blake2b(f"{cluster}\0{key}".encode("utf-8", "replace"), digest_size=16).hexdigest()


def is_lossy(memory: dict[str, Any]) -> bool:
    """Whether Redis may drop marks for want of memory. memory: what INFO says of it."""
    return bool(memory.get("maxmemory")) and memory.get("maxmemory_policy") != "noeviction"


class Session:
    """The conversation. Every method raises one of FAILURES; then it is over, and is closed."""

    def __init__(self, terms: RedisTerms, member: str, client: Redis) -> None:
        self._terms = terms
        self._member = member
        self._client = client
        self._era, self._members, self._stamp = (
            f"{{{terms.prefix}}}:{word}" for word in ("era", "members", "stamp")
        )
        self._run_id = ""
        self._scripts: dict[str, str] = {}
        self.era = b""
        self.is_lossy = False

    @classmethod
    async def open(cls, terms: RedisTerms, member: str) -> "Session":
        """Connect, and see who answers; `join` comes next."""
        options: dict[str, Any] = {"ssl_ca_certs": str(terms.ca)} if terms.ca is not None else {}
        if terms.password is not None:
            options["password"] = terms.password
        client = Redis.from_url(
            terms.url,
            single_connection_client=True,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            # A connection made anew unnoticed could be to a Redis that has forgotten something.
            retry=Retry(NoBackoff(), 0),
            **options,
        )
        session = cls(terms, member, client)
        try:
            await session._look()
        except BaseException:
            await session.close()
            raise
        return session

    async def _look(self) -> None:
        self._run_id = (await self._client.info("server"))["run_id"]
        self.is_lossy = is_lossy(await self._client.info("memory"))
        for script in (_JOIN, _RENEW, _ANNOUNCE, _ASK, _SETTLE):
            self._scripts[script] = await self._client.script_load(script)

    async def join(self, *, is_untold: bool) -> None:
        """Be one of those who are waited for. is_untold: something was written that nobody could
        be told of."""
        self.era = await self._run(
            _JOIN,
            [self._era, self._members],
            self._member,
            self._run_id,
            _ms(LEASE_S),
            int(is_untold),
            secrets.token_hex(8),
            _ms(SETTLES_S),
            _ms(FORGOTTEN_S),
        )

    async def renew(self) -> list[str]:
        """Go on being one of those who are waited for. Result: those of them who are late."""
        late = await self._run(_RENEW, [self._members], self._member, _ms(LEASE_S))
        return [member.decode() for member in late]

    async def announce(self, digests: Iterable[str], *, is_every: bool) -> bytes:
        """Something was written under these keys, or every one. Result: their mark."""
        keys = [self._era, self._stamp, *map(self._key, digests)]
        era = secrets.token_hex(8) if is_every else ""
        mark: bytes | None = await self._run(_ANNOUNCE, keys, _ms(self._terms.ttl_s), era)
        if mark is None:
            raise ValueError("Redis was emptied")
        return mark

    async def ask(self, digests: Iterable[str]) -> Heard:
        """What was written under these keys."""
        keys = [self._era, self._members, *map(self._key, digests)]
        era, certain, marks = await self._run(_ASK, keys)
        if era is None:
            raise ValueError("Redis was emptied")
        return Heard(era, certain == 1, marks)

    async def settle(self, marks: Iterable[tuple[str, bytes, str]]) -> None:
        """Say where what was announced ends: digest, mark, and timeline and position."""
        marks = list(marks)
        arguments = [word for _, mark, position in marks for word in (mark, position)]
        await self._run(_SETTLE, [self._key(digest) for digest, _, _ in marks], *arguments)

    async def remove(self, members: Sequence[str]) -> None:
        """These write nothing any more: nobody is to wait for them."""
        await self._client.zrem(self._members, *members)

    async def leave(self) -> None:
        """Nor do we."""
        await self.remove([self._member])

    async def close(self) -> None:
        """Close the connection, whatever its state."""
        with contextlib.suppress(*FAILURES):
            await self._client.aclose()

    def _key(self, digest: str) -> str:
        return f"{{{self._terms.prefix}}}:key:{digest}"

    async def _run(self, script: str, keys: Sequence[str], *arguments: str | bytes | int) -> Any:
        return await self._client.evalsha(self._scripts[script], len(keys), *keys, *arguments)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
