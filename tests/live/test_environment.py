"""Started with nothing but an environment, as in a container: clients write and read."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.fixtures.postgres import APP, DATABASE, Postgres, PostgresCluster

ROOT = Path(__file__).parents[2]


@contextmanager
def started(folder: Path, **environment: str) -> Iterator[str]:
    """The program without a file; gives the URL to use it by."""
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy", "run", "--listen", "127.0.0.1:0"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        port = None
        for line in process.stderr:
            if found := re.search(r" ready .*port=(\d+)", line):
                port = found[1]
                break
        assert port is not None
        yield f"postgres://{APP.name}:{APP.password}@127.0.0.1:{port}/{DATABASE}"
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_primary_is_served_by_its_url_alone(pg18: Postgres, tmp_path: Path) -> None:
    with (
        started(tmp_path, DATABASE_URL=pg18.dsn()) as url,
        psycopg.connect(url, autocommit=True) as client,
    ):
        client.execute("CREATE TEMPORARY TABLE mine AS SELECT 42 AS answer")
        assert client.execute("SELECT answer FROM mine").fetchall() == [(42,)]


def test_who_does_not_know_the_password_of_the_url_is_refused(
    pg18: Postgres, tmp_path: Path
) -> None:
    with (
        started(tmp_path, DATABASE_URL=pg18.dsn()) as url,
        pytest.raises(psycopg.OperationalError, match="password authentication failed"),
    ):
        psycopg.connect(url.replace(APP.password, "wrong"))


def test_reads_go_to_the_replicas_that_are_named(
    start_cluster: Callable[..., PostgresCluster], tmp_path: Path
) -> None:
    cluster = start_cluster(replicas=2)
    replicas = ",".join(node.dsn() for node in cluster.replicas)
    with (
        started(
            tmp_path, DATABASE_URL=cluster.primary.dsn(), DATABASE_REPLICA_URLS=replicas
        ) as url,
        psycopg.connect(url, autocommit=True) as client,
    ):
        client.execute("CREATE TABLE told (v int)")
        client.execute("INSERT INTO told VALUES (1)")
        assert client.execute("SELECT v FROM told").fetchall() == [(1,)]
        asked = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT v FROM told'"
        for _ in range(200):
            cluster.until_caught_up()
            assert client.execute("SELECT v FROM told").fetchall() == [(1,)]
            if any(node.value(asked) for node in cluster.replicas):
                return
        pytest.fail("no read came to a replica")
