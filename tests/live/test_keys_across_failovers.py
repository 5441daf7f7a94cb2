"""What is known of keys outlives the primary it was written to: nothing stale, and nobody stuck.

Two proxies share a Redis and agree in etcd on who promotes; both are real, and so is PostgreSQL.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.fixtures.agreement import Agreement
from tests.fixtures.console import AUTH
from tests.fixtures.pgweir import Pgweir, configuration, merged, running
from tests.fixtures.postgres import (
    DATABASE,
    SYNCHRONOUS,
    Background,
    Postgres,
    PostgresCluster,
    start_replicated,
)
from tests.fixtures.redis import RedisServer
from tests.live.arena import Arena, promoting
from tests.live.freshness import paused
from tests.live.pair import until_settled
from tests.live.test_keys_across_proxies import (
    keyed,
    reads_from_replica,
    until_keys_are_shared,
    value,
)

LIMIT_S = 60.0
SESSIONS = 3


@contextlib.contextmanager
def two_that_share(
    cluster: PostgresCluster, folder: Path, agreement: Agreement, redis: RedisServer
) -> Iterator[tuple[Pgweir, Pgweir]]:
    """Two proxies with keys and failover, once reads under keys go to replicas."""
    failover = {"proxies": 2, "coordinator": agreement.setting, "max_loss_bytes": "64MiB"}
    main = {
        "consistency": "key",
        "replicas": {"max_lag": 0, "max_lag_bytes": 0},
        "failover": failover,
    }
    config = merged(
        configuration(*cluster.nodes, **promoting(), auth=AUTH),
        {
            "clusters": {"main": main},
            "databases": {DATABASE: {"read_write_split": True}},
            "redis": {"url": redis.url},
        },
    )
    with running(config, folder) as one, running(config, folder) as other:
        until_settled(cluster, one, other)
        for weir in (one, other):
            until_keys_are_shared(weir)
        yield one, other


class Group:
    """Sessions through both proxies that share a key: one writes, whoever reads next must see it.

    acknowledged: the newest value of which the writer was told.
    """

    def __init__(self, weirs: tuple[Pgweir, Pgweir], row: int, seed: int) -> None:
        self._weirs, self._row = weirs, row
        self._chance = random.Random(seed)
        self.acknowledged = self.written = 0
        self.stale: list[tuple[int, int, int]] = []
        self.reads = self.lost = 0

    async def run(self, ended: asyncio.Event) -> None:
        sessions = []
        for number in range(2 * SESSIONS):
            session = await asyncpg.connect(self._weirs[number % 2].dsn(), timeout=LIMIT_S)
            await session.execute(f"set pgweir.consistency_key = 'group:{self._row}'")
            sessions.append(session)
        while not ended.is_set():
            writer, *readers = self._chance.sample(sessions, len(sessions))
            self.written += 1
            try:
                await writer.execute(
                    "update written set value = $1 where id = $2", self.written, self._row
                )
                self.acknowledged = self.written
            except asyncpg.PostgresError:
                # Whether it was done nobody knows.
                self.lost += 1
            await asyncio.gather(*(self._read(each) for each in readers))
            if self._chance.random() < 0.1:
                # By then replicas have it.
                await asyncio.sleep(self._chance.uniform(0.0, 0.6))
                await asyncio.gather(*(self._read(each) for each in sessions))
        for session in sessions:
            await session.close()

    async def _read(self, session: Any) -> None:
        least = self.acknowledged
        try:
            found = await session.fetchval("select value from written where id = $1", self._row)
        except asyncpg.PostgresConnectionError:
            # It was the primary's, when that died.
            self.lost += 1
            return
        self.reads += 1
        if not least <= found <= self.written:
            self.stale.append((least, found, self.written))


@pytest.fixture(scope="module")
def synchronous(postgres_background: Background) -> Iterator[PostgresCluster]:
    cluster = start_replicated(postgres_background, replicas=2, synchronous=SYNCHRONOUS)
    fill(cluster)
    yield cluster
    cluster.close()


def fill(cluster: PostgresCluster) -> None:
    cluster.primary.execute(
        "create table written (id int primary key, value int not null);"
        "insert into written select n, 0 from generate_series(1, 9) n;"
        "grant all on written to public"
    )
    cluster.until_caught_up()


def primary_of(cluster: PostgresCluster) -> Postgres:
    return Arena.primary_among([node for node in cluster.nodes if node.node.pid is not None])


async def test_no_read_under_a_key_is_stale_while_the_primary_dies(
    synchronous: PostgresCluster, in_etcd: Agreement, redis_server: RedisServer, tmp_path: Path
) -> None:
    cluster = synchronous
    with two_that_share(cluster, tmp_path, in_etcd, redis_server) as weirs:
        groups = [Group(weirs, row, seed=row) for row in (1, 2, 3)]
        ended = asyncio.Event()

        async def until_all(have: Callable[[Group], bool]) -> None:
            async with asyncio.timeout(LIMIT_S):
                while not all(have(group) for group in groups):  # noqa: ASYNC110 -- no event
                    await asyncio.sleep(0.05)

        async def until_replicas_answer() -> None:
            for weir in weirs:
                least = weir.metric("pgweir_queries_total", role="replica") + 10
                await asyncio.to_thread(
                    weir.wait_until,
                    lambda weir=weir, least=least: (
                        weir.metric("pgweir_queries_total", role="replica") > least
                    ),
                    LIMIT_S,
                )

        async with asyncio.TaskGroup() as tasks:
            for group in groups:
                tasks.create_task(group.run(ended))
            await until_all(lambda group: group.acknowledged > 30)
            await until_replicas_answer()
            old = primary_of(cluster)
            await asyncio.to_thread(old.kill)
            killed = [group.written for group in groups]
            await until_all(lambda group: group.acknowledged > killed[groups.index(group)] + 30)
            await until_replicas_answer()
            ended.set()
        assert [group.stale for group in groups] == [[]] * len(groups)
        assert sum(weir.metric("pgweir_failovers_total", result="promoted") for weir in weirs) == 1
        await asyncio.to_thread(cluster.rebuild, old)
        until_settled(cluster, *weirs)


@pytest.fixture(scope="module")
def asynchronous(postgres_background: Background) -> Iterator[PostgresCluster]:
    cluster = start_replicated(postgres_background, replicas=2)
    fill(cluster)
    cluster.primary.execute("create table lost (text text)")
    yield cluster
    cluster.close()


def test_a_position_that_the_new_primary_has_not_reached_is_not_waited_for(
    asynchronous: PostgresCluster, in_etcd: Agreement, redis_server: RedisServer, tmp_path: Path
) -> None:
    """What was written under the key is lost with the old primary; its position is far ahead."""
    cluster, old = asynchronous, asynchronous.primary
    with (
        two_that_share(cluster, tmp_path, in_etcd, redis_server) as (one, other),
        keyed(one, "user:1") as writer,
        keyed(other, "user:1") as reader,
    ):
        for replica in cluster.replicas:
            # The last word holds. Whoever leads it to a new primary changes that.
            nowhere = (replica.value("show primary_conninfo") + " port=1").replace("'", "''")
            replica.execute(f"alter system set primary_conninfo = '{nowhere}'")
            replica.execute("select pg_reload_conf()")
        one.wait_until(lambda: not old.value("select count(*) from pg_stat_replication"), LIMIT_S)
        old.execute("insert into lost select md5(n::text) from generate_series(1, 99999) n")
        writer.execute("update written set value = 1 where id = 1")
        settled = "pgweir_redis_operations_total"
        one.wait_until(lambda: one.metric(settled, operation="settled") >= 1)
        assert value(reader, 1) == 1
        position = old.value("select pg_current_wal_lsn() - '0/0'")
        old.kill()
        # It was acknowledged by the primary alone.
        assert value(reader, 1) == value(writer, 1) == 0
        new = primary_of(cluster)

        def until_replicas_answer() -> None:
            for weir, client in ((one, writer), (other, reader)):
                weir.wait_until(
                    lambda weir=weir, client=client: reads_from_replica(weir, client, "user:1"),
                    20.0,
                )

        until_replicas_answer()
        assert value(reader, 1) == value(writer, 1) == 0
        assert new.value("select pg_current_wal_lsn() - '0/0'") < position
        with paused(*(node for node in cluster.replicas if node != new)):
            writer.execute("update written set value = 2 where id = 1")
            assert value(reader, 1) == value(writer, 1) == 2
            reader.execute("update written set value = 3 where id = 1")
            assert value(reader, 1) == value(writer, 1) == 3
        until_replicas_answer()
        assert value(reader, 1) == value(writer, 1) == 3
