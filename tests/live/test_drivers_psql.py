"""psql's own commands answer through the proxy what they answer without it."""

import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, Postgres

DESCRIBING = (
    r"\d",
    r"\d+ psql_told",
    r"\dt+",
    r"\di",
    r"\ds",
    r"\dv",
    r"\dn+",
    r"\df told*",
    r"\sf told_of",
    r"\du",
    r"\dp psql_told",
    r"\dT",
    r"\dx",
    r"\db",
    r"\dC",
    r"\dconfig work_mem",
    r"\do ||",
    r"\dF",
    r"\dL",
    r"\l",
    r"\encoding",
)
WORKING = {
    "gdesc": r"SELECT 1 AS a, 'x'::text AS b \gdesc",
    "gset": "SELECT 7 AS seven \\gset\nSELECT :seven + 1;",
    "gexec": r"SELECT format('SELECT %s', n) FROM generate_series(1, 3) n \gexec",
    "crosstab": "VALUES (1, 'a', 5), (2, 'b', 6) \\crosstabview",
    "copy": "\\copy (SELECT 5) TO STDOUT\n\\copy psql_told FROM STDIN\n9\tnine\n\\.\n",
    "bind": "SELECT $1::int + $2::int \\bind 3 4 \\g",
    "named": "SELECT $1::int + 1 \\parse told\n\\bind_named told 4 \\g\n\\close_prepared told",
    "fetched in parts": "\\set FETCH_COUNT 10\nSELECT * FROM generate_series(1, 25);",
    "on error": "\\set ON_ERROR_ROLLBACK on\nBEGIN;\nSELECT 1/0;\nSELECT 2;\nCOMMIT;",
    "pipeline": "\\startpipeline\nSELECT $1::int \\bind 1 \\sendpipeline\n\\syncpipeline\n"
    "SELECT $1::int \\bind 2 \\sendpipeline\n\\endpipeline",
    "large object": "\\lo_list",
}


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    pg18.execute(
        "CREATE TABLE psql_told (a int PRIMARY KEY, b text);"
        "CREATE FUNCTION told_of(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1'"
    )
    config = configuration(pg18, databases={DATABASE: {"cluster": "main", "pool_size": 1}})
    with running(config, tmp_path_factory.mktemp("psql")) as weir:
        yield weir
    pg18.execute("DROP TABLE psql_told; DROP FUNCTION told_of")


def said(pg: Postgres, dsn: str, script: str) -> tuple[str, str, int]:
    """Run a script in psql: its output, its errors, its exit code."""
    done = subprocess.run(
        [pg.psql, "-X", "-q", dsn],
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout, done.stderr, done.returncode


@pytest.mark.parametrize("command", DESCRIBING)
def test_commands_that_describe(weir: Pgweir, pg18: Postgres, command: str) -> None:
    expected = said(pg18, pg18.dsn(), command)
    assert expected[0]
    assert not expected[1]
    assert said(pg18, weir.dsn(), command) == expected


@pytest.mark.parametrize("script", WORKING.values(), ids=WORKING)
def test_commands_that_run_something(weir: Pgweir, pg18: Postgres, script: str) -> None:
    expected = said(pg18, pg18.dsn(), script)
    assert expected[0]
    pg18.execute("TRUNCATE psql_told")
    assert said(pg18, weir.dsn(), script) == expected
    pg18.execute("TRUNCATE psql_told")


@pytest.mark.parametrize("version", ["3.0", "3.2"])
def test_a_version_of_the_protocol_that_is_insisted_on_is_spoken_and_cancels(
    weir: Pgweir, pg18: Postgres, version: str
) -> None:
    """libpq 18 reads the key of either length, and Ctrl-C sends it back."""
    dsn = f"{weir.dsn()}?min_protocol_version={version}&max_protocol_version={version}"
    told, errors, _ = said(pg18, dsn, "\\conninfo")
    assert re.search(rf"^ *Protocol Version *\| {version} *$", told, re.MULTILINE), told + errors
    with subprocess.Popen(
        [pg18.psql, "-X", "-q", dsn, "-c", "SELECT pg_sleep(60)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as psql:
        try:
            weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 1)
            psql.send_signal(signal.SIGINT)
            _, errors = psql.communicate(timeout=20)
        finally:
            psql.kill()
    assert "canceling statement due to user request" in errors
