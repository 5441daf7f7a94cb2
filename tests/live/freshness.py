"""A proxy that splits, in front of replicas that stop and go on at random: are reads stale?"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import psycopg

from tests.fixtures.pgweir import Pgweir, configuration, merged, running
from tests.fixtures.postgres import DATABASE, Postgres, PostgresCluster

ROWS = 1000


@contextlib.contextmanager
def written_table(cluster: PostgresCluster) -> Iterator[PostgresCluster]:
    """A table of our own in a shared cluster: rows of 0 to write to."""
    cluster.primary.execute(
        "create table written (id int primary key, value int not null);"
        f"insert into written select n, 0 from generate_series(0, {ROWS - 1}) n;"
        "grant all on written to public"
    )
    cluster.until_caught_up()
    yield cluster
    cluster.primary.execute("drop table written")
    cluster.until_caught_up()


@contextlib.contextmanager
def splitting(
    cluster: PostgresCluster,
    folder: Any,
    consistency: str,
    settings: dict[str, Any] | None = None,
    **replicas: Any,
) -> Iterator[Pgweir]:
    """A proxy that splits with this consistency, once reads go to replicas.

    settings: more of its configuration. replicas: of its cluster.
    """
    config = configuration(
        *cluster.nodes,
        clusters={
            "main": {
                "consistency": consistency,
                "replicas": {"max_lag": 0, "max_lag_bytes": 0, **replicas},
            }
        },
        databases={DATABASE: {"read_write_split": True, "pool_size": 6}},
    )
    with running(merged(config, settings or {}), folder) as weir:
        weir.wait_until(lambda: weir.metric("pgweir_node_up") == 3)
        with psycopg.connect(weir.dsn(), autocommit=True) as client:

            def reads_from_replica() -> bool:
                before = weir.metric("pgweir_queries_total", role="replica")
                client.execute("select 1")
                return weir.metric("pgweir_queries_total", role="replica") > before

            weir.wait_until(reads_from_replica, 30.0)
        yield weir


@contextlib.contextmanager
def paused(*replicas: Postgres) -> Iterator[None]:
    """Replicas replay nothing meanwhile."""
    for node in replicas:
        node.pause_replay()
    try:
        yield
    finally:
        for node in replicas:
            node.resume_replay()


@contextlib.contextmanager
def delayed(replica: Postgres, delay: str) -> Iterator[None]:
    """A replica replays what was committed only so long afterwards meanwhile, such as `300ms`."""
    replay_after(replica, delay)
    try:
        yield
    finally:
        replay_after(replica, "0")


def replay_after(replica: Postgres, delay: str) -> None:
    """From now on."""
    replica.execute(f"alter system set recovery_min_apply_delay = '{delay}'")
    replica.execute("select pg_reload_conf()")


@contextlib.asynccontextmanager
async def stop_and_go(cluster: PostgresCluster, chance: random.Random) -> AsyncIterator[None]:
    """Replay on the replicas is paused and resumed at random meanwhile, sometimes on both."""

    async def disturb() -> None:
        connections = [await asyncpg.connect(node.superuser_dsn) for node in cluster.replicas]
        try:
            while True:
                for connection in connections:
                    verb = chance.choice(("pause", "resume"))
                    await connection.execute(f"select pg_wal_replay_{verb}()")
                await asyncio.sleep(chance.uniform(0.02, 0.25))
        finally:
            for connection in connections:
                await connection.execute("select pg_wal_replay_resume()")
                await connection.close()

    task = asyncio.create_task(disturb())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
