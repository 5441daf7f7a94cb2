"""PREPARE, EXECUTE, DEALLOCATE, DISCARD: a client's own, on whichever server connection it is."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, Postgres
from tests.live.conversation import (
    FLUSH,
    SERVER_STATEMENTS,
    SYNC,
    Wire,
    address_of,
    bind,
    close_statement,
    describe_portal,
    describe_statement,
    errors_of,
    execute,
    kinds_of,
    parse,
    query,
    rows_of,
    run,
)

Say = Callable[[Wire, str], list[list[bytes | None]]]
OWN = "SELECT name, statement, from_sql FROM pg_prepared_statements ORDER BY name"


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    each = {"cluster": "main", "dbname": DATABASE}
    databases = {
        "one": {**each, "pool_size": 1},
        "two": {**each, "pool_size": 2},
        "shared": {**each, "pool_size": 1, "share_unnamed": True},
    }
    pg18.execute("CREATE TABLE IF NOT EXISTS prepared_of (a int)")
    with running(configuration(pg18, databases=databases), tmp_path_factory.mktemp("sql")) as weir:
        yield weir


def simple(wire: Wire, sql: str) -> list[list[bytes | None]]:
    heard = wire.ask(query(sql))
    assert errors_of(heard) == [], heard
    return rows_of(heard)


def extended(wire: Wire, sql: str) -> list[list[bytes | None]]:
    heard = wire.ask(run(sql), SYNC)
    assert errors_of(heard) == [], heard
    return rows_of(heard)


def pipelined(wire: Wire, sql: str) -> list[list[bytes | None]]:
    nothing = run("SELECT WHERE false")
    heard = wire.ask(nothing, SYNC, run(sql), SYNC, nothing, SYNC, ready=3)
    assert errors_of(heard) == []
    return rows_of(heard)


def flushed(wire: Wire, sql: str) -> list[list[bytes | None]]:
    """In two halves, and by a name, as drivers do that look at a statement before they run it."""
    wire.send(parse(sql, "half"), describe_statement("half"), FLUSH)
    first = wire.until(lambda each: each.kind in b"TnE")
    assert errors_of(first) == [], first
    heard = wire.ask(bind(name="half"), execute(), close_statement("half"), SYNC)
    assert errors_of(heard) == [], heard
    return rows_of(heard)


@pytest.fixture(params=[simple, extended, flushed, pipelined])
def say(request: pytest.FixtureRequest) -> Say:
    way: Say = request.param
    return way


@pytest.mark.parametrize("database", ["one", "two", "shared"])
def test_two_clients_have_a_statement_of_the_same_name_each(
    weir: Pgweir, say: Say, database: str
) -> None:
    with (
        Wire.connect(address_of(weir, database)) as one,
        Wire.connect(address_of(weir, database)) as two,
    ):
        say(one, "PREPARE mine (int) AS SELECT 'one', $1 + 1")
        say(two, "PREPARE mine (int) AS SELECT 'two', $1 + 2")
        for number in range(3):
            assert say(one, f"EXECUTE mine({number})") == [[b"one", b"%d" % (number + 1)]]
            assert say(two, f"EXECUTE mine({number})") == [[b"two", b"%d" % (number + 2)]]
        say(one, "DEALLOCATE mine")
        assert errors_of(one.ask(query("EXECUTE mine(1)"))) == ["26000"]
        assert say(two, "EXECUTE mine(7)") == [[b"two", b"9"]]
        say(two, "DEALLOCATE ALL")
        assert errors_of(two.ask(query("EXECUTE mine(1)"))) == ["26000"]
    assert weir.metric("pgweir_pinned_clients", database=database) == 0


def test_a_pipeline_of_them_is_answered_in_order(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as one,
        Wire.connect(address_of(weir, "one")) as two,
    ):
        said = run("PREPARE p AS SELECT 7") + SYNC + run("EXECUTE p") + SYNC + query("EXECUTE p")
        heard = one.ask(said + run("DEALLOCATE p") + run("EXECUTE p") + SYNC, ready=4)
        assert rows_of(heard) == [[b"7"], [b"7"]]
        assert errors_of(heard) == ["26000"]
        assert errors_of(two.ask(query("EXECUTE p"))) == ["26000"]


def test_what_a_rolled_back_transaction_prepared_is_prepared(weir: Pgweir) -> None:
    """As in PostgreSQL: PREPARE is not undone."""
    with (
        Wire.connect(address_of(weir, "one")) as one,
        Wire.connect(address_of(weir, "one")) as two,
    ):
        for sql in ("BEGIN", "PREPARE kept AS SELECT 'kept'", "SELECT 1 / 0", "ROLLBACK"):
            one.ask(query(sql))
        assert errors_of(two.ask(query("EXECUTE kept"))) == ["26000"]
        assert one.value("EXECUTE kept") == "kept"
        for sql in ("BEGIN", "DEALLOCATE kept", "ROLLBACK"):
            one.ask(query(sql))
        assert errors_of(one.ask(query("EXECUTE kept"))) == ["26000"]


@pytest.mark.parametrize("ends", ["DISCARD ALL", "DEALLOCATE ALL", "DEALLOCATE PREPARE ALL"])
def test_discarding_ends_those_of_its_client_only(weir: Pgweir, say: Say, ends: str) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as one,
        Wire.connect(address_of(weir, "one")) as two,
    ):
        for wire in (one, two):
            say(wire, "PREPARE a AS SELECT 'a'")
            wire.ask(parse("SELECT 'b'", "b"), SYNC)
        if say is not flushed:
            say(one, ends)
        else:
            one.ask(query(ends))
        assert errors_of(one.ask(query("EXECUTE a"))) == ["26000"]
        assert errors_of(one.ask(bind(name="b"), execute(), SYNC)) == ["26000"]
        assert say(two, "EXECUTE a") == [[b"a"]]
        assert rows_of(two.ask(bind(name="b"), execute(), SYNC)) == [[b"b"]]


def test_one_of_sql_is_used_by_the_protocol_and_the_other_way_round(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as one,
        Wire.connect(address_of(weir, "one")) as two,
    ):
        one.ask(query("PREPARE s (text) AS SELECT 's' || $1"))
        one.ask(parse("SELECT 'p'", "p"), SYNC)
        for _ in range(2):
            two.ask(query("SELECT 1"))
            heard = one.ask(describe_statement("s"), bind("!", name="s"), execute(), SYNC)
            assert kinds_of(heard) == "tT2DCZ"
            assert rows_of(heard) == [[b"s!"]]
            two.ask(query("SELECT 1"))
            assert one.value("EXECUTE p") == "p"
            assert rows_of(one.ask(run("EXECUTE p"), SYNC)) == [[b"p"]]
        one.ask(close_statement("s"), SYNC)
        two.ask(query("SELECT 1"))
        assert errors_of(one.ask(query("EXECUTE s('x')"))) == ["26000"]
        one.ask(query("SELECT 1; DEALLOCATE p"))
        assert errors_of(one.ask(bind(name="p"), execute(), SYNC)) == ["26000"]


def test_a_name_is_taken_by_whoever_used_it_first(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as one,
        Wire.connect(address_of(weir, "one")) as two,
    ):
        one.ask(query("PREPARE a AS SELECT 'sql'"))
        two.ask(query("SELECT 1"))
        assert errors_of(one.ask(parse("SELECT 'protocol'", "a"), SYNC)) == ["42P05"]
        assert one.value("EXECUTE a") == "sql"
        one.ask(parse("SELECT 'protocol'", "b"), SYNC)
        two.ask(query("SELECT 1"))
        assert errors_of(one.ask(query("PREPARE b AS SELECT 'sql'"))) == ["42P05"]
        assert rows_of(one.ask(bind(name="b"), execute(), SYNC)) == [[b"protocol"]]
        heard = one.ask(query("BEGIN"), query("PREPARE c AS SELECT 1"), ready=2)
        assert errors_of(heard) == []
        assert errors_of(one.ask(parse("SELECT 2", "c"), SYNC)) == ["42P05"]


def test_the_view_shows_each_client_its_own(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as one,
        Wire.connect(address_of(weir, "one")) as two,
    ):
        one.ask(query("PREPARE of_sql AS SELECT 1"))
        one.ask(parse("SELECT 'of the protocol'", "of_protocol"), SYNC)
        two.ask(parse("SELECT 'of another'", "of_another"), SYNC)
        mine = [
            [b"of_protocol", b"SELECT 'of the protocol'", b"f"],
            [b"of_sql", b"PREPARE of_sql AS SELECT 1", b"t"],
        ]
        assert rows_of(one.ask(query(OWN))) == mine
        assert rows_of(one.ask(run(OWN), SYNC)) == mine
        one.ask(parse(OWN, "itself"), SYNC)
        listed = [b"itself", OWN.encode(), b"f"]
        for _ in range(2):
            assert rows_of(one.ask(bind(name="itself"), execute(), SYNC)) == [listed, *mine]
            assert rows_of(two.ask(query(OWN))) == [
                [b"of_another", b"SELECT 'of another'", b"f"],
            ]
        one.ask(query("BEGIN"))
        assert rows_of(one.ask(query(OWN))) == [listed, *mine]
        one.ask(parse("SELECT 3", "third"), SYNC)
        assert len(rows_of(one.ask(query(OWN)))) == 4
        assert rows_of(one.ask(bind(name="third"), execute(), SYNC)) == [[b"3"]]
        one.ask(close_statement("third"), close_statement("itself"), SYNC)
        assert rows_of(one.ask(query(OWN))) == mine
        one.ask(query("COMMIT"))
        assert rows_of(two.ask(bind(name="of_another"), execute(), SYNC)) == [[b"of another"]]
        assert rows_of(one.ask(bind(name="of_protocol"), execute(), SYNC)) == [[b"of the protocol"]]


def test_what_a_prepared_statement_sets_or_locks_is_seen(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "two")) as one,
        Wire.connect(address_of(weir, "two")) as two,
    ):
        one.ask(query("PREPARE sets (text) AS SELECT set_config('app.tenant', $1, false)"))
        one.ask(query("EXECUTE sets('mine')"))
        assert two.value("SELECT coalesce(current_setting('app.tenant', true), '')") == ""
        assert one.value("SHOW app.tenant") == "mine"
        one.ask(bind("again", name="sets"), execute(), SYNC)
        assert two.value("SELECT coalesce(current_setting('app.tenant', true), '')") == ""
        assert one.value("SHOW app.tenant") == "again"
        one.ask(query("PREPARE locks AS SELECT pg_advisory_lock(4711)"))
        one.ask(run("EXECUTE locks"), SYNC)
        one.ask(query("SELECT 1"))
        assert weir.metric("pgweir_pinned_clients", database="two") == 1
        one.ask(query("SELECT pg_advisory_unlock(4711)"))
        one.ask(query("SELECT 1"))
        assert weir.metric("pgweir_pinned_clients", database="two") == 0


def test_one_whose_table_is_gone_costs_nothing_but_itself(weir: Pgweir, pg18: Postgres) -> None:
    pg18.execute("CREATE TABLE soon_gone (a int); GRANT SELECT ON soon_gone TO PUBLIC")
    with (
        Wire.connect(address_of(weir, "one")) as one,
        Wire.connect(address_of(weir, "one")) as two,
    ):
        one.ask(query("PREPARE lives AS SELECT 'lives'"))
        one.ask(query("PREPARE gone AS SELECT * FROM soon_gone"))
        pg18.execute("DROP TABLE soon_gone")
        two.ask(query("SELECT 1"))
        assert one.value("EXECUTE lives") == "lives"
        assert errors_of(one.ask(query("EXECUTE gone"))) != []
        assert one.value("EXECUTE lives") == "lives"


def test_several_in_one_text_are_carried_one_by_one(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "one")) as one,
        Wire.connect(address_of(weir, "one")) as two,
    ):
        one.ask(
            query("""PREPARE a AS SELECT 'a;b'; PREPARE "B""c" AS SELECT 'c' -- ; no
            ; SELECT 1""")
        )
        two.ask(query("SELECT 1"))
        assert one.value("EXECUTE a") == "a;b"
        assert one.value('EXECUTE "B""c"') == "c"
        one.ask(query('DEALLOCATE "B""c"'))
        two.ask(query("SELECT 1"))
        assert errors_of(one.ask(query('EXECUTE "B""c"'))) == ["26000"]
        assert one.value("EXECUTE a") == "a;b"


def test_too_many_to_carry_pin_their_client(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "two")) as one:
        many = "; ".join(f"PREPARE many_{n} AS SELECT {n}" for n in range(300))
        one.ask(query(many))
        assert one.value("EXECUTE many_299") == "299"
        assert weir.metric("pgweir_pins_total", reason="prepared statement") == 1
        assert weir.metric("pgweir_pinned_clients", database="two") == 1
        one.ask(query("DEALLOCATE ALL"))
        one.ask(query("SELECT 1"))
        assert weir.metric("pgweir_pinned_clients", database="two") == 0


def test_a_client_that_leaves_leaves_no_statement(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "one")) as one:
        one.ask(query("PREPARE left AS SELECT 1"))
        one.ask(parse("SELECT 2", "left_too"), SYNC)
        one.ask(query("TABLE pg_prepared_statements"))
    with Wire.connect(address_of(weir, "one")) as two:
        assert two.value(f"SELECT count(*) FROM {SERVER_STATEMENTS} WHERE name LIKE 'left%'") == "0"
        assert rows_of(two.ask(query(OWN))) == []


def test_a_stale_plan_in_a_transaction_gives_no_settings_away(weir: Pgweir, pg18: Postgres) -> None:
    pg18.execute("CREATE TABLE changing (a int); GRANT SELECT ON changing TO PUBLIC")
    with (
        Wire.connect(address_of(weir, "one")) as one,
        Wire.connect(address_of(weir, "one")) as two,
    ):
        one.ask(query("SET app.tenant = 'mine'"))
        one.ask(query("PREPARE mine AS SELECT 'mine'"))
        one.ask(parse("SELECT * FROM changing", "s"), bind(name="s"), execute(), SYNC)
        pg18.execute("ALTER TABLE changing ADD b int")
        one.ask(query("BEGIN"), query("SELECT 1"), ready=2)
        assert errors_of(one.ask(bind(name="s"), execute(), SYNC)) == ["0A000"]
        one.ask(query("ROLLBACK"))
        assert two.value("SELECT coalesce(current_setting('app.tenant', true), '')") == ""
        assert one.value("SHOW app.tenant") == "mine"
        assert one.value("EXECUTE mine") == "mine"
        pg18.execute("ALTER TABLE changing ADD c int")
        heard = one.ask(bind(name="s"), describe_portal(), execute(), SYNC)
        assert errors_of(heard) == []
        assert one.value("EXECUTE mine") == "mine"
    pg18.execute("DROP TABLE changing")


def test_psycopg_mixes_both_kinds(weir: Pgweir) -> None:
    dsn = weir.dsn(database="one")
    with (
        psycopg.connect(dsn, autocommit=True) as one,
        psycopg.connect(dsn, autocommit=True) as two,
    ):
        one.prepare_threshold = two.prepare_threshold = 0
        for each, word in ((one, "one"), (two, "two")):
            each.execute(f"PREPARE q (text) AS SELECT '{word}' || $1")
        for _ in range(6):
            assert one.execute("EXECUTE q('!')").fetchone() == ("one!",)
            assert two.execute("EXECUTE q('?')").fetchone() == ("two?",)
            assert one.execute("SELECT %s::int", [5]).fetchone() == (5,)
        found = one.execute("SELECT count(*) FROM pg_prepared_statements WHERE from_sql").fetchone()
        assert found == (1,)


@pytest.fixture
def fleeting(pg18: Postgres) -> Iterator[str]:
    pg18.execute("CREATE TABLE fleeting (a int); GRANT SELECT ON fleeting TO PUBLIC")
    yield "SELECT a FROM fleeting"
    pg18.execute("DROP TABLE IF EXISTS fleeting")


@pytest.mark.parametrize("say", [simple, extended, pipelined])
def test_a_look_at_prepared_transactions_is_about_no_statement(
    weir: Pgweir, pg18: Postgres, fleeting: str, say: Say
) -> None:
    with Wire.connect(address_of(weir, "one")) as one:
        one.ask(parse(fleeting, "gone"), parse("SELECT 2", "two"), SYNC)
        pg18.execute("DROP TABLE fleeting")
        assert say(one, "SELECT gid FROM pg_prepared_xacts WHERE false") == []
        assert rows_of(one.ask(bind(name="two"), execute(), SYNC)) == [[b"2"]]


def test_of_statements_one_that_fails_takes_no_other_with_it(
    weir: Pgweir, pg18: Postgres, fleeting: str
) -> None:
    with Wire.connect(address_of(weir, "one")) as one:
        one.ask(parse("SELECT 1", "a"), parse(fleeting, "b"), parse("SELECT 3", "c"), SYNC)
        pg18.execute("DROP TABLE fleeting")
        assert [row[0] for row in simple(one, OWN)] == [b"a", b"c"]
        for name, value in (("a", b"1"), ("c", b"3")):
            assert rows_of(one.ask(bind(name=name), execute(), SYNC)) == [[value]]
        assert errors_of(one.ask(bind(name="b"), execute(), SYNC)) == ["42P01"]
        pg18.execute("CREATE TABLE fleeting (a int); GRANT SELECT ON fleeting TO PUBLIC")
        assert errors_of(one.ask(bind(name="b"), execute(), SYNC)) == []


def test_after_a_look_that_failed_all_statements_are_known(
    weir: Pgweir, pg18: Postgres, fleeting: str
) -> None:
    with Wire.connect(address_of(weir, "one")) as one:
        one.ask(parse("SELECT 1", "a"), parse(fleeting, "b"), parse("SELECT 3", "c"), SYNC)
        pg18.execute("DROP TABLE fleeting")
        assert errors_of(one.ask(run(OWN), SYNC)) == ["42P01"]
        for name, value in (("a", b"1"), ("c", b"3")):
            assert rows_of(one.ask(bind(name=name), execute(), SYNC)) == [[value]]
        one.ask(close_statement("b"), SYNC)
        assert [row[0] for row in extended(one, OWN)][:2] == [b"a", b"c"]


def test_within_its_transaction_a_statement_that_was_left_out_is_parsed_once_more(
    weir: Pgweir, pg18: Postgres, fleeting: str
) -> None:
    with Wire.connect(address_of(weir, "one")) as one:
        one.ask(parse("SELECT 1", "a"), parse(fleeting, "b"), parse("SELECT 3", "c"), SYNC)
        pg18.execute("DROP TABLE fleeting")
        one.ask(query("BEGIN"), query("SAVEPOINT here"), ready=2)
        assert errors_of(one.ask(run(OWN), SYNC)) == ["42P01"]
        one.ask(query("ROLLBACK TO here"))
        heard = one.ask(describe_statement("c"), bind(name="c"), execute(), SYNC)
        assert rows_of(heard) == [[b"3"]]
        assert errors_of(one.ask(bind(name="b"), execute(), SYNC)) == ["42P01"]
        one.ask(query("ROLLBACK"))
        assert rows_of(one.ask(bind(name="c"), execute(), SYNC)) == [[b"3"]]


def test_a_name_that_prepare_may_have_used_is_tried_alone(
    weir: Pgweir, pg18: Postgres, fleeting: str
) -> None:
    with Wire.connect(address_of(weir, "one")) as one:
        one.ask(parse(fleeting, "gone"), parse("SELECT 2", "two"), SYNC)
        pg18.execute("DROP TABLE fleeting")
        one.ask(query("BEGIN"), query("PREPARE made AS SELECT 'made'"), ready=2)
        assert errors_of(one.ask(parse("SELECT 5", "five"), describe_statement("five"), SYNC)) == []
        heard = one.ask(bind(name="five"), execute(), bind(name="two"), execute(), SYNC)
        assert rows_of(heard) == [[b"5"], [b"2"]]
        assert errors_of(one.ask(parse("SELECT 5", "five"), SYNC)) == ["42P05"]
        one.ask(query("ROLLBACK"))
        one.ask(query("BEGIN"), query("PREPARE other AS SELECT 'other'"), ready=2)
        assert errors_of(one.ask(parse("SELECT 6", "other"), SYNC)) == ["42P05"]
        one.ask(query("ROLLBACK"))
        assert errors_of(one.ask(parse("SELECT 7", "made"), SYNC)) == ["42P05"]
        heard = one.ask(bind(name="five"), execute(), bind(name="two"), execute(), SYNC)
        assert rows_of(heard) == [[b"5"], [b"2"]]
        assert one.value("EXECUTE made") == "made"
