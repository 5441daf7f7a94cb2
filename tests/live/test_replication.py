"""Replication connections: each has a server connection of its own, and COPY both ways passes."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import Postgres, PostgresCluster


@pytest.fixture
def node(start_cluster: Callable[..., PostgresCluster]) -> Postgres:
    cluster = start_cluster(hba=["host replication streamer 127.0.0.1/32 scram-sha-256"])
    cluster.primary.execute("CREATE ROLE streamer LOGIN REPLICATION PASSWORD 'streamer-password'")
    return cluster.primary


@pytest.fixture
def weir(node: Postgres, start_pgweir: Callable[..., Pgweir]) -> Pgweir:
    return start_pgweir(node, auth={"users": {"streamer": {"password": "streamer-password"}}})


def test_a_replication_command_is_answered(weir: Pgweir) -> None:
    dsn = weir.dsn("streamer", "streamer-password") + "?replication=database"
    with psycopg.connect(dsn, autocommit=True) as connection:
        # Simple protocol: a walsender knows no other.
        result = connection.pgconn.exec_(b"IDENTIFY_SYSTEM")
        assert result.ntuples == 1


def test_wal_streams_through_the_proxy(weir: Pgweir, node: Postgres, tmp_path: Path) -> None:
    receiver = subprocess.Popen(
        [
            str(node.bin_dir / "pg_receivewal"),
            "-D",
            str(tmp_path),
            "-n",
            "--synchronous",
            "-d",
            weir.dsn("streamer", "streamer-password"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:

        def has_streamed() -> bool:
            node.execute("SELECT pg_logical_emit_message(false, 'test', repeat('x', 100000))")
            return any(path.stat().st_size for path in tmp_path.iterdir()) and bool(
                node.value("SELECT count(*) FROM pg_stat_replication WHERE flush_lsn IS NOT NULL")
            )

        weir.wait_until(has_streamed, 20)
    finally:
        receiver.terminate()
        _, said = receiver.communicate(timeout=20)
    assert receiver.returncode == 0, said


def test_its_server_connection_goes_when_the_client_does(weir: Pgweir, node: Postgres) -> None:
    dsn = weir.dsn("streamer", "streamer-password") + "?replication=database"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.pgconn.exec_(b"IDENTIFY_SYSTEM")
        assert node.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'")
    weir.wait_until(
        lambda: (
            not node.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'")
        )
    )
