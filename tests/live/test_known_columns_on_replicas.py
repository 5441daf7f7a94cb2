"""Reads that go to one replica or another, of which each has replayed so much of a schema change.

What a client hears is what PostgreSQL could have answered: rows of the columns that it was told of,
or that its statement returns others by now.
"""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, PostgresCluster
from tests.live.conversation import (
    FLUSH,
    SYNC,
    Message,
    Wire,
    address_of,
    bind,
    columns_of,
    describe_portal,
    describe_statement,
    errors_of,
    execute,
    kinds_of,
    parse,
    query,
)
from tests.live.freshness import paused

SQL = "SELECT * FROM replayed"
RUN = bind() + execute() + SYNC


@pytest.fixture(scope="module")
def cluster(pg_replicated: PostgresCluster) -> Iterator[PostgresCluster]:
    yield pg_replicated
    pg_replicated.primary.execute("DROP TABLE IF EXISTS replayed")
    pg_replicated.until_caught_up()


@pytest.fixture(scope="module")
def weir(cluster: PostgresCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    """Reads take turns between two replicas, however old what they have is."""
    replicas = {"max_lag": 0, "max_lag_bytes": 0, "balance": "round_robin"}
    split = {"cluster": "main", "dbname": DATABASE, "read_write_split": True}
    config = configuration(
        *cluster.nodes,
        clusters={"main": {"consistency": "session", "replicas": replicas}},
        databases={"own": split, "shared": {**split, "share_unnamed": True}},
    )
    with running(config, tmp_path_factory.mktemp("replayed")) as weir:
        weir.wait_until(lambda: weir.metric("pgweir_node_up") == 3)
        for database in ("own", "shared"):
            with psycopg.connect(weir.dsn(database=database), autocommit=True) as client:
                for node in ("db2", "db3"):
                    weir.wait_until(lambda c=client, n=node: reads_from(weir, c, n))
        yield weir


def reads_from(weir: Pgweir, client: Any, node: str) -> bool:
    before = weir.metric("pgweir_queries_total", node=node)
    client.execute("SELECT 1")
    return weir.metric("pgweir_queries_total", node=node) > before


@pytest.fixture
def halfway(cluster: PostgresCluster) -> Iterator[PostgresCluster]:
    """A column has been added, and one of the replicas has not heard of it."""
    cluster.primary.execute(
        "DROP TABLE IF EXISTS replayed; CREATE TABLE replayed (a int);"
        f"ALTER TABLE replayed OWNER TO {APP.name}; INSERT INTO replayed VALUES (1)"
    )
    cluster.until_caught_up()
    behind, ahead = cluster.replicas
    with paused(behind):
        cluster.primary.execute("ALTER TABLE replayed ADD b text DEFAULT 'x'")
        lsn = cluster.primary.value("SELECT pg_current_wal_lsn()::text")
        while not ahead.value(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'::pg_lsn"):
            pass
        yield cluster
    cluster.until_caught_up()


def told(heard: list[Message]) -> int | None:
    """How many columns it was told of."""
    described = [each for each in heard if each.kind == b"T"]
    return int.from_bytes(described[-1].body[:2], "big") if described else None


def returned(heard: list[Message]) -> set[int]:
    """How many columns the rows have that were heard."""
    return {len(columns_of(each)) for each in heard if each.kind == b"D"}


DATABASES = pytest.mark.parametrize("database", ["own", "shared"])


@DATABASES
def test_a_statement_that_was_described_is_run_where_its_columns_are_the_same(
    weir: Pgweir, halfway: PostgresCluster, database: str
) -> None:
    """Else it is not run: the nodes take turns, so that each other one has other columns."""
    with Wire.connect(address_of(weir, database)) as wire:
        described: set[int | None] = set()
        refused = 0
        for _ in range(3):
            known = told(wire.ask(parse(SQL), describe_statement(), SYNC))
            described.add(known)
            # Two turns more make three.
            for _ in range(2):
                heard = wire.ask(RUN)
                if errors_of(heard):
                    refused += errors_of(heard) == ["0A000"]
                else:
                    assert returned(heard) == {known}
        assert described == {1, 2}
        assert refused > 0


@DATABASES
def test_a_pipeline_is_no_exception(weir: Pgweir, halfway: PostgresCluster, database: str) -> None:
    with Wire.connect(address_of(weir, database)) as wire:
        for _ in range(4):
            heard = wire.ask(parse(SQL), describe_statement(), SYNC, RUN, RUN, ready=3)
            assert set(errors_of(heard)) <= {"0A000"}
            assert returned(heard) <= {told(heard)}


@DATABASES
def test_who_flushes_goes_on_at_the_node_that_described_its_statement(
    weir: Pgweir, halfway: PostgresCluster, database: str
) -> None:
    with Wire.connect(address_of(weir, database)) as wire:
        described: set[int | None] = set()
        for _ in range(6):
            wire.send(parse(SQL), describe_statement(), FLUSH)
            known = told(wire.until_kind(b"T"))
            described.add(known)
            heard = wire.ask(RUN)
            assert kinds_of(heard) == "2DCZ"
            assert returned(heard) == {known}
            # One turn more, or each of its requests went to the same node.
            wire.ask(query("SELECT 1"))
            if len(described) == 2:
                break
            wire.ask(query("SELECT 1"))
        assert described == {1, 2}


@DATABASES
@pytest.mark.parametrize("again", [(), (parse(SQL),)], ids=["bound", "parsed again"])
def test_who_flushes_and_may_not_go_on_there_is_told_that_the_columns_are_others(
    weir: Pgweir, halfway: PostgresCluster, database: str, again: tuple[bytes, ...]
) -> None:
    """What somebody wrote meanwhile under its key is on the primary alone."""
    # Not the one before: until the monitor has asked, no replica is known to have what that wrote.
    key = f"SET pgweir.consistency_key = 'replayed {database} {len(again)}'"
    with (
        Wire.connect(address_of(weir, database)) as wire,
        Wire.connect(address_of(weir, database)) as other,
    ):
        for each in (wire, other):
            assert errors_of(each.ask(query(key))) == []
        for turn in range(6):
            wire.send(parse(SQL), describe_statement(), FLUSH)
            if told(wire.until_kind(b"T")) == 1:
                break
            assert returned(wire.ask(RUN)) == {2}
            # One turn more each other time, or each of its requests went to the same node.
            if turn % 2:
                wire.ask(query("SELECT 1"))
        else:
            raise AssertionError("the node that is behind was never asked")
        with paused(*halfway.replicas):
            assert errors_of(other.ask(query("INSERT INTO replayed VALUES (2)"))) == []
            assert errors_of(wire.ask(*again, RUN)) == ["0A000"]
            # What it asks for along with the rows it may have.
            heard = wire.ask(bind(), describe_portal(), execute(), SYNC)
            assert kinds_of(heard) == "2TDDCZ"
            assert (told(heard), returned(heard)) == (2, {2})
