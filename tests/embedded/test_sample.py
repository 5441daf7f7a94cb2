"""The sample data, pgbench's tables, and the ways to log in that tests are offered."""

import subprocess

import asyncpg
import pytest

from proxy.embedded import Login
from tests.fixtures.postgres import (
    APP,
    CERT_USER,
    MD5_USER,
    MONITOR,
    PLAIN_USER,
    TLS_USER,
    TRUST_USER,
    Postgres,
    PostgresCluster,
    PostgresWithTls,
)


@pytest.mark.parametrize("table", ["users", "posts", "follows", "interactions", "counters"])
def test_the_sample_has_a_thousand_rows_or_more(pg18: Postgres, table: str):
    assert pg18.value(f"SELECT count(*) FROM {table}") >= 1000


def test_identities_go_on_after_the_rows_that_are_there(pg18: Postgres):
    insert = "INSERT INTO users (handle, display_name, email) VALUES ('n', 'N', 'n@example.com')"
    assert pg18.value(f"{insert} RETURNING id") > 1000


def test_pgbench_runs_on_the_tables_as_they_are(pg18: Postgres):
    ran = subprocess.run(
        [pg18.pgbench, "-n", "-S", "-t", "10", pg18.dsn()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, "processed: 10/10" in ran.stdout) == (0, True), ran.stderr


def test_pgbench_may_write_as_the_application(pg18: Postgres):
    ran = subprocess.run(
        [pg18.pgbench, "-t", "5", pg18.dsn()], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    "login", [APP, MONITOR, MD5_USER, PLAIN_USER, TRUST_USER], ids=lambda login: login.name
)
async def test_every_login_works_directly(pg18: Postgres, login: Login):
    connection = await asyncpg.connect(pg18.dsn(login))
    assert await connection.fetchval("SELECT current_user") == login.name
    await connection.close()


async def test_a_wrong_password_is_refused(pg18: Postgres):
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(pg18.dsn(Login(APP.name, "wrong")))


def test_the_monitor_may_read_what_replicas_report(pg_replicated: PostgresCluster):
    ran = subprocess.run(
        [
            *(pg_replicated.primary.psql, pg_replicated.primary.dsn(MONITOR), "-Atc"),
            "SELECT count(replay_lsn) FROM pg_stat_replication",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "2"


def test_replicas_have_the_sample(pg_replicated: PostgresCluster):
    assert [node.value("SELECT count(*) FROM posts") for node in pg_replicated.nodes] == [4000] * 3


def test_version_16_has_the_sample_as_well(pg16: Postgres):
    assert (pg16.value("SELECT count(*) FROM posts"), pg16.major) == (4000, 16)


def psql_with_tls(pg_tls: PostgresWithTls, login: Login, options: str) -> str:
    dsn = f"{pg_tls.dsn(login)}?sslrootcert={pg_tls.certificates.ca}&{options}"
    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    ran = subprocess.run(
        [pg_tls.psql, dsn, "-Atc", query], capture_output=True, text=True, check=False
    )
    return ran.stdout.strip() or ran.stderr


def test_the_server_certificate_is_good_for_its_address(pg_tls: PostgresWithTls):
    assert psql_with_tls(pg_tls, TLS_USER, "sslmode=verify-full") == "t"


def test_without_tls_the_tls_user_is_refused(pg_tls: PostgresWithTls):
    assert "pg_hba.conf rejects" in psql_with_tls(pg_tls, TLS_USER, "sslmode=disable")


def test_a_client_certificate_logs_in(pg_tls: PostgresWithTls):
    files = pg_tls.certificates
    options = f"sslmode=require&sslcert={files.client_cert}&sslkey={files.client_key}"
    assert psql_with_tls(pg_tls, CERT_USER, options) == "t"


def test_a_fresh_cluster_may_be_broken(start_cluster):
    cluster = start_cluster(settings={"log_statement": "all"})
    cluster.primary.kill()
    cluster.primary.restart()
    assert cluster.primary.value("SHOW log_statement") == "all"


def test_a_fixture_attaches_its_markers(request: pytest.FixtureRequest, pg18: Postgres):
    assert request.node.get_closest_marker("live") is not None
