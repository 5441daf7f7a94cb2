"""`read_transactions: first_statement`: transactions that begin with reads run on a replica."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, PostgresCluster
from tests.live.conversation import SYNC, Wire, address_of, bind, execute, kinds_of, parse, query

IN_RECOVERY = "select pg_is_in_recovery()"
WRITE = "update noted set value = value + 1"
HINT = "read_transactions is first_statement"


@pytest.fixture(scope="module")
def cluster(pg_replicated: PostgresCluster) -> Iterator[PostgresCluster]:
    pg_replicated.primary.execute(
        "create table noted (value int); insert into noted values (0);"
        "create sequence noting;"
        "create function notes() returns bigint stable language sql"
        " as $$select nextval('noting')$$;"
        "create function unknown_to_read() returns int volatile language sql as 'select 1';"
        f"grant all on noted to {APP.name}; grant all on sequence noting to {APP.name}"
    )
    pg_replicated.until_caught_up()
    yield pg_replicated
    pg_replicated.primary.execute(
        "drop function notes, unknown_to_read; drop sequence noting; drop table noted"
    )
    pg_replicated.until_caught_up()


@pytest.fixture(scope="module")
def weir(cluster: PostgresCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    config = configuration(
        *cluster.nodes,
        clusters={"main": {"consistency": "session"}},
        databases={DATABASE: {"read_write_split": True, "read_transactions": "first_statement"}},
    )
    with running(config, tmp_path_factory.mktemp("first_statement")) as weir:
        weir.wait_until(lambda: weir.metric("pgweir_node_up") == 3)
        with psycopg.connect(weir.dsn(), autocommit=True) as client:
            # Until the catalogue has been read, all is for the primary.
            weir.wait_until(lambda: began_on(weir, client, "select 1") == "replica")
        yield weir


def routed(weir: Pgweir) -> dict[str, float]:
    return {
        "replica": weir.metric("pgweir_routed_total", target="replica", reason="first_statement"),
        "primary": weir.metric("pgweir_routed_total", target="primary"),
    }


def began_on(weir: Pgweir, client: Any, *texts: str, begin: str = "begin") -> str:
    """Where a transaction of these statements is sent to."""
    before = routed(weir)
    client.execute(begin)
    for text in texts:
        client.execute(text)
    client.execute("commit")
    after = routed(weir)
    moved = [target for target in after if after[target] > before[target]]
    return ", ".join(moved) or "elsewhere"


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
    "begin",
    [
        "begin",
        "start transaction",
        "begin isolation level repeatable read",
        "begin isolation level read committed",
        "begin deferrable",
    ],
)
def test_a_transaction_that_begins_with_reads_runs_on_a_replica(
    weir: Pgweir, client: Any, begin: str
) -> None:
    texts = ("select value from noted", "savepoint s", "select 2", "rollback to s")
    assert began_on(weir, client, *texts, begin=begin) == "replica"


@pytest.mark.parametrize(
    ("begin", "text"),
    [
        ("begin", WRITE),
        ("begin", IN_RECOVERY),
        ("begin", "select unknown_to_read()"),
        ("begin", "select pg_advisory_xact_lock(1)"),
        ("begin", "set transaction read write"),
        ("begin", "set local work_mem = '1MB'"),
        ("begin read write", "select 1"),
        ("begin isolation level serializable", "select 1"),
    ],
)
def test_others_run_on_the_primary(weir: Pgweir, client: Any, begin: str, text: str) -> None:
    assert began_on(weir, client, text, begin=begin) == "primary"


@pytest.mark.parametrize(
    "setting",
    ["set default_transaction_isolation = 'serializable'", "set pgweir.route = 'primary'"],
)
def test_what_the_session_says_comes_first(weir: Pgweir, client: Any, setting: str) -> None:
    client.execute(setting)
    assert began_on(weir, client, "select 1") == "primary"


def test_read_only_transactions_are_what_they_were(weir: Pgweir, client: Any) -> None:
    count = weir.metric("pgweir_routed_total", reason="read_only_transaction")
    assert began_on(weir, client, "select 1", IN_RECOVERY, begin="begin read only") == "elsewhere"
    assert weir.metric("pgweir_routed_total", reason="read_only_transaction") == count + 1
    assert began_on(weir, client, IN_RECOVERY, begin="begin read only") == "primary"


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (WRITE, "it does UPDATE"),
        ("insert into noted values (1)", "it does INSERT"),
        ("select * from noted for update", "it locks rows"),
        ("select pg_advisory_xact_lock(1)", "which is volatile"),
        (IN_RECOVERY, "which each node answers for itself"),
        ("select unknown_to_read()", "which is volatile"),
        ("create table unwanted (a int)", "it does CREATE TABLE"),
    ],
)
def test_a_later_write_gets_an_error_that_says_why(
    client: Any, text: str, detail: str, prepare: bool
) -> None:
    client.execute("begin")
    assert client.execute("select 1", prepare=prepare).fetchone() == (1,)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as caught:
        client.execute(text, prepare=prepare, binary=prepare)
    assert detail in caught.value.diag.message_detail
    assert HINT in caught.value.diag.message_hint
    # It has failed, as with PostgreSQL.
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        client.execute("select 1")
    assert client.execute("rollback").statusmessage == "ROLLBACK"
    assert client.execute("select 1").fetchone() == (1,)


def test_what_postgresql_refuses_has_the_hint_as_well(client: Any) -> None:
    client.execute("begin")
    client.execute("select 1")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as caught:
        client.execute("select notes()")
    assert "nextval()" in caught.value.diag.message_primary
    assert HINT in caught.value.diag.message_hint
    client.execute("rollback")


def test_the_error_goes_back_to_a_savepoint(client: Any) -> None:
    client.execute("begin")
    client.execute("select 1")
    client.execute("savepoint s")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        client.execute(WRITE)
    client.execute("rollback to s")
    assert client.execute("select 3").fetchone() == (3,)
    client.execute("commit")


def test_a_text_with_all_of_a_transaction_counts(weir: Pgweir, client: Any) -> None:
    def target(text: str) -> str:
        before = routed(weir)
        client.execute(text)
        after = routed(weir)
        return ", ".join(each for each in after if after[each] > before[each])

    assert target("begin; select 1; commit") == "replica"
    assert target("begin; select 1") == "replica"
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as caught:
        client.execute(WRITE)
    assert HINT in caught.value.diag.message_hint
    client.execute("rollback")
    assert target("begin read write; select 1; commit") == "primary"
    assert target("begin; select 1; update noted set value = value; commit") == "primary"


def test_a_pipeline_is_looked_at_as_a_whole(weir: Pgweir) -> None:
    with psycopg.connect(weir.dsn()) as client:
        before = routed(weir)
        with client.pipeline():
            first = client.execute("select 1")
            second = client.execute("select 2")
        assert [first.fetchone(), second.fetchone()] == [(1,), (2,)]
        assert routed(weir)["replica"] == before["replica"] + 1
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as caught, client.pipeline():
            client.execute(WRITE)
        assert HINT in caught.value.diag.message_hint
        client.rollback()
        before = routed(weir)
        with client.pipeline():
            client.execute("select 1")
            client.execute(WRITE)
        client.rollback()
        assert routed(weir)["replica"] == before["replica"]
        assert routed(weir)["primary"] == before["primary"] + 1


def test_units_sent_together_fail_in_their_turn(weir: Pgweir) -> None:
    def unit(text: str) -> bytes:
        return parse(text) + bind() + execute() + SYNC

    with Wire.connect(address_of(weir)) as wire:
        units = (unit("select 1"), unit(WRITE), unit("select 2"))
        heard = wire.ask(query("begin"), *units, ready=4)
        assert kinds_of(heard) == "CZ" + "12DCZ" + "1EZ" + "EZ"
        first, second = (each.body for each in heard if each.kind == b"E")
        assert b"C25006\0" in first
        assert HINT.encode() in first
        assert b"C25P02\0" in second
        assert wire.ask(query("rollback"))[-1].body == b"I"


async def test_asyncpg_transactions(weir: Pgweir, connection: Any) -> None:
    before = routed(weir)
    async with connection.transaction():
        assert await connection.fetchval("select $1::int", 5) == 5
        assert await connection.fetchval("select count(*) from noted") == 1
    assert routed(weir)["replica"] == before["replica"] + 1
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError) as caught:
        async with connection.transaction():
            await connection.fetchval("select 1")
            await connection.execute("update noted set value = $1", 7)
    assert HINT in str(caught.value.hint)
    async with connection.transaction():
        await connection.execute("update noted set value = $1", 0)
        assert await connection.fetchval(IN_RECOVERY) is False


def test_what_the_session_wrote_is_there(cluster: PostgresCluster, client: Any) -> None:
    for node in cluster.replicas:
        node.pause_replay()
    try:
        client.execute(WRITE)
        client.execute("begin")
        written = client.execute("select value from noted").fetchone()
        # On the primary it may write as well.
        client.execute(WRITE)
        assert client.execute("select value from noted").fetchone() == (written[0] + 1,)
        client.execute("rollback")
    finally:
        for node in cluster.replicas:
            node.resume_replay()
        cluster.until_caught_up()


def test_without_it_transactions_are_for_the_primary(
    cluster: PostgresCluster, tmp_path: Any
) -> None:
    config = configuration(*cluster.nodes, databases={DATABASE: {"read_write_split": True}})
    with (
        running(config, tmp_path) as weir,
        psycopg.connect(weir.dsn(), autocommit=True) as client,
    ):
        weir.wait_until(
            lambda: (
                client.execute("select 1") is not None
                and weir.metric("pgweir_routed_total", target="replica", reason="read") > 0
            )
        )
        assert began_on(weir, client, "select 1", WRITE) == "primary"
