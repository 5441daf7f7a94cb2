"""A client that remembers the columns of its statement never gets rows of other columns.

PostgreSQL refuses to run a prepared statement whose columns a schema change has made others. So
must the proxy, whose server connections have each prepared the statement at another time, wherever
the change was made.
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable, Iterator, Sequence

import asyncpg
import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres
from tests.live.conversation import (
    CANCEL_REQUEST,
    FLUSH,
    SYNC,
    Message,
    Wire,
    address_of,
    bind,
    close_statement,
    describe_portal,
    describe_statement,
    errors_of,
    execute,
    fields_of,
    kinds_of,
    parse,
    query,
    request,
    rows_of,
)

SQL = "SELECT * FROM known"
CHANGES = {
    "another type": "ALTER TABLE known ALTER a TYPE text",
    "another column": "ALTER TABLE known ADD b int",
    "one column less": "ALTER TABLE known ADD b int; ALTER TABLE known DROP a",
    "another name": "ALTER TABLE known RENAME a TO z",
    "another modifier": "ALTER TABLE known ALTER a TYPE numeric(9, 1)",
}


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    each = {"cluster": "main", "dbname": DATABASE}
    databases = {
        "one": {**each, "pool_size": 1},
        "two": {**each, "pool_size": 2},
        "shared": {**each, "pool_size": 2, "share_unnamed": True},
    }
    config = configuration(pg18, databases=databases)
    with running(config, tmp_path_factory.mktemp("columns")) as weir:
        yield weir


@pytest.fixture
def change(pg18: Postgres) -> Iterator[Callable[[str], None]]:
    """What changes the table `known` on a connection of its own, behind the proxy's back."""
    pg18.execute(
        "DROP TABLE IF EXISTS known; CREATE TABLE known (a int);"
        f"ALTER TABLE known OWNER TO {APP.name};"
        "INSERT INTO known VALUES (16909060)"
    )
    yield pg18.execute
    pg18.execute("DROP TABLE known")


@contextlib.contextmanager
def elsewhere(weir: Pgweir, database: str) -> Iterator[None]:
    """What is said meanwhile goes to the other server connection, if there are two."""
    if database == "one":
        yield
        return
    with Wire.connect(address_of(weir, database)) as holder:
        holder.ask(query("BEGIN"))
        holder.ask(query("SELECT 1"))
        yield
        holder.ask(query("ROLLBACK"))


def told(heard: Sequence[Message]) -> list[object]:
    """What a client makes of an answer."""
    return [kinds_of(heard), rows_of(heard), errors_of(heard)]


def is_stale(heard: Sequence[Message]) -> bool:
    """Is it the error that drivers know, and nothing else?"""
    if kinds_of(heard) != "EZ":
        return False
    fields = fields_of(heard[0])
    return fields["R"] == "RevalidateCachedQuery" and fields["S"] == fields["V"] == "ERROR"


POOLS = pytest.mark.parametrize("database", ["one", "two"])


@POOLS
@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("results", [[], [1]], ids=["text", "binary"])
@pytest.mark.parametrize("by", ["behind its back", "through the proxy"])
def test_rows_of_other_columns_are_refused_on_every_server_connection(
    weir: Pgweir,
    change: Callable[[str], None],
    database: str,
    what: str,
    results: list[int],
    by: str,
) -> None:
    with Wire.connect(address_of(weir, database)) as wire:
        heard = wire.ask(parse(SQL, "s"), describe_statement("s"), SYNC)
        assert kinds_of(heard) == "1tTZ"
        assert kinds_of(wire.ask(bind(name="s", results=results), execute(), SYNC)) == "2DCZ"
        if by == "behind its back":
            change(CHANGES[what])
        else:
            with Wire.connect(address_of(weir, database)) as other:
                assert errors_of(other.ask(query(CHANGES[what]))) == []
        with elsewhere(weir, database):
            for _ in range(2):
                assert is_stale(wire.ask(bind(name="s", results=results), execute(), SYNC))
        for _ in range(2):
            assert is_stale(wire.ask(bind(name="s", results=results), execute(), SYNC))
        # Prepared again, it is known again, wherever it runs.
        wire.ask(close_statement("s"), parse(SQL, "s"), describe_statement("s"), SYNC)
        with elsewhere(weir, database):
            heard = wire.ask(bind(name="s", results=results), execute(), SYNC)
            assert kinds_of(heard) == "2DCZ"
        assert kinds_of(wire.ask(bind(name="s", results=results), execute(), SYNC)) == "2DCZ"


@POOLS
def test_a_statement_that_another_client_has_prepared_since_then_is_refused_as_well(
    weir: Pgweir, change: Callable[[str], None], database: str
) -> None:
    with (
        Wire.connect(address_of(weir, database)) as old,
        Wire.connect(address_of(weir, database)) as new,
    ):
        old.ask(parse(SQL, "s"), describe_statement("s"), SYNC)
        change(CHANGES["another type"])
        for _ in range(2):
            new.ask(parse(SQL, "n"), SYNC)
            heard = new.ask(bind(name="n", results=[1]), describe_portal(), execute(), SYNC)
            assert rows_of(heard) == [[b"16909060"]]
            assert is_stale(old.ask(bind(name="s", results=[1]), execute(), SYNC))
            heard = new.ask(bind(name="n", results=[1]), execute(), SYNC)
            assert rows_of(heard) == [[b"16909060"]]
            new.ask(close_statement("n"), SYNC)


@POOLS
def test_who_asks_for_the_columns_each_time_notices_nothing(
    weir: Pgweir, change: Callable[[str], None], database: str
) -> None:
    """As libpq does, so everything that is built on it."""
    with Wire.connect(address_of(weir, database)) as wire:
        wire.ask(parse(SQL, "s"), describe_statement("s"), SYNC)
        for what in ("another type", "another column"):
            change(CHANGES[what])
            with elsewhere(weir, database):
                heard = wire.ask(bind(name="s", results=[1]), describe_portal(), execute(), SYNC)
                assert kinds_of(heard) == "2TDCZ"
            heard = wire.ask(bind(name="s", results=[1]), describe_portal(), execute(), SYNC)
            assert kinds_of(heard) == "2TDCZ"
            # And so knows them.
            with elsewhere(weir, database):
                heard = wire.ask(bind(name="s", results=[1]), execute(), SYNC)
                assert kinds_of(heard) == "2DCZ"


@POOLS
def test_who_describes_the_statement_anew_knows_its_columns(
    weir: Pgweir, change: Callable[[str], None], database: str
) -> None:
    with Wire.connect(address_of(weir, database)) as wire:
        wire.ask(parse(SQL, "s"), describe_statement("s"), SYNC)
        change(CHANGES["another type"])
        with elsewhere(weir, database):
            assert kinds_of(wire.ask(describe_statement("s"), SYNC)) == "tTZ"
        heard = wire.ask(bind(name="s", results=[1]), execute(), SYNC)
        assert rows_of(heard) == [[b"16909060"]]
        with elsewhere(weir, database):
            heard = wire.ask(describe_statement("s"), bind(name="s"), execute(), SYNC)
            assert kinds_of(heard) == "tT2DCZ"


@POOLS
@pytest.mark.parametrize("results", [[], [1]], ids=["text", "binary"])
def test_who_prepares_what_servers_have_from_before_the_change_gets_the_new_columns(
    weir: Pgweir, change: Callable[[str], None], database: str, results: list[int]
) -> None:
    with Wire.connect(address_of(weir, database)) as old:
        old.ask(parse(SQL, "s"), describe_statement("s"), SYNC)
        with elsewhere(weir, database):
            old.ask(bind(name="s"), execute(), SYNC)
    change(CHANGES["another column"])
    with Wire.connect(address_of(weir, database)) as new:
        new.ask(parse(SQL, "n"), SYNC)
        heard = new.ask(bind(name="n", results=results), execute(), SYNC)
        assert kinds_of(heard) == "2DCZ"
        with elsewhere(weir, database):
            heard = new.ask(bind(name="n", results=results), execute(), SYNC)
            assert kinds_of(heard) == "2DCZ"


@POOLS
def test_columns_that_were_others_for_a_while_are_known(
    weir: Pgweir, change: Callable[[str], None], database: str
) -> None:
    with Wire.connect(address_of(weir, database)) as wire:
        wire.ask(parse(SQL, "s"), describe_statement("s"), SYNC)
        change(CHANGES["another type"])
        with elsewhere(weir, database):
            assert is_stale(wire.ask(bind(name="s", results=[1]), execute(), SYNC))
        change("ALTER TABLE known ALTER a TYPE int USING a::int")
        for _ in range(2):
            heard = wire.ask(bind(name="s", results=[1]), execute(), SYNC)
            assert rows_of(heard) == [[b"\1\2\3\4"]]
            with elsewhere(weir, database):
                heard = wire.ask(bind(name="s", results=[1]), execute(), SYNC)
                assert rows_of(heard) == [[b"\1\2\3\4"]]


@POOLS
def test_nothing_was_run_of_what_is_refused(
    weir: Pgweir, change: Callable[[str], None], pg18: Postgres, database: str
) -> None:
    """The pipeline that it is part of is one transaction."""
    returning = "INSERT INTO known VALUES (7) RETURNING *"
    with Wire.connect(address_of(weir, database)) as wire:
        wire.ask(parse(returning, "r"), describe_statement("r"), SYNC)
        wire.ask(parse("INSERT INTO known VALUES (7)", "i"), SYNC)
        change(CHANGES["another column"])
        with elsewhere(weir, database):
            assert is_stale(wire.ask(bind(name="r", results=[1]), execute(), SYNC))
            heard = wire.ask(
                bind(name="i"), execute(), bind(name="r", results=[1]), execute(), SYNC
            )
            assert errors_of(heard) == ["0A000"]
            heard = wire.ask(
                bind(name="r", results=[1]), execute(), SYNC, bind(name="i"), execute(), SYNC
            )
            assert kinds_of(heard) == "EZ"
            assert kinds_of(wire.until_ready()) == "2CZ"
    assert pg18.value("SELECT count(*) FROM known WHERE a = 7") == 1


@POOLS
def test_a_transaction_fails_with_it(
    weir: Pgweir, change: Callable[[str], None], database: str
) -> None:
    with Wire.connect(address_of(weir, database)) as wire:
        wire.ask(parse(SQL, "s"), describe_statement("s"), SYNC)
        change(CHANGES["another type"])
        with elsewhere(weir, database):
            wire.ask(query("BEGIN"))
            heard = wire.ask(bind(name="s", results=[1]), execute(), SYNC)
            assert errors_of(heard) == ["0A000"]
            assert heard[-1].body == b"E"
            assert errors_of(wire.ask(query("SELECT 1"))) == ["25P02"]
            wire.ask(query("ROLLBACK"))
            assert rows_of(wire.ask(query("SELECT 1"))) == [[b"1"]]


@POOLS
def test_a_client_that_flushes_hears_of_it_before_its_sync(
    weir: Pgweir, change: Callable[[str], None], database: str
) -> None:
    with Wire.connect(address_of(weir, database)) as wire:
        wire.ask(parse(SQL, "s"), describe_statement("s"), SYNC)
        change(CHANGES["another type"])
        with elsewhere(weir, database):
            wire.send(bind(name="s", results=[1]), execute(), FLUSH)
            assert fields_of(wire.receive())["C"] == "0A000"
            assert kinds_of(wire.ask(SYNC)) == "Z"


def test_a_shared_unnamed_statement_is_compared_as_well(
    weir: Pgweir, change: Callable[[str], None]
) -> None:
    with Wire.connect(address_of(weir, "shared")) as wire:
        assert kinds_of(wire.ask(parse(SQL), describe_statement(), SYNC)) == "1tTZ"
        change(CHANGES["another type"])
        with elsewhere(weir, "shared"):
            assert is_stale(wire.ask(bind(results=[1]), execute(), SYNC))
            heard = wire.ask(parse(SQL), bind(results=[1]), execute(), SYNC)
            assert rows_of(heard) == [[b"16909060"]]


def test_a_statement_that_is_locked_out_can_be_cancelled(
    weir: Pgweir, change: Callable[[str], None], pg18: Postgres
) -> None:
    """What is prepared for it waits for the lock in its stead."""
    with (
        Wire.connect(address_of(weir, "two")) as wire,
        Wire.connect(address_of(weir, "one")) as locker,
    ):
        wire.ask(parse(SQL, "s"), describe_statement("s"), SYNC)
        with elsewhere(weir, "two"):
            locker.ask(query("BEGIN"))
            locker.ask(query("LOCK known"))
            wire.send(bind(name="s"), execute(), SYNC)
            weir.wait_until(
                lambda: pg18.value(
                    "SELECT EXISTS (SELECT FROM pg_locks"
                    " WHERE NOT granted AND relation = 'known'::regclass)"
                )
            )
            with Wire.dial(weir.host, weir.port) as canceller:
                canceller.send(request(CANCEL_REQUEST, struct.pack("!I", wire.pid) + wire.key))
                canceller.until_end()
            assert errors_of(wire.until_ready()) == ["57014"]
            locker.ask(query("ROLLBACK"))
            assert kinds_of(wire.ask(bind(name="s"), execute(), SYNC)) == "2DCZ"


@POOLS
@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("what", CHANGES)
async def test_asyncpg_hears_what_it_would_hear_from_postgresql(
    weir: Pgweir,
    change: Callable[[str], None],
    pg18: Postgres,
    database: str,
    what: str,
    in_transaction: bool,
) -> None:
    async def story(dsn: str, *, through: bool) -> list[object]:
        told: list[object] = []
        conn = await asyncpg.connect(dsn)
        away = elsewhere(weir, database) if through else contextlib.nullcontext()

        async def read() -> None:
            try:
                told.append([tuple(row) for row in await conn.fetch(SQL)])
            except asyncpg.PostgresError as error:
                told.append(type(error).__name__)

        await read()
        statement = await conn.prepare(SQL)
        # Up to then asyncpg has said no Sync.
        await statement.fetch()
        await asyncio.to_thread(change, CHANGES[what])
        with away:
            if in_transaction:
                with contextlib.suppress(asyncpg.PostgresError):
                    async with conn.transaction():
                        await read()
                        await read()
            else:
                await read()
        await read()
        try:
            told.append([tuple(row) for row in await statement.fetch()])
        except asyncpg.PostgresError as error:
            told.append(type(error).__name__)
        await conn.close()
        return told

    direct = await story(pg18.dsn(), through=False)
    await asyncio.to_thread(
        change,
        "DROP TABLE known; CREATE TABLE known (a int);"
        f"ALTER TABLE known OWNER TO {APP.name}; INSERT INTO known VALUES (16909060)",
    )
    assert await story(weir.dsn(database=database), through=True) == direct


@POOLS
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("what", CHANGES)
def test_psycopg_reads_the_columns_there_are(
    weir: Pgweir,
    change: Callable[[str], None],
    pg18: Postgres,
    database: str,
    what: str,
    binary: bool,
) -> None:
    with psycopg.connect(weir.dsn(database=database), autocommit=True, prepare_threshold=0) as conn:
        conn.execute(SQL, binary=binary)
        change(CHANGES[what])
        expected = pg18.fetch(SQL)
        with elsewhere(weir, database):
            assert conn.execute(SQL, binary=binary).fetchall() == expected
            with conn.pipeline():
                both = [conn.execute(SQL, binary=binary) for _ in range(2)]
                assert [each.fetchall() for each in both] == [expected] * 2
        assert conn.execute(SQL, binary=binary).fetchall() == expected


def test_a_statement_of_many_columns_is_told_apart_by_its_last(
    weir: Pgweir, pg18: Postgres
) -> None:
    columns = ", ".join(f"c{n} int" for n in range(800))
    pg18.execute(
        f"DROP TABLE IF EXISTS wide; CREATE TABLE wide ({columns});"
        f" ALTER TABLE wide OWNER TO {APP.name}; INSERT INTO wide (c0) VALUES (1)"
    )
    with Wire.connect(address_of(weir, "two")) as wire:
        (_, _, shape, _) = wire.ask(parse("TABLE wide", "w"), describe_statement("w"), SYNC)
        assert struct.unpack_from("!H", shape.body) == (800,)
        pg18.execute("ALTER TABLE wide ALTER c799 TYPE bigint")
        with elsewhere(weir, "two"):
            assert is_stale(wire.ask(bind(name="w", results=[1]), execute(), SYNC))
            heard = wire.ask(bind(name="w"), describe_portal(), execute(), SYNC)
            assert kinds_of(heard) == "2TDCZ"
    pg18.execute("DROP TABLE wide")


def test_columns_that_came_with_rows_are_remembered_by_whoever_prepared_anew(
    weir: Pgweir, pg18: Postgres
) -> None:
    """As JDBC's driver does it: a new name after an error, and a format for each known column."""
    pg18.execute(
        "CREATE TABLE jdbc_known (a int); INSERT INTO jdbc_known VALUES (1);"
        "GRANT SELECT ON jdbc_known TO PUBLIC"
    )
    sql = "SELECT * FROM jdbc_known"
    with Wire.connect(address_of(weir, "one")) as wire:
        for columns in range(1, 4):
            name, formats = f"S_{columns}", [1] * columns
            first = parse(sql, name) + bind(name=name) + describe_portal() + execute() + SYNC
            assert not errors_of(wire.ask(first))
            assert not errors_of(wire.ask(bind(name=name, results=formats), execute(), SYNC))
            pg18.execute(f"ALTER TABLE jdbc_known ADD b{columns} int")
            for _ in range(2):
                heard = wire.ask(bind(name=name, results=formats), execute(), SYNC)
                assert errors_of(heard) == ["0A000"]
    pg18.execute("DROP TABLE jdbc_known")
