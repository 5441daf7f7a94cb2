"""What a prepared statement means is decided by its own client, whoever prepared the same before.

Constants are values from when a text is parsed, by the settings of that session; the types of
parameters are found then, and stay. On a direct connection both are the client's own affair.
"""

import contextlib
import random
import struct
from collections.abc import Callable, Iterator, Sequence

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import APP, Postgres
from tests.live.conversation import (
    FLUSH,
    SYNC,
    Message,
    Wire,
    address_of,
    bind,
    describe_statement,
    errors_of,
    execute,
    kinds_of,
    parse,
    query,
    rows_of,
)
from tests.live.few_connections import elsewhere, few_connections

INSERT = "INSERT INTO own VALUES ($1)"
SHAPES = {"integer": "!i", "bigint": "!q", "real": "!f", "double precision": "!d", "text": ""}
TYPE_IDS = {23: "integer", 20: "bigint", 700: "real", 701: "double precision", 25: "text"}
WAYS = pytest.mark.parametrize(
    ("database", "name"), [("one", "s"), ("one", ""), ("two", "s"), ("two", ""), ("shared", "")]
)


@pytest.fixture(scope="module", params=["pg18", "pg16"])
def node(request: pytest.FixtureRequest) -> Postgres:
    """One that reports its search_path, and one that does not."""
    found: Postgres = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def weir(node: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    with few_connections(node, tmp_path_factory.mktemp("reading")) as weir:
        yield weir


@pytest.fixture
def table(node: Postgres) -> Iterator[Callable[[str], None]]:
    """Gives the column of the table `own` a type, behind the proxy's back."""
    node.execute(
        f"DROP TABLE IF EXISTS own; CREATE TABLE own (a int); ALTER TABLE own OWNER TO {APP.name}"
    )
    yield lambda kind: node.execute(f"ALTER TABLE own ALTER a TYPE {kind} USING a::{kind}")
    node.execute("DROP TABLE own")


def only_value(heard: Sequence[Message]) -> str:
    assert not errors_of(heard), heard
    ((value,),) = rows_of(heard)
    assert value is not None
    return value.decode()


def counted(weir: Pgweir, event: str) -> float:
    return weir.metric("pgweir_prepared_statements_total", event=event)


# --- constants ---

READINGS = {
    "TimeZone": (
        "SELECT extract(epoch FROM '2020-01-01 00:00'::timestamptz)::int",
        ("SET TimeZone = 'UTC'", "SET TIME ZONE 'Asia/Tokyo'"),
        ("1577836800", "1577804400"),
    ),
    "DateStyle": (
        "SELECT extract(month FROM $$01/02/2020$$::date)::int",
        ("SET DateStyle = 'ISO, MDY'", "SET datestyle = 'ISO, DMY'"),
        ("1", "2"),
    ),
    "IntervalStyle": (
        "SELECT extract(epoch FROM '-1 2:03:04'::interval)::int",
        ("SET IntervalStyle = 'postgres'", "SET IntervalStyle = 'sql_standard'"),
        ("-79016", "-93784"),
    ),
    "standard_conforming_strings": (
        r"SELECT length('a\nb')",
        ("SET standard_conforming_strings = on", "SET standard_conforming_strings = off"),
        ("4", "3"),
    ),
    "client_encoding": (
        "SELECT length('\xc3\xa9')",
        ("SET client_encoding = 'UTF8'", "SET NAMES 'LATIN1'"),
        ("1", "2"),
    ),
    "not reported": (
        "SELECT '{NULL}'::text[] = ARRAY[NULL::text]",
        ("SET array_nulls = on", "SET array_nulls = off"),
        ("t", "f"),
    ),
    "transform_null_equals": (
        "SELECT coalesce(NULL::int = NULL, '' IS NULL)",
        ("SET transform_null_equals = off", "SET transform_null_equals = on"),
        ("f", "t"),
    ),
}


def parse_octets(sql: str, name: str) -> bytes:
    """A Parse of a text that is given byte by byte."""
    body = name.encode() + b"\0" + sql.encode("latin-1") + b"\0\0\0"
    return b"P" + struct.pack("!i", len(body) + 4) + body


@WAYS
@pytest.mark.parametrize("what", READINGS)
def test_constants_are_read_by_the_settings_of_their_client(
    weir: Pgweir, database: str, name: str, what: str
) -> None:
    sql, ways, values = READINGS[what]
    # Nobody else shall have prepared it before.
    sql += f" -- {database}{name}"
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire.connect(address_of(weir, database))) for _ in range(2)]
        for wire, way in zip(wires, ways, strict=True):
            assert not errors_of(wire.ask(query(way)))
        # Prepared in one, run in another unit, in turns, on whichever server connection.
        for round_ in range(3):
            for wire in wires:
                if round_ != 1:
                    if name and round_:
                        wire.ask(query(f"DEALLOCATE {name}"))
                    wire.ask(parse_octets(sql, name) + describe_statement(name) + SYNC)
            for wire, value in zip(wires, values, strict=True):
                assert only_value(wire.ask(bind(name=name) + execute() + SYNC)) == value
            with elsewhere(weir, database):
                for wire, value in zip(wires, values, strict=True):
                    assert only_value(wire.ask(bind(name=name) + execute() + SYNC)) == value


@pytest.mark.parametrize(
    "local",
    [
        "SET LOCAL TIME ZONE 'Asia/Tokyo'",
        "SET LOCAL timezone = 'Asia/Tokyo'",
        "SET TimeZone = 'Asia/Tokyo'",
        "SELECT set_config('TimeZone', 'Asia/Tokyo', true)",
        "SELECT set_config(name, 'Asia/Tokyo', true) FROM pg_settings WHERE name = 'TimeZone'",
        "DO $$ BEGIN PERFORM set_config('TimeZone', 'Asia/Tokyo', true); END $$",
    ],
)
@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("together", [False, True])
def test_what_is_parsed_under_a_setting_of_a_transaction_is_nobody_elses(
    weir: Pgweir, local: str, ending: str, together: bool
) -> None:
    sql, _, (here, there) = READINGS["TimeZone"]
    sql += f" -- {local} {ending} {together}"
    run = parse(sql, "s") + bind(name="s") + execute()
    with (
        Wire.connect(address_of(weir, "one")) as mover,
        Wire.connect(address_of(weir, "one")) as other,
    ):
        for wire in (mover, other):
            wire.ask(query("SET TimeZone = 'UTC'"))
        mover.ask(query("BEGIN"))
        if together:
            # The server has not answered the first when the second is on its way.
            setting = parse(local) + bind() + execute()
            heard = mover.ask(setting + run + SYNC)
            assert rows_of(heard)[-1] == [there.encode()]
        else:
            assert not errors_of(mover.ask(query(local)))
            assert only_value(mover.ask(run + SYNC)) == there
        mover.ask(query(ending))
        assert only_value(other.ask(run + SYNC)) == here
        assert only_value(other.ask(bind(name="s") + execute() + SYNC)) == here
        if ending == "ROLLBACK" or "LOCAL" in local or "true" in local:
            assert only_value(mover.ask(bind(name="s") + execute() + SYNC)) == here


@pytest.fixture(scope="module")
def functions(node: Postgres) -> Iterator[None]:
    """With constants that depend on settings."""
    node.execute(
        "CREATE FUNCTION midnight() RETURNS int LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN extract(epoch FROM '2020-01-01 00:00'::timestamptz)::int; END $$;"
        "CREATE FUNCTION nulls() RETURNS bool LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN '{NULL}'::text[] = ARRAY[NULL::text]; END $$"
    )
    yield
    node.execute("DROP FUNCTION midnight(); DROP FUNCTION nulls()")


@pytest.mark.parametrize("how", ["SET", "at login", "SET LOCAL", "together", "left"])
@pytest.mark.usefixtures("functions")
def test_constants_in_functions_are_read_by_the_settings_of_their_client(
    weir: Pgweir, how: str
) -> None:
    address = address_of(weir, "one")
    there, here = "1577804400", "1577836800"
    with Wire.connect(address) as other:
        other.ask(query("SET TimeZone = 'UTC'"))
        for _ in range(2):
            options = {"options": "-c TimeZone=Asia/Tokyo"} if how == "at login" else {}
            with Wire.connect(address, **options) as mover:
                if how == "SET":
                    mover.ask(query("SET TimeZone = 'Asia/Tokyo'"))
                elif how != "at login":
                    mover.ask(query("SET TimeZone = 'UTC'"))
                if how == "SET LOCAL":
                    mover.ask(query("BEGIN"))
                    mover.ask(query("SET LOCAL TimeZone = 'Asia/Tokyo'"))
                    # As if nobody had called it there.
                    mover.ask(query("DISCARD PLANS"))
                if how in ("together", "left"):
                    # It may be what it was again before anything of it is reported.
                    said = (
                        "BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; DISCARD PLANS; SELECT midnight()"
                    )
                    said += "; COMMIT" if how == "together" else ""
                    assert rows_of(mover.ask(query(said))) == [[there.encode()]]
                else:
                    assert mover.value("SELECT midnight()") == there
                if how == "SET LOCAL":
                    mover.ask(query("COMMIT"))
            assert other.value("SELECT midnight()") == here


@pytest.mark.usefixtures("functions")
def test_constants_in_functions_are_read_by_settings_that_are_not_reported(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as mover,
        Wire.connect(address_of(weir, "one")) as other,
    ):
        mover.ask(query("SET array_nulls = off"))
        for _ in range(2):
            assert mover.value("SELECT nulls()") == "f"
            assert other.value("SELECT nulls()") == "t"


@pytest.mark.parametrize("setting", ["app.tenant", "statement_timeout", "work_mem"])
def test_other_settings_leave_what_is_prepared_as_it_is(weir: Pgweir, setting: str) -> None:
    """Or row-level security by SET LOCAL would have all parsed in each transaction."""
    sql = f"SELECT 'a constant', '{setting}'"
    with Wire.connect(address_of(weir, "one")) as wire:
        wire.ask(parse(sql, "s"), SYNC)
        before = counted(weir, "swallowed")
        for value in ("1000", "2000"):
            wire.ask(query("BEGIN"))
            wire.ask(query(f"SET LOCAL {setting} = '{value}'"))
            wire.ask(bind(name="s"), execute(), SYNC)
            wire.ask(query(f"SELECT set_config('{setting}', '{value}', true)"))
            wire.ask(bind(name="s"), execute(), SYNC)
            wire.ask(query("COMMIT"))
        assert counted(weir, "swallowed") == before


@pytest.mark.parametrize("word", ["now", " NOW ", "today", "tomorrow 12:00", "Yesterday"])
@pytest.mark.parametrize(("database", "name"), [("one", "s"), ("shared", "")])
def test_the_time_in_a_constant_is_that_of_its_clients_parse(
    weir: Pgweir, database: str, name: str, word: str
) -> None:
    sql = f"SELECT '{word}'::timestamptz, '{database}'"
    with (
        Wire.connect(address_of(weir, database)) as early,
        Wire.connect(address_of(weir, database)) as late,
    ):
        early.ask(parse(sql, name), describe_statement(name), SYNC)
        before = counted(weir, "forged")
        late.ask(parse(sql, name), describe_statement(name), SYNC)
        assert counted(weir, "forged") == before
        assert not errors_of(late.ask(bind(name=name) + execute() + SYNC))


def test_a_function_of_that_name_is_called_each_time_and_shared(weir: Pgweir) -> None:
    sql = "SELECT now() - interval '1 day', Now ( )"
    with (
        Wire.connect(address_of(weir, "one")) as early,
        Wire.connect(address_of(weir, "one")) as late,
    ):
        early.ask(parse(sql, "s"), SYNC)
        before = counted(weir, "forged")
        late.ask(parse(sql, "s"), SYNC)
        assert counted(weir, "forged") == before + 1


# --- parameters ---


@WAYS
@pytest.mark.parametrize("sql", ["SELECT a FROM kin WHERE a = $1", "INSERT INTO kin VALUES ($1)"])
def test_parameters_have_the_types_of_the_clients_own_schema(
    weir: Pgweir, node: Postgres, database: str, name: str, sql: str
) -> None:
    node.execute(
        "CREATE SCHEMA left_; CREATE SCHEMA right_;"
        "CREATE TABLE left_.kin (a int); CREATE TABLE right_.kin (a text);"
        "INSERT INTO left_.kin VALUES (1); INSERT INTO right_.kin VALUES ('1');"
        f"GRANT ALL ON SCHEMA left_, right_ TO {APP.name};"
        f"GRANT ALL ON left_.kin, right_.kin TO {APP.name}"
    )
    try:
        with (
            Wire.connect(address_of(weir, database)) as left,
            Wire.connect(address_of(weir, database)) as right,
        ):
            left.ask(query("SET search_path = left_"))
            right.ask(query("SET search_path = right_"))
            for wire, kind in ((left, 23), (right, 25)) * 2:
                heard = wire.ask(parse(sql, name) + describe_statement(name) + SYNC)
                assert not errors_of(heard)
                assert heard[1].body == struct.pack("!Hi", 1, kind)
                for taken in (contextlib.nullcontext(), elsewhere(weir, database)):
                    with taken:
                        heard = wire.ask(bind("1", name=name) + execute() + SYNC)
                        assert not errors_of(heard)
                if name:
                    wire.ask(query(f"DEALLOCATE {name}"))
    finally:
        node.execute("DROP SCHEMA left_ CASCADE; DROP SCHEMA right_ CASCADE")


@pytest.mark.parametrize("undone", ["ROLLBACK; BEGIN", "ROLLBACK TO SAVEPOINT before"])
@pytest.mark.parametrize("database", ["one", "two"])
def test_what_was_prepared_before_a_schema_change_was_undone_is_out_of_date(
    weir: Pgweir, table: Callable[[str], None], database: str, undone: str
) -> None:
    sql = f"SELECT a FROM own WHERE a = $1 -- {database} {undone}"
    with Wire.connect(address_of(weir, database)) as wire:
        wire.ask(query("BEGIN"))
        wire.ask(query("SAVEPOINT before"))
        wire.ask(query("ALTER TABLE own ALTER a TYPE text"))
        assert type_told(wire.ask(parse(sql, "then") + describe_statement("then") + SYNC)) == "text"
        for each in undone.split(";"):
            wire.ask(query(each))
        heard = wire.ask(parse(sql, "now") + describe_statement("now") + SYNC)
        assert not errors_of(heard)
        assert type_told(heard) == "integer"
        assert not errors_of(wire.ask(bind("1", name="now") + execute() + SYNC))
        wire.ask(query("ROLLBACK"))


def test_a_table_that_is_changed_while_functions_are_read_anew_is_no_temporary_one(
    weir: Pgweir, table: Callable[[str], None]
) -> None:
    sql = "SELECT a FROM own -- twice"
    with Wire.connect(address_of(weir, "one")) as wire:
        for number, kind in enumerate(["text", "int", "text", "int"]):
            assert not errors_of(wire.ask(parse(sql, f"s{number}"), SYNC))
            # Until the catalogue has been read again, any text may do anything.
            wire.ask(query(f"CREATE FUNCTION own_{number}() RETURNS int LANGUAGE sql RETURN 1"))
            wire.ask(query(f"ALTER TABLE own ALTER a TYPE {kind} USING a::{kind}"))
            wire.ask(query("BEGIN"))
            heard = wire.ask(parse(sql, "now") + describe_statement("now") + SYNC)
            assert not errors_of(heard), number
            wire.ask(query("ROLLBACK"))
            wire.ask(query("DEALLOCATE now"))
            wire.ask(query(f"DROP FUNCTION own_{number}()"))


@pytest.mark.parametrize("ending", ["ON COMMIT DROP", ""])
def test_parameters_have_the_types_of_the_clients_own_temporary_table(
    weir: Pgweir, table: Callable[[str], None], ending: str
) -> None:
    sql = f"{INSERT} -- {ending}"
    prepare = parse(sql) + parse(sql, "s") + describe_statement("s") + SYNC
    forget = query("DEALLOCATE s")
    with (
        Wire.connect(address_of(weir, "one")) as hider,
        Wire.connect(address_of(weir, "one")) as other,
    ):
        assert type_told(other.ask(prepare)) == "integer"
        assert type_told(hider.ask(prepare)) == "integer"
        hider.ask(forget)
        hider.ask(query("BEGIN"))
        hider.ask(query(f"CREATE TEMP TABLE own (a text) {ending}"))
        assert type_told(hider.ask(prepare)) == "text"
        hider.ask(query("COMMIT"))
        hider.ask(forget)
        assert type_told(hider.ask(prepare)) == ("integer" if ending else "text")
        if not ending:
            hider.ask(query("DROP TABLE pg_temp.own"))
        other.ask(forget)
        assert type_told(other.ask(prepare)) == "integer"
        assert not errors_of(other.ask(bind("1", name="s") + execute() + SYNC))


def type_told(heard: Sequence[Message]) -> str:
    """Of the only parameter, in a reply with a ParameterDescription."""
    (described,) = (each.body for each in heard if each.kind == b"t")
    return TYPE_IDS[struct.unpack("!Hi", described)[1]]


def written(value: int, kind: str) -> bytes:
    """A value as a client sends it that was told this type."""
    return str(value).encode() if kind == "text" else struct.pack(SHAPES[kind], value)


@WAYS
@pytest.mark.parametrize("kind", [*SHAPES, "through the proxy"])
def test_a_value_is_what_its_client_sent_by_the_type_it_was_told(
    weir: Pgweir,
    node: Postgres,
    table: Callable[[str], None],
    database: str,
    name: str,
    kind: str,
) -> None:
    sql = f"{INSERT} -- {database}{name}{kind}"
    with (
        Wire.connect(address_of(weir, database)) as early,
        Wire.connect(address_of(weir, database)) as late,
    ):
        told = type_told(early.ask(parse(sql, name) + describe_statement(name) + SYNC))
        assert told == "integer"
        if kind == "through the proxy":
            late.ask(query("ALTER TABLE own ALTER a TYPE real"))
        else:
            table(kind)
        # Where nobody has prepared it, and where it was.
        with elsewhere(weir, database):
            run = bind(written(1, told), name=name, formats=[1]) + execute() + SYNC
            assert not errors_of(early.ask(run))
        assert not errors_of(early.ask(run))
        told = type_told(late.ask(parse(sql, name) + describe_statement(name) + SYNC))
        run = bind(written(2, told), name=name, formats=[1]) + execute() + SYNC
        assert not errors_of(late.ask(run))
        with elsewhere(weir, database):
            assert not errors_of(late.ask(run))
            run = bind(written(3, "integer"), name=name, formats=[1]) + execute() + SYNC
            assert not errors_of(early.ask(run))
        assert node.value("SELECT string_agg(a::text, ' ' ORDER BY a::int) FROM own") == "1 1 2 2 3"


@pytest.mark.parametrize("database", ["one", "two"])
def test_a_value_is_that_where_the_server_has_its_clients_own_names(
    weir: Pgweir, node: Postgres, table: Callable[[str], None], database: str
) -> None:
    """As whoever looks at pg_prepared_statements has it."""
    look = parse("SELECT FROM pg_prepared_statements") + bind() + execute()
    with Wire.connect(address_of(weir, database)) as early:
        early.ask(parse(f"{INSERT} -- named", "s") + describe_statement("s") + SYNC)
        table("real")
        run = bind(written(1, "integer"), name="s", formats=[1]) + execute() + SYNC
        assert not errors_of(early.ask(look + run))
        with elsewhere(weir, database):
            told = type_told(early.ask(look + describe_statement("s") + SYNC))
            run = bind(written(2, told), name="s", formats=[1]) + execute() + SYNC
            assert not errors_of(early.ask(look + run))
            assert not errors_of(early.ask(run))
    assert node.value("SELECT string_agg(a::text, ' ' ORDER BY a) FROM own") == "1 2 2"


@pytest.mark.parametrize("seed", range(6))
def test_whatever_becomes_of_a_column_values_arrive(
    weir: Pgweir, node: Postgres, table: Callable[[str], None], seed: int
) -> None:
    """Clients prepare, describe, run and forget in any order while the column's type changes."""
    chance = random.Random(seed)
    expected = 0
    with contextlib.ExitStack() as stack:
        wires: list[tuple[Wire, dict[str, str], str]] = [
            (stack.enter_context(Wire.connect(address_of(weir, database))), {}, database)
            for database in ("two", "two", "shared", "shared")
        ]
        for _ in range(150):
            wire, told, database = chance.choice(wires)
            name = chance.choice(["", "a", "b"])
            busy = chance.choice(["one", database])
            step = chance.choice(["prepare", "run", "run", "run", "fail", "alter"])
            with elsewhere(weir, busy):
                if step == "prepare":
                    if name and name in told:
                        wire.ask(query(f"DEALLOCATE {name}"))
                    heard = wire.ask(parse(INSERT, name) + describe_statement(name) + SYNC)
                    assert kinds_of(heard) == "1tnZ"
                    told[name] = type_told(heard)
                elif step == "run" and name in told:
                    expected += 1
                    value = written(expected, told[name])
                    heard = wire.ask(bind(value, name=name, formats=[1]) + execute() + SYNC)
                    assert not errors_of(heard)
                elif step == "fail":
                    # What comes behind an error in its unit has never been; the unnamed one is
                    # given up, or not, as PostgreSQL says.
                    wire.ask(parse("x", "bad") + parse(INSERT) + describe_statement("a") + SYNC)
                    wire.ask(parse("SELECT '"), SYNC)
                    told.pop("", None)
            if step == "alter":
                # A parameter that was text when it was found is refused for a number.
                kind = chance.choice([each for each in SHAPES if each != "text"])
                if chance.random() < 0.5:
                    table(kind)
                else:
                    wire.ask(query(f"ALTER TABLE own ALTER a TYPE {kind} USING a::{kind}"))
                    # A simple query leaves no unnamed statement.
                    told.pop("", None)
    numbers = node.value("SELECT string_agg(a::int::text, ' ' ORDER BY a::int) FROM own") or ""
    assert numbers.split() == [str(number + 1) for number in range(expected)]


@WAYS
def test_a_type_that_was_made_anew_is_found_by_whoever_prepares_then(
    weir: Pgweir, node: Postgres, database: str, name: str
) -> None:
    make = (
        "DROP TABLE IF EXISTS felt; DROP TYPE IF EXISTS mood; CREATE TYPE mood AS ENUM ('ok');"
        f"CREATE TABLE felt (a mood); ALTER TABLE felt OWNER TO {APP.name}"
    )
    sql = f"INSERT INTO felt VALUES ($1) -- {database}{name}"
    prepare = parse(sql, name) + describe_statement(name) + SYNC
    run = bind("ok", name=name) + execute() + SYNC
    node.execute(make)
    try:
        with Wire.connect(address_of(weir, database)) as early:
            ways = (contextlib.nullcontext(), elsewhere(weir, database))
            for taken in ways:
                with taken:
                    if not name or taken is ways[0]:
                        early.ask(prepare)
                    early.ask(run)
            node.execute(make)
            # As on a direct connection, and then everybody knows.
            assert errors_of(early.ask(run)) == ["XX000"]
            for _ in range(2):
                with Wire.connect(address_of(weir, database)) as late:
                    assert not errors_of(late.ask(prepare))
                    assert not errors_of(late.ask(run))
                    with elsewhere(weir, database):
                        assert not errors_of(late.ask(run))
    finally:
        node.execute("DROP TABLE felt; DROP TYPE mood")


def test_who_flushes_before_it_binds_sends_by_what_it_heard(
    weir: Pgweir, node: Postgres, table: Callable[[str], None]
) -> None:
    sql = f"{INSERT} -- flushed"
    with (
        Wire.connect(address_of(weir, "two")) as early,
        Wire.connect(address_of(weir, "two")) as late,
    ):
        early.ask(parse(sql, "s") + describe_statement("s") + SYNC)
        table("real")
        with elsewhere(weir, "two"):
            late.send(parse(sql, "s") + describe_statement("s") + FLUSH)
            told = type_told(late.until_kind(b"n"))
            run = bind(written(5, told), name="s", formats=[1]) + execute() + SYNC
            assert not errors_of(late.ask(run))
    assert node.value("SELECT string_agg(a::text, ' ') FROM own") == "5"


def test_psycopg_gets_its_own_midnight_from_a_statement_that_others_prepared(weir: Pgweir) -> None:
    sql = "SELECT extract(epoch FROM timestamptz '2021-06-01')::int"
    seen: dict[str, set[int]] = {}
    with contextlib.ExitStack() as stack:
        clients = {
            zone: stack.enter_context(
                psycopg.connect(
                    weir.dsn(database="two"), autocommit=True, options=f"-c TimeZone={zone}"
                )
            )
            for zone in ("UTC", "Asia/Tokyo", "America/New_York")
        }
        for _ in range(4):
            for zone, client in clients.items():
                row = client.execute(sql, prepare=True).fetchone()
                assert row is not None
                seen.setdefault(zone, set()).add(row[0])
    assert seen == {
        "UTC": {1622505600},
        "Asia/Tokyo": {1622505600 - 9 * 3600},
        "America/New_York": {1622505600 + 4 * 3600},
    }
