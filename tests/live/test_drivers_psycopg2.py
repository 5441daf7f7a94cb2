"""psycopg 2 through the proxy: the simple protocol, and libpq's ways."""

import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras
import psycopg2.pool
import pytest

from tests.fixtures.pgweir import Pgweir, running, with_an_older
from tests.fixtures.postgres import DATABASE, Postgres

CLIENTS = 6

EACH = {"cluster": "main", "dbname": DATABASE}
DATABASES = {
    "one": {**EACH, "pool_size": 1},
    "two": {**EACH, "pool_size": 2},
    "session": {**EACH, "pool_size": 10, "pool_mode": "session"},
}


@pytest.fixture(scope="module")
def weir(
    pg18: Postgres, pg16: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pgweir]:
    config = with_an_older(pg18, pg16, DATABASES)
    with running(config, tmp_path_factory.mktemp("psycopg2")) as weir:
        yield weir


@pytest.fixture(params=(*DATABASES, "older"))
def dsn(request: pytest.FixtureRequest, weir: Pgweir) -> str:
    return weir.dsn(database=request.param)


def together(dsn: str, work: Callable[[Any, int], None]) -> None:
    """The same work by several clients at the same time."""
    failures: list[BaseException] = []

    def one(number: int) -> None:
        try:
            connection = psycopg2.connect(dsn)
            try:
                work(connection, number)
            finally:
                connection.close()
        except BaseException as error:  # noqa: BLE001 -- shown by the test
            failures.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.fixture
def table(dsn: str) -> Iterator[str]:
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS by_psycopg2")
        cursor.execute("CREATE TABLE by_psycopg2 (client int, n int, v text)")
    yield "by_psycopg2"
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE by_psycopg2")
    connection.close()


def test_every_client_gets_its_own_rows(dsn: str) -> None:
    def work(connection: Any, number: int) -> None:
        for turn in range(30):
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT %s, %s", (number, turn))
                assert cursor.fetchall() == [(number, turn)]

    together(dsn, work)


def test_transactions_keep_what_they_wrote(dsn: str, table: str) -> None:
    def work(connection: Any, number: int) -> None:
        for turn in range(10):
            with connection.cursor() as cursor:
                cursor.execute(f"INSERT INTO {table} VALUES (%s, %s)", (number, turn))
            if turn % 2:
                connection.rollback()
            else:
                connection.commit()
        with connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {table} WHERE client = %s", (number,))
            assert cursor.fetchone() == (5,)

    together(dsn, work)


def test_session_modes_of_the_driver_are_in_force(dsn: str) -> None:
    """psycopg 2 writes them into its BEGIN."""

    def work(connection: Any, number: int) -> None:
        connection.set_session(isolation_level="SERIALIZABLE", readonly=bool(number % 2))
        for _ in range(5):
            with connection, connection.cursor() as cursor:
                cursor.execute("SHOW transaction_isolation")
                assert cursor.fetchone() == ("serializable",)
                cursor.execute("SHOW transaction_read_only")
                assert cursor.fetchone() == ("on" if number % 2 else "off",)

    together(dsn, work)


def test_autocommit_modes_of_the_driver_reach_its_session(dsn: str) -> None:
    """With autocommit it sets default_transaction_… instead."""
    connection = psycopg2.connect(dsn)
    try:
        connection.set_session(readonly=True, autocommit=True)
        with connection.cursor() as cursor, pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
            cursor.execute("DELETE FROM pgbench_tellers WHERE false")
    finally:
        connection.close()


def test_startup_options_are_in_force_for_each_client(dsn: str) -> None:
    connections = [
        psycopg2.connect(dsn, options=f"-c statement_timeout={1001 + n} -c search_path=s{n}")
        for n in range(4)
    ]
    try:
        for _ in range(5):
            for n, connection in enumerate(connections):
                with connection, connection.cursor() as cursor:
                    cursor.execute("SHOW statement_timeout")
                    assert cursor.fetchone() == (f"{1001 + n}ms",)
                    cursor.execute("SHOW search_path")
                    assert cursor.fetchone() == (f"s{n}",)
    finally:
        for connection in connections:
            connection.close()


def test_client_encodings_do_not_mix(dsn: str) -> None:
    latin, utf8 = psycopg2.connect(dsn), psycopg2.connect(dsn)
    try:
        latin.set_client_encoding("LATIN1")
        latin.commit()
        for _ in range(5):
            for connection in (latin, utf8):
                with connection, connection.cursor() as cursor:
                    cursor.execute("SELECT %s, 'ü'", ("grüße",))
                    assert cursor.fetchone() == ("grüße", "ü")
        assert (latin.encoding, utf8.encoding) == ("LATIN1", "UTF8")
    finally:
        latin.close()
        utf8.close()


def test_copy_in_and_out(dsn: str, table: str) -> None:
    def work(connection: Any, number: int) -> None:
        text = "".join(f"{number}\t{n}\tv\n" for n in range(300))
        with connection, connection.cursor() as cursor:
            cursor.copy_expert(f"COPY {table} FROM STDIN", io.StringIO(text))
        out = io.StringIO()
        with connection, connection.cursor() as cursor:
            cursor.copy_expert(
                f"COPY (SELECT * FROM {table} WHERE client = {number} ORDER BY n) TO STDOUT", out
            )
        assert out.getvalue() == text

    together(dsn, work)


def test_copy_that_fails_leaves_the_connection_usable(dsn: str, table: str) -> None:
    def work(connection: Any, number: int) -> None:
        for _ in range(3):
            with (
                pytest.raises(psycopg2.errors.InvalidTextRepresentation),
                connection,
                connection.cursor() as cursor,
            ):
                cursor.copy_expert(f"COPY {table} FROM STDIN", io.StringIO("x\ty\tz\n" * 50_000))
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT %s", (number,))
                assert cursor.fetchone() == (number,)

    together(dsn, work)


def test_server_side_cursors_read_in_pieces(dsn: str) -> None:
    def work(connection: Any, number: int) -> None:
        with connection, connection.cursor(name=f"cursor {number}") as cursor:
            cursor.itersize = 13
            cursor.execute("SELECT %s + g FROM generate_series(1, 100) g", (number,))
            assert [row[0] for row in cursor] == [number + g for g in range(1, 101)]

    together(dsn, work)


def test_many_rows_at_once(dsn: str, table: str) -> None:
    connection = psycopg2.connect(dsn)
    try:
        with connection, connection.cursor() as cursor:
            rows = [(1, n, "x" * 100) for n in range(2000)]
            psycopg2.extras.execute_values(cursor, f"INSERT INTO {table} VALUES %s", rows)
            cursor.execute(f"SELECT count(*) FROM {table}")
            assert cursor.fetchone() == (2000,)
    finally:
        connection.close()


def test_errors_arrive_as_what_they_are(dsn: str) -> None:
    def work(connection: Any, number: int) -> None:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for _ in range(10):
                with pytest.raises(psycopg2.errors.DivisionByZero):
                    cursor.execute("SELECT 1/0")
                with pytest.raises(psycopg2.errors.SyntaxError):
                    cursor.execute("SELEKT")
                cursor.execute("SELECT %s", (number,))
                assert cursor.fetchone() == (number,)

    together(dsn, work)


def test_notices_reach_their_client(dsn: str) -> None:
    connection = psycopg2.connect(dsn)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("DO $$ BEGIN RAISE NOTICE 'for you'; END $$")
        assert connection.notices == ["NOTICE:  for you\n"]
    finally:
        connection.close()


def test_large_objects(dsn: str) -> None:
    connection = psycopg2.connect(dsn)
    octets = bytes(range(256)) * 1000
    try:
        large: Any = connection.lobject(0, "wb")
        large.write(octets)
        oid = large.oid
        large.close()
        connection.commit()
        large = connection.lobject(oid, "rb")
        assert large.read() == octets
        large.unlink()
        connection.commit()
    finally:
        connection.close()


def test_cancel_strikes_the_running_statement(dsn: str) -> None:
    connection = psycopg2.connect(dsn)
    try:
        timer = threading.Timer(0.2, connection.cancel)
        timer.start()
        with (
            pytest.raises(psycopg2.errors.QueryCanceled),
            connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT pg_sleep(60)")
        timer.join()
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)
    finally:
        connection.close()


def test_a_pool_of_clients(dsn: str) -> None:
    pool = psycopg2.pool.ThreadedConnectionPool(1, 5, dsn)
    try:
        for turn in range(20):
            connection = pool.getconn()
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT %s", (turn,))
                assert cursor.fetchone() == (turn,)
            pool.putconn(connection)
    finally:
        pool.closeall()


def test_reset_gives_a_fresh_session(dsn: str) -> None:
    connection = psycopg2.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET TimeZone = 'Asia/Tokyo'")
        connection.commit()
        connection.reset()
        with connection, connection.cursor() as cursor:
            cursor.execute("SHOW TimeZone")
            assert cursor.fetchone() != ("Asia/Tokyo",)
    finally:
        connection.close()
