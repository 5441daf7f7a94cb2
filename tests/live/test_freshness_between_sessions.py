"""What one session writes, others read: all under `global`, under a key those that share it."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import PostgresCluster
from tests.live.conversation import SYNC, Wire, address_of, bind, execute, parse, query
from tests.live.freshness import paused, splitting, stop_and_go, written_table

WORKERS = 2
GROUPS = 2
READERS = 3
WRITES = 30
# With so many connections, each process has some, but for one run in 2048.
CONNECTIONS = 12


@pytest.fixture(scope="module")
def cluster(pg_replicated: PostgresCluster) -> Iterator[PostgresCluster]:
    with written_table(pg_replicated) as cluster:
        yield cluster


@contextlib.asynccontextmanager
async def connected(
    weirs: Sequence[Pgweir], count: int, key: str | None = None
) -> AsyncIterator[list[Any]]:
    """So many sessions, dealt out to these proxies, that share a key."""
    async with contextlib.AsyncExitStack() as stack:
        connections = []
        for number in range(count):
            connection = await asyncpg.connect(weirs[number % len(weirs)].dsn())
            stack.push_async_callback(connection.close)
            if key is not None:
                await connection.execute(f"set pgweir.consistency_key = '{key}'")
            connections.append(connection)
        yield connections


async def _write_here_read_there(
    weirs: Sequence[Pgweir], row: int, chance: random.Random, key: str | None
) -> int:
    """Whoever has written tells the others, who read at once. Result: how many saw older values."""
    stale = 0
    async with connected(weirs, READERS + 1, key) as sessions:
        for value in range(1, WRITES + 1):
            writer, *readers = chance.sample(sessions, len(sessions))
            await writer.execute("update written set value = $1 where id = $2", value, row)
            stale += await _count_other(readers, row, value)
            if chance.random() < 0.2:
                await asyncio.sleep(chance.uniform(0, 0.6))
                stale += await _count_other(sessions, row, value)
    return stale


async def _count_other(sessions: Sequence[Any], row: int, value: int) -> int:
    """How many sessions see another value."""
    read = "select value from written where id = $1"
    seen = await asyncio.gather(*(each.fetchval(read, row) for each in sessions))
    return sum(each != value for each in seen)


async def count_stale(
    cluster: PostgresCluster, weirs: Sequence[Pgweir], seed: int, *, is_keyed: bool
) -> int:
    """Groups of sessions write and read each other's rows. Result: how many reads were stale."""
    async with stop_and_go(cluster, random.Random(seed)):
        return sum(
            await asyncio.gather(
                *(
                    _write_here_read_there(
                        weirs,
                        100 * seed + group,
                        random.Random(seed + group),
                        f"user:{seed}:{group}" if is_keyed else None,
                    )
                    for group in range(GROUPS)
                )
            )
        )


def replica_reads(weirs: Sequence[Pgweir]) -> float:
    return sum(weir.metric("pgweir_queries_total", role="replica") for weir in weirs)


async def assert_never_stale(
    cluster: PostgresCluster, weirs: Sequence[Pgweir], *, is_keyed: bool
) -> None:
    """No read is stale, though replicas do answer; on a busy machine only in another round."""
    reads = replica_reads(weirs)
    for seed in range(1, 6):
        assert await count_stale(cluster, weirs, seed, is_keyed=is_keyed) == 0
        if replica_reads(weirs) > reads:
            return
    raise AssertionError("no replica was ever fresh enough")


@pytest.mark.parametrize("workers", [1, WORKERS])
@pytest.mark.parametrize("consistency", ["global", "key"])
async def test_no_session_reads_older_than_another_wrote(
    cluster: PostgresCluster, tmp_path: Path, consistency: str, workers: int
) -> None:
    with splitting(cluster, tmp_path, consistency, {"workers": workers}) as weir:
        await assert_never_stale(cluster, [weir], is_keyed=consistency == "key")


async def test_without_a_key_others_are_read_as_old_as_replicas_are(
    cluster: PostgresCluster, tmp_path: Path
) -> None:
    """What the tests of keys look for does show without."""
    with splitting(cluster, tmp_path, "session") as weir:
        assert sum([await count_stale(cluster, [weir], seed, is_keyed=False) for seed in (6, 7)])


@pytest.mark.parametrize("consistency", ["global", "key"])
async def test_what_one_process_has_seen_written_the_others_know(
    cluster: PostgresCluster, tmp_path: Path, consistency: str
) -> None:
    read = "select value from written where id = 997"
    key = "user:997" if consistency == "key" else None
    with splitting(cluster, tmp_path, consistency, {"workers": WORKERS}) as weir:
        async with connected([weir], CONNECTIONS, key) as sessions:
            processes = {each.get_server_pid() % WORKERS for each in sessions}
            assert processes == set(range(WORKERS))
            with paused(*cluster.replicas):
                for value, writer in enumerate(sessions, 1):
                    await writer.execute(f"update written set value = {value} where id = 997")
                    assert [await each.fetchval(read) for each in sessions] == [value] * CONNECTIONS


async def test_under_none_sessions_see_what_the_replica_has(
    cluster: PostgresCluster, tmp_path: Path
) -> None:
    read = "select value from written where id = 996"
    with splitting(cluster, tmp_path, "none") as weir:
        async with connected([weir], 2, "user:996") as (writer, reader):
            with paused(*cluster.replicas):
                await writer.execute("update written set value = 7 where id = 996")
                assert await reader.fetchval(read) == 0


def _hinted(key: str, sql: str) -> str:
    return f"/* pgweir: key={key} */ {sql}"


def _write(row: int) -> str:
    return f"update written set value = 5 where id = {row}"


def _extended(sql: str) -> bytes:
    return parse(sql) + bind() + execute()


# How statements with different keys may come together: each of them counts.
TOGETHER = {
    "a pipeline of units": lambda keys: [_extended(sql) + SYNC for sql in keys],
    "a unit": lambda keys: [*map(_extended, keys), SYNC],
    "a transaction": lambda keys: [
        query("begin"),
        *(_extended(sql) + SYNC for sql in keys),
        query("commit"),
    ],
    "a transaction of queries": lambda keys: [query("begin"), *map(query, keys), query("commit")],
    "queries": lambda keys: list(map(query, keys)),
}


@pytest.mark.parametrize("together", TOGETHER)
def test_each_key_that_hints_name_is_marked(
    cluster: PostgresCluster, tmp_path: Path, together: str
) -> None:
    rows = [901, 902, 903]
    keys = [f"{together}:{row}" for row in rows]
    cluster.primary.execute("update written set value = 0 where id in (901, 902, 903)")
    cluster.until_caught_up()
    said = TOGETHER[together]([_hinted(k, _write(r)) for k, r in zip(keys, rows, strict=True)])
    with (
        splitting(cluster, tmp_path, "key") as weir,
        Wire.connect(address_of(weir)) as wire,
        psycopg.connect(weir.dsn(), autocommit=True) as other,
        paused(*cluster.replicas),
    ):
        # One after the other: nothing of it is answered before all has been sent.
        wire.send(b"".join(said))
        wire.until_ready(sum(part.count(SYNC) + part.startswith(b"Q") for part in said))
        for key, row in zip(keys, rows, strict=True):
            read = f"select value from written where id = {row}"
            # Whoever does not name the key reads what the replica has.
            assert other.execute(read).fetchone() == (0,)
            assert other.execute(_hinted(key, read)).fetchone() == (5,)


def test_a_hint_before_begin_names_the_key_of_the_transaction(
    cluster: PostgresCluster, tmp_path: Path
) -> None:
    read = "select value from written where id = 904"
    with (
        splitting(cluster, tmp_path, "key") as weir,
        psycopg.connect(weir.dsn(), autocommit=True) as writer,
        psycopg.connect(weir.dsn(), autocommit=True) as other,
        paused(*cluster.replicas),
    ):
        writer.execute(_hinted("begun", "begin"))
        writer.execute("update written set value = 5 where id = 904")
        writer.execute("commit")
        assert other.execute(read).fetchone() == (0,)
        assert other.execute(_hinted("begun", read)).fetchone() == (5,)
