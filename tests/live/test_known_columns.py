"""A client that remembers the columns of its statement never gets rows of other columns.

PostgreSQL refuses to run a prepared statement whose columns a schema change has made others. So
must the proxy, whose server connections have each prepared the statement at another time, wherever
the change was made.
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import asyncpg
import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import APP, Postgres
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
from tests.live.few_connections import elsewhere, few_connections

SQL = "SELECT * FROM known"
CHANGES = {
    "another type": "ALTER TABLE known ALTER a TYPE text",
    "another column": "ALTER TABLE known ADD b int",
    "one column less": "ALTER TABLE known ADD b int; ALTER TABLE known DROP a",
    "another name": "ALTER TABLE known RENAME a TO z",
    "another modifier": "ALTER TABLE known ALTER a TYPE numeric(9, 1)",
}
BACK = {"the type it had": "ALTER TABLE known ALTER a TYPE int USING a::int"}


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    with few_connections(pg18, tmp_path_factory.mktemp("columns")) as weir:
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


def is_stale(heard: Sequence[Message]) -> bool:
    """Is it the error that drivers know, and nothing else?"""
    if kinds_of(heard) != "EZ":
        return False
    fields = fields_of(heard[0])
    return fields["R"] == "RevalidateCachedQuery" and fields["S"] == fields["V"] == "ERROR"


POOLS = pytest.mark.parametrize("database", ["one", "two"])

STALE = "stale"


@dataclass(frozen=True)
class Says:
    """One request of a client, and what it hears: kinds of messages, or STALE.

    value: the only value of the rows, None: whatever it is. is_elsewhere: another server connection
    answers, if there are two. client: who says it.
    """

    octets: bytes
    hears: str
    value: bytes | None = None
    is_elsewhere: bool = False
    client: str = "old"


Story = list[Says | str]
"""What clients say, and changes by their names in between."""


def here(octets: bytes, hears: str, value: bytes | None = None, client: str = "old") -> Says:
    return Says(octets, hears, value, client=client)


def away(octets: bytes, hears: str, value: bytes | None = None, client: str = "old") -> Says:
    return Says(octets, hears, value, True, client)


def play(weir: Pgweir, change: Callable[[str], None], database: str, story: Story) -> None:
    """Have the clients of a story talk, and compare what they hear with what it says."""
    with contextlib.ExitStack() as stack:
        wires: dict[str, Wire] = {}
        for number, step in enumerate(story):
            if isinstance(step, str):
                change((CHANGES | BACK)[step])
                continue
            if step.client not in wires:
                wires[step.client] = stack.enter_context(Wire.connect(address_of(weir, database)))
            place = elsewhere(weir, database) if step.is_elsewhere else contextlib.nullcontext()
            with place:
                heard = wires[step.client].ask(step.octets)
            assert (STALE if is_stale(heard) else kinds_of(heard)) == step.hears, number
            if step.value is not None:
                assert rows_of(heard) == [[step.value]], number


def run(name: str = "s", results: Sequence[int] = (1,)) -> bytes:
    """Run a statement as a client does that knows its columns."""
    return bind(name=name, results=list(results)) + execute() + SYNC


def run_described(name: str = "s") -> bytes:
    """As libpq does, so everything that is built on it."""
    return bind(name=name, results=[1]) + describe_portal() + execute() + SYNC


# Where its text speaks of prepared statements, a server has this client's by their own names.
LOOK = "SELECT count(*) > 0 FROM pg_prepared_statements"
LOOK_EXTENDED = parse(LOOK) + bind() + execute()
DESCRIBE = describe_statement("s") + SYNC
LEARN = here(parse(SQL, "s") + DESCRIBE, "1tTZ")
NUMBER, TEXT = b"\1\2\3\4", b"16909060"


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
    def through_the_proxy(sql: str) -> None:
        with Wire.connect(address_of(weir, database)) as other:
            assert errors_of(other.ask(query(sql))) == []

    again = run(results=results)
    story: Story = [
        LEARN,
        here(again, "2DCZ"),
        what,
        *[away(again, STALE)] * 2,
        *[here(again, STALE)] * 2,
        # Prepared again, it is known again, wherever it runs.
        here(close_statement("s") + parse(SQL, "s") + DESCRIBE, "31tTZ"),
        away(again, "2DCZ"),
        here(again, "2DCZ"),
    ]
    play(weir, change if by == "behind its back" else through_the_proxy, database, story)


STORIES: dict[str, Story] = {
    "who prepares it since then does not make it known to others": [
        LEARN,
        "another type",
        *[
            here(parse(SQL, "n") + SYNC, "1Z", client="new"),
            here(run_described("n"), "2TDCZ", TEXT, client="new"),
            here(run(), STALE),
            here(run("n"), "2DCZ", TEXT, client="new"),
            here(close_statement("n") + SYNC, "3Z", client="new"),
        ]
        * 2,
    ],
    "who asks for the columns each time notices nothing": [
        LEARN,
        "another type",
        away(run_described(), "2TDCZ"),
        here(run_described(), "2TDCZ"),
        # And so knows them.
        away(run(), "2DCZ"),
        "another column",
        away(run_described(), "2TDCZ"),
        here(run_described(), "2TDCZ"),
        away(run(), "2DCZ"),
    ],
    "who describes the statement anew knows its columns": [
        LEARN,
        "another type",
        away(DESCRIBE, "tTZ"),
        here(run(), "2DCZ", TEXT),
        away(describe_statement("s") + run(results=()), "tT2DCZ"),
    ],
    **{
        f"who prepares what servers have from before gets the new columns in {form}": [
            LEARN,
            away(run(results=()), "2DCZ"),
            "another column",
            here(parse(SQL, "n") + SYNC, "1Z", client="new"),
            here(run("n", results), "2DCZ", client="new"),
            away(run("n", results), "2DCZ", client="new"),
        ]
        for form, results in (("text", ()), ("binary", (1,)))
    },
    "who prepares what servers have and asks for a portal's columns knows those": [
        LEARN,
        here(parse(SQL, "n") + run_described("n"), "12TDCZ", client="new"),
        here(run("n"), "2DCZ", client="new"),
        "another type",
        away(run("n"), STALE, client="new"),
        here(run("n"), STALE, client="new"),
    ],
    "who looks at its statements has the columns compared all the same": [
        LEARN,
        "another type",
        here(query("BEGIN"), "CZ"),
        away(query(LOOK), "TDCZ", b"t"),
        here(run(), STALE),
        here(query("ROLLBACK"), "CZ"),
        # The one and the other in a unit: what is run is so before it is known.
        here(LOOK_EXTENDED + run(), "12DCEZ"),
        away(LOOK_EXTENDED + run_described(), "12DC2TDCZ"),
        here(LOOK_EXTENDED + DESCRIBE, "12DCtTZ"),
        # And so knows them.
        here(LOOK_EXTENDED + run(), "12DC2DCZ"),
        away(run(), "2DCZ"),
        here(query("EXECUTE s"), "TDCZ", TEXT),
        "another column",
        # Nor is one compared that takes the place of another.
        here(LOOK_EXTENDED + close_statement("s") + parse(SQL, "s") + run(), "12DC312DCZ"),
    ],
    "who looks at its statements goes on with what is as it was": [
        LEARN,
        *[here(LOOK_EXTENDED + run(), "12DC2DCZ"), away(LOOK_EXTENDED + run(), "12DC2DCZ")] * 2,
        here(query("BEGIN"), "CZ"),
        away(query(LOOK), "TDCZ", b"t"),
        here(run(), "2DCZ", NUMBER),
        here(query("COMMIT"), "CZ"),
    ],
    "a name that could not be given is compared when it can be": [
        LEARN,
        here(query("BEGIN"), "CZ"),
        here(query("ALTER TABLE known RENAME TO hidden"), "CZ"),
        here(query("SAVEPOINT away"), "CZ"),
        here(query(LOOK), "EZ"),
        here(query("ROLLBACK TO away"), "CZ"),
        here(query("ALTER TABLE hidden ALTER a TYPE text"), "CZ"),
        here(query("ALTER TABLE hidden RENAME TO known"), "CZ"),
        here(run(), STALE),
        here(query("ROLLBACK"), "CZ"),
        here(run(), "2DCZ", NUMBER),
    ],
    "columns that were others for a while are known": [
        LEARN,
        "another type",
        away(run(), STALE),
        "the type it had",
        *[here(run(), "2DCZ", NUMBER), away(run(), "2DCZ", NUMBER)] * 2,
    ],
}


@POOLS
@pytest.mark.parametrize("what", STORIES)
def test_a_client_is_told_what_it_can_read(
    weir: Pgweir, change: Callable[[str], None], database: str, what: str
) -> None:
    play(weir, change, database, STORIES[what])


UNNAMED = parse(SQL) + describe_statement() + SYNC
OTHERS = here(parse("SELECT 1") + SYNC, "1Z", client="new")

UNNAMED_STORIES: dict[str, Story] = {
    "rows of other columns are refused": [
        here(UNNAMED, "1tTZ"),
        "another type",
        away(run(""), STALE),
        here(run(""), STALE),
        OTHERS,
        *[here(run(""), STALE), away(run(""), STALE)] * 2,
        # Parsed anew it returns what there is.
        away(parse(SQL) + run(""), "12DCZ", TEXT),
        here(run(""), "2DCZ", TEXT),
    ],
    "the same columns are returned everywhere": [
        here(UNNAMED, "1tTZ"),
        *[away(run(""), "2DCZ"), OTHERS, here(run(""), "2DCZ")] * 2,
    ],
    "who was told of a portal knows its columns as well": [
        here(parse(SQL) + run_described(""), "12TDCZ"),
        OTHERS,
        here(run(""), "2DCZ"),
        "another column",
        OTHERS,
        away(run(""), STALE),
        here(run(""), STALE),
    ],
    "who asks for the columns each time notices nothing": [
        here(UNNAMED, "1tTZ"),
        "another type",
        OTHERS,
        away(run_described(""), "2TDCZ", TEXT),
        OTHERS,
        here(run(""), "2DCZ", TEXT),
        "another column",
        OTHERS,
        away(run(""), STALE),
    ],
    "who describes the statement anew knows its columns": [
        here(UNNAMED, "1tTZ"),
        "another type",
        OTHERS,
        away(describe_statement() + SYNC, "tTZ"),
        away(run(""), "2DCZ", TEXT),
        OTHERS,
        here(run(""), "2DCZ", TEXT),
    ],
    "who has not been told of columns knows none": [
        here(parse(SQL) + SYNC, "1Z"),
        "another type",
        OTHERS,
        away(run("", ()), "2DCZ", TEXT),
    ],
    "what was told of an earlier one does not count": [
        here(UNNAMED, "1tTZ"),
        here(parse("SELECT a AS other FROM known") + SYNC, "1Z"),
        OTHERS,
        away(run(""), "2DCZ", NUMBER),
    ],
    "a portal of another statement tells nothing of it": [
        here(UNNAMED, "1tTZ"),
        here(parse("SELECT 'x' AS other", "o") + SYNC, "1Z"),
        here(bind(name="o") + describe_portal() + execute() + SYNC, "2TDCZ"),
        OTHERS,
        away(run(""), "2DCZ", NUMBER),
        "another type",
        away(bind(name="o") + describe_portal() + execute() + SYNC, "2TDCZ"),
        away(run(""), STALE),
    ],
    "a portal by its name tells of it": [
        here(
            parse(SQL)
            + parse("SELECT 'x'", "o")
            + bind(portal="p")
            + bind(portal="q", name="o")
            + describe_portal("p")
            + execute("p")
            + SYNC,
            "1122TDCZ",
        ),
        "another type",
        OTHERS,
        away(run(""), STALE),
    ],
    "what follows in the pipeline is compared as well": [
        here(UNNAMED, "1tTZ"),
        "another type",
        OTHERS,
        away(parse("SELECT 1", "one") + run(""), "1EZ"),
    ],
}


@pytest.mark.parametrize("database", ["one", "two", "shared"])
@pytest.mark.parametrize("what", UNNAMED_STORIES)
def test_an_unnamed_statement_returns_the_columns_that_its_client_was_told_of(
    weir: Pgweir, change: Callable[[str], None], database: str, what: str
) -> None:
    play(weir, change, database, UNNAMED_STORIES[what])


@POOLS
def test_the_description_of_something_else_is_none_of_what_is_bound(
    weir: Pgweir, change: Callable[[str], None], database: str
) -> None:
    other = parse("SELECT 'x' AS other", "o") + SYNC
    story: Story = [
        LEARN,
        here(other, "1Z"),
        "another type",
        *[
            away(bind(name="s", results=[1]) + described + execute() + SYNC, hears)
            for described, hears in (
                (describe_statement("o"), STALE),
                (describe_portal("p"), STALE),
                (describe_statement("s"), "2tTDCZ"),
            )
        ],
    ]
    play(weir, change, database, story)


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
            assert is_stale(wire.ask(run("r")))
            heard = wire.ask(bind(name="i"), execute(), run("r"))
            assert errors_of(heard) == ["0A000"]
            heard = wire.ask(run("r"), run("i", ()))
            assert kinds_of(heard) == "EZ"
            assert kinds_of(wire.until_ready()) == "2CZ"
    assert pg18.value("SELECT count(*) FROM known WHERE a = 7") == 1


@POOLS
def test_a_transaction_fails_with_it(
    weir: Pgweir, change: Callable[[str], None], database: str
) -> None:
    with Wire.connect(address_of(weir, database)) as wire:
        wire.ask(LEARN.octets)
        change(CHANGES["another type"])
        with elsewhere(weir, database):
            wire.ask(query("BEGIN"))
            heard = wire.ask(run())
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
        wire.ask(LEARN.octets)
        change(CHANGES["another type"])
        with elsewhere(weir, database):
            wire.send(bind(name="s", results=[1]), execute(), FLUSH)
            assert fields_of(wire.receive())["C"] == "0A000"
            assert kinds_of(wire.ask(SYNC)) == "Z"


def test_a_statement_that_is_locked_out_can_be_cancelled(
    weir: Pgweir, change: Callable[[str], None], pg18: Postgres
) -> None:
    """What is prepared for it waits for the lock in its stead."""
    with (
        Wire.connect(address_of(weir, "two")) as wire,
        Wire.connect(address_of(weir, "one")) as locker,
    ):
        wire.ask(LEARN.octets)
        with elsewhere(weir, "two"):
            locker.ask(query("BEGIN"))
            locker.ask(query("LOCK known"))
            wire.send(run(results=()))
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
            assert kinds_of(wire.ask(run(results=()))) == "2DCZ"


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
            assert is_stale(wire.ask(run("w")))
            heard = wire.ask(bind(name="w"), describe_portal(), execute(), SYNC)
            assert kinds_of(heard) == "2TDCZ"
    pg18.execute("DROP TABLE wide")


@POOLS
@pytest.mark.parametrize("name", ["s", ""], ids=["named", "unnamed"])
@pytest.mark.parametrize("results", [[], [1]], ids=["text", "binary"])
def test_a_value_that_comes_in_pieces_is_not_looked_through(
    weir: Pgweir, database: str, name: str, results: Sequence[int]
) -> None:
    """What stands behind it, such as formats, has not come when the statement is compared."""
    value = b"x" * 32_000_000
    length = struct.pack("!i", len(value)) if results else str(len(value)).encode()
    with Wire.connect(address_of(weir, database)) as wire:
        wire.ask(parse("SELECT length($1::bytea)", name), describe_statement(name), SYNC)
        with elsewhere(weir, database):
            bound = bind(value, name=name, formats=[1], results=results)
            assert rows_of(wire.ask(bound, execute(), SYNC)) == [[length]]


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
            assert not errors_of(wire.ask(run(name, formats)))
            pg18.execute(f"ALTER TABLE jdbc_known ADD b{columns} int")
            for _ in range(2):
                heard = wire.ask(run(name, formats))
                assert errors_of(heard) == ["0A000"]
    pg18.execute("DROP TABLE jdbc_known")
