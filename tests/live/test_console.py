"""The admin console, from login to every SHOW, with the drivers people have."""

import asyncio
import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psycopg
import psycopg2
import pytest
from psycopg.pq import ExecStatus

from proxy.console.commands import COMMANDS, Command
from proxy.embedded import Login
from tests.fixtures.console import ADMIN, LOOKER, Console
from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import APP, DATABASE, Postgres

SHOWS = [command for command in COMMANDS if command.read is not None]


@pytest.mark.parametrize("database", ["pgweir", "pgbouncer"])
def test_the_console_has_two_names(manned: Pgweir, database: str) -> None:
    console = Console(manned, database=database)
    assert console.one("VERSION")["version"].startswith("PgBouncer 1.25.0 (pgweir ")
    console.close()


@pytest.mark.parametrize("command", SHOWS, ids=lambda command: command.name)
def test_every_show_has_its_columns(console: Console, command: Command) -> None:
    with psycopg.connect(
        console.weir.dsn(ADMIN.name, ADMIN.password, "pgweir"), autocommit=True
    ) as plain:
        cursor = plain.execute(command.name.encode())
        assert cursor.description is not None
        assert [each.name for each in cursor.description] == [each.name for each in command.columns]
        assert [each.type_code for each in cursor.description] == [
            each.type.oid for each in command.columns
        ]


@pytest.mark.parametrize("command", SHOWS, ids=lambda command: command.name)
async def test_every_show_can_be_prepared_and_read_in_binary(
    manned: Pgweir, command: Command
) -> None:
    text = await asyncio.to_thread(as_text, manned, command.name)
    connection = await asyncpg.connect(manned.dsn(ADMIN.name, ADMIN.password, "pgweir"))
    try:
        rows = await connection.fetch(command.name)
        assert len(rows) == pytest.approx(len(text), abs=2)
        for row in rows:
            assert list(row.keys()) == [column.name for column in command.columns]
    finally:
        await connection.close()


def as_text(weir: Pgweir, command: str) -> list[tuple[object, ...]]:
    with psycopg.connect(weir.dsn(ADMIN.name, ADMIN.password, "pgweir"), autocommit=True) as plain:
        return plain.execute(command.encode()).fetchall()


async def test_numbers_are_the_same_in_text_and_in_binary(manned: Pgweir) -> None:
    connection = await asyncpg.connect(manned.dsn(ADMIN.name, ADMIN.password, "pgweir"))
    try:
        binary = {row["list"]: row["items"] for row in await connection.fetch("SHOW LISTS")}
        text = {row["list"]: int(row["items"]) for row in await connection.fetch("SHOW LISTS")}
        assert binary == text
        (row,) = await connection.fetch("SHOW STATE") and await connection.fetch("SHOW VERSION")
        assert row["version"].startswith("PgBouncer")
    finally:
        await connection.close()


def test_psql_has_tables_and_tags(manned: Pgweir) -> None:
    url = manned.dsn(ADMIN.name, ADMIN.password, "pgbouncer")
    script = "SHOW LISTS; SHOW HELP; SET query_wait_notify = 7; RECONNECT;"
    done = subprocess.run(
        ["psql", "-X", url, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "used_clients" in done.stdout
    assert "SET query_wait_notify=7\nRECONNECT\n" in done.stdout
    assert "KILL_CLIENT id" in done.stderr


def test_psycopg2_and_transactions_of_drivers_get_along(manned: Pgweir) -> None:
    connection = psycopg2.connect(manned.dsn(LOOKER.name, LOOKER.password, "pgbouncer"))
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("SHOW POOLS")
        assert cursor.fetchall()
        connection.commit()
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]
        connection.rollback()


@pytest.mark.parametrize(
    "text",
    [
        "SET application_name = 'x'",
        "SET extra_float_digits = 3",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "set client_encoding to 'UTF8'",
        "BEGIN",
        "COMMIT",
        "DISCARD ALL",
        "DEALLOCATE ALL",
        "RESET ALL",
        "select pg_advisory_unlock_all()",
        "CLOSE ALL",
        "UNLISTEN *",
        "SHOW transaction isolation level",
        "SHOW client_encoding",
        "/* a tool */ SHOW VERSION -- and so on",
        "select version",
        "",
        ";",
    ],
)
def test_what_drivers_say_of_their_own_accord_is_no_error(manned: Pgweir, text: str) -> None:
    console = Console(manned, LOOKER)
    console.do(text)
    console.close()


def test_a_prepared_show_is_shown_again(manned: Pgweir) -> None:
    with psycopg.connect(
        manned.dsn(LOOKER.name, LOOKER.password, "pgweir"), autocommit=True
    ) as connection:
        for _ in range(3):
            assert connection.execute(b"SHOW LISTS", prepare=True).fetchall()
        binary = connection.cursor(binary=True)
        rows = dict(binary.execute(b"SHOW LISTS").fetchall())
        assert rows["databases"] == 3
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="no parameters"):
            connection.execute("PAUSE %s", ["x"])
        assert connection.execute(b"SHOW VERSION").fetchone()


def test_the_account_that_runs_the_proxy_comes_in_over_the_unix_socket(
    pg18: Postgres, start_pgweir: Callable[..., Pgweir], tmp_path: Path
) -> None:
    weir = start_pgweir(pg18, listen={"unix_socket_dir": str(tmp_path)})
    place = f"host={tmp_path} port={weir.port} dbname=pgbouncer"
    for user in ("pgbouncer", "pgweir"):
        with psycopg.connect(f"{place} user={user}", autocommit=True) as console:
            assert console.execute(b"RECONNECT").statusmessage == "RECONNECT"
    refused = {
        f"{place} user={APP.name} password={APP.password}": "not allowed",
        f"host=127.0.0.1 port={weir.port} dbname=pgbouncer user=pgbouncer password=x": "failed",
        f"host={tmp_path} port={weir.port} dbname={DATABASE} user=pgbouncer password=x": "failed",
    }
    for dsn, said in refused.items():
        with pytest.raises(psycopg.OperationalError, match=said):
            psycopg.connect(dsn)


def test_other_users_are_refused(manned: Pgweir) -> None:
    with pytest.raises(psycopg.OperationalError, match="is not allowed to use the console"):
        Console(manned, APP)
    manned.wait_for_log(r"client refused.*not allowed.*sqlstate=28000")


def test_a_wrong_password_is_refused_like_anywhere(manned: Pgweir) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        Console(manned, Login(ADMIN.name, "wrong"))


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        ("SHOW NONSENSE", "42601"),
        ("NONSENSE", "42601"),
        ("SHOW POOLS now", "42601"),
        ("PAUSE a b", "42601"),
        ("PAUSE ;; 'unended", "42601"),
        ("SHOW", "42601"),
        ("DISABLE", "42601"),
        ("SHUTDOWN TOMORROW", "42601"),
        ("PAUSE nowhere", "3D000"),
        ("PAUSE pgbouncer", "0A000"),
        ("RESUME", "55000"),
        (f"RESUME {DATABASE}", "55000"),
        ("KILL_CLIENT me", "22023"),
        ("FAILOVER", "42601"),
        ("FAILOVER main db1", "42601"),
        ("FAILOVER nowhere", "42704"),
        ("FAILOVER main TO db1", "55000"),
        ("KILL_CLIENT 999999999", "42704"),
        ("SHOW FDS", "0A000"),
        ("SET nonsense = 1", "42704"),
        ("SET listen_port = 1", "55P02"),
        ("SET default_pool_size = many", "22023"),
        ("SET default_pool_size = 0", "22023"),
        ("SET default_pool_size", "42601"),
        ("SET auth.users = x", "55P02"),
    ],
)
def test_what_cannot_be_done_says_so(console: Console, text: str, sqlstate: str) -> None:
    with pytest.raises(psycopg.Error) as refused:
        console.do(text)
    assert refused.value.sqlstate == sqlstate
    assert console.show("VERSION")


def sample(command: Command) -> str:
    """The command with an argument it accepts and which does no harm."""
    if command.name == "SET":
        return "SET query_wait_notify = 5"
    argument = {"db": "nowhere", "id": "999999999"}.get(command.argument or "", "")
    # What would stop the others is asked for in vain.
    return {"SHUTDOWN": "SHUTDOWN NOT", "PAUSE": "PAUSE nowhere", "KILL": "KILL nowhere"}.get(
        command.name, f"{command.name} {argument}"
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_in_every_role(manned: Pgweir, command: Command) -> None:
    text = sample(command)
    if command.name == "SUSPEND":
        text = "SUSPEND now"
    allowed = {LOOKER: command.who == "stats", ADMIN: True}
    for login, may in allowed.items():
        console = Console(manned, login)
        try:
            console.do(text)
            was_refused = False
        except psycopg.Error as error:
            was_refused = error.sqlstate == "42501"
        console.close()
        assert was_refused is not may, (login.name, text)
    with pytest.raises(psycopg.OperationalError, match="not allowed"):
        Console(manned, APP)


def test_every_command_that_is_refused_to_others_does_nothing(manned: Pgweir) -> None:
    looker, admin = Console(manned, LOOKER), Console(manned)
    for text in ("PAUSE", "SUSPEND", "KILL", "SHUTDOWN", "RELOAD", f"DISABLE {DATABASE}"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="admin access needed"):
            looker.do(text)
    assert admin.one("STATE", key="active")["value"] == "yes"
    assert admin.one("DATABASES", name=DATABASE)["disabled"] == 0
    looker.close()
    admin.close()


def test_what_pgadmin_asks_before_its_first_command_is_answered(manned: Pgweir) -> None:
    with psycopg.connect(
        manned.dsn(ADMIN.name, ADMIN.password, "pgbouncer"), autocommit=True
    ) as console:
        first = console.execute(
            "SET DateStyle=ISO; SET client_min_messages=notice;"
            " SELECT set_config('bytea_output', 'hex', false) FROM pg_show_all_settings()"
            " WHERE name = 'bytea_output'; SET client_encoding='UTF8'"
        )
        assert first.nextset()
        assert first.nextset()
        assert first.fetchall() == [("hex",)]
        (version,) = console.execute("SELECT version()").fetchone() or ("",)
        assert version.startswith("PgBouncer 1.25")
        for asked in (
            "SELECT d.oid AS did, pg_encoding_to_char(d.encoding) FROM pg_catalog.pg_database d"
            " WHERE d.oid > 16383::OID OR d.datname ~ '^x'",
            "SELECT r.oid AS id, 'a'=ANY(ARRAY['b']) FROM pg_catalog.pg_roles AS r"
            " WHERE rolname = current_user",
        ):
            assert console.execute(asked).rowcount == 0
        kind = console.execute(
            "SELECT CASE WHEN (SELECT count(*) FROM pg_catalog.pg_replication_slots) > 0"
            " THEN 'log' ELSE NULL END as type"
        )
        assert kind.fetchall() == [(None,)]
        shown = console.execute("SHOW POOLS").description or ()
        # Before it shows any rows it asks what their types are called, and without an answer shows
        # none.
        typed = console.execute(
            "SELECT oid, pg_catalog.format_type(oid, NULL) AS typname FROM pg_catalog.pg_type"
            " WHERE oid = ANY(%s) ORDER BY oid;",
            [[column.type_code for column in shown]],
        )
        assert {column.type_code for column in shown} <= {oid for oid, _ in typed.fetchall()}


def test_only_what_a_tool_asks_of_its_own_accord_may_have_parameters(manned: Pgweir) -> None:
    with psycopg.connect(
        manned.dsn(LOOKER.name, LOOKER.password, "pgweir"), autocommit=True
    ) as connection:
        raw = connection.pgconn
        asked = b"SELECT d.oid FROM pg_catalog.pg_database d WHERE d.oid = $2"
        assert raw.prepare(b"one", asked, [20]).status == ExecStatus.COMMAND_OK
        described = raw.describe_prepared(b"one")
        assert [described.param_type(number) for number in range(described.nparams)] == [20, 25]
        assert raw.exec_prepared(b"one", [b"1", None]).status == ExecStatus.COMMAND_OK
        for send, said in (
            (lambda: raw.exec_prepared(b"one", [b"1"]), "supplies 1 parameters, but prepared"),
            (lambda: raw.exec_(asked), "there is no parameter $2"),
            (lambda: raw.prepare(b"", b"SHOW POOLS $1"), "take no parameters"),
            (lambda: raw.prepare(b"", asked.replace(b"$2", b"$70000")), "no parameter $70000"),
        ):
            assert said in send().get_error_message()
