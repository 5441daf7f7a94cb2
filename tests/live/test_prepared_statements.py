"""Prepared statements in transaction mode: any client's, on any server connection."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres
from tests.live.conversation import (
    FLUSH,
    SERVER_STATEMENTS,
    SYNC,
    Address,
    Wire,
    address_of,
    bind,
    close_statement,
    columns_of,
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

HELD = query(f"SELECT count(*) FROM {SERVER_STATEMENTS} WHERE name LIKE '\\_pgweir%'")


def event(weir: Pgweir, which: str) -> float:
    return weir.metric("pgweir_prepared_statements_total", event=which)


@pytest.fixture(scope="module")
def small(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    """Pools of one and of two, with few statements, and with shared unnamed ones."""
    each = {"cluster": "main", "dbname": DATABASE}
    databases = {
        "one": {**each, "pool_size": 1},
        "two": {**each, "pool_size": 2},
        "few": {**each, "pool_size": 1, "max_prepared_statements": 3},
        "few_of_two": {**each, "pool_size": 2, "max_prepared_statements": 2},
        "none": {**each, "pool_size": 1, "max_prepared_statements": 0},
        "shared": {**each, "pool_size": 1, "share_unnamed": True},
        "short": {**each, "pool_size": 2, "max_statement_bytes": 1000},
    }
    config = configuration(pg18, databases=databases)
    with running(config, tmp_path_factory.mktemp("prepared")) as weir:
        yield weir


@contextlib.contextmanager
def held(weir: Pgweir, database: str) -> Iterator[Wire]:
    """A client that keeps one of the pool's server connections for itself."""
    with Wire.connect(address_of(weir, database)) as holder:
        holder.ask(query("BEGIN"))
        holder.ask(query("SELECT 1"))
        yield holder
        holder.ask(query("COMMIT"))


def backend(wire: Wire) -> str | None:
    return wire.value("SELECT pg_backend_pid()")


def test_a_statement_has_as_many_parameters_as_the_protocol_can_count(small: Pgweir) -> None:
    """What the server says of them is longer than what else it says at once."""
    count = 65535
    sql = "VALUES " + ", ".join(f"(${number + 1}::text)" for number in range(count))
    with Wire.connect(address_of(small, "one")) as wire:
        heard = wire.ask(parse(sql, "many"), describe_statement("many"), SYNC)
        assert kinds_of(heard) == "1tTZ"
        assert len(heard[1].body) == 2 + 4 * count
        heard = wire.ask(bind(*["x"] * count, name="many"), execute(), SYNC)
        assert len(rows_of(heard)) == count


# -- one identity


def test_two_clients_with_the_same_text_share_one_statement_on_the_server(small: Pgweir) -> None:
    sql = "SELECT 'shared identity', $1::int"
    with (
        Wire.connect(address_of(small, "one")) as first,
        Wire.connect(address_of(small, "one")) as second,
    ):
        first.ask(parse(sql, "mine"), SYNC)
        second.ask(parse(sql, "yours"), SYNC)
        seen = first.value(
            f"SELECT count(*) FROM {SERVER_STATEMENTS} WHERE statement LIKE '%shared identity%'"
            " AND name LIKE '\\_pgweir%'"
        )
    assert seen == "1"


def test_one_name_means_another_statement_for_each_client(small: Pgweir) -> None:
    with (
        Wire.connect(address_of(small, "one")) as first,
        Wire.connect(address_of(small, "one")) as second,
    ):
        first.ask(parse("SELECT 'first'", "s"), SYNC)
        second.ask(parse("SELECT 'second'", "s"), SYNC)
        heard = [wire.ask(bind(name="s"), execute(), SYNC) for wire in (first, second, first)]
    assert [rows_of(each) for each in heard] == [[[b"first"]], [[b"second"]], [[b"first"]]]


def test_another_clients_statement_does_not_exist_for_this_one(small: Pgweir) -> None:
    with (
        Wire.connect(address_of(small, "one")) as owner,
        Wire.connect(address_of(small, "one")) as stranger,
    ):
        owner.ask(parse("SELECT 'private'", "private"), SYNC)
        assert errors_of(stranger.ask(bind(name="private"), execute(), SYNC)) == ["26000"]


@pytest.mark.parametrize("number", range(1, 60))
def test_a_servers_name_for_a_statement_is_of_no_use_to_a_client(
    small: Pgweir, number: int
) -> None:
    with Wire.connect(address_of(small, "one")) as stranger:
        heard = stranger.ask(bind(name=f"_pgweir_{number}"), execute(), SYNC)
    assert errors_of(heard) == ["26000"]


def test_a_named_statement_follows_its_client_to_another_server(small: Pgweir) -> None:
    with Wire.connect(address_of(small, "two")) as wire:
        before = backend(wire)
        wire.ask(parse("SELECT pg_backend_pid(), $1::text", "follows"), SYNC)
        with held(small, "two"):
            heard = wire.ask(bind("x", name="follows"), execute(), SYNC)
        pid, value = rows_of(heard)[0]
        with held(small, "two") as holder, Wire.connect(address_of(small, "two")) as other:
            pids = {backend(holder), backend(other)}
    assert value == b"x"
    assert pid is not None
    assert {before, pid.decode()} <= pids


def test_a_statement_is_described_on_a_server_that_has_never_seen_it(small: Pgweir) -> None:
    with Wire.connect(address_of(small, "two")) as wire:
        wire.ask(parse("SELECT $1::date AS described", "d"), SYNC)
        first = wire.ask(describe_statement("d"), SYNC)
        with held(small, "two"):
            second = wire.ask(describe_statement("d"), SYNC)
    assert kinds_of(first) == "tTZ"
    assert second == first


def test_unnamed_statement_survives_a_change_of_server_between_parse_and_bind(
    small: Pgweir,
) -> None:
    with Wire.connect(address_of(small, "two")) as wire, contextlib.ExitStack() as stack:
        for number in range(10):
            wire.ask(parse(f"SELECT {number}, $1::text"), SYNC)
            stack.close()
            holder = stack.enter_context(held(small, "two"))
            assert holder is not None
            heard = wire.ask(bind("x"), execute(), SYNC)
            assert rows_of(heard) == [[str(number).encode(), b"x"]]


def test_unnamed_statements_of_two_clients_in_turns_do_not_mix(small: Pgweir) -> None:
    with (
        Wire.connect(address_of(small, "one")) as first,
        Wire.connect(address_of(small, "one")) as second,
    ):
        first.ask(parse("SELECT 'first', $1::text"), SYNC)
        second.ask(parse("SELECT 'second', $1::text"), SYNC)
        for number in range(5):
            for wire, word in ((first, b"first"), (second, b"second")):
                heard = wire.ask(bind(str(number)), execute(), SYNC)
                assert rows_of(heard) == [[word, str(number).encode()]]


def test_an_unnamed_statement_of_another_client_is_not_there(small: Pgweir) -> None:
    with (
        Wire.connect(address_of(small, "one")) as owner,
        Wire.connect(address_of(small, "one")) as stranger,
    ):
        owner.ask(parse("SELECT 'private'"), SYNC)
        assert errors_of(stranger.ask(bind(), execute(), SYNC)) == ["26000"]


def test_a_pipeline_that_arrives_in_pieces_keeps_its_server(small: Pgweir) -> None:
    with (
        Wire.connect(address_of(small, "one")) as slow,
        Wire.connect(address_of(small, "one")) as other,
    ):
        slow.send(parse("SELECT 'slow'"), FLUSH)
        slow.until_kind(b"1")
        other.send(run("SELECT 'other'"), SYNC)
        slow.send(bind(), execute(), FLUSH)
        slow.until_kind(b"C")
        slow.send(SYNC)
        slow.until_ready()
        assert rows_of(other.until_ready()) == [[b"other"]]


# -- how many


def test_the_statement_used_longest_ago_is_closed_on_the_server(small: Pgweir) -> None:
    with Wire.connect(address_of(small, "few")) as wire:
        before = event(small, "evicted")
        for number in range(10):
            wire.ask(parse(f"SELECT 'evicted', {number}", f"e{number}"), SYNC)
        seen = rows_of(wire.ask(HELD))
        evicted = event(small, "evicted") - before
    assert seen == [[b"3"]]
    assert evicted >= 7


def test_an_evicted_statement_is_prepared_again_when_it_is_used(small: Pgweir) -> None:
    with Wire.connect(address_of(small, "few")) as wire:
        for number in range(10):
            wire.ask(parse(f"SELECT {number}, 'again'", f"r{number}"), SYNC)
        for number in (*range(10), *range(9, -1, -1)):
            heard = wire.ask(bind(name=f"r{number}"), execute(), SYNC)
            assert rows_of(heard) == [[str(number).encode(), b"again"]]
        assert rows_of(wire.ask(HELD)) == [[b"3"]]


def test_more_statements_in_one_pipeline_than_a_server_keeps(small: Pgweir) -> None:
    with Wire.connect(address_of(small, "few")) as wire:
        said = [parse(f"SELECT {n}, 'pipe'", f"p{n}") + bind(name=f"p{n}") for n in range(20)]
        heard = wire.ask(*(each + execute() for each in said), SYNC)
        assert [row[0] for row in rows_of(heard)] == [str(n).encode() for n in range(20)]
        said = [bind(name=f"p{n}") + execute() for n in (0, 5, 0, 19, 7, 5)]
        heard = wire.ask(*said, SYNC)
    assert [row[0] for row in rows_of(heard)] == [b"0", b"5", b"0", b"19", b"7", b"5"]


def test_an_eviction_in_a_unit_that_fails_loses_nothing(small: Pgweir) -> None:
    with Wire.connect(address_of(small, "few")) as wire:
        for number in range(3):
            wire.ask(parse(f"SELECT {number}, 'kept'", f"k{number}"), SYNC)
        for number in range(3, 9):
            failing = parse("SELEKT") + parse(f"SELECT {number}", f"lost{number}")
            assert errors_of(wire.ask(failing, SYNC)) == ["42601"]
            for kept in range(3):
                heard = wire.ask(bind(name=f"k{kept}"), execute(), SYNC)
                assert rows_of(heard) == [[str(kept).encode(), b"kept"]]
        assert rows_of(wire.ask(HELD)) == [[b"3"]]


@pytest.mark.parametrize("again", [parse("SELECT 2", "s"), bind(name="s")], ids=["parse", "bind"])
def test_a_unit_that_fails_before_a_statement_is_brought_along_does_not_spoil_the_next(
    small: Pgweir, again: bytes
) -> None:
    mine = f"mine again by {again[:1].decode()}"
    with Wire.connect(address_of(small, "two")) as wire, contextlib.ExitStack() as others:
        with held(small, "two"):
            wire.ask(parse(f"SELECT '{mine}'", "s") + SYNC)
            others.enter_context(held(small, "two"))
        # Only the server connection that does not have it is free. All is sent at once: the failure
        # is known when the second unit has long been here.
        failing = execute("no_such_portal") + again + SYNC
        heard = wire.ask(failing + bind(name="s") + execute() + SYNC, ready=2)
    assert errors_of(heard) == ["34000"]
    assert rows_of(heard) == [[mine.encode()]]


def test_a_server_forgets_what_no_client_needs_only_by_its_limit(small: Pgweir) -> None:
    sql = "SELECT 'kept after close'"
    with Wire.connect(address_of(small, "one")) as wire:
        wire.ask(parse(sql, "c"), SYNC)
        wire.ask(close_statement("c"), SYNC)
        before = event(small, "forged")
        wire.ask(parse(sql, "c"), SYNC)
        assert event(small, "forged") == before + 1


def test_a_random_walk_over_many_statements_and_few_places(small: Pgweir) -> None:
    import random

    chance = random.Random(11)
    with contextlib.ExitStack() as stack:
        wires = [
            stack.enter_context(Wire.connect(address_of(small, "few_of_two"))) for _ in range(5)
        ]
        names: list[dict[str, int]] = [{} for _ in wires]
        for step in range(600):
            which = chance.randrange(len(wires))
            wire, known = wires[which], names[which]
            name = f"n{chance.randrange(4)}"
            what = chance.randrange(7)
            if what == 0 and name in known:
                wire.ask(close_statement(name), SYNC)
                del known[name]
            elif what == 1:
                assert errors_of(wire.ask(run("SELECT 1/0"), SYNC)) == ["22012"], step
            elif name in known:
                heard = wire.ask(bind(name=name), execute(), SYNC)
                assert rows_of(heard) == [[str(known[name]).encode()]], step
            else:
                known[name] = chance.randrange(6)
                heard = wire.ask(parse(f"SELECT {known[name]}", name), SYNC)
                assert errors_of(heard) == [], step


def test_without_tracking_names_pass_through(small: Pgweir) -> None:
    with Wire.connect(address_of(small, "none")) as wire:
        heard = wire.ask(
            parse("SELECT 'as it is'", "as_it_is"), bind(name="as_it_is"), execute(), SYNC
        )
        assert rows_of(heard) == [[b"as it is"]]
        seen = wire.value("SELECT name FROM pg_prepared_statements WHERE name = 'as_it_is'")
        assert seen == "as_it_is"
        wire.ask(close_statement("as_it_is"), SYNC)


def test_an_unnamed_text_too_long_to_keep_works_within_its_unit(small: Pgweir) -> None:
    long = f"SELECT length('{'x' * 5000}')"
    with Wire.connect(address_of(small, "short")) as wire:
        for _ in range(3):
            assert rows_of(wire.ask(run(long), SYNC)) == [[b"5000"]]
            assert rows_of(wire.ask(run("SELECT 1"), SYNC)) == [[b"1"]]


def test_an_unnamed_text_too_long_to_keep_works_in_a_transaction(small: Pgweir) -> None:
    with Wire.connect(address_of(small, "short")) as wire:
        wire.ask(query("BEGIN"))
        wire.ask(parse(f"SELECT length('{'x' * 5000}'), $1::text"), SYNC)
        heard = wire.ask(bind("y"), execute(), SYNC)
        wire.ask(query("COMMIT"))
    assert rows_of(heard) == [[b"5000", b"y"]]


def test_a_named_text_too_long_to_keep_is_refused_and_the_rest_goes_on(small: Pgweir) -> None:
    with Wire.connect(address_of(small, "short")) as wire:
        assert errors_of(wire.ask(parse(f"SELECT '{'x' * 5000}'", "long"), SYNC)) == ["54000"]
        assert rows_of(wire.ask(run("SELECT 1"), SYNC)) == [[b"1"]]


def test_a_named_text_too_long_to_keep_is_refused_in_the_middle_of_a_pipeline(
    small: Pgweir,
) -> None:
    long = parse(f"SELECT '{'x' * 5000}'", "long")
    with Wire.connect(address_of(small, "short")) as wire:
        heard = wire.ask(run("SELECT 1"), long, run("SELECT 3"), SYNC)
        assert errors_of(heard) == ["54000"]
        assert rows_of(heard) == [[b"1"]]
        assert rows_of(wire.ask(run("SELECT 2"), SYNC)) == [[b"2"]]


def test_what_went_before_a_refused_text_in_its_pipeline_is_undone(small: Pgweir) -> None:
    long = parse(f"SELECT '{'x' * 5000}'", "long")
    with Wire.connect(address_of(small, "short")) as wire:
        wire.ask(query("CREATE TABLE kept (a int)"))
        try:
            assert errors_of(wire.ask(run("INSERT INTO kept VALUES (1)"), long, SYNC)) == ["54000"]
            assert rows_of(wire.ask(run("SELECT count(*) FROM kept"), SYNC)) == [[b"0"]]
        finally:
            wire.ask(query("DROP TABLE kept"))


def test_a_refused_text_aborts_its_transaction(small: Pgweir) -> None:
    long = parse(f"SELECT '{'x' * 5000}'", "long")
    with Wire.connect(address_of(small, "short")) as wire:
        wire.ask(query("BEGIN"))
        heard = wire.ask(long, SYNC)
        assert errors_of(heard) == ["54000"]
        assert heard[-1].body == b"E"
        assert errors_of(wire.ask(run("SELECT 1"), SYNC)) == ["25P02"]
        wire.ask(query("ROLLBACK"))
        assert rows_of(wire.ask(run("SELECT 1"), SYNC)) == [[b"1"]]


@pytest.mark.parametrize("name", ["", "named"])
def test_forty_thousand_parameters_with_their_types(small: Pgweir, name: str) -> None:
    count = 40_000
    sql = f"SELECT $1 WHERE $1 IN ({', '.join(f'${n}' for n in range(1, count + 1))})"
    values = ["7"] * count
    with Wire.connect(address_of(small, "two")) as wire:
        heard = wire.ask(parse(sql, name, [23] * count), bind(*values, name=name), execute(), SYNC)
        assert rows_of(heard) == [[b"7"]], heard
        heard = wire.ask(bind(*values, name=name), execute(), SYNC)
        assert rows_of(heard) == [[b"7"]], heard
        if name:
            wire.ask(close_statement(name), SYNC)
    with Wire.connect(address_of(small, "two")) as other:
        assert errors_of(other.ask(bind(*values, name="named"), execute(), SYNC)) == ["26000"]


# -- shared unnamed statements


def test_shared_unnamed_statements_are_parsed_once_on_the_server(small: Pgweir) -> None:
    with (
        Wire.connect(address_of(small, "shared")) as first,
        Wire.connect(address_of(small, "shared")) as second,
    ):
        sent, forged = event(small, "forwarded"), event(small, "forged")
        for number in range(10):
            for wire in (first, second):
                heard = wire.ask(run("SELECT 'parsed once', $1::int", str(number)), SYNC)
                assert rows_of(heard) == [[b"parsed once", str(number).encode()]]
        assert event(small, "forwarded") - sent == 1
        assert event(small, "forged") - forged == 19
        seen = first.value(
            f"SELECT count(*) FROM {SERVER_STATEMENTS} WHERE statement LIKE '%parsed once%'"
            " AND name <> ''"
        )
    assert seen == "1"


def test_unnamed_statements_are_parsed_each_time_unless_shared(small: Pgweir) -> None:
    with Wire.connect(address_of(small, "one")) as wire:
        sent = event(small, "forwarded")
        for number in range(10):
            wire.ask(run("SELECT 'parsed each time', $1::int", str(number)), SYNC)
        assert event(small, "forwarded") - sent == 10


def test_a_shared_unnamed_statement_that_does_not_parse_can_be_tried_again(small: Pgweir) -> None:
    with Wire.connect(address_of(small, "shared")) as wire:
        for _ in range(3):
            assert errors_of(wire.ask(run("SELECT * FROM not_yet"), SYNC)) == ["42P01"]
        wire.ask(query("BEGIN"))
        wire.ask(query("CREATE TABLE not_yet ()"))
        heard = wire.ask(run("SELECT * FROM not_yet"), SYNC)
        wire.ask(query("ROLLBACK"))
    assert kinds_of(heard) == "12TCZ"


# -- what ends them


@pytest.mark.parametrize("sql", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_all_names_of_a_client_end_with(small: Pgweir, sql: str) -> None:
    with Wire.connect(address_of(small, "two")) as wire:
        wire.ask(parse("SELECT 1", "gone"), SYNC)
        wire.ask(query(sql))
        assert errors_of(wire.ask(bind(name="gone"), execute(), SYNC)) == ["26000"]
        assert errors_of(wire.ask(parse("SELECT 1", "gone"), SYNC)) == []


@pytest.mark.parametrize("sql", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_another_clients_names_are_left_alone_by(small: Pgweir, sql: str) -> None:
    with (
        Wire.connect(address_of(small, "one")) as first,
        Wire.connect(address_of(small, "one")) as second,
    ):
        second.ask(parse("SELECT 'still here'", "mine"), SYNC)
        first.ask(query(sql))
        heard = second.ask(bind(name="mine"), execute(), SYNC)
    assert rows_of(heard) == [[b"still here"]]


@pytest.mark.parametrize("sql", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_extended_protocol_can_end_them_all_by(small: Pgweir, sql: str) -> None:
    with Wire.connect(address_of(small, "one")) as wire:
        wire.ask(parse("SELECT 1", "gone"), SYNC)
        wire.ask(run(sql), SYNC)
        assert errors_of(wire.ask(bind(name="gone"), execute(), SYNC)) == ["26000"]
        assert rows_of(wire.ask(run("SELECT 1"), SYNC)) == [[b"1"]]


def test_deallocate_all_in_a_string_of_statements_counts_too(small: Pgweir) -> None:
    with Wire.connect(address_of(small, "one")) as wire:
        wire.ask(parse("SELECT 'x'", "gone"), SYNC)
        wire.ask(query("SELECT 1; DEALLOCATE ALL; SELECT 2"))
        assert errors_of(wire.ask(bind(name="gone"), execute(), SYNC)) == ["26000"]


def test_deallocate_all_that_fails_with_its_string_has_happened_all_the_same(
    small: Pgweir,
) -> None:
    with Wire.connect(address_of(small, "one")) as wire:
        wire.ask(parse("SELECT 'y'", "gone"), SYNC)
        assert errors_of(wire.ask(query("DEALLOCATE ALL; SELECT 1/0"))) == ["22012"]
        assert errors_of(wire.ask(bind(name="gone"), execute(), SYNC)) == ["26000"]


def test_a_server_killed_under_its_statements_costs_the_next_client_nothing(
    small: Pgweir, pg18: Postgres
) -> None:
    with Wire.connect(address_of(small, "one")) as wire:
        wire.ask(parse("SELECT 'survives'", "s"), SYNC)
        since = len(small.log)
        pg18.execute(f"SELECT pg_terminate_backend({backend(wire)})")
        small.wait_for_log("server connection closed", since=since)
        assert rows_of(wire.ask(bind(name="s"), execute(), SYNC)) == [[b"survives"]]


# -- plans that a schema change has made invalid


@pytest.fixture
def shape(pg18: Postgres) -> Iterator[Callable[[str], None]]:
    """A table `shape` whose columns can be changed while others use it."""
    pg18.execute(
        "DROP TABLE IF EXISTS shape; CREATE TABLE shape (a int);"
        f"ALTER TABLE shape OWNER TO {APP.name};"
        "INSERT INTO shape VALUES (1)"
    )
    yield pg18.execute
    pg18.execute("DROP TABLE shape")


def test_psycopg_does_not_notice_a_new_column_outside_a_transaction(
    small: Pgweir, shape: Callable[[str], None]
) -> None:
    with psycopg.connect(small.dsn(database="one"), autocommit=True, prepare_threshold=0) as conn:
        assert conn.execute("SELECT * FROM shape").fetchall() == [(1,)]
        shape("ALTER TABLE shape ADD b text DEFAULT 'new'")
        assert conn.execute("SELECT * FROM shape").fetchall() == [(1, "new")]
        shape("ALTER TABLE shape DROP a")
        assert conn.execute("SELECT * FROM shape").fetchall() == [("new",)]


def test_a_change_of_type_is_not_noticed_either(
    small: Pgweir, shape: Callable[[str], None]
) -> None:
    with psycopg.connect(small.dsn(database="one"), autocommit=True, prepare_threshold=0) as conn:
        assert conn.execute("SELECT * FROM shape WHERE a > %s", (0,)).fetchall() == [(1,)]
        shape("ALTER TABLE shape ALTER a TYPE text")
        rows = conn.execute("SELECT * FROM shape WHERE a::int > %s", (0,)).fetchall()
        assert rows == [("1",)]


def test_all_server_connections_recover_from_a_schema_change(
    small: Pgweir, shape: Callable[[str], None]
) -> None:
    with psycopg.connect(small.dsn(database="two"), autocommit=True, prepare_threshold=0) as conn:
        conn.execute("SELECT * FROM shape")
        with held(small, "two"):
            conn.execute("SELECT * FROM shape")
        shape("ALTER TABLE shape ADD b text DEFAULT 'new'")
        with held(small, "two"):
            assert conn.execute("SELECT * FROM shape").fetchall() == [(1, "new")]
        for _ in range(4):
            assert conn.execute("SELECT * FROM shape").fetchall() == [(1, "new")]


def test_a_new_plan_is_counted(small: Pgweir, shape: Callable[[str], None]) -> None:
    with psycopg.connect(small.dsn(database="one"), autocommit=True, prepare_threshold=0) as conn:
        conn.execute("SELECT * FROM shape")
        before = small.metric("pgweir_replans_total")
        shape("ALTER TABLE shape ADD b int")
        conn.execute("SELECT * FROM shape")
        assert small.metric("pgweir_replans_total") == before + 1


def test_a_new_plan_is_made_also_where_settings_were_brought_with_the_statement(
    small: Pgweir, shape: Callable[[str], None]
) -> None:
    with (
        psycopg.connect(small.dsn(database="one"), autocommit=True, prepare_threshold=0) as conn,
        psycopg.connect(small.dsn(database="one"), autocommit=True) as other,
    ):
        conn.execute("SET work_mem = '5MB'")
        conn.execute("SELECT * FROM shape")
        shape("ALTER TABLE shape ADD b int")
        other.execute("SELECT 1")
        assert conn.execute("SELECT * FROM shape").fetchall() == [(1, None)]


def test_inside_a_transaction_the_error_passes_and_the_next_transaction_works(
    small: Pgweir, shape: Callable[[str], None]
) -> None:
    with psycopg.connect(small.dsn(database="one"), autocommit=True, prepare_threshold=0) as conn:
        conn.execute("SELECT * FROM shape")
        shape("ALTER TABLE shape ADD b int")
        with pytest.raises(psycopg.errors.FeatureNotSupported), conn.transaction():
            conn.execute("SELECT * FROM shape")
        with conn.transaction():
            assert conn.execute("SELECT * FROM shape").fetchall() == [(1, None)]


def test_a_write_is_done_once_when_its_plan_had_to_be_made_anew(
    small: Pgweir, shape: Callable[[str], None], pg18: Postgres
) -> None:
    with psycopg.connect(small.dsn(database="one"), autocommit=True, prepare_threshold=0) as conn:
        sql = "INSERT INTO shape (a) VALUES (5) RETURNING *"
        conn.execute(sql)
        shape("ALTER TABLE shape ADD b int")
        assert conn.execute(sql).fetchall() == [(5, None)]
    assert pg18.value("SELECT count(*) FROM shape WHERE a = 5") == 2


def test_a_client_that_wants_binary_results_without_asking_for_columns_sees_the_error(
    small: Pgweir, shape: Callable[[str], None]
) -> None:
    with Wire.connect(address_of(small, "one")) as wire:
        wire.ask(parse("SELECT * FROM shape", "s"), SYNC)
        wire.ask(bind(name="s", results=[1]), execute(), SYNC)
        shape("ALTER TABLE shape ADD b int")
        for _ in range(2):
            heard = wire.ask(bind(name="s", results=[1]), execute(), SYNC)
            assert errors_of(heard) == ["0A000"]
        heard = wire.ask(bind(name="s", results=[1]), describe_portal(), execute(), SYNC)
        assert kinds_of(heard) == "2TDCZ"
        # Now it knows.
        heard = wire.ask(bind(name="s", results=[1]), execute(), SYNC)
        assert kinds_of(heard) == "2DCZ"


def test_nothing_is_run_again_after_a_reply_has_reached_the_client(
    small: Pgweir, shape: Callable[[str], None], pg18: Postgres
) -> None:
    with Wire.connect(address_of(small, "one")) as wire:
        wire.ask(
            parse("INSERT INTO shape (a) VALUES (6)", "i"), parse("SELECT * FROM shape", "s"), SYNC
        )
        wire.ask(bind(name="s"), execute(), SYNC)
        shape("ALTER TABLE shape ADD b int")
        heard = wire.ask(bind(name="i"), execute(), bind(name="s"), execute(), SYNC)
        assert errors_of(heard) == ["0A000"]
        # One unit is one transaction: the insert went with it.
        assert pg18.value("SELECT count(*) FROM shape WHERE a = 6") == 0


def test_no_earlier_statement_is_run_again_for_a_stale_plan_within_a_query(
    small: Pgweir, shape: Callable[[str], None], pg18: Postgres
) -> None:
    stale_within = (
        "DO $$ BEGIN EXECUTE 'PREPARE stale AS SELECT * FROM shape'; EXECUTE 'EXECUTE stale';"
        " EXECUTE 'ALTER TABLE shape ADD b int'; EXECUTE 'EXECUTE stale'; END $$"
    )
    with Wire.connect(address_of(small, "one")) as wire:
        wire.ask(parse("INSERT INTO shape VALUES (7)", "i"), SYNC)
        wire.ask(bind(name="i"), execute(), SYNC)
        assert errors_of(wire.ask(query(stale_within))) == ["0A000"]
        wire.ask(query("DEALLOCATE ALL"))
    assert pg18.value("SELECT count(*) FROM shape WHERE a = 7") == 1


def test_no_other_clients_statement_is_run_again_for_a_stale_plan_within_a_query(
    small: Pgweir, shape: Callable[[str], None], pg18: Postgres
) -> None:
    stale_within = (
        "DO $$ BEGIN EXECUTE 'PREPARE stale AS SELECT * FROM shape'; EXECUTE 'EXECUTE stale';"
        " EXECUTE 'ALTER TABLE shape ADD b int'; EXECUTE 'EXECUTE stale'; END $$"
    )
    with (
        Wire.connect(address_of(small, "one")) as first,
        Wire.connect(address_of(small, "one")) as second,
    ):
        for wire, value in ((first, 8), (second, 9)):
            wire.ask(parse(f"INSERT INTO shape VALUES ({value})", "i"), SYNC)
        first.ask(bind(name="i"), execute(), SYNC)
        heard = second.ask(query(stale_within))
        assert errors_of(heard) == ["0A000"]
    assert pg18.fetch("SELECT a FROM shape WHERE a > 7") == [(8,)]


@pytest.mark.parametrize("ends", [SYNC, FLUSH], ids=["sync", "flush"])
def test_a_client_that_prepares_after_a_schema_change_gets_the_new_shape(
    small: Pgweir, shape: Callable[[str], None], ends: bytes
) -> None:
    """Its Parse is new, whoever had the same text prepared before. asyncpg ends it with a Flush."""
    with Wire.connect(address_of(small, "one")) as old:
        old.ask(run("SELECT * FROM shape", name="old"), SYNC)
    shape("ALTER TABLE shape ADD b int")
    with Wire.connect(address_of(small, "one")) as new:
        new.send(parse("SELECT * FROM shape", "new"), describe_statement("new"), ends)
        heard = [new.receive(), new.receive(), new.receive()]
        assert kinds_of(heard) == "1tT"
        assert heard[2].body[:2] == b"\0\2"


def test_a_client_that_prepares_in_a_transaction_after_a_schema_change_gets_the_new_shape(
    small: Pgweir, shape: Callable[[str], None]
) -> None:
    with Wire.connect(address_of(small, "one")) as old:
        old.ask(run("SELECT * FROM shape", name="old"), SYNC)
    shape("ALTER TABLE shape ADD b int")
    with Wire.connect(address_of(small, "one")) as new:
        new.ask(query("BEGIN"))
        heard = new.ask(run("SELECT * FROM shape", name="new"), SYNC)
        new.ask(query("ROLLBACK"))
    assert kinds_of(heard) == "12TDCZ"


async def test_asyncpg_behaves_as_on_a_direct_connection_after_a_schema_change(
    small: Pgweir, shape: Callable[[str], None], pg18: Postgres
) -> None:
    async def story(dsn: str) -> list[object]:
        told: list[object] = []
        conn = await asyncpg.connect(dsn)
        try:
            told.append([tuple(r) for r in await conn.fetch("SELECT * FROM shape")])
            await asyncio.to_thread(shape, "ALTER TABLE shape ADD b int")
            for _ in range(3):
                try:
                    told.append([tuple(r) for r in await conn.fetch("SELECT * FROM shape")])
                except asyncpg.PostgresError as error:
                    told.append(type(error).__name__)
            await asyncio.to_thread(shape, "ALTER TABLE shape DROP b")
        finally:
            await conn.close()
        return told

    direct = await story(pg18.dsn())
    assert await story(small.dsn(database="one")) == direct


# -- nothing is left behind


def test_a_client_that_goes_leaves_no_statement_known_to_the_proxy_alone(
    pg18: Postgres, tmp_path: Path
) -> None:
    changes = {DATABASE: {"pool_size": 1, "max_prepared_statements": 2}}
    with running(configuration(pg18, databases=changes), tmp_path) as weir:
        for turn in range(5):
            with Wire.connect(address_of(weir)) as wire:
                said = [parse(f"SELECT {turn}, {n}", f"s{n}") for n in range(20)]
                wire.ask(*said, SYNC)
        with Wire.connect(address_of(weir)) as wire:
            (row,) = [m for m in wire.ask(HELD) if m.kind == b"D"]
            assert columns_of(row) == [b"2"]


def test_after_a_schema_change_parameters_have_the_types_of_now(
    small: Pgweir, pg18: Postgres
) -> None:
    """What a Parse infers is kept with the statement: so one that comes later is made anew."""
    sql = "INSERT INTO retyped (a) VALUES ($1)"
    with (
        Wire.connect(address_of(small, "one")) as one,
        Wire.connect(address_of(small, "one")) as two,
    ):
        types = []
        for wire, kind in ((one, "date"), (two, "text")):
            wire.ask(query(f"CREATE TABLE retyped (a {kind})"))
            heard = wire.ask(parse(sql, "s"), describe_statement("s"), SYNC)
            types += [each.body for each in heard if each.kind == b"t"]
            wire.ask(query("DROP TABLE retyped"))
        assert types[0] != types[1]


def test_a_statement_that_an_error_keeps_from_being_prepared_anew_can_be_prepared_later(
    small: Pgweir,
) -> None:
    """After a schema change ours is closed and parsed: the server ignores both up to the Sync."""
    sql = "SELECT 'prepared anew', $1::int"
    fails = parse("SELECT 1 / 0") + bind() + execute()
    with Wire.connect(address_of(small, "one")) as wire:
        wire.ask(parse(sql, "a"), SYNC)
        wire.ask(query("CREATE TABLE anew (a int)"), query("DROP TABLE anew"), ready=2)
        assert errors_of(wire.ask(fails, parse(sql, "b"), SYNC)) == ["22012"]
        assert errors_of(wire.ask(parse(sql, "c"), bind("7", name="c"), execute(), SYNC)) == []


@pytest.mark.parametrize("database", ["one", "shared"])
def test_an_unnamed_statement_outlives_the_error_of_one_before_it(
    small: Pgweir, database: str
) -> None:
    """Its Parse was sent before the error of the unit in front of it was heard."""
    with Wire.connect(address_of(small, database)) as client:
        for text in ("SELECT 2", "SELECT 3"):
            client.send(parse("SELEKT") + SYNC + parse(text))
            assert errors_of(client.until_ready()) == ["42601"]
            heard = client.ask(bind(), execute(), SYNC)
            assert (errors_of(heard), rows_of(heard)) == ([], [[text[-1:].encode()]])


FAILS = parse("SELECT 1 / 0", "fails") + bind(name="fails") + execute()
AGAIN = bind() + execute() + SYNC
GONE = "DROP TABLE IF EXISTS gone"

UNNAMED_STORIES: dict[str, list[tuple[bytes, int]]] = {
    "a Parse behind an error": [
        (parse("SELECT 1") + SYNC, 1),
        (FAILS + parse("SELECT 2") + SYNC, 1),
        (AGAIN, 1),
    ],
    "two of them": [
        (parse("SELECT 1") + SYNC, 1),
        (FAILS + parse("SELECT 2") + parse("SELECT 3") + bind() + SYNC, 1),
        (AGAIN, 1),
    ],
    "a Parse that is the error": [
        (parse("SELECT 1") + SYNC, 1),
        (parse("SELEKT") + parse("SELECT 2") + SYNC, 1),
        (AGAIN, 1),
    ],
    "a Parse in front of the error": [
        (parse("SELECT 1") + SYNC, 1),
        (parse("SELECT 2") + FAILS + parse("SELECT 3") + SYNC, 1),
        (AGAIN, 1),
    ],
    "none before": [
        (FAILS + parse("SELECT 2") + SYNC, 1),
        (AGAIN, 1),
    ],
    "a Close behind an error": [
        (parse("SELECT 1") + SYNC, 1),
        (FAILS + close_statement() + SYNC, 1),
        (AGAIN, 1),
    ],
    "a Close behind an error, and the next unit in one packet": [
        (parse("SELECT 1") + SYNC, 1),
        (execute("nowhere") + close_statement() + SYNC + AGAIN, 2),
        (AGAIN, 1),
    ],
    "a Close and a Parse behind an error": [
        (parse("SELECT 1") + SYNC, 1),
        (FAILS + close_statement() + parse("SELECT 2") + SYNC, 1),
        (AGAIN, 1),
    ],
    "a Close": [
        (parse("SELECT 1") + close_statement() + SYNC, 1),
        (AGAIN, 1),
    ],
    "two units in one packet": [
        (parse("SELECT 1") + SYNC, 1),
        (FAILS + parse("SELECT 2") + SYNC + AGAIN, 2),
        (AGAIN, 1),
    ],
    "two units that fail": [
        (parse("SELECT 1") + SYNC, 1),
        (FAILS + parse("SELECT 2") + SYNC + FAILS + parse("SELECT 3") + SYNC, 2),
        (AGAIN, 1),
    ],
    "two units of which the second parses another": [
        (parse("SELECT 1") + SYNC, 1),
        (FAILS + parse("SELECT 2") + SYNC + parse("SELECT 3") + SYNC + AGAIN, 3),
        (AGAIN, 1),
    ],
    "a simple query behind it": [
        (parse("SELECT 1") + SYNC, 1),
        (FAILS + parse("SELECT 2") + SYNC + query("SELECT 3"), 2),
        (AGAIN, 1),
    ],
    "in a transaction": [
        (query("BEGIN"), 1),
        (parse("SELECT 1") + SYNC, 1),
        (FAILS + parse("SELECT 2") + SYNC, 1),
        (AGAIN, 1),
        (bind(name="s") + SYNC, 1),
    ],
    "an error of another statement that is prepared for it": [
        (parse("SELECT * FROM gone", "n") + SYNC, 1),
        (parse("SELECT 1") + SYNC, 1),
        (bind(name="n") + execute() + SYNC, 1),
        (AGAIN, 1),
    ],
}


@pytest.mark.parametrize("database", ["one", "two", "shared"])
@pytest.mark.parametrize("what", UNNAMED_STORIES)
def test_an_unnamed_statement_lasts_as_long_as_on_a_direct_connection(
    small: Pgweir, pg18: Postgres, database: str, what: str
) -> None:
    def hears(address: Address) -> list[object]:
        pg18.execute(f"{GONE}; CREATE TABLE gone (a int); GRANT SELECT ON gone TO PUBLIC")
        told: list[object] = []
        with Wire.connect(address) as wire:
            for said, ready in UNNAMED_STORIES[what]:
                heard = wire.ask(said, ready=ready)
                told.append((kinds_of(heard), errors_of(heard), rows_of(heard)))
                if parse("SELECT * FROM gone", "n") in said:
                    pg18.execute(GONE)
        return told

    assert hears(address_of(small, database)) == hears(address_of(pg18))
