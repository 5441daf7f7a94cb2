"""What proxies tell each other through a real Redis, and what they do without one."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from proxy.marks import Marks, RedisTerms
from proxy.marks.member import has_ended, name_of_this_process
from proxy.marks.session import digest_of, is_lossy
from tests.fixtures.redis import RedisServer

LIMIT_S = 15.0


@dataclass
class Primary:
    """What one proxy knows of a primary: it answers at once, and its WAL ends here."""

    lsn: int = 0
    on_timeline: int = 1
    noted: dict[str, float] = field(default_factory=dict)
    doubted_s: float = 0.0
    is_known: bool = True

    def position_after(self, cluster: str, at_s: float) -> tuple[int, int] | None:
        return (self.on_timeline, self.lsn) if self.is_known else None

    def timeline(self, cluster: str) -> int:
        return self.on_timeline

    def note_key(self, cluster: str, key: str, at_s: float) -> None:
        self.noted[key] = at_s

    def doubt_keys(self, at_s: float) -> None:
        self.doubted_s = at_s

    def hurry(self, cluster: str) -> None:
        pass


@dataclass
class Proxy:
    primary: Primary
    marks: Marks

    def write(self, *keys: str | None) -> asyncio.Future[bool]:
        """Something is committed. Result: done when the client may be told; True: others were."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if not self.marks.announce("main", keys, lambda: told.set_result(True)):
            told.set_result(False)
        return told

    async def read(self, *keys: str) -> int | None:
        heard: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        if not self.marks.ask("main", keys, heard.set_result):
            return None
        return await heard

    async def until_certain(self) -> None:
        """Wait until Redis is believed."""
        async with asyncio.timeout(LIMIT_S):
            while await self.read("nobody's") is None:  # noqa: ASYNC110 -- there is no event
                await asyncio.sleep(0.05)

    @property
    def is_connected(self) -> bool:
        return self.marks.figures().connected == 1

    def count(self, operation: str) -> int:
        return self.marks.figures().operations.get(operation, 0)


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not what():  # noqa: ASYNC110 -- it is a fact elsewhere
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def proxies(url: str, count: int = 2, *, certain: bool = True) -> AsyncIterator[list[Proxy]]:
    """So many that share a Redis. certain: wait until they may rely on it."""
    found = []
    for _ in range(count):
        primary = Primary()
        found.append(Proxy(primary, Marks(RedisTerms(url), primary, time.monotonic)))
    for each in found:
        each.marks.start()
    try:
        if certain:
            for each in found:
                await until(lambda each=each: each.is_connected)
                await each.until_certain()
        yield found
    finally:
        for each in found:
            await each.marks.stop()


async def test_what_one_announced_the_other_reads(redis_server: RedisServer) -> None:
    async with proxies(redis_server.url) as (one, other):
        one.primary.is_known = False
        before_s = time.monotonic()
        assert await one.write("user:1", "user:2")
        assert await other.read("user:1") == 0
        # Nobody knows yet where it ends: it was written before it was read of.
        noted_s = other.primary.noted["user:1"]
        assert before_s <= noted_s <= time.monotonic()
        await other.read("user:1")
        assert other.primary.noted["user:1"] == noted_s
        one.primary.lsn, one.primary.is_known = 4711, True
        await until(lambda: one.count("settled") == 2)
        assert await other.read("user:1", "user:3") == 4711
        assert await other.read("user:3") == 0


async def test_a_position_covers_all_that_was_announced_before(redis_server: RedisServer) -> None:
    async with proxies(redis_server.url) as (one, other):
        one.primary.is_known = other.primary.is_known = False
        await one.write("key")
        await other.write("key")
        # What is older than the newest announcement is not said of it.
        one.primary.lsn, one.primary.is_known = 100, True
        await until(lambda: one.count("settled") == 1)
        assert await one.read("key") == 0
        other.primary.lsn, other.primary.is_known = 200, True
        await until(lambda: other.count("settled") == 1)
        assert await one.read("key") == 200


async def test_a_position_of_another_timeline_is_none(redis_server: RedisServer) -> None:
    async with proxies(redis_server.url) as (one, other):
        one.primary.lsn = 900
        await one.write("key")
        await until(lambda: one.count("settled") == 1)
        assert await other.read("key") == 900
        other.primary.on_timeline = 2
        assert await other.read("key") == 0
        assert "key" in other.primary.noted


async def test_every_key_is_doubted_when_every_key_was_written(redis_server: RedisServer) -> None:
    async with proxies(redis_server.url) as (one, other):
        before_s = time.monotonic()
        assert other.primary.doubted_s < before_s
        await one.write("key", None)
        await other.read("other")
        assert other.primary.doubted_s >= before_s


async def test_marks_go_by_themselves(redis_server: RedisServer) -> None:
    primary = Primary()
    marks = Marks(RedisTerms(redis_server.url, ttl_s=0.2), primary, time.monotonic)
    marks.start()
    proxy = Proxy(primary, marks)
    try:
        await proxy.write("key")
        name = "{pgweir}:key:" + digest_of("main", "key")
        await until(lambda: redis_server.run("EXISTS", name).startswith(b":0"))
    finally:
        await marks.stop()


async def test_a_redis_that_forgot_everything_is_not_believed_at_once(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgweir.redis")
    async with proxies(redis_server.url) as (one, other):
        await one.write("key")
        redis_server.kill()
        await until(lambda: not one.is_connected and not other.is_connected)
        assert await other.read("key") is None
        # Others may have heard nothing of this yet: who wrote is told only when they must have.
        told = one.write("key")
        assert not told.done()
        await asyncio.wait_for(told, LIMIT_S)
        assert one.count("untold") == 1
        # From then on nobody waits.
        assert one.write("key").done()
        redis_server.start()
        back_s = time.monotonic()
        await until(lambda: one.is_connected and other.is_connected)
        assert await other.read("key") is None
        await other.until_certain()
        assert other.primary.doubted_s >= back_s
    assert [each.message for each in caplog.records if each.levelno == logging.WARNING] == [
        "Redis does not answer: reads under a key go to the primary"
    ] * 2


async def test_a_redis_that_was_emptied_is_not_believed_at_once(redis_server: RedisServer) -> None:
    async with proxies(redis_server.url) as (one, other):
        await one.write("key")
        redis_server.run("FLUSHALL")
        emptied_s = time.monotonic()
        assert await other.read("key") is None
        await other.until_certain()
        assert other.primary.doubted_s >= emptied_s


async def test_nothing_is_certain_while_somebody_cannot_tell(redis_server: RedisServer) -> None:
    """A proxy that is cut off from Redis writes on; others know that, and learn when it is back."""
    async with proxies(redis_server.url, 1) as (other,):
        redis_server.run("ZADD", "{pgweir}:members", "1", "somebody:else:1:2")
        assert await other.read("key") is None
        redis_server.run("ZREM", "{pgweir}:members", "somebody:else:1:2")
        assert await other.read("key") == 0


async def test_nobody_waits_for_a_process_that_has_ended(redis_server: RedisServer) -> None:
    async with proxies(redis_server.url, 1) as (other,):
        place, _, _ = name_of_this_process().rpartition(":")
        place, _, _ = place.rpartition(":")
        ended = f"{place}:4194303:77"
        assert has_ended(ended)
        redis_server.run("ZADD", "{pgweir}:members", "1", ended)
        # It is taken out by the next who says that he is there.
        members = ("ZRANGE", "{pgweir}:members", "0", "-1")
        await until(lambda: ended.encode() not in redis_server.run(*members))
        await other.until_certain()


async def test_who_leaves_is_not_waited_for(redis_server: RedisServer) -> None:
    async with proxies(redis_server.url) as (one, other):
        await one.marks.stop()
        await asyncio.sleep(3.5)
        assert await other.read("key") == 0


def test_of_others_nobody_can_say_that_they_have_ended() -> None:
    assert not has_ended(name_of_this_process())
    assert not has_ended("another boot:4026531836:1:2")
    assert not has_ended("nonsense")


def test_a_redis_that_may_drop_keys_is_known_as_such() -> None:
    assert is_lossy({"maxmemory": 1000, "maxmemory_policy": "volatile-lru"})
    assert not is_lossy({"maxmemory": 1000, "maxmemory_policy": "noeviction"})
    assert not is_lossy({"maxmemory": 0, "maxmemory_policy": "allkeys-lru"})


async def test_passwords_are_not_logged(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.kill()
    redis_server.password = "s3cr3t-of-redis"
    redis_server.start()
    caplog.set_level(logging.DEBUG)
    primary = Primary()
    wrong = redis_server.url.replace("s3cr3t", "wr0ng-s3cr3t")
    for url in (wrong, redis_server.url, "redis://:s3cr3t-of-redis@127.0.0.1:1/0"):
        terms = RedisTerms(url)
        assert "s3cr3t" not in repr(terms)
        marks = Marks(terms, primary, time.monotonic)
        marks.start()
        try:
            await until(
                lambda marks=marks: (
                    marks.figures().connected == 1
                    or marks.figures().operations.get("failed", 0) > 0
                )
            )
            assert (marks.figures().connected == 1) == (url == redis_server.url)
        finally:
            await marks.stop()
    assert caplog.records
    assert "s3cr3t" not in caplog.text
