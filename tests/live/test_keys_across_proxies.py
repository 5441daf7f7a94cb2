"""Sessions that share a key see each other's writes through whichever proxy, by a real Redis."""

import asyncio
import contextlib
import random
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, PostgresCluster
from tests.fixtures.redis import RedisServer
from tests.live.freshness import paused, splitting, written_table
from tests.live.test_freshness_between_sessions import assert_never_stale, count_stale

LOST = "Redis does not answer: reads under a key go to the primary"
BACK = "Redis answers: keys hold across proxies"


@pytest.fixture(scope="module")
def cluster(pg_replicated: PostgresCluster) -> Iterator[PostgresCluster]:
    with written_table(pg_replicated) as cluster:
        yield cluster


@contextlib.contextmanager
def sharing(
    cluster: PostgresCluster, folder: Path, urls: Sequence[str], **settings: Any
) -> Iterator[list[Pgweir]]:
    """Proxies that share a Redis, each by its URL, once reads under keys go to replicas."""
    with contextlib.ExitStack() as stack:
        weirs = []
        for number, url in enumerate(urls):
            own = folder / str(number)
            own.mkdir()
            changes = {"redis": {"url": url}, "log": {"level": "info"}, **settings}
            weirs.append(stack.enter_context(splitting(cluster, own, "key", changes)))
        for weir in weirs:
            until_keys_are_shared(weir)
        yield weirs


def until_keys_are_shared(weir: Pgweir) -> None:
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        weir.wait_until(lambda: reads_from_replica(weir, client, "nobody's"), 20.0)


def reads_from_replica(weir: Pgweir, client: psycopg.Connection[Any], key: str) -> bool:
    before = weir.metric("pgweir_queries_total", role="replica")
    client.execute(f"/* pgweir: key={key} */ select 1")
    return weir.metric("pgweir_queries_total", role="replica") > before


@contextlib.contextmanager
def keyed(weir: Pgweir, key: str) -> Iterator[psycopg.Connection[Any]]:
    """A session with a key."""
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        client.execute(f"set pgweir.consistency_key = '{key}'")
        yield client


def value(client: psycopg.Connection[Any], row: int) -> int:
    found = client.execute(f"select value from written where id = {row}").fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.parametrize("workers", [1, 2])
async def test_no_session_reads_older_than_another_wrote_through_another_proxy(
    cluster: PostgresCluster, tmp_path: Path, redis_server: RedisServer, workers: int
) -> None:
    with sharing(cluster, tmp_path, [redis_server.url] * 2, workers=workers) as weirs:
        await assert_never_stale(cluster, weirs, is_keyed=True)


async def test_without_redis_other_proxies_are_not_heard_of(
    cluster: PostgresCluster, tmp_path: Path
) -> None:
    """What these tests look for does show."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    with (
        splitting(cluster, tmp_path / "one", "key") as one,
        splitting(cluster, tmp_path / "other", "key") as other,
    ):
        assert sum([await count_stale(cluster, [one, other], n, is_keyed=True) for n in (6, 7)])


async def test_nothing_is_stale_while_redis_comes_and_goes(
    cluster: PostgresCluster, tmp_path: Path, redis_server: RedisServer
) -> None:
    chance = random.Random(11)
    ended = threading.Event()

    def disturb() -> None:
        while not ended.wait(chance.uniform(0.2, 3.0)):
            way = chance.choice(("kill", "hang", "empty"))
            if way == "kill":
                redis_server.kill()
                ended.wait(chance.uniform(0.0, 6.0))
                redis_server.start()
            elif way == "hang":
                redis_server.send(signal.SIGSTOP)
                ended.wait(chance.uniform(0.0, 3.0))
                redis_server.send(signal.SIGCONT)
            else:
                redis_server.run("FLUSHALL")

    with sharing(cluster, tmp_path, [redis_server.url] * 2) as weirs:
        disturber = threading.Thread(target=disturb)
        disturber.start()
        try:
            for seed in (7, 8):
                assert await count_stale(cluster, weirs, seed, is_keyed=True) == 0
        finally:
            ended.set()
            await asyncio.to_thread(disturber.join)
        assert sum(w.metric("pgweir_redis_operations_total", operation="failed") for w in weirs)


def test_a_key_of_another_proxy_is_read_from_replicas_as_soon_as_they_have_it(
    cluster: PostgresCluster, tmp_path: Path, redis_server: RedisServer
) -> None:
    with (
        sharing(cluster, tmp_path, [redis_server.url] * 2) as (one, other),
        keyed(one, "user:1") as writer,
        keyed(other, "user:1") as reader,
        keyed(other, "user:2") as stranger,
    ):
        with paused(*cluster.replicas):
            writer.execute("update written set value = 3 where id = 950")
            assert value(stranger, 950) == 0
            assert value(reader, 950) == 3
        cluster.until_caught_up()
        other.wait_until(lambda: reads_from_replica(other, reader, "user:1"))
        assert one.metric("pgweir_redis_operations_total", operation="announced") >= 1
        assert other.metric("pgweir_redis_operations_total", operation="asked") >= 1
        assert other.metric("pgweir_redis_connected") == 1
        # The mark has its position by now: who asks for the first time need not find it out.
        one.wait_until(
            lambda: one.metric("pgweir_redis_operations_total", operation="settled") >= 1
        )


def test_a_proxy_without_replicas_announces_as_well(
    cluster: PostgresCluster, tmp_path: Path, redis_server: RedisServer
) -> None:
    config = configuration(cluster.primary, redis={"url": redis_server.url})
    with (
        sharing(cluster, tmp_path, [redis_server.url]) as (other,),
        running(config, tmp_path) as one,
        psycopg.connect(one.dsn(), autocommit=True) as writer,
        keyed(other, "user:3") as reader,
        paused(*cluster.replicas),
    ):
        one.wait_until(lambda: one.metric("pgweir_redis_connected") == 1)
        writer.execute("/* pgweir: key=user:3 */ update written set value = 3 where id = 951")
        assert value(reader, 951) == 3


def test_what_is_read_under_a_key_is_the_primarys_while_redis_is_away(
    cluster: PostgresCluster, tmp_path: Path, redis_server: RedisServer
) -> None:
    with (
        sharing(cluster, tmp_path, [redis_server.url] * 2, auth={"admins": [APP.name]}) as weirs,
        keyed(weirs[0], "user:4") as writer,
        keyed(weirs[1], "user:4") as reader,
        psycopg.connect(weirs[1].dsn(), autocommit=True) as unkeyed,
    ):
        other = weirs[1]
        since = len(other.log)
        redis_server.kill()
        with paused(*cluster.replicas):
            writer.execute("update written set value = 4 where id = 952")
            assert value(reader, 952) == 4
            assert value(unkeyed, 952) == 0
        assert other.metric("pgweir_routed_total", reason="redis_unavailable") >= 1
        assert other.metric("pgweir_redis_connected") == 0
        assert other.metric("pgweir_redis_operations_total", operation="failed") >= 1
        other.wait_for_log(LOST, since=since)
        with psycopg.connect(
            other.dsn(APP.name, APP.password, "pgweir"), autocommit=True
        ) as console:
            events = console.execute("SHOW EVENTS").fetchall()
        assert any(LOST in str(event) for event in events)
        # It comes back without a restart, and has forgotten all it was told.
        redis_server.start()
        with paused(*cluster.replicas):
            writer.execute("update written set value = 5 where id = 952")
            other.wait_for_log(BACK, since=since)
            assert value(reader, 952) == 5
        until_keys_are_shared(other)


def test_who_alone_cannot_reach_redis_is_waited_for(
    cluster: PostgresCluster, tmp_path: Path, redis_server: RedisServer
) -> None:
    """A proxy cut off tells its clients only once the others know that they hear nothing of it."""
    # A user of its own, so that it alone can be shut out.
    redis_server.run("ACL", "SETUSER", "one", "on", ">opensesame", "~*", "+@all")
    urls = [redis_server.url.replace("//", "//one:opensesame@"), redis_server.url]
    with (
        sharing(cluster, tmp_path, urls) as (one, other),
        keyed(one, "user:5") as writer,
        keyed(other, "user:5") as reader,
        paused(*cluster.replicas),
    ):
        redis_server.run("ACL", "SETUSER", "one", "off")
        redis_server.run("CLIENT", "KILL", "USER", "one")
        for number in range(1, 4):
            writer.execute(f"update written set value = {number} where id = 953")
            assert value(reader, 953) == number
        assert one.metric("pgweir_redis_operations_total", operation="untold") == 3
        assert other.metric("pgweir_redis_connected") == 1
        assert other.metric("pgweir_routed_total", reason="redis_unavailable") >= 3
        since = len(one.log)
        redis_server.run("ACL", "SETUSER", "one", "on")
        one.wait_for_log(BACK, since=since)
        # What was left untold is made up for.
        assert value(reader, 953) == 3


def test_a_proxy_that_was_killed_is_not_waited_for_by_its_neighbours(
    cluster: PostgresCluster, tmp_path: Path, redis_server: RedisServer
) -> None:
    with sharing(cluster, tmp_path, [redis_server.url]) as (other,):
        gone = tmp_path / "gone"
        gone.mkdir()
        with (
            contextlib.suppress(AssertionError),
            sharing(cluster, gone, [redis_server.url]) as (one,),
        ):
            one.process.kill()
        until_keys_are_shared(other)


def test_the_url_is_shown_nowhere(
    cluster: PostgresCluster, tmp_path: Path, redis_server: RedisServer
) -> None:
    redis_server.kill()
    redis_server.password = "s3cr3t-of-redis"
    redis_server.start()
    auth = {"admins": [APP.name]}
    with sharing(cluster, tmp_path, [redis_server.url], auth=auth, log={"level": "debug"}) as (
        weir,
    ):
        redis_server.kill()
        weir.wait_for_log(LOST)
        with psycopg.connect(
            weir.dsn(APP.name, APP.password, "pgweir"), autocommit=True
        ) as console:
            shown = [console.execute(f"SHOW {what}").fetchall() for what in ("CONFIG", "EVENTS")]
        pages = [weir.http(path)[1] for path in ("/metrics", "/", "/api/status")]
        assert "s3cr3t" not in str(shown) + "".join(pages) + "\n".join(weir.log)
