"""psycopg 3 through the proxy in transaction mode: sync, async, pipelines, prepared, COPY."""

import asyncio
import datetime
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.fixtures.pgweir import Pgweir, running, with_an_older
from tests.fixtures.postgres import DATABASE, Postgres

CLIENTS = 6

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
    with running(config, tmp_path_factory.mktemp("psycopg3")) as weir:
        yield weir


@pytest.fixture(params=(*DATABASES, "older"))
def dsn(request: pytest.FixtureRequest, weir: Pgweir) -> str:
    return weir.dsn(database=request.param)


def together(dsn: str, work: Callable[[Any, int], None], **options: Any) -> None:
    """The same work by several clients at the same time."""
    failures: list[BaseException] = []

    def one(number: int) -> None:
        try:
            with psycopg.connect(dsn, **options) as connection:
                work(connection, number)
        except BaseException as error:  # noqa: BLE001 -- shown by the test
            failures.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


async def together_async(
    dsn: str, work: Callable[[Any, int], Awaitable[None]], **options: Any
) -> None:
    """The same work by several clients on one loop."""

    async def one(number: int) -> None:
        async with await psycopg.AsyncConnection.connect(dsn, **options) as connection:
            await work(connection, number)

    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(one(number))


@pytest.fixture
def table(dsn: str) -> Iterator[str]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS by_psycopg")
        connection.execute("CREATE TABLE by_psycopg (client int, n int, v text)")
        yield "by_psycopg"
        connection.execute("DROP TABLE by_psycopg")


@pytest.mark.parametrize("threshold", [0, 2, None])
@pytest.mark.parametrize("autocommit", [True, False])
def test_every_client_gets_its_own_rows(dsn: str, threshold: int | None, autocommit: bool) -> None:
    def work(connection: Any, number: int) -> None:
        for turn in range(30):
            row = connection.execute("SELECT %s::int, %s::int", (number, turn)).fetchone()
            assert row == (number, turn)
            if not autocommit:
                connection.commit()

    together(dsn, work, prepare_threshold=threshold, autocommit=autocommit)


@pytest.mark.parametrize("threshold", [0, 2, None])
async def test_every_async_client_gets_its_own_rows(dsn: str, threshold: int | None) -> None:
    async def work(connection: Any, number: int) -> None:
        for turn in range(30):
            cursor = await connection.execute("SELECT %s::int, %s::int", (number, turn))
            assert await cursor.fetchone() == (number, turn)
            await connection.commit()

    await together_async(dsn, work, prepare_threshold=threshold)


def test_more_texts_than_the_driver_keeps_prepared(dsn: str) -> None:
    def work(connection: Any, number: int) -> None:
        connection.prepared_max = 4
        for turn in range(60):
            which = turn % 9
            row = connection.execute(f"SELECT {which}, %s::int", (number,)).fetchone()
            assert row == (which, number)

    together(dsn, work, prepare_threshold=0, autocommit=True)


def test_binary_and_text_results(dsn: str) -> None:
    when = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)

    def work(connection: Any, number: int) -> None:
        for binary in (True, False) * 5:
            with connection.cursor(binary=binary) as cursor:
                cursor.execute(
                    "SELECT %s::int, %s::timestamptz, %b::bytea", (number, when, b"\0\1\xff")
                )
                assert cursor.fetchone() == (number, when, b"\0\1\xff")

    together(dsn, work, prepare_threshold=1, autocommit=True)


def test_pipelines(dsn: str) -> None:
    def work(connection: Any, number: int) -> None:
        for _ in range(5):
            with connection.pipeline():
                cursors = [
                    connection.execute("SELECT %s::int + %s::int", (number, n)) for n in range(20)
                ]
            assert [cursor.fetchone() for cursor in cursors] == [(number + n,) for n in range(20)]

    together(dsn, work, autocommit=True)


def test_pipelines_in_transactions(dsn: str, table: str) -> None:
    def work(connection: Any, number: int) -> None:
        for turn in range(5):
            with connection.pipeline(), connection.transaction():
                for n in range(10):
                    connection.execute(
                        f"INSERT INTO {table} VALUES (%s, %s)", (number, turn * 10 + n)
                    )
                row = connection.execute(
                    f"SELECT count(*) FROM {table} WHERE client = %s", (number,)
                )
                assert row.fetchone() == ((turn + 1) * 10,)

    together(dsn, work)


def test_a_pipeline_with_an_error_is_aborted_from_there(dsn: str, table: str) -> None:
    def work(connection: Any, number: int) -> None:
        for _ in range(5):
            with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline():
                for n in range(10):
                    connection.execute("SELECT 100 / (%s::int - 5)", (n,))
            row = connection.execute("SELECT %s::int", (number,)).fetchone()
            assert row == (number,)

    together(dsn, work, autocommit=True)


def failing(connection: Any, pipeline: Any, sql: str) -> str | None:
    """The SQLSTATE of a statement that fails in a pipeline, whenever that comes to be known."""
    found: list[str | None] = []
    for step in (lambda: connection.execute(sql), pipeline.sync):
        try:
            step()
        except psycopg.Error as error:
            found.append(error.sqlstate)
    return found[0] if found else None


def test_pipelines_with_synchronisation_in_the_middle(dsn: str) -> None:
    def work(connection: Any, number: int) -> None:
        with connection.pipeline() as pipeline:
            assert failing(connection, pipeline, "SELECT * FROM nowhere") == "42P01"
            cursors = []
            for n in range(30):
                cursors.append(connection.execute("SELECT %s::int", (number * 100 + n,)))
                if n % 7 == 0:
                    pipeline.sync()
            assert [cursor.fetchone() for cursor in cursors] == [
                (number * 100 + n,) for n in range(30)
            ]

    together(dsn, work, autocommit=True, prepare_threshold=0)


def test_one_bad_text_over_and_over_in_a_pipeline(dsn: str) -> None:
    def work(connection: Any, number: int) -> None:
        for _ in range(5):
            with connection.pipeline() as pipeline:
                for _ in range(5):
                    assert failing(connection, pipeline, "SELECT nope") == "42703"
        assert connection.execute("SELECT %s::int", (number,)).fetchone() == (number,)

    together(dsn, work, autocommit=True, prepare_threshold=0)


async def test_async_pipelines(dsn: str) -> None:
    async def work(connection: Any, number: int) -> None:
        for _ in range(5):
            async with connection.pipeline():
                cursors = [
                    await connection.execute("SELECT %s::int", (number + n,)) for n in range(20)
                ]
            assert [await cursor.fetchone() for cursor in cursors] == [
                (number + n,) for n in range(20)
            ]

    await together_async(dsn, work, autocommit=True)


def test_executemany_with_results(dsn: str, table: str) -> None:
    def work(connection: Any, number: int) -> None:
        with connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO {table} VALUES (%s, %s) RETURNING n",
                [(number, n) for n in range(50)],
                returning=True,
            )
            seen = []
            while True:
                seen.append(cursor.fetchone()[0])
                if not cursor.nextset():
                    break
        assert seen == list(range(50))

    together(dsn, work)


def test_transactions_keep_what_they_wrote(dsn: str, table: str) -> None:
    def work(connection: Any, number: int) -> None:
        for turn in range(10):
            try:
                with connection.transaction():
                    connection.execute(f"INSERT INTO {table} VALUES (%s, %s)", (number, turn))
                    with connection.transaction(force_rollback=True):
                        connection.execute(f"INSERT INTO {table} VALUES (%s, -1)", (number,))
                    if turn % 2:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass
        row = connection.execute(
            f"SELECT count(*), min(n) FROM {table} WHERE client = %s", (number,)
        ).fetchone()
        assert row == (5, 0)

    together(dsn, work, autocommit=True)


def test_isolation_levels(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.read_only = True
        connection.deferrable = True
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("serializable",)
        assert connection.execute("SHOW transaction_read_only").fetchone() == ("on",)
        assert connection.execute("SHOW transaction_deferrable").fetchone() == ("on",)
        connection.commit()


def test_server_side_cursors(dsn: str) -> None:
    def work(connection: Any, number: int) -> None:
        for binary in (True, False):
            with connection.transaction(), connection.cursor(name="c", binary=binary) as cursor:
                cursor.itersize = 13
                cursor.execute("SELECT %s::int + g FROM generate_series(1, 100) g", (number,))
                assert [row[0] for row in cursor] == [number + g for g in range(1, 101)]

    together(dsn, work)


def test_rows_can_be_streamed(dsn: str) -> None:
    def work(connection: Any, number: int) -> None:
        cursor = connection.cursor(row_factory=dict_row)
        rows = cursor.stream("SELECT %s::int + g AS n FROM generate_series(1, 500) g", (number,))
        assert [row["n"] for row in rows] == [number + g for g in range(1, 501)]

    together(dsn, work, autocommit=True)


@pytest.mark.parametrize("form", ["text", "binary"])
def test_copy_in_and_out(dsn: str, table: str, form: str) -> None:
    def work(connection: Any, number: int) -> None:
        options = "" if form == "text" else "(FORMAT binary)"
        with connection.cursor() as cursor:
            with cursor.copy(f"COPY {table} (client, n, v) FROM STDIN {options}") as copy:
                copy.set_types(["int4", "int4", "text"])
                for n in range(300):
                    copy.write_row((number, n, f"v{n}"))
            assert cursor.rowcount == 300
            source = f"SELECT n, v FROM {table} WHERE client = {number} ORDER BY n"
            with cursor.copy(f"COPY ({source}) TO STDOUT {options}") as copy:
                copy.set_types(["int4", "text"])
                assert list(copy.rows()) == [(n, f"v{n}") for n in range(300)]

    together(dsn, work)


async def test_async_copy(dsn: str, table: str) -> None:
    async def work(connection: Any, number: int) -> None:
        async with connection.cursor() as cursor:
            async with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                for n in range(300):
                    await copy.write_row((number, n, "v"))
            async with cursor.copy(
                f"COPY (SELECT n FROM {table} WHERE client = {number} ORDER BY n) TO STDOUT"
            ) as copy:
                assert b"".join([bytes(b) async for b in copy]) == b"".join(
                    b"%d\n" % n for n in range(300)
                )

    await together_async(dsn, work)


def test_copy_that_fails_leaves_the_connection_usable(dsn: str, table: str) -> None:
    def work(connection: Any, number: int) -> None:
        for _ in range(3):
            with (
                pytest.raises(psycopg.errors.InvalidTextRepresentation),
                connection.cursor() as cursor,
                cursor.copy(f"COPY {table} FROM STDIN") as copy,
            ):
                for _ in range(200):
                    copy.write(b"x\ty\tz\n" * 1000)
            assert connection.execute("SELECT %s::int", (number,)).fetchone() == (number,)

    together(dsn, work, autocommit=True)


def test_copy_given_up_by_the_client(dsn: str, table: str) -> None:
    def work(connection: Any, number: int) -> None:
        with (
            pytest.raises(KeyError),
            connection.cursor() as cursor,
            cursor.copy(f"COPY {table} FROM STDIN") as copy,
        ):
            copy.write_row((number, 1, "v"))
            raise KeyError("changed my mind")
        row = connection.execute(
            f"SELECT count(*) FROM {table} WHERE client = %s", (number,)
        ).fetchone()
        assert row == (0,)

    together(dsn, work, autocommit=True)


def test_copy_frozen_too_late_leaves_the_pool_usable(dsn: str, table: str) -> None:
    with (
        psycopg.connect(dsn, autocommit=True) as connection,
        pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState),
        connection.cursor() as cursor,
        cursor.copy(f"COPY {table} FROM STDIN (FREEZE)") as copy,
    ):
        copy.write_row((1, 1, "v"))
    for _ in range(5):
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_errors_arrive_as_what_they_are(dsn: str) -> None:
    def work(connection: Any, number: int) -> None:
        for _ in range(10):
            with pytest.raises(psycopg.errors.DivisionByZero) as caught:
                connection.execute("SELECT 1 / %s::int", (0,))
            assert caught.value.diag.sqlstate == "22012"
            with pytest.raises(psycopg.errors.SyntaxError):
                connection.execute("SELEKT")
            with pytest.raises(psycopg.errors.UndefinedTable):
                connection.execute("SELECT %s FROM nowhere", (1,))
            assert connection.execute("SELECT %s::int", (number,)).fetchone() == (number,)

    together(dsn, work, autocommit=True, prepare_threshold=0)


def test_options_are_in_force_for_each_client(dsn: str) -> None:
    connections = [
        psycopg.connect(dsn, options=f"-c statement_timeout={1001 + n}") for n in range(5)
    ]
    try:
        for _ in range(5):
            for n, connection in enumerate(connections):
                assert connection.execute("SHOW statement_timeout").fetchone() == (f"{1001 + n}ms",)
                connection.commit()
    finally:
        for connection in connections:
            connection.close()


def test_notices_reach_their_client(dsn: str) -> None:
    def work(connection: Any, number: int) -> None:
        heard: list[str | None] = []
        connection.add_notice_handler(lambda diag: heard.append(diag.message_primary))
        for turn in range(5):
            connection.execute(f"DO $$ BEGIN RAISE NOTICE '{number}/{turn}'; END $$")
        assert heard == [f"{number}/{turn}" for turn in range(5)]

    together(dsn, work, autocommit=True)


def test_cancel_strikes_the_running_statement(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        timer = threading.Timer(0.2, connection.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(60)")
        timer.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_several_statements_in_one_string(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute("SELECT 1; SELECT 2, 3")
        assert cursor.fetchall() == [(1,)]
        assert cursor.nextset()
        assert cursor.fetchall() == [(2, 3)]


def test_a_large_result_arrives_whole(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT i, repeat('r', 500) FROM generate_series(1, 20000) i"
        ).fetchall()
    assert [row[0] for row in rows] == list(range(1, 20001))


def test_forty_thousand_parameters(dsn: str) -> None:
    values = list(range(40_000))
    with psycopg.connect(dsn, autocommit=True) as connection:
        for prepare in (False, True, True):
            row = connection.execute(
                f"SELECT count(*) FROM (VALUES {','.join(['(%s::int)'] * len(values))}) v",
                values,
                prepare=prepare,
            ).fetchone()
            assert row == (40_000,)


def test_two_phase_commit_is_passed_on(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            connection.execute("PREPARE TRANSACTION 'never'")
        connection.rollback()
