"""asyncpg in transaction mode, its clients sharing one or two server connections."""

import asyncio
import contextlib
import datetime
import decimal
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest

from tests.fixtures.pgweir import Pgweir, running, with_an_older
from tests.fixtures.postgres import DATABASE, Postgres

CLIENTS = 8

EACH = {"cluster": "main", "dbname": DATABASE}
DATABASES = {
    "one": {**EACH, "pool_size": 1},
    "two": {**EACH, "pool_size": 2},
    "shared": {**EACH, "pool_size": 2, "share_unnamed": True},
    "few": {**EACH, "pool_size": 2, "max_prepared_statements": 3},
}


@pytest.fixture(scope="module")
def weir(
    pg18: Postgres, pg16: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pgweir]:
    config = with_an_older(pg18, pg16, DATABASES)
    with running(config, tmp_path_factory.mktemp("asyncpg")) as weir:
        yield weir


@pytest.fixture(params=(*DATABASES, "older"))
def dsn(request: pytest.FixtureRequest, weir: Pgweir) -> str:
    return weir.dsn(database=request.param)


@contextlib.asynccontextmanager
async def connected(dsn: str, **options: Any) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn, **options)
    try:
        yield connection
    finally:
        await connection.close()


async def together(dsn: str, work: Callable[[Any, int], Awaitable[None]], **options: Any) -> None:
    """The same work by several clients at the same time."""

    async def one(number: int) -> None:
        async with connected(dsn, **options) as connection:
            await work(connection, number)

    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(one(number))


@pytest.fixture
async def table(dsn: str) -> AsyncIterator[str]:
    async with connected(dsn) as connection:
        await connection.execute("DROP TABLE IF EXISTS by_asyncpg")
        await connection.execute("CREATE TABLE by_asyncpg (client int, n int, v text)")
        yield "by_asyncpg"
        await connection.execute("DROP TABLE by_asyncpg")


async def test_values_of_all_kinds_come_back_as_they_were(dsn: str) -> None:
    values: dict[str, Any] = {
        "int": 42,
        "bigint": -(2**62),
        "text": "grüße ☃",
        "bytea": bytes(range(256)),
        "numeric": decimal.Decimal("3.1415926535897932384626"),
        "timestamptz": datetime.datetime(2020, 1, 2, 3, 4, 5, 6, datetime.UTC),
        "int[]": [1, None, 3],
        "bool": None,
        "jsonb": '{"a": [1, 2]}',
    }
    async with connected(dsn) as connection:
        for kind, value in values.items():
            assert await connection.fetchval(f"SELECT $1::{kind}", value) == value


async def test_every_client_gets_its_own_rows(dsn: str) -> None:
    async def work(connection: Any, number: int) -> None:
        for turn in range(40):
            rows = await connection.fetch(
                "SELECT $1::int AS c, $2::int AS t FROM generate_series(1, 3)", number, turn
            )
            assert [tuple(row) for row in rows] == [(number, turn)] * 3

    await together(dsn, work)


async def test_prepared_statements_outlive_their_transactions(dsn: str) -> None:
    async def work(connection: Any, number: int) -> None:
        prepared = [
            await connection.prepare(f"SELECT {number} AS c, $1::int + {which} AS v")
            for which in range(4)
        ]
        for turn in range(10):
            for which, statement in enumerate(prepared):
                assert tuple(await statement.fetchrow(turn)) == (number, turn + which)

    await together(dsn, work)


async def test_the_statement_cache_may_be_off(dsn: str) -> None:
    async def work(connection: Any, number: int) -> None:
        for turn in range(20):
            assert await connection.fetchval("SELECT $1::int", number * 100 + turn) == (
                number * 100 + turn
            )

    await together(dsn, work, statement_cache_size=0)


async def test_a_small_statement_cache_closes_statements(dsn: str) -> None:
    async def work(connection: Any, number: int) -> None:
        for turn in range(30):
            text = f"SELECT {turn % 7}, $1::int"
            assert tuple(await connection.fetchrow(text, number)) == (turn % 7, number)

    await together(dsn, work, statement_cache_size=2)


async def test_transactions_keep_what_they_wrote(dsn: str, table: str) -> None:
    async def work(connection: Any, number: int) -> None:
        for turn in range(10):
            with contextlib.suppress(ZeroDivisionError):
                async with connection.transaction():
                    await connection.execute(f"INSERT INTO {table} VALUES ($1, $2)", number, turn)
                    seen = await connection.fetchval(
                        f"SELECT count(*) FROM {table} WHERE client = $1 AND n = $2", number, turn
                    )
                    assert seen == 1
                    if turn % 2:
                        raise ZeroDivisionError

    await together(dsn, work)
    async with connected(dsn) as connection:
        rows = await connection.fetch(f"SELECT client, count(*) FROM {table} GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in rows] == [(number, 5) for number in range(CLIENTS)]


@pytest.mark.parametrize("isolation", ["serializable", "repeatable_read", "read_committed"])
async def test_transactions_have_the_modes_that_were_asked_for(dsn: str, isolation: str) -> None:
    async with connected(dsn) as connection:
        async with connection.transaction(isolation=isolation, readonly=True):
            level = await connection.fetchval("SHOW transaction_isolation")
            assert level == isolation.replace("_", " ")
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await connection.execute("DELETE FROM pgbench_tellers WHERE false")
        assert await connection.fetchval("SHOW transaction_read_only") == "off"


async def test_nested_transactions_are_savepoints(dsn: str, table: str) -> None:
    async with connected(dsn) as connection:
        async with connection.transaction():
            await connection.execute(f"INSERT INTO {table} VALUES (1)")
            with pytest.raises(asyncpg.DivisionByZeroError):
                async with connection.transaction():
                    await connection.execute(f"INSERT INTO {table} VALUES (2)")
                    await connection.fetchval("SELECT 1/0")
            await connection.execute(f"INSERT INTO {table} VALUES (3)")
        rows = await connection.fetch(f"SELECT client FROM {table} ORDER BY 1")
    assert [row[0] for row in rows] == [1, 3]


async def test_cursors_read_in_pieces(dsn: str) -> None:
    async def work(connection: Any, number: int) -> None:
        async with connection.transaction():
            seen = [
                row[0]
                async for row in connection.cursor(
                    "SELECT $1::int + g FROM generate_series(1, 100) g", number, prefetch=7
                )
            ]
        assert seen == [number + g for g in range(1, 101)]

    await together(dsn, work)


async def test_a_cursor_can_be_moved_and_fetched_from(dsn: str) -> None:
    async with connected(dsn) as connection, connection.transaction():
        cursor = await connection.cursor("SELECT generate_series(1, 20)")
        assert [row[0] for row in await cursor.fetch(3)] == [1, 2, 3]
        assert await cursor.forward(5) == 5
        assert (await cursor.fetchrow())[0] == 9


async def test_copy_in_and_out(dsn: str, table: str) -> None:
    async def work(connection: Any, number: int) -> None:
        records = [(number, n, f"v{n}") for n in range(200)]
        tag = await connection.copy_records_to_table(table, records=records)
        assert tag == "COPY 200"
        out = io.BytesIO()
        await connection.copy_from_query(
            f"SELECT n FROM {table} WHERE client = $1 ORDER BY n", number, output=out
        )
        assert out.getvalue() == b"".join(b"%d\n" % n for n in range(200))

    await together(dsn, work)


async def test_copy_that_fails_leaves_the_connection_usable(dsn: str, table: str) -> None:
    async def work(connection: Any, number: int) -> None:
        for turn in range(3):
            with pytest.raises(asyncpg.BadCopyFileFormatError):
                await connection.copy_to_table(table, source=io.BytesIO(b"1\t2\tx\ty\n" * 1000))
            assert await connection.fetchval("SELECT $1::int", turn) == turn

    await together(dsn, work)


async def test_executemany_does_all_or_nothing(dsn: str, table: str) -> None:
    async def work(connection: Any, number: int) -> None:
        rows = [(number, n) for n in range(100)]
        await connection.executemany(f"INSERT INTO {table} VALUES ($1, $2)", rows)
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.executemany(
                f"INSERT INTO {table} VALUES ($1, 10 / (50 - $2::int))",
                [(number, n) for n in range(100)],
            )

    await together(dsn, work)
    async with connected(dsn) as connection:
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 100 * CLIENTS


async def test_fetchmany_returns_rows_of_many_runs(dsn: str) -> None:
    async with connected(dsn) as connection:
        rows = await connection.fetchmany("SELECT $1::int * 2", [(n,) for n in range(50)])
    assert [row[0] for row in rows] == [2 * n for n in range(50)]


async def test_server_settings_are_in_force_for_each_client(dsn: str) -> None:
    async def ask(number: int) -> None:
        wanted = {"statement_timeout": str(1001 + number), "application_name": f"client {number}"}
        async with connected(dsn, server_settings=wanted) as connection:
            for _ in range(10):
                assert await connection.fetchval("SHOW statement_timeout") == f"{1001 + number}ms"
                assert await connection.fetchval("SHOW application_name") == f"client {number}"

    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(ask(number))


async def test_errors_arrive_as_what_they_are(dsn: str) -> None:
    async def work(connection: Any, number: int) -> None:
        for _ in range(10):
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.fetchval("SELECT 1 / $1::int", 0)
            with pytest.raises(asyncpg.UndefinedTableError):
                await connection.fetch("SELECT * FROM nowhere")
            with pytest.raises(asyncpg.PostgresSyntaxError):
                await connection.execute("SELEKT")
            assert await connection.fetchval("SELECT $1::int", number) == number

    await together(dsn, work)


async def test_a_timeout_cancels_the_statement_and_nothing_else(dsn: str) -> None:
    async def work(connection: Any, number: int) -> None:
        if number % 4 == 0:
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await connection.fetchval("SELECT pg_sleep(60)", timeout=0.1)
                assert await connection.fetchval("SELECT $1::int", number) == number
            return
        for turn in range(20):
            assert await connection.fetchval("SELECT $1::int", turn) == turn

    await together(dsn, work)


async def test_a_pool_of_clients(dsn: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=2, max_size=6) as pool:

        async def one(number: int) -> None:
            async with pool.acquire() as connection, connection.transaction():
                assert await connection.fetchval("SELECT $1::int", number) == number

        await asyncio.gather(*(one(number) for number in range(60)))


async def test_a_large_result_arrives_whole(dsn: str) -> None:
    async with connected(dsn) as connection:
        rows = await connection.fetch("SELECT i, repeat('r', 500) FROM generate_series(1, 20000) i")
    assert [row[0] for row in rows] == list(range(1, 20001))


async def test_notices_reach_the_client_that_caused_them(dsn: str) -> None:
    async def work(connection: Any, number: int) -> None:
        heard: list[str] = []
        connection.add_log_listener(lambda _, message: heard.append(message.message))
        for turn in range(5):
            await connection.execute(
                f"DO $$ BEGIN RAISE NOTICE 'client {number} turn {turn}'; END $$"
            )
        # Listeners are called by the loop.
        await connection.fetchval("SELECT 1")
        assert heard == [f"client {number} turn {turn}" for turn in range(5)]

    await together(dsn, work)


async def test_types_are_looked_up_through_the_proxy(dsn: str, table: str) -> None:
    async with connected(dsn) as connection:
        await connection.execute("DROP TYPE IF EXISTS mood")
        await connection.execute("CREATE TYPE mood AS ENUM ('fine', 'bad')")
        try:
            await connection.reload_schema_state()
            assert await connection.fetchval("SELECT $1::mood[]", ["fine"]) == ["fine"]
        finally:
            await connection.execute("DROP TYPE mood")
