"""What pins beyond temporary objects, locks and cursors, and what an operator can say about it."""

import asyncio
import datetime
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres
from tests.live.conversation import (
    SYNC,
    Wire,
    address_of,
    bind,
    errors_of,
    execute,
    fields_of,
    kinds_of,
    parse,
    query,
    rows_of,
    run,
)

TEMP = "CREATE TEMP TABLE mine (a int)"


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    each = {"cluster": "main", "dbname": DATABASE, "pool_size": 3}
    databases = {
        "two": {**each, "pool_size": 2},
        "one": {**each, "pool_size": 1},
        "few": {**each, "max_pinned": 1},
        "short": {**each, "pin_timeout": "300ms"},
        "noted": {**each, "pin_notice": True},
        "strict": {**each, "pins": "refuse"},
        "calling": {**each, "session_functions": ["become"]},
        "always": {**each, "pool_size": 1, "server_reset": "always"},
        "never": {**each, "pool_size": 1, "server_reset": "never"},
        **{
            f"first_{asks}_{number}": {**each, "pool_size": 2}
            for asks in ("simple", "extended", "executed")
            for number in range(7)
        },
        **{f"opened_{number}": {**each, "pool_size": 2} for number in range(6)},
    }
    pg18.execute(
        "CREATE OR REPLACE FUNCTION become(who text) RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM set_config('app.me', who, false); END $$;"
        "DROP SEQUENCE IF EXISTS counted; CREATE SEQUENCE counted;"
        "GRANT ALL ON SEQUENCE counted TO PUBLIC;"
        "DROP TABLE IF EXISTS counting; CREATE TABLE counting (id serial, a int);"
        "GRANT ALL ON counting, counting_id_seq TO PUBLIC"
    )
    with running(configuration(pg18, databases=databases), tmp_path_factory.mktemp("lim")) as weir:
        yield weir


def pinned(weir: Pgweir, database: str) -> float:
    return weir.metric("pgweir_pinned_clients", database=database)


@pytest.mark.parametrize("extended", [False, True])
def test_a_session_function_pins_until_discard_all(weir: Pgweir, *, extended: bool) -> None:
    with (
        Wire.connect(address_of(weir, "calling")) as one,
        Wire.connect(address_of(weir, "calling")) as two,
    ):
        one.ask(
            *([run("SELECT become('me')"), SYNC] if extended else [query("SELECT become('me')")])
        )
        for _ in range(3):
            assert two.value("SELECT coalesce(current_setting('app.me', true), '')") == ""
            assert one.value("SHOW app.me") == "me"
        assert pinned(weir, "calling") == 1
        one.ask(query("DISCARD ALL"))
        one.ask(query("SELECT 1"))
        assert pinned(weir, "calling") == 0


@pytest.mark.parametrize("how", ["simple", "extended", "pipelined"])
def test_a_loaded_library_pins_until_its_client_leaves(
    weir: Pgweir, pg18: Postgres, how: str
) -> None:
    pg18.execute(f"ALTER ROLE {APP.name} SUPERUSER")
    try:
        with Wire.connect(address_of(weir, "one")) as one:
            load = "LOAD 'plpgsql'"
            said = {
                "simple": [query(load)],
                "extended": [run(load), SYNC],
                "pipelined": [run("SELECT 1"), run(load), run("SELECT 2"), SYNC],
            }[how]
            assert errors_of(one.ask(*said)) == []
            pid = one.value("SELECT pg_backend_pid()")
            one.ask(query("DISCARD ALL"))
            one.ask(query("SELECT 1"))
            assert pinned(weir, "one") == 1
        with Wire.connect(address_of(weir, "one")) as two:
            assert two.value("SELECT pg_backend_pid()") != pid
    finally:
        pg18.execute(f"ALTER ROLE {APP.name} NOSUPERUSER")


def test_beyond_max_pinned_a_client_is_told_why_and_ends(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "few")) as one,
        Wire.connect(address_of(weir, "few")) as two,
    ):
        # By the second answer it is known that the first has pinned.
        one.ask(query(TEMP), query("SELECT 1"), ready=2)
        two.ask(query(TEMP))
        (last,) = two.until_end()
        assert fields_of(last)["C"] == "53400"
        assert "max_pinned" in fields_of(last)["M"]
        assert "DISCARD ALL" in fields_of(last)["H"]
        assert one.value("SELECT count(*) FROM mine") == "0"


def test_a_pin_that_lasts_too_long_ends_with_its_client(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "short")) as one:
        one.ask(query("SELECT pg_advisory_lock(3)"))
        (last,) = one.until_end()
        assert fields_of(last)["C"] == "53400"
        assert "pin_timeout" in fields_of(last)["M"]
    with Wire.connect(address_of(weir, "short")) as two:
        assert two.value("SELECT pg_try_advisory_lock(3)") == "t"


def test_who_wishes_is_told_of_a_pin(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "noted")) as one:
        one.ask(query(TEMP))
        notice = fields_of(one.receive())
        assert notice["S"] == "NOTICE"
        assert "temporary object" in notice["M"]
        assert kinds_of(one.ask(query("SELECT 1"))) == "TDCZ"


@pytest.mark.parametrize(
    "sql",
    [
        TEMP,
        "CREATE TEMP VIEW v AS SELECT 1",
        "SELECT 1 AS a INTO TEMP t",
        "SELECT pg_advisory_lock(1)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "LOAD 'plpgsql'",
        "SELECT set_config('app.' || 'tenant', 'me', false)",
    ],
)
def test_strictly_what_would_pin_is_refused(weir: Pgweir, sql: str) -> None:
    with Wire.connect(address_of(weir, "strict")) as one:
        for say in (query(sql), run(sql) + SYNC):
            heard = one.ask(say)
            assert errors_of(heard) == ["0A000"]
            (error,) = (fields_of(each) for each in heard if each.kind == b"E")
            assert "pins: refuse" in error["H"]
            # In a transaction it fails with all that an error entails.
            one.ask(query("BEGIN"), query("SELECT 1"), ready=2)
            heard = one.ask(say, query("SELECT 1"), ready=2)
            assert errors_of(heard) == ["0A000", "25P02"]
            assert kinds_of(one.ask(query("ROLLBACK"))) == "CZ"
        assert errors_of(one.ask(query("BEGIN"), query(sql), query("ROLLBACK"), ready=3)) == [
            "0A000"
        ]
        # In a pipeline it ends its unit, and no other.
        other = run("SELECT 7")
        heard = one.ask(other, SYNC, other, run(sql), other, SYNC, other, SYNC, ready=3)
        assert errors_of(heard) == ["0A000"]
        assert rows_of(heard) == [[b"7"], [b"7"], [b"7"]]
        assert pinned(weir, "strict") == 0


def test_strictly_what_ends_with_its_transaction_is_allowed(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "strict")) as one:
        said = ("BEGIN", f"{TEMP} ON COMMIT DROP", "SELECT pg_advisory_xact_lock(1)", "COMMIT")
        heard = one.ask(*map(query, said), ready=4)
        assert errors_of(heard) == []
        assert one.value("SELECT 'temporary advisory hold'") == "temporary advisory hold"


# --- sequences -----------------------------------------------------------------------------------


@pytest.mark.parametrize("extended", [False, True])
def test_currval_is_the_clients_own_as_long_as_there_are_enough_connections(
    weir: Pgweir, *, extended: bool
) -> None:
    def value(wire: Wire, sql: str) -> int:
        heard = wire.ask(*([run(sql), SYNC] if extended else [query(sql)]))
        ((found,),) = rows_of(heard)
        assert found is not None
        return int(found)

    with (
        Wire.connect(address_of(weir, "two")) as one,
        Wire.connect(address_of(weir, "two")) as two,
    ):
        for _ in range(5):
            mine, theirs = (
                value(one, "SELECT nextval('counted')"),
                value(two, "SELECT nextval('counted')"),
            )
            assert theirs == mine + 1
            assert value(one, "SELECT currval('counted')") == mine
            assert value(two, "SELECT lastval()") == theirs
            assert value(one, "SELECT lastval()") == mine
            two.ask(query("INSERT INTO counting (a) VALUES (1)"))
            assert value(one, "SELECT lastval()") == mine
            assert value(two, "SELECT currval('counting_id_seq')") == value(two, "SELECT lastval()")
    assert pinned(weir, "two") == 0


FIRST = {
    "simple": [query("SELECT nextval('counted')")],
    "unnamed": [run("SELECT nextval('counted')") + SYNC],
    "named": [parse("SELECT nextval('counted')", "n") + SYNC, bind(name="n") + execute() + SYNC],
    "block": [query("DO $$ BEGIN PERFORM nextval('counted'); END $$")],
    "transaction": [query("BEGIN; SELECT nextval('counted'); COMMIT")],
    "prepared": [query("PREPARE n AS SELECT nextval('counted')"), query("EXECUTE n")],
    "prepared, extended": [
        query("PREPARE n AS SELECT nextval('counted')"),
        run("EXECUTE n") + SYNC,
    ],
}


@pytest.mark.parametrize("number", range(len(FIRST)), ids=list(FIRST))
@pytest.mark.parametrize("asks", ["simple", "extended", "executed"])
def test_who_asks_for_the_first_time_ever_is_told(weir: Pgweir, number: int, asks: str) -> None:
    """Up to then nobody of this database and user has asked for currval() or lastval()."""
    said = list(FIRST.values())[number]
    with (
        Wire.connect(address_of(weir, f"first_{asks}_{number}")) as one,
        Wire.connect(address_of(weir, f"first_{asks}_{number}")) as two,
    ):
        if asks == "executed":
            one.ask(query("PREPARE l AS SELECT lastval()"))
        for each in said:
            assert errors_of(one.ask(each)) == []
        two.ask(query("SELECT 1"))
        if asks == "simple":
            heard = one.ask(query("SELECT lastval()"))
        elif asks == "extended":
            heard = one.ask(run("SELECT lastval()", name="l"), SYNC)
        else:
            heard = one.ask(query("EXECUTE l"))
        assert errors_of(heard) == []
        assert rows_of(heard) == rows_of(one.ask(query("SELECT last_value FROM counted")))


@pytest.mark.parametrize("how", range(6))
def test_who_waits_for_a_connection_that_is_being_opened_takes_no_kept_one(
    weir: Pgweir, how: int
) -> None:
    """Nor while its session is asked what a PREPARE or SET has left in it."""
    prepare, execute_it = "PREPARE n AS SELECT nextval('counted')", "EXECUTE n"
    said, ready = (
        (query(prepare) + query(execute_it), 2),
        (run(prepare) + SYNC + run(execute_it) + SYNC, 2),
        (run(prepare) + run(execute_it) + SYNC, 1),
        (run(prepare) + SYNC + query(execute_it), 2),
        (query(f"{prepare}; {execute_it}"), 1),
        (query("SELECT nextval('counted'); SET app.a = '1'"), 1),
    )[how]
    with (
        Wire.connect(address_of(weir, f"opened_{how}")) as one,
        Wire.connect(address_of(weir, f"opened_{how}")) as two,
    ):
        assert errors_of(one.ask(said, ready=ready)) == []
        two.ask(query("SELECT 1"))
        assert errors_of(one.ask(query("SELECT lastval()"))) == []


def test_without_enough_of_them_it_is_an_error_and_never_anothers(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as one,
        Wire.connect(address_of(weir, "one")) as two,
    ):
        one.ask(query("SELECT nextval('counted')"))
        two.ask(query("SELECT nextval('counted')"))
        assert errors_of(one.ask(query("SELECT currval('counted')"))) == ["55000"]
        two.ask(query("INSERT INTO counting (a) VALUES (1)"))
        assert errors_of(one.ask(run("SELECT lastval()"), SYNC)) == ["55000"]
        one.ask(query("BEGIN"))
        mine = one.value("SELECT nextval('counted')")
        assert one.value("SELECT currval('counted')") == mine
        one.ask(query("COMMIT"))


# --- EXPLAIN POOLING -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "pooling"),
    [
        ("SELECT 1", "plain"),
        ("SET app.tenant = 'it''s'", "replayed"),
        ("SELECT set_config('app.' || 'tenant', 'me', false)", "pinned"),
        (TEMP, "pinned"),
        ("LISTEN news", "replayed"),
        ("SELECT " + "1 + " * 2000 + "1", "plain"),
    ],
)
def test_explain_pooling_says_what_would_be_done(weir: Pgweir, sql: str, pooling: str) -> None:
    with Wire.connect(address_of(weir, "one")) as one:
        around = run("SELECT WHERE false")
        explain = run(f"explain pooling {sql}")
        for say, ready in (
            (query(f"EXPLAIN POOLING {sql}"), 1),
            (explain + SYNC, 1),
            (around + explain + around + SYNC, 1),
            (around + SYNC + explain + SYNC + query("SELECT WHERE false"), 3),
        ):
            ((first, reason, target, why),) = rows_of(one.ask(say, ready=ready))
            assert first == pooling.encode()
            assert reason
            assert target == b"primary"
            assert why
        assert pinned(weir, "one") == 0
        assert one.value("SELECT coalesce(current_setting('app.tenant', true), '')") == ""
    with psycopg.connect(weir.dsn(database="one"), autocommit=True) as driver:
        cursor = driver.execute("EXPLAIN POOLING SELECT 1", prepare=True)
        assert cursor.description is not None
        names = [each.name for each in cursor.description]
        assert names == ["pooling", "reason", "target", "target_reason"]


PARAMETERS = [
    ("SELECT * FROM counting WHERE a = $1 -- ;", (7,), "plain"),
    ("SELECT $2::date, $1::int[]; ", ([1, 2], datetime.date(2026, 1, 1)), "plain"),
    ("SELECT set_config($1, $2, false)", ("app.tenant", "me"), "replayed"),
    ("INSERT INTO counting (a) VALUES ($1)", ("7",), "plain"),
    ("SELECT pg_advisory_lock($1), 1/0", ("97",), "pinned"),
]


@pytest.mark.parametrize(("sql", "values", "pooling"), PARAMETERS)
async def test_explain_pooling_takes_parameters(
    weir: Pgweir, pg18: Postgres, sql: str, values: tuple[Any, ...], pooling: str
) -> None:
    rows = await asyncio.to_thread(pg18.value, "SELECT count(*) FROM counting")
    conn = await asyncpg.connect(weir.dsn(database="one"))
    try:
        told = await conn.fetch(f"EXPLAIN POOLING {sql}", *values)
        assert [each["pooling"] for each in told] == [pooling]
        assert await conn.fetchval("SELECT coalesce(current_setting('app.tenant', true), '')") == ""
    finally:
        await conn.close()
    assert pinned(weir, "one") == 0
    assert await asyncio.to_thread(pg18.value, "SELECT count(*) FROM counting") == rows


def test_explain_pooling_takes_parameters_of_types_that_the_client_says(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "one")) as wire:
        for sql in ("SELECT $1", "UPDATE counting SET a = $1"):
            said = run(f"EXPLAIN POOLING {sql}", "7", types=[23])
            assert [row[0] for row in rows_of(wire.ask(said, SYNC))] == [b"plain"]
    with psycopg.connect(weir.dsn(database="one"), autocommit=True) as driver:
        cursor = driver.execute("EXPLAIN POOLING SELECT a FROM counting WHERE a = %s", (7,))
        assert [row[0] for row in cursor.fetchall()] == ["plain"]
        cursor = driver.execute("EXPLAIN POOLING DELETE FROM counting WHERE a = %s", (7,))
        assert [row[0] for row in cursor.fetchall()] == ["plain"]


# --- server_reset --------------------------------------------------------------------------------

STATE = {
    "settings": "SELECT coalesce(string_agg(name || '=' || setting, ',' ORDER BY name), '')"
    " FROM pg_settings WHERE source = 'session' AND name <> 'application_name'",
    "temporary objects": "SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()",
    "locks": "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'",
    "channels": "SELECT count(*) FROM pg_listening_channels()",
    "statements": "SELECT count(*) FROM pg_prepared_statements",
    "cursors": "SELECT count(*) FROM pg_cursors WHERE name <> ''",
    "role": "SELECT current_user || session_user",
}
MESS = (
    "SET work_mem = '7MB'", "SET search_path = nowhere", "SET app.tenant = 'me'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "RESET default_transaction_read_only",
    "CREATE TEMP TABLE mess (a int)", "SELECT pg_advisory_lock(99)", "LISTEN mess",
    "PREPARE mess AS SELECT 1", "DECLARE mess CURSOR WITH HOLD FOR SELECT 1", "SET ROLE pg_monitor",
)  # fmt: skip


@pytest.mark.parametrize("how", ["simple", "extended", "pipelined"])
@pytest.mark.parametrize("leaves", ["politely", "abruptly", "in a transaction", "by DISCARD ALL"])
@pytest.mark.parametrize("database", ["one", "always"])
def test_what_comes_back_is_as_new(
    weir: Pgweir, pg18: Postgres, database: str, leaves: str, how: str
) -> None:
    pg18.execute(f"GRANT pg_monitor TO {APP.name}")
    with Wire.connect(address_of(pg18)) as new:
        expected = {name: new.value(sql) for name, sql in STATE.items()}
    one = Wire.connect(address_of(weir, database))
    if how == "pipelined":
        said = (part for sql in MESS for part in (run(sql), SYNC))
        assert errors_of(one.ask(*said, ready=len(MESS))) == []
    else:
        for sql in MESS:
            said_one = run(sql) + SYNC if how == "extended" else query(sql)
            assert errors_of(one.ask(said_one)) == [], sql
    pid = one.value("SELECT pg_backend_pid()")
    if leaves == "politely":
        one.send(b"X\0\0\0\4")
    elif leaves == "in a transaction":
        one.ask(query("BEGIN"), query("SELECT 1"), ready=2)
    elif leaves == "by DISCARD ALL":
        one.ask(query("RESET ROLE"))
        one.ask(query("DISCARD ALL"))
    with Wire.connect(address_of(weir, database)) as two:
        if leaves != "by DISCARD ALL":
            one.sock.close()
        assert two.value("SELECT pg_backend_pid()") == pid
        for name, sql in STATE.items():
            assert two.value(sql) == expected[name], name
    one.sock.close()


HIDDEN_MESS = """
    CREATE OR REPLACE FUNCTION make_mess() RETURNS void LANGUAGE plpgsql AS $$
    DECLARE held refcursor;
    BEGIN
        PERFORM set_config('work_mem', '7MB', false), set_config('app.tenant', 'me', false);
        SET search_path = nowhere;
        SET ROLE pg_monitor;
        CREATE TEMP TABLE mess (a int);
        PERFORM pg_advisory_lock(99);
        EXECUTE 'PREPARE mess AS SELECT 1';
        EXECUTE 'LISTEN mess';
        EXECUTE 'DECLARE mess CURSOR WITH HOLD FOR SELECT 1';
    END $$;
    CREATE OR REPLACE FUNCTION make_mess_too() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM make_mess(); RETURN new; END $$;
    DROP TABLE IF EXISTS messing;
    CREATE TABLE messing (a int);
    CREATE TRIGGER mess BEFORE INSERT ON messing EXECUTE FUNCTION make_mess_too();
    GRANT ALL ON messing TO PUBLIC
"""


@pytest.mark.parametrize("sql", ["SELECT make_mess()", "INSERT INTO messing VALUES (1)"])
@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("extended", [False, True])
def test_always_leaves_nothing_of_what_functions_and_triggers_have_done(
    weir: Pgweir, pg18: Postgres, *, sql: str, leaves: bool, extended: bool
) -> None:
    """Whether its client stays or goes; of all that DISCARD ALL discards."""
    pg18.execute(f"GRANT pg_monitor TO {APP.name}")
    pg18.execute(HIDDEN_MESS)
    with Wire.connect(address_of(pg18)) as new:
        expected = {name: new.value(sql) for name, sql in STATE.items()}
    with Wire.connect(address_of(weir, "always")) as one:
        pid = one.value("SELECT pg_backend_pid()")
        assert errors_of(one.ask(run(sql) + SYNC if extended else query(sql))) == []
        if leaves:
            one.close()
        with Wire.connect(address_of(weir, "always")) as two:
            assert two.value("SELECT pg_backend_pid()") == pid
            for name, question in STATE.items():
                assert two.value(question) == expected[name], name


def test_never_means_that_only_what_follows_is_undone(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "never")) as one:
        one.ask(query("SET app.tenant = 'me'"))
        one.ask(query("SELECT pg_advisory_lock(98)"))
    with Wire.connect(address_of(weir, "never")) as two:
        assert two.value("SELECT coalesce(current_setting('app.tenant', true), '')") == ""
        assert two.value(STATE["locks"]) == "1"
        two.ask(query("SELECT pg_advisory_unlock(98)"))


def test_explain_pooling_says_where_it_would_go(
    pg18: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> None:
    each = {"cluster": "main", "dbname": DATABASE}
    databases = {"split": {**each, "read_write_split": True}, "ruled": each}
    routes = [{"match": {"database": "ruled"}, "to": "replica"}]
    config = configuration(pg18, databases=databases, routes=routes)
    with running(config, tmp_path_factory.mktemp("where")) as weir:
        with Wire.connect(address_of(weir, "split")) as wire:

            def told(sql: str) -> tuple[bytes | None, bytes | None]:
                ((_, _, target, why),) = rows_of(wire.ask(query(f"EXPLAIN POOLING {sql}")))
                return target, why

            weir.wait_until(lambda: told("SELECT 1")[0] == b"replica")
            assert told("SELECT 1") == (b"replica", b"it only reads")
            assert told("INSERT INTO counting VALUES (1)")[0] == b"primary"
            assert told("/* pgweir: primary */ SELECT 1") == (b"primary", b"a hint says so")
        with Wire.connect(address_of(weir, "ruled")) as wire:
            assert told("SELECT 1") == (b"replica", b"a rule says so")
