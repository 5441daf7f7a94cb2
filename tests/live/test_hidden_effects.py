"""What functions, triggers, views and expressions do to a session that no text tells of.

Nothing is declared here. On a pool of one server connection whatever is not seen shows at once.
"""

from collections.abc import Iterator

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
    function_call,
    parse,
    query,
    rows_of,
    run,
)

FUNCTIONS = """
DROP SCHEMA IF EXISTS hidden CASCADE;
CREATE SCHEMA hidden;
SET search_path = hidden;
CREATE SEQUENCE counted;
CREATE FUNCTION set_tenant(who text) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.tenant', who, false); RETURN 1; END $$;
CREATE FUNCTION set_in_sql(who text) RETURNS text LANGUAGE sql AS
    $$ SELECT set_config('app.tenant', who, false) $$;
CREATE FUNCTION set_in_standard(who text) RETURNS text
    BEGIN ATOMIC SELECT set_config('app.tenant', who, false); END;
CREATE FUNCTION set_nested() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN RETURN hidden.set_tenant('me'); END $$;
CREATE FUNCTION set_locally() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.tenant', 'me', true); RETURN 1; END $$;
CREATE FUNCTION set_something(name text) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.' || name, 'me', false); RETURN 1; END $$;
CREATE FUNCTION set_by_text() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE 'SET app.tenant = ' || quote_literal('me'); RETURN 1; END $$;
CREATE FUNCTION run_it(command text) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE command; RETURN 1; END $$;
CREATE PROCEDURE set_it(who text) LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.tenant', who, false); COMMIT; END $$;
CREATE FUNCTION set_memory() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN SET work_mem = '7MB'; RETURN 1; END $$;
CREATE FUNCTION become() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN SET ROLE pg_monitor; RETURN 1; END $$;
CREATE FUNCTION prepare_it() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE 'PREPARE mine AS SELECT 7'; RETURN 1; END $$;
CREATE FUNCTION forget_all() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN 1; END $$;
CREATE FUNCTION listen_to() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE 'LISTEN hidden_news'; RETURN 1; END $$;
CREATE FUNCTION lock_it() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_lock(4711); RETURN 1; END $$;
CREATE FUNCTION lock_and_fail() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_lock(4711); RETURN 1 / 0; END $$;
CREATE FUNCTION make_table() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN CREATE TEMP TABLE hidden_table (a int); RETURN 1; END $$;
CREATE FUNCTION hold_it() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT 1'; RETURN 1; END $$;
CREATE FUNCTION next_one() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('hidden.counted') $$;
CREATE FUNCTION last_one() RETURNS bigint LANGUAGE sql AS $$ SELECT lastval() $$;
CREATE TABLE fires (a int);
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM hidden.set_tenant('me'); RETURN new; END $$;
CREATE TRIGGER fire BEFORE INSERT OR UPDATE ON fires FOR EACH ROW EXECUTE FUNCTION fire();
CREATE VIEW over_fires AS SELECT * FROM fires;
CREATE TABLE fires_below PARTITION OF fires_above FOR VALUES IN (1);
CREATE VIEW calls AS SELECT set_tenant('me') AS a;
CREATE VIEW calls_too AS SELECT * FROM calls;
CREATE TABLE has_default (a int DEFAULT set_tenant('me'), b int);
CREATE TABLE has_policy (a int);
INSERT INTO has_policy VALUES (1);
ALTER TABLE has_policy ENABLE ROW LEVEL SECURITY;
CREATE POLICY calls ON has_policy USING (set_tenant('me') = 1);
CREATE TABLE parents (a int PRIMARY KEY);
CREATE TABLE children (a int REFERENCES parents ON DELETE CASCADE);
INSERT INTO parents VALUES (1), (2), (3), (4), (5), (6), (7), (8);
INSERT INTO children SELECT a FROM parents;
CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM hidden.set_tenant('me'); RETURN old; END $$;
CREATE TRIGGER gone BEFORE DELETE ON children FOR EACH ROW EXECUTE FUNCTION gone();
CREATE TABLE later (a int, b int);
CREATE TABLE later_fires (a int) PARTITION BY LIST (a);
CREATE TRIGGER fire BEFORE INSERT ON later_fires FOR EACH ROW EXECUTE FUNCTION fire();
CREATE TABLE later_parents (a int PRIMARY KEY);
CREATE TABLE later_children (a int);
INSERT INTO later_parents VALUES (1);
INSERT INTO later_children VALUES (1);
CREATE TRIGGER gone BEFORE DELETE ON later_children FOR EACH ROW EXECUTE FUNCTION gone();
CREATE TYPE thing AS (a int);
CREATE FUNCTION public.tenant_of(which thing) RETURNS int LANGUAGE sql AS
    $$ SELECT hidden.set_tenant('me') $$;
CREATE VIEW sets AS SELECT set_config('app.tenant', 'me', false) AS a;
CREATE VIEW sets_locally AS SELECT set_config('app.tenant', 'me', true) AS a;
CREATE VIEW over_sets AS SELECT a FROM sets;
CREATE VIEW locks AS SELECT pg_try_advisory_lock(4711) AS a;
CREATE VIEW runs AS SELECT * FROM ts_stat(
    'SELECT to_tsvector(set_config(''app.tenant'', ''me'', false))');
CREATE TABLE sets_default (a text DEFAULT set_config('app.tenant', 'me', false), b int);
CREATE TABLE sets_check (a int CHECK (set_config('app.tenant', 'me', false) = 'me'));
CREATE TABLE sets_rule (a int);
CREATE RULE sets AS ON INSERT TO sets_rule
    DO ALSO SELECT set_config('app.tenant', 'me', false);
CREATE TABLE sets_trigger (a int);
CREATE FUNCTION plain() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
CREATE TRIGGER sets BEFORE INSERT ON sets_trigger FOR EACH ROW
    WHEN (set_config('app.tenant', 'me', false) = 'me') EXECUTE FUNCTION plain();
CREATE TABLE sets_policy (a int);
INSERT INTO sets_policy VALUES (1);
ALTER TABLE sets_policy ENABLE ROW LEVEL SECURITY;
CREATE POLICY sets ON sets_policy USING (set_config('app.tenant', 'me', false) = 'me');
CREATE FUNCTION sets_argument(a text DEFAULT set_config('app.tenant', 'me', false)) RETURNS text
    LANGUAGE sql AS $$ SELECT a $$;
CREATE DOMAIN sets_domain AS int CHECK (set_config('app.tenant', 'me', false) = 'me');
CREATE TABLE has_domain (a sets_domain);
CREATE DOMAIN calls_domain AS int CHECK (set_tenant('me') = 1);
CREATE TABLE has_calls_domain (a calls_domain);
CREATE FUNCTION adds(total int, one int) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN RETURN total + hidden.set_tenant('me') + one; END $$;
CREATE AGGREGATE added(int) (sfunc = adds, stype = int, initcond = '0');
CREATE FUNCTION thing_of(number int) RETURNS thing LANGUAGE plpgsql AS
    $$ BEGIN PERFORM hidden.set_tenant('me'); RETURN ROW(number)::hidden.thing; END $$;
CREATE CAST (int AS thing) WITH FUNCTION thing_of(int);
RESET search_path;
GRANT USAGE ON SCHEMA hidden TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA hidden TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA hidden TO PUBLIC;
GRANT CREATE ON SCHEMA hidden TO PUBLIC;
ALTER TABLE hidden.later OWNER TO app;
ALTER TABLE hidden.later_fires OWNER TO app;
ALTER TABLE hidden.later_parents OWNER TO app;
ALTER TABLE hidden.later_children OWNER TO app;
""".replace(
    "CREATE TABLE fires_below",
    "CREATE TABLE fires_above (a int) PARTITION BY LIST (a);\nCREATE TABLE fires_below",
).replace(
    "CREATE VIEW calls AS",
    "CREATE TRIGGER fire BEFORE INSERT ON fires_below FOR EACH ROW EXECUTE FUNCTION fire();\n"
    "CREATE VIEW calls AS",
)


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    pg18.execute(f"GRANT pg_monitor TO {APP.name}")
    pg18.execute(FUNCTIONS)
    each = {"cluster": "main", "dbname": DATABASE}
    databases = {
        "one": {**each, "pool_size": 1},
        "two": {**each, "pool_size": 2},
        "strict": {**each, "pins": "refuse"},
    }
    config = configuration(pg18, databases=databases)
    with running(config, tmp_path_factory.mktemp("hidden")) as weir:
        for database in databases:
            with Wire.connect(address_of(weir, database)) as wire:
                weir.wait_until(
                    lambda wire=wire: explained(wire, "SELECT hidden.set_tenant('x')") == "replayed"
                )
        yield weir
    pg18.execute("DROP SCHEMA hidden CASCADE")


def explained(wire: Wire, sql: str) -> str:
    ((pooling, *_),) = rows_of(wire.ask(query(f"EXPLAIN POOLING {sql}")))
    return (pooling or b"").decode()


def pinned(weir: Pgweir, database: str) -> float:
    return weir.metric("pgweir_pinned_clients", database=database)


def say(wire: Wire, sql: str, how: str) -> list[str]:
    """Run it one way or the other. Result: the errors."""
    match how:
        case "simple":
            heard = wire.ask(query(sql))
        case "extended":
            heard = wire.ask(run(sql), SYNC)
        case "named":
            heard = wire.ask(parse(sql, "n"), SYNC)
            heard += wire.ask(bind(name="n"), execute(), SYNC)
        case "pipelined":
            heard = wire.ask(run("SELECT 1"), SYNC, run(sql), SYNC, query("SELECT 2"), ready=3)
        case "in a transaction":
            heard = wire.ask(query("BEGIN"), query("SAVEPOINT a"), query(sql), ready=3)
            heard += wire.ask(query("RELEASE a"), query("COMMIT"), ready=2)
        case _:
            raise AssertionError(how)
    return errors_of(heard)


HOW = ["simple", "extended", "named", "pipelined", "in a transaction"]
TENANT = "SELECT coalesce(current_setting('app.tenant', true), '')"
FOLLOWS = [
    ("SELECT hidden.set_tenant('me')", TENANT, "me"),
    ("SELECT * FROM hidden.SET_TENANT ('me')", TENANT, "me"),
    ('SELECT "hidden"."set_tenant"/* why */(\'me\')', TENANT, "me"),
    ("SELECT hidden.set_in_sql('me')", TENANT, "me"),
    ("SELECT hidden.set_in_standard('me')", TENANT, "me"),
    ("SELECT hidden.set_nested()", TENANT, "me"),
    ("SELECT hidden.set_by_text()", TENANT, "me"),
    ("SELECT hidden.run_it('SET work_mem = ''7MB''')", "SHOW work_mem", "7MB"),
    ("SELECT hidden.run_it('SET app.tenant = ''me''')", TENANT, "me"),
    ("DO $$ BEGIN PERFORM hidden.set_tenant('me'); END $$", TENANT, "me"),
    ("SELECT hidden.set_memory()", "SHOW work_mem", "7MB"),
    ("SELECT hidden.become()", "SHOW role", "pg_monitor"),
    ("SELECT hidden.prepare_it()", "SELECT count(*) FROM pg_prepared_statements WHERE from_sql",
     "1"),
    ("SELECT hidden.listen_to()", "SELECT count(*) FROM pg_listening_channels()", "1"),
    ("INSERT INTO hidden.fires VALUES (1)", TENANT, "me"),
    ("INSERT INTO hidden.over_fires VALUES (1)", TENANT, "me"),
    ("INSERT INTO hidden.fires_above VALUES (1)", TENANT, "me"),
    ("WITH i AS (INSERT INTO hidden.fires VALUES (1) RETURNING a) SELECT a FROM i", TENANT, "me"),
    ("SELECT * FROM hidden.calls_too", TENANT, "me"),
    ("INSERT INTO hidden.has_default (b) VALUES (1)", TENANT, "me"),
    ("SELECT * FROM hidden.has_policy", TENANT, "me"),
    ("DELETE FROM hidden.parents WHERE a = (SELECT min(a) FROM hidden.parents)", TENANT, "me"),
    ("SELECT (ROW(1)::hidden.thing).tenant_of", TENANT, "me"),
    ("SELECT * FROM hidden.over_sets", TENANT, "me"),
    ("SELECT * FROM hidden.runs", TENANT, "me"),
    ("INSERT INTO hidden.sets_default (b) VALUES (1)", TENANT, "me"),
    ("INSERT INTO hidden.sets_check VALUES (1)", TENANT, "me"),
    ("INSERT INTO hidden.sets_trigger VALUES (1)", TENANT, "me"),
    ("INSERT INTO hidden.sets_rule VALUES (1)", TENANT, "me"),
    ("SELECT * FROM hidden.sets_policy", TENANT, "me"),
    ("SELECT hidden.sets_argument()", TENANT, "me"),
    ("SELECT 1::hidden.sets_domain", TENANT, "me"),
    ("INSERT INTO hidden.has_domain VALUES (1)", TENANT, "me"),
    ("INSERT INTO hidden.has_calls_domain VALUES (1)", TENANT, "me"),
    ("SELECT hidden.added(a) FROM generate_series(1, 2) a", TENANT, "me"),
    ("SELECT 1::hidden.thing", TENANT, "me"),
]  # fmt: skip


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("sql", "shows", "shown"), FOLLOWS)
def test_what_can_be_carried_follows_its_client(
    weir: Pgweir, sql: str, shows: str, shown: str, how: str
) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as mine,
        Wire.connect(address_of(weir, "one")) as theirs,
    ):
        before = theirs.value(shows)
        assert say(mine, sql, how) == []
        for _ in range(2):
            assert theirs.value(shows) == before != shown
            assert mine.value(shows) == shown
        assert pinned(weir, "one") == 0


def test_what_is_given_to_be_run_names_its_settings_in_any_value(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as mine,
        Wire.connect(address_of(weir, "one")) as theirs,
    ):
        for token in ("one", "two"):
            text = f"SET app.tenant = '{token}'"
            heard = mine.ask(run("SELECT hidden.run_it($1)", text), SYNC)
            assert errors_of(heard) == []
            assert theirs.value(TENANT) == ""
            assert mine.value(TENANT) == token


def test_what_a_prepared_call_is_given_is_followed(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as mine,
        Wire.connect(address_of(weir, "one")) as theirs,
    ):
        mine.ask(query("PREPARE it AS SELECT hidden.run_it($$SET app.tenant = 'me'$$)"))
        assert theirs.value(TENANT) == ""
        assert errors_of(mine.ask(query("EXECUTE it"))) == []
        assert theirs.value(TENANT) == ""
        assert mine.value(TENANT) == "me"


@pytest.mark.parametrize(
    ("before", "ready"),
    [
        (parse(f"SELECT 1 -- {'x' * 2_000_000}") + SYNC, 1),
        (parse("SELECT 1") + bind() + execute() + query("SELECT 2") + SYNC, 2),
    ],
    ids=["too long to be kept", "gone perhaps"],
)
def test_a_name_nobody_knows_is_told_whatever_the_unnamed_statement_is(
    weir: Pgweir, before: bytes, ready: int
) -> None:
    with Wire.connect(address_of(weir, "one")) as wire:
        wire.ask(before, ready=ready)
        assert errors_of(wire.ask(bind(name="nobody") + SYNC)) == ["26000"]


def test_what_a_function_deallocates_is_prepared_anew_for_the_next(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "one"), options="-c app.tenant=me") as mine,
        Wire.connect(address_of(weir, "one")) as theirs,
    ):
        for _ in range(3):
            assert mine.value(TENANT) == "me"
            assert errors_of(theirs.ask(query("SELECT hidden.forget_all()"))) == []


def test_a_procedure_that_commits_is_followed(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as mine,
        Wire.connect(address_of(weir, "one")) as theirs,
    ):
        for how in ("simple", "extended"):
            assert say(mine, "CALL hidden.set_it('me')", how) == []
            assert theirs.value(TENANT) == ""
            assert mine.value(TENANT) == "me"
            mine.ask(query("RESET app.tenant"))


@pytest.mark.parametrize("together", [False, True])
def test_what_an_execute_calls_is_followed(weir: Pgweir, *, together: bool) -> None:
    prepare = query("PREPARE p(text) AS SELECT hidden.set_tenant($1)")
    with (
        Wire.connect(address_of(weir, "one")) as mine,
        Wire.connect(address_of(weir, "one")) as theirs,
    ):
        if together:
            heard = mine.ask(prepare, query("EXECUTE p('me')"), ready=2)
        else:
            heard = mine.ask(prepare) + mine.ask(query("EXECUTE p('me')"))
        assert errors_of(heard) == []
        assert theirs.value(TENANT) == ""
        assert mine.value(TENANT) == "me"


def test_what_an_execute_calls_is_followed_whatever_else_is_prepared(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as mine,
        Wire.connect(address_of(weir, "one")) as theirs,
    ):
        mine.ask(query("PREPARE p(text) AS SELECT hidden.set_tenant($1)"))
        mine.ask(query("PREPARE q AS SELECT 1"))
        assert errors_of(mine.ask(query("EXECUTE p('me')"))) == []
        assert theirs.value(TENANT) == ""
        assert mine.value(TENANT) == "me"


def test_what_is_undone_with_its_transaction_is_not_followed(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "one")) as mine:
        for ends in ("ROLLBACK", "ROLLBACK TO a"):
            said = "BEGIN", "SAVEPOINT a", "SELECT hidden.set_tenant('me')", ends, "COMMIT"
            mine.ask(*map(query, said), ready=5)
            assert mine.value(TENANT) == ""
        assert errors_of(mine.ask(query("SELECT hidden.set_tenant('me') / 0"))) == ["22012"]
        assert mine.value(TENANT) == ""
        mine.ask(query("SELECT hidden.set_locally()"))
        assert mine.value(TENANT) == ""


LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
PINS = [
    ("SELECT hidden.lock_it()", LOCKS, "SELECT pg_advisory_unlock_all()"),
    ("SELECT * FROM hidden.locks", LOCKS, "SELECT pg_advisory_unlock_all()"),
    ("SELECT hidden.make_table()",
     "SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()",
     "DROP TABLE hidden_table"),
    ("SELECT hidden.hold_it()", "SELECT count(*) FROM pg_cursors WHERE name = 'held'",
     "CLOSE held"),
    ("SELECT hidden.set_something('tenant')", f"SELECT count(*) FROM ({TENANT} AS t) a"
     " WHERE t = 'me'", "DISCARD ALL"),
]  # fmt: skip


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("sql", "shows", "ends"), PINS)
def test_what_cannot_pins_its_client_until_it_ends(
    weir: Pgweir, sql: str, shows: str, ends: str, how: str
) -> None:
    with (
        Wire.connect(address_of(weir, "two")) as mine,
        Wire.connect(address_of(weir, "two")) as theirs,
    ):
        assert say(mine, sql, how) == []
        for _ in range(2):
            assert theirs.value(shows) == "0"
            assert mine.value(shows) == "1"
        assert pinned(weir, "two") == 1
        assert errors_of(mine.ask(query(ends))) == []
        assert mine.value(shows) == "0"
        assert pinned(weir, "two") == 0


def test_a_lock_that_a_failed_function_took_is_its_clients(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "two")) as mine,
        Wire.connect(address_of(weir, "two")) as theirs,
    ):
        assert say(mine, "SELECT hidden.lock_and_fail()", "simple") == ["22012"]
        assert theirs.value(LOCKS) == "0"
        assert mine.value(LOCKS) == "1"


def test_nobody_is_told_of_anothers_sequence_by_a_function(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as mine,
        Wire.connect(address_of(weir, "one")) as theirs,
    ):
        mine.ask(query("SELECT hidden.next_one()"))
        assert say(theirs, "SELECT hidden.last_one()", "simple") == ["55000"]
        assert mine.ask(query("BEGIN"))
        expected = mine.value("SELECT hidden.next_one()")
        assert mine.value("SELECT hidden.last_one()") == expected
        mine.ask(query("COMMIT"))


def test_a_function_is_known_as_soon_as_it_is_made(weir: Pgweir, pg18: Postgres) -> None:
    pg18.execute(f"GRANT CREATE ON SCHEMA hidden TO {APP.name}")
    for number in range(3):
        with (
            Wire.connect(address_of(weir, "one")) as mine,
            Wire.connect(address_of(weir, "one")) as theirs,
        ):
            make = (
                f"CREATE FUNCTION hidden.made_{number}() RETURNS text LANGUAGE sql"
                " AS $$ SELECT set_config('app.tenant', 'me', false) $$"
            )
            assert errors_of(mine.ask(query(make))) == []
            assert errors_of(mine.ask(query(f"SELECT hidden.made_{number}()"))) == []
            assert theirs.value(TENANT) == ""
            # Until the catalogue has been read, all is suspect and undone.
            weir.wait_until(lambda mine=mine: explained(mine, "SELECT 1") == "plain")
            assert errors_of(mine.ask(query(f"SELECT hidden.made_{number}()"))) == []
            assert theirs.value(TENANT) == ""
            assert mine.value(TENANT) == "me"


@pytest.mark.parametrize(
    ("make", "then"),
    [
        ("ALTER TABLE hidden.later ALTER b SET DEFAULT hidden.set_tenant('me')",
         "INSERT INTO hidden.later (a) VALUES (1)"),
        ("CREATE TABLE hidden.part PARTITION OF hidden.later_fires FOR VALUES IN (1)",
         "INSERT INTO hidden.part VALUES (1)"),
        ("ALTER TABLE hidden.later_children ADD FOREIGN KEY (a) REFERENCES hidden.later_parents"
         " ON DELETE CASCADE", "DELETE FROM hidden.later_parents"),
        ("CREATE TABLE hidden.later_default (a int, b text DEFAULT"
         " set_config('app.tenant', 'me', false))",
         "INSERT INTO hidden.later_default VALUES (1)"),
        ("DO $$ BEGIN CREATE FUNCTION hidden.in_a_block() RETURNS text LANGUAGE sql AS"
         " 'SELECT set_config(''app.tenant'', ''me'', false)'; END $$",
         "SELECT hidden.in_a_block()"),
    ],
)  # fmt: skip
def test_what_comes_to_leave_something_is_known_at_once(weir: Pgweir, make: str, then: str) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as mine,
        Wire.connect(address_of(weir, "one")) as theirs,
    ):
        assert say(mine, make, "simple") == []
        assert say(mine, then, "simple") == []
        assert theirs.value(TENANT) == ""


def test_what_an_event_trigger_sets_is_nobody_elses(weir: Pgweir, pg18: Postgres) -> None:
    pg18.execute(
        "CREATE FUNCTION hidden.noticed() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM hidden.set_tenant('me'); END $$;"
        "CREATE EVENT TRIGGER noticed ON ddl_command_end EXECUTE FUNCTION hidden.noticed()"
    )
    try:
        with (
            Wire.connect(address_of(weir, "one")) as mine,
            Wire.connect(address_of(weir, "one")) as theirs,
        ):
            # That it is there is known as soon as anything about code is changed through the proxy.
            mine.ask(query("CREATE VIEW hidden.seen AS SELECT 1 AS a"))
            comment = "COMMENT ON VIEW hidden.seen IS 'why'"
            weir.wait_until(lambda: explained(mine, "SELECT 1") == "plain")
            assert explained(mine, comment) == "replayed"
            assert errors_of(mine.ask(query(comment))) == []
            assert theirs.value(TENANT) == ""
            assert mine.value(TENANT) == "me"
    finally:
        pg18.execute("DROP EVENT TRIGGER noticed")


def test_what_is_called_by_the_protocols_function_call_stays_with_its_client(
    weir: Pgweir, pg18: Postgres
) -> None:
    ours, hides, lock, sets = (
        pg18.value(f"SELECT '{name}'::regprocedure::oid::int")
        for name in (
            "hidden.set_tenant(text)",
            "hidden.set_something(text)",
            "hidden.lock_it()",
            "set_config(text,text,bool)",
        )
    )
    with (
        Wire.connect(address_of(weir, "two")) as mine,
        Wire.connect(address_of(weir, "two")) as theirs,
    ):
        for call in (function_call(ours, b"me"), function_call(hides, b"tenant")):
            assert errors_of(mine.ask(call)) == []
            assert theirs.value(TENANT) == ""
        assert errors_of(mine.ask(function_call(sets, b"app.tenant", b"me", b"f"))) == []
        assert theirs.value(TENANT) == ""
        assert mine.value(TENANT) == "me"
        assert errors_of(mine.ask(function_call(lock))) == []
        assert theirs.value(LOCKS) == "0"
        assert mine.value(LOCKS) == "1"
        assert pinned(weir, "two") == 1


def test_a_client_that_leaves_leaves_nothing_behind(weir: Pgweir) -> None:
    for sql, shows, _ in (*FOLLOWS, *PINS):
        with Wire.connect(address_of(weir, "one")) as theirs:
            before = theirs.value(shows)
            mine = Wire.connect(address_of(weir, "one"))
            mine.ask(query(sql))
            mine.close()
            assert theirs.value(shows) == before, sql


def test_strictly_what_cannot_be_asked_for_is_refused(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "strict")) as wire:
        # Until a change is read nothing is refused for it.
        weir.wait_until(lambda: explained(wire, "SELECT 1") == "plain")
        hides = "SELECT hidden.set_something('tenant')"
        weir.wait_until(lambda: explained(wire, hides) == "pinned")
        for how in ("simple", "extended"):
            assert say(wire, hides, how) == ["0A000"]
            assert say(wire, "SELECT hidden.set_tenant('me')", how) == []


def test_explain_pooling_tells_of_it(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "one")) as wire:
        # A change that a test before has made may not have been read yet.
        weir.wait_until(lambda: explained(wire, "SELECT 1") == "plain")
        assert explained(wire, "SELECT hidden.set_locally()") == "plain"
        assert explained(wire, "SELECT * FROM hidden.fires") == "plain"
        assert explained(wire, "SELECT * FROM hidden.sets_locally") == "plain"
        assert explained(wire, "SELECT * FROM hidden.sets_default") == "plain"
        assert explained(wire, "INSERT INTO hidden.fires VALUES (1)") == "replayed"
        assert explained(wire, "SELECT hidden.set_something('a')") == "pinned"
