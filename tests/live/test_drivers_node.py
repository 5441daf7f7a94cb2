"""npm's `pg` and `postgres` through the proxy, their clients sharing two server connections."""

from collections.abc import Iterator

import pytest

from tests.fixtures.node import Node
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, Postgres

SCRIPTS = ("pg.mjs", "postgres.mjs")
EACH = {"cluster": "main", "dbname": DATABASE, "pool_size": 2}
DATABASES = {
    "transaction": EACH,
    "shared": {**EACH, "share_unnamed": True},
    "session": {**EACH, "pool_mode": "session", "pool_size": 20},
}


@pytest.fixture(scope="module")
def weir18(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    config = configuration(pg18, databases=DATABASES)
    with running(config, tmp_path_factory.mktemp("node18")) as weir:
        yield weir


@pytest.fixture(scope="module")
def weir16(pg16: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    config = configuration(pg16, databases=DATABASES)
    with running(config, tmp_path_factory.mktemp("node16")) as weir:
        yield weir


def failures(results: dict[str, str]) -> dict[str, str]:
    assert len(results) > 10
    return {name: error for name, error in results.items() if error}


@pytest.mark.parametrize("script", SCRIPTS)
def test_driver_works_without_the_proxy(node: Node, pg18: Postgres, script: str) -> None:
    assert failures(node.run(script, pg18.dsn())) == {}


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_driver_works_through_the_proxy(
    node: Node, weir18: Pgweir, script: str, database: str
) -> None:
    assert failures(node.run(script, weir18.dsn(database=database))) == {}


@pytest.mark.parametrize("database", ["transaction", "shared"])
def test_postgres_goes_on_when_its_server_is_lost_between_batches_of_a_cursor(
    node: Node, weir18: Pgweir, database: str
) -> None:
    results = node.run("lost.mjs", weir18.dsn(database=database))
    assert results == {"between two batches of a cursor": "", "in a transaction": ""}


@pytest.mark.parametrize("script", SCRIPTS)
def test_driver_works_through_the_proxy_on_postgresql_16(
    node: Node, weir16: Pgweir, script: str
) -> None:
    assert failures(node.run(script, weir16.dsn(database="transaction"))) == {}
