"""Reads to replicas, everything else to the primary, by what each statement does."""

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import yaml

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, PostgresCluster


@pytest.fixture(scope="module")
def weir(
    pg_replicated: PostgresCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pgweir]:
    """A proxy that splits, before a primary with two replicas."""
    config = configuration(
        *pg_replicated.nodes,
        clusters={"main": {"consistency": "none"}},
        databases={DATABASE: {"read_write_split": True}},
    )
    with running(config, tmp_path_factory.mktemp("splitting")) as weir:
        weir.wait_until(lambda: weir.metric("pgweir_node_up") == 3)
        with psycopg.connect(weir.dsn(), autocommit=True) as client:
            # Until the catalogue has been read, all is for the primary.
            weir.wait_until(lambda: _went(weir, client, "select 1 as one") == "replica")
        yield weir


def _went(weir: Pgweir, client: Any, text: str) -> str:
    """Where a statement goes."""
    before = {
        role: weir.metric("pgweir_queries_total", database=DATABASE, role=role)
        for role in ("primary", "replica")
    }
    client.execute(text)
    moved = [
        role
        for role, count in before.items()
        if weir.metric("pgweir_queries_total", database=DATABASE, role=role) > count
    ]
    assert len(moved) == 1, moved
    return moved[0]


@pytest.fixture
def client(weir: Pgweir) -> Iterator[Any]:
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        yield client


@pytest.fixture
async def connection(weir: Pgweir) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(weir.dsn())
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    "text",
    [
        "select count(*) from posts",
        "values (1), (2)",
        "table posts",
        "explain select 1",
        "select 1; select 2",
        "with p as (select * from posts) select count(*) from p",
        "begin read only; select 1; commit",
    ],
)
def test_what_only_reads_runs_on_a_replica(weir: Pgweir, client: Any, text: str) -> None:
    assert _went(weir, client, text) == "replica"


@pytest.mark.parametrize(
    "text",
    [
        "update posts set body = body where false",
        "select pg_is_in_recovery()",
        "select * from posts limit 1 for update",
        "with d as (delete from posts where false returning 1) select * from d",
        "select 1; update posts set body = body where false",
        "create temporary table if not exists t (a int) on commit drop",
        "select set_config('work_mem', '1MB', true)",
        "show transaction_read_only",
        "begin; select 1; commit",
    ],
)
def test_what_does_not_runs_on_the_primary(weir: Pgweir, client: Any, text: str) -> None:
    assert _went(weir, client, text) == "primary"


async def test_prepared_statements_go_by_what_they_do(weir: Pgweir, connection: Any) -> None:
    reads = weir.metric("pgweir_queries_total", role="replica")
    for number in range(5):
        assert await connection.fetchval("select $1::int + 1", number) == number + 1
    assert weir.metric("pgweir_queries_total", role="replica") == reads + 5
    writes = weir.metric("pgweir_queries_total", role="primary")
    await connection.execute("update posts set body = body where id = $1", -1)
    assert weir.metric("pgweir_queries_total", role="primary") == writes + 1


async def test_an_explicit_transaction_stays_on_the_primary(
    connection: Any,
) -> None:
    async with connection.transaction():
        assert await connection.fetchval("select count(*) from posts") is not None
        assert await connection.fetchval("select pg_is_in_recovery()") is False


async def test_a_read_only_transaction_runs_on_a_replica_as_a_whole(
    connection: Any,
) -> None:
    async with connection.transaction(readonly=True):
        assert await connection.fetchval("select count(*) from posts") is not None
        assert await connection.fetchval("select pg_is_in_recovery()") is True
    assert await connection.fetchval("select pg_is_in_recovery()") is False


async def test_transactions_that_read_only_by_default_run_on_a_replica(
    connection: Any,
) -> None:
    await connection.execute("set default_transaction_read_only = on")
    async with connection.transaction():
        assert await connection.fetchval("select count(*) from posts") is not None
        assert await connection.fetchval("select pg_is_in_recovery()") is True
    await connection.execute("reset default_transaction_read_only")
    async with connection.transaction():
        assert await connection.fetchval("select count(*) from posts") is not None
        assert await connection.fetchval("select pg_is_in_recovery()") is False


def test_a_pipeline_with_a_write_goes_to_the_primary_as_a_whole(weir: Pgweir, client: Any) -> None:
    reads = weir.metric("pgweir_queries_total", role="replica")
    with client.pipeline():
        client.execute("select count(*) from posts")
        client.execute("update posts set body = body where false")
        rows = client.execute("select 3").fetchall()
    assert rows == [(3,)]
    assert weir.metric("pgweir_queries_total", role="replica") == reads


def test_a_pipeline_of_reads_goes_to_a_replica(weir: Pgweir, client: Any) -> None:
    writes = weir.metric("pgweir_queries_total", role="primary")
    with client.pipeline():
        first = client.execute("select 1")
        second = client.execute("select 2")
    assert [first.fetchone(), second.fetchone()] == [(1,), (2,)]
    assert weir.metric("pgweir_queries_total", role="primary") == writes


@pytest.mark.parametrize(
    ("hint", "in_recovery"),
    [("pgweir: replica", True), ("pgweir: primary", False)],
)
def test_a_hint_overrides_the_classifier(client: Any, hint: str, in_recovery: bool) -> None:
    row = client.execute(f"/* {hint} */ select pg_is_in_recovery()").fetchone()
    assert row == (in_recovery,)


def test_a_hint_does_not_move_a_statement_out_of_a_transaction(client: Any) -> None:
    with client.transaction():
        row = client.execute("/* pgweir: replica */ select pg_is_in_recovery()").fetchone()
        assert row == (False,)
        row = client.execute("/* pgweir: replica */ select pg_is_in_recovery()").fetchone()
        assert row == (False,)


def test_a_session_can_say_where_its_statements_go(client: Any) -> None:
    in_recovery = "select pg_is_in_recovery()"
    client.execute("SET pgweir.route = 'replica'")
    assert client.execute("SHOW pgweir.route").fetchone() == ("replica",)
    assert client.execute(in_recovery).fetchone() == (True,)
    client.execute("set pgweir.route to primary")
    assert client.execute("/* pgweir: replica */ " + in_recovery).fetchone() == (True,)
    assert client.execute(in_recovery).fetchone() == (False,)
    client.execute("RESET pgweir.route")
    assert client.execute("SHOW pgweir.route").fetchone() == ("",)
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        client.execute("SET pgweir.route = 'nowhere'")


async def test_a_session_can_say_so_in_the_extended_protocol(
    connection: Any,
) -> None:
    statement = await connection.prepare("SET pgweir.route = 'replica'")
    await statement.fetch()
    assert await connection.fetchval("select pg_is_in_recovery()") is True


def test_every_decision_is_counted_with_its_reason(weir: Pgweir, client: Any) -> None:
    def count(**labels: str) -> float:
        return weir.metric("pgweir_routed_total", database=DATABASE, **labels)

    before = count(target="replica", reason="read"), count(target="primary", reason="write")
    client.execute("select 1")
    client.execute("update posts set body = body where false")
    after = count(target="replica", reason="read"), count(target="primary", reason="write")
    assert after == (before[0] + 1, before[1] + 1)


def test_a_session_with_a_temporary_table_reads_from_it(client: Any) -> None:
    client.execute("create temporary table here (setting text)")
    client.execute("insert into here values ('mine')")
    assert client.execute("select setting from here").fetchone() == ("mine",)


def test_words_that_may_pin_do_no_harm_on_a_replica(weir: Pgweir, client: Any) -> None:
    for _ in range(3):
        assert _went(weir, client, "select 20 as temperature, 'hold' as door") == "replica"


def test_a_split_can_be_switched_off_and_on_while_clients_stay(
    pg_replicated: PostgresCluster, tmp_path: Path
) -> None:
    def config(splits: bool) -> dict[str, Any]:
        return configuration(
            *pg_replicated.nodes,
            databases={DATABASE: {"read_write_split": splits}},
        )

    with running(config(True), tmp_path) as weir:
        path = next(tmp_path.glob("pgweir-*.yaml"))
        weir.wait_until(lambda: weir.metric("pgweir_node_up") == 3)
        with psycopg.connect(weir.dsn(), autocommit=True) as client:
            for splits in (True, False, True):
                path.write_text(yaml.safe_dump(config(splits)))
                weir.send(signal.SIGHUP)
                role = "replica" if splits else "primary"
                weir.wait_until(lambda role=role: _went(weir, client, "select 1") == role)
