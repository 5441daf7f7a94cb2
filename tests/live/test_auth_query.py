"""Users that only the database knows (`auth.query`)."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import yaml

from proxy.config.access import DEFAULT_QUERY
from proxy.embedded import Login
from tests.fixtures.pgweir import Pgweir, configuration, merged, running
from tests.fixtures.postgres import APP, DATABASE, MD5_USER, Postgres
from tests.live.test_login import connect, conversation, refusal

StartPgweir = Callable[..., Pgweir]

# By scram-sha-256 at the server, and listed nowhere.
KEPT = Login("kept_user", "kept-password")
CREATE_KEPT = f"CREATE ROLE {KEPT.name} LOGIN PASSWORD '{KEPT.password}' IN ROLE {APP.name}"


def asking(node: Postgres, **auth: Any) -> dict[str, Any]:
    """A configuration in which no user is listed."""
    config = configuration(node)
    login = {"query_user": node.superuser.name, "query_password": node.superuser.password}
    config["auth"] = {"method": "scram-sha-256", **login, **auth}
    return config


@pytest.fixture(scope="module", autouse=True)
def _kept(pg18: Postgres) -> Iterator[None]:
    pg18.execute(CREATE_KEPT)
    yield
    pg18.execute(f"DROP ROLE {KEPT.name}")


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    with running(asking(pg18), tmp_path_factory.mktemp("query")) as weir:
        yield weir


@pytest.fixture
def role(pg18: Postgres) -> Iterator[Callable[..., Login]]:
    """Make roles: `role("name", "OPTIONS")`."""
    made: list[str] = []

    def make(name: str, options: str = "LOGIN") -> Login:
        quoted = '"' + name.replace('"', '""') + '"'
        made.append(quoted)
        pg18.execute(f"CREATE ROLE {quoted} {options} PASSWORD 'a-role' IN ROLE {APP.name}")
        return Login(name, "a-role")

    yield make
    for quoted in made:
        pg18.execute(f"DROP ROLE {quoted}")


def test_a_user_of_the_database_logs_in_with_scram_on_both_sides(weir: Pgweir) -> None:
    assert connect(weir, KEPT.password, KEPT.name) == KEPT.name
    assert connect(weir) == APP.name


def test_asyncpg_logs_in_as_a_user_of_the_database(weir: Pgweir) -> None:
    async def ask() -> str:
        connection = await asyncpg.connect(weir.dsn())
        try:
            return str(await connection.fetchval("SELECT current_user::text"))
        finally:
            await connection.close()

    assert asyncio.run(ask()) == APP.name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("expired", "LOGIN VALID UNTIL '2020-01-01'"),
        ("no_login", "NOLOGIN"),
    ],
)
def test_a_role_that_may_not_log_in_hears_what_a_stranger_hears(
    weir: Pgweir, role: Callable[..., Login], name: str, options: str
) -> None:
    user = role(name, options)
    heard = conversation(weir, user.name, user.password, "scram-sha-256")
    assert heard == conversation(weir, "eve", "wrong", "scram-sha-256")
    assert heard == conversation(weir, APP.name, "wrong", "scram-sha-256")


def test_a_role_that_is_valid_for_some_time_logs_in(
    weir: Pgweir, role: Callable[..., Login]
) -> None:
    user = role("valid", "LOGIN VALID UNTIL 'infinity'")
    assert connect(weir, user.password, user.name) == user.name


def test_a_changed_password_holds_for_the_attempt_after_a_refused_one(
    weir: Pgweir, role: Callable[..., Login], pg18: Postgres
) -> None:
    user = role("changing")
    assert connect(weir, user.password, user.name) == user.name
    pg18.execute("ALTER ROLE changing PASSWORD 'another'")

    def works(password: str) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            return connect(weir, password, user.name) == user.name
        return False

    weir.wait_until(lambda: works("another"))  # the second attempt a second later at the latest
    assert not works(user.password)


def test_a_name_is_a_parameter_and_nothing_else(weir: Pgweir, role: Callable[..., Login]) -> None:
    user = role("o'hara\"; --")
    with psycopg.connect(
        host=weir.host, port=weir.port, dbname=DATABASE, user=user.name, password=user.password
    ) as connection:
        assert connection.execute("SELECT current_user::text").fetchone() == (user.name,)


@pytest.mark.parametrize("name", ["x" * 64, "x" * 5000, "é" * 40])
def test_a_name_no_role_can_have_is_refused_like_any_other(weir: Pgweir, name: str) -> None:
    assert "password authentication failed" in refusal(weir, "wrong", name)


def test_a_user_who_is_listed_is_not_asked_for(start_pgweir: StartPgweir, pg18: Postgres) -> None:
    users = {APP.name: {"password": "listed"}}
    server = {"server": {"user": KEPT.name, "password": KEPT.password}}
    config = merged(asking(pg18, users=users), {"clusters": {"main": server}})
    weir = start_pgweir(config)
    assert connect(weir, "listed") == KEPT.name
    refusal(weir, APP.password)


def test_the_md5_hash_that_was_found_opens_the_server_too(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    weir = start_pgweir(asking(pg18, method="md5"))
    assert connect(weir, MD5_USER.password, MD5_USER.name) == MD5_USER.name
    assert connect(weir, KEPT.password, KEPT.name) == KEPT.name
    strangers = conversation(weir, "eve", "wrong", "scram-sha-256")
    assert strangers == conversation(weir, APP.name, "wrong", "scram-sha-256")


def test_nothing_a_client_sends_reaches_the_connection_that_asks(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    """CVE-2025-12819: a search_path of the startup packet changed what the query meant."""
    query = (
        "SELECT $1::text, CASE WHEN current_setting('search_path') = 'pg_catalog'"
        f" AND current_user = '{pg18.superuser.name}' AND current_database() = 'postgres'"
        " AND current_setting('work_mem') <> '777kB' THEN 'as-it-should-be' END"
    )
    server = {"server": {"user": APP.name, "password": APP.password}}
    config = merged(asking(pg18, query=query, query_ttl=0), {"clusters": {"main": server}})
    weir = start_pgweir(config)
    for _ in range(2):
        with psycopg.connect(
            weir.dsn("anybody", "as-it-should-be"), options="-csearch_path=evil -cwork_mem=777kB"
        ) as connection:
            assert connection.execute("SHOW search_path").fetchone() == ("evil",)


EVIL = """
    CREATE SCHEMA evil;
    CREATE FUNCTION evil.always(name, name) RETURNS boolean LANGUAGE sql RETURN true;
    CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.always);
    CREATE FUNCTION evil.never(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql RETURN false;
    CREATE OPERATOR evil.< (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.never);
    CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql RETURN '-infinity'::timestamptz;
    CREATE VIEW evil.pg_authid AS
        SELECT 'eve'::name AS rolname, 'x' AS rolpassword, NULL::timestamptz AS rolvaliduntil,
               true AS rolcanlogin;
    CREATE ROLE expired LOGIN PASSWORD 'x' VALID UNTIL '2020-01-01';
    SET LOCAL search_path = evil, pg_catalog
"""


@pytest.mark.parametrize(
    ("name", "has_secret"), [("eve", []), ("expired", [False]), (None, [True])]
)
def test_whatever_else_has_their_names_the_query_means_postgresqls_own(
    pg18: Postgres, name: str | None, has_secret: list[bool]
) -> None:
    """The same once more, from the other side: it would not matter."""
    asks = f"PREPARE asks AS {DEFAULT_QUERY}"
    with (
        psycopg.connect(pg18.superuser_dsn) as connection,
        psycopg.ClientCursor(connection) as cursor,
    ):
        for statement in (*EVIL.split(";"), asks):
            cursor.execute(statement.encode())
        cursor.execute("EXECUTE asks (%s)", [name or KEPT.name])
        assert [secret is not None for _, secret in cursor.fetchall()] == has_secret
        connection.rollback()


def test_the_function_of_the_manual_lets_a_plain_role_ask(pg18: Postgres, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "logging-in.md").read_text()
    function = page.partition("```sql\n")[2].partition("```")[0]
    pg18.execute(f"CREATE ROLE pgweir_auth LOGIN PASSWORD 'asking'; {function}", "postgres")
    login = {"query_user": "pgweir_auth", "query_password": "asking"}
    try:
        config = asking(pg18, query="SELECT * FROM pgweir.lookup($1)", **login)
        with running(config, tmp_path) as weir:
            assert connect(weir) == APP.name
            refusal(weir, pg18.superuser.password, pg18.superuser.name)
    finally:
        pg18.execute("DROP SCHEMA pgweir CASCADE; DROP ROLE pgweir_auth", "postgres")


def test_a_query_that_fails_lets_nobody_in_and_is_logged(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    weir = start_pgweir(asking(pg18, query="SELECT $1::text, secret FROM nowhere"))
    assert "users cannot be looked up" in refusal(weir, "x")
    assert "nowhere" in weir.wait_for_log("auth_query failed")


def test_without_its_database_those_who_are_known_log_in_and_others_are_told(
    start_pgweir: StartPgweir, start_cluster: Callable[..., Any]
) -> None:
    primary = start_cluster().primary
    primary.execute(CREATE_KEPT)
    weir = start_pgweir(asking(primary, query_ttl=0))
    assert connect(weir) == APP.name
    primary.execute("UPDATE pg_database SET datallowconn = false WHERE datname = 'postgres'")
    primary.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'pgweir auth_query'"
    )
    assert connect(weir) == APP.name
    assert "users cannot be looked up" in refusal(weir, "x", KEPT.name)
    assert "sqlstate=08001" in weir.wait_for_log(r"client refused.*looked up")
    primary.execute("UPDATE pg_database SET datallowconn = true WHERE datname = 'postgres'")

    def works() -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            return connect(weir, KEPT.password, KEPT.name) == KEPT.name
        return False

    weir.wait_until(works)


def test_many_logins_of_one_user_at_once_all_succeed(weir: Pgweir) -> None:
    done: list[str] = []

    def log_in() -> None:
        done.append(connect(weir, KEPT.password, KEPT.name))

    threads = [threading.Thread(target=log_in) for _ in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert done == [KEPT.name] * 12


def test_a_reload_turns_the_query_on_and_off(pg18: Postgres, tmp_path: Path) -> None:
    listed = configuration(pg18)
    with running(listed, tmp_path) as weir:
        path = next(tmp_path.glob("pgweir-*.yaml"))
        refusal(weir, KEPT.password, KEPT.name)
        for config, lets_in in ((asking(pg18), True), (listed, False)):
            path.write_text(yaml.safe_dump(config))
            seen = len(weir.log)
            weir.send(signal.SIGHUP)
            weir.wait_for_log(" reloaded ", since=seen)
            if lets_in:
                assert connect(weir, KEPT.password, KEPT.name) == KEPT.name
            else:
                refusal(weir, KEPT.password, KEPT.name)


def test_no_secret_that_was_found_is_written_anywhere(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    weir = start_pgweir(asking(pg18))
    connect(weir)
    refusal(weir, "a-wrong-password")
    kept = pg18.value("SELECT rolpassword FROM pg_authid WHERE rolname = $1", APP.name)
    secrets = [*kept.split("$")[2].split(":"), pg18.superuser.password, "a-wrong-password"]
    everything = "\n".join((*weir.log, weir.http("/metrics")[1]))
    assert [each for each in secrets if each in everything] == []


def test_each_cluster_has_users_of_its_own(pg18: Postgres, pg16: Postgres, tmp_path: Path) -> None:
    """Two of one name, whose verifiers open one server each; the monitors' passwords ask."""
    config = configuration(pg18)
    config["auth"] = {"query_user": pg18.superuser.name}
    config["clusters"] = {
        name: {
            "nodes": [{"host": node.host, "port": node.port}],
            "monitor": {"user": node.superuser.name, "password": node.superuser.password},
        }
        for name, node in (("main", pg18), ("older", pg16))
    }
    config["databases"]["older"] = {"cluster": "older", "dbname": DATABASE}
    pg16.execute(CREATE_KEPT.replace(KEPT.password, "another"))
    try:
        with running(config, tmp_path) as weir:
            first = psycopg.connect(weir.dsn(KEPT.name, KEPT.password), autocommit=True)
            with first, psycopg.connect(weir.dsn(KEPT.name, "another", "older")) as second:
                assert first.execute("SELECT 1").fetchone() == (1,)
                assert second.execute("SELECT 1").fetchone() == (1,)
                end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1"
                pg18.fetch(end, KEPT.name)
                weir.wait_for_log("server connection closed.*node=.*reason=")
                # Dialled anew, and after the login to the other cluster.
                assert first.execute("SELECT 1").fetchone() == (1,)
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(weir.dsn(KEPT.name, KEPT.password, "older"))
    finally:
        pg16.execute(f"DROP ROLE {KEPT.name}")
