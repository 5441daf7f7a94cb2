"""The same ini for the real PgBouncer and for us: the same conversations, the same answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from select import select
from typing import Any

import psycopg
import pytest

from proxy.embedded import Login
from tests.fixtures.pgbouncer import (
    Door,
    free_port,
    needs_pgbouncer,
    open_folder,
    running_pgbouncer,
)
from tests.fixtures.pgweir import running
from tests.fixtures.postgres import APP, DATABASE, MD5_USER, SUPERUSER, Postgres

pytestmark = [needs_pgbouncer, pytest.mark.live]

USERLIST = f"""\
"{APP.name}" "{APP.password}"
"{MD5_USER.name}" "{MD5_USER.password}"
"""


@contextmanager
def both(node: Postgres, databases: str, settings: str = "") -> Iterator[tuple[Door, Door]]:
    """PgBouncer and pgweir with the same file; only the port is another one."""
    with open_folder() as folder:
        listed = "" if "only the one" in settings else USERLIST
        asker = f'"{node.superuser.name}" "{node.superuser.password}"\n'
        (folder / "userlist.txt").write_text(listed + asker)
        ports = free_port(), free_port()
        files = []
        for port in ports:
            file = folder / f"{port}.ini"
            file.write_text(
                "[databases]\n"
                + databases.replace("SERVER", f"host={node.host} port={node.port}")
                + f"\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
                f"unix_socket_dir =\nauth_file = {folder}/userlist.txt\n{settings}\n"
            )
            files.append(file)
        with running_pgbouncer(files[0], ports[0]) as real, running(files[1], folder):
            yield real, Door(ports[1])


Outcome = tuple[object, ...]
Conversation = Callable[[Door], Outcome]


def asking(sql: str, login: Login = APP, database: str = DATABASE, **options: Any) -> Conversation:
    """A conversation of one statement: its rows, or the error."""

    def ask(door: Door) -> Outcome:
        dsn = door.dsn(login.name, login.password, database)
        try:
            with psycopg.connect(dsn, autocommit=True, connect_timeout=10, **options) as client:
                return tuple(client.execute(sql).fetchall())
        except psycopg.Error:
            # Its SQLSTATE is PgBouncer's own invention where it has one at all.
            return ("refused",)

    return ask


def sharing(door: Door, database: str) -> Outcome:
    """Do two clients at the same time meet the same server connection?"""
    dsn = door.dsn(APP.name, APP.password, database)
    with psycopg.connect(dsn, autocommit=True) as one, psycopg.connect(dsn, autocommit=True) as two:
        pids = [
            client.execute("SELECT pg_backend_pid()").fetchone() for client in (one, two, one, two)
        ]
    return (len(set(pids)),)


def state_of_a_session(door: Door, database: str) -> Outcome:
    """What of a session is there for its client, and what for the next one."""
    dsn = door.dsn(APP.name, APP.password, database)
    with psycopg.connect(dsn, autocommit=True) as client:
        client.execute("SET work_mem = '5MB'")
        client.execute("CREATE TEMP TABLE mine (n int)")
        own = client.execute("SELECT current_setting('work_mem'), to_regclass('mine')::text")
        first = own.fetchone()
    with psycopg.connect(dsn, autocommit=True) as client:
        next_one = client.execute("SELECT current_setting('work_mem'), to_regclass('mine')::text")
        return first, next_one.fetchone()


def transaction_in_statement_mode(door: Door, database: str) -> Outcome:
    with psycopg.connect(door.dsn(APP.name, APP.password, database), autocommit=True) as client:
        try:
            client.execute("BEGIN")
            client.execute("SELECT 1")
        except psycopg.Error:
            return ("refused",)
        return ("let through",)


def third_client(door: Door) -> Outcome:
    dsn = door.dsn(APP.name, APP.password, DATABASE)
    with psycopg.connect(dsn), psycopg.connect(dsn):
        try:
            psycopg.connect(dsn, connect_timeout=10).close()
        except psycopg.OperationalError:
            return ("refused",)
        return ("let in",)


def long_statement(door: Door) -> Outcome:
    try:
        with psycopg.connect(door.dsn(APP.name, APP.password, DATABASE)) as client:
            client.execute("SELECT pg_sleep(20)")
    except psycopg.Error:
        return ("ended",)
    return ("ran",)


def idle_in_a_transaction(door: Door) -> Outcome:
    with psycopg.connect(door.dsn(APP.name, APP.password, DATABASE)) as client:
        client.execute("SELECT 1")
        client.pgconn.consume_input()
        assert select([client.fileno()], [], [], 15)[0]
        try:
            client.execute("SELECT 1")
        except psycopg.Error:
            return ("disconnected",)
        return ("kept",)


PLAIN = f"{DATABASE} = SERVER"
WRONG = Login(APP.name, "wrong")
STRANGER = Login("nobody_knows", "x")


def in_database(database: str, converse: Callable[[Door, str], Outcome]) -> Conversation:
    """A conversation in another database."""
    return lambda door: converse(door, database)


# What is in the file -> conversations that must go alike.
CASES: dict[str, tuple[str, str, list[Conversation]]] = {
    "databases of all kinds, with PgBouncer's defaults": (
        f"""{PLAIN}
transactions = SERVER dbname={DATABASE} pool_size=1 pool_mode=transaction
statements = SERVER dbname={DATABASE} pool_mode=statement
shop = SERVER dbname={DATABASE} timezone=Asia/Tokyo datestyle='SQL, DMY'
prepared = SERVER dbname={DATABASE} connect_query='SET geqo_threshold = 9'
forced = SERVER dbname={DATABASE} user={APP.name}
""",
        "ignore_startup_parameters = extra_float_digits, options",
        [
            asking("SELECT current_user, current_database()"),
            asking("SELECT 1", WRONG),
            asking("SELECT 1", STRANGER),
            asking("SELECT current_user", MD5_USER),
            asking("SELECT 1", database="no_such_database"),
            in_database(DATABASE, sharing),
            in_database(DATABASE, state_of_a_session),
            in_database("transactions", sharing),
            in_database("statements", transaction_in_statement_mode),
            asking("SELECT current_database(), current_setting('timezone')", database="shop"),
            asking("SHOW datestyle", database="shop"),
            asking("SHOW geqo_threshold", database="prepared"),
            asking("SELECT current_user", MD5_USER, "forced"),
            asking("SHOW extra_float_digits", options="-c extra_float_digits=3"),
            asking("SHOW client_encoding", client_encoding="LATIN1"),
        ],
    ),
    "plain passwords, and any database": (
        "* = SERVER",
        "auth_type = plain",
        [asking("SELECT current_user"), asking("SELECT 1", WRONG), asking("SELECT 1", STRANGER)],
    ),
    "trust": (
        PLAIN,
        "auth_type = trust",
        [asking("SELECT current_user"), asking("SELECT 1", STRANGER)],
    ),
    "any, with one user for all": (
        f"{PLAIN} user={APP.name} password={APP.password}",
        "auth_type = any",
        [asking("SELECT current_user", STRANGER), asking("SELECT current_user", WRONG)],
    ),
    "auth_query": (
        f"{PLAIN} auth_user={SUPERUSER}",
        "; only the one who asks is listed",
        [
            asking("SELECT current_user", MD5_USER),
            asking("SELECT 1", Login(MD5_USER.name, "wrong")),
            asking("SELECT 1", STRANGER),
        ],
    ),
    "limits and timeouts": (
        PLAIN,
        "auth_type = scram-sha-256\nmax_client_conn = 2\n"
        "query_timeout = 1\nidle_transaction_timeout = 1",
        [third_client, long_statement, idle_in_a_transaction, asking("SELECT 1", WRONG)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_file_answers_alike(case: str, pg18: Postgres) -> None:
    databases, settings, conversations = CASES[case]
    with both(pg18, databases, settings) as (real, ours):
        for number, converse in enumerate(conversations):
            assert converse(ours) == converse(real), number
