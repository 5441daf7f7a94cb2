"""PostgreSQL's JDBC driver through the proxy, its clients sharing two server connections."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.fixtures.java import Java
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres, PostgresCluster

EACH = {"cluster": "main", "dbname": DATABASE, "pool_size": 2}
DATABASES = {
    "transaction": EACH,
    "shared": {**EACH, "share_unnamed": True},
    "session": {**EACH, "pool_mode": "session", "pool_size": 20},
}


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    config = configuration(pg18, databases=DATABASES, auth={"admins": [APP.name]})
    with running(config, tmp_path_factory.mktemp("jdbc")) as weir:
        yield weir


def failures(results: dict[str, str]) -> dict[str, str]:
    assert len(results) > 4
    return {name: error for name, error in results.items() if error}


def test_driver_works_without_the_proxy(java: Java, pg18: Postgres) -> None:
    assert failures(java.run("Jdbc", pg18.dsn())) == {}


@pytest.mark.parametrize("database", DATABASES)
def test_driver_works_through_the_proxy(java: Java, weir: Pgweir, database: str) -> None:
    assert failures(java.run("Jdbc", weir.dsn(database=database))) == {}


def test_driver_works_with_the_console(java: Java, weir: Pgweir) -> None:
    assert failures(java.run("Console", weir.dsn(database="pgbouncer"))) == {}


def test_reads_go_to_replicas(
    java: Java, pg_replicated: PostgresCluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # What asks by itself on which node it is goes to the primary.
    pg_replicated.primary.execute(
        "CREATE OR REPLACE FUNCTION on_a_replica() RETURNS bool STABLE LANGUAGE sql"
        " AS 'SELECT pg_is_in_recovery()'"
    )
    pg_replicated.until_caught_up()
    config = configuration(
        *pg_replicated.nodes,
        databases={DATABASE: {"cluster": "main", "pool_size": 2, "read_write_split": True}},
    )
    with running(config, tmp_path_factory.mktemp("jdbc reads")) as weir:
        with psycopg.connect(weir.dsn(), autocommit=True) as client:
            # Until the catalogue has been read, all is for the primary.
            asks = "SELECT on_a_replica()"
            weir.wait_until(lambda: client.execute(asks).fetchone() == (True,))
        assert failures(java.run("ReadsElsewhere", weir.dsn())) == {}
