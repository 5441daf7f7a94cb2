"""The console's columns beside those of a real PgBouncer, and of its documentation up to 1.25.

Debian's PgBouncer is older than the console we speak: what it has must be there, in its order, with
its types. What came later stands in `LATER`, with what was renamed.
"""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import psycopg
import pytest

from proxy.config import Config
from proxy.console.commands import COMMANDS
from tests.fixtures.console import ADMIN, Console
from tests.fixtures.pgweir import Pgweir

PGBOUNCER = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")

# Columns that PgBouncer has had since 1.19, by the one they stand behind, "" for the beginning.
# Source: PgBouncer's documentation ("usage") and changelog.
SOCKET_COLUMNS = {"database": ["replication"], "application_name": ["prepared_statements", "id"]}
LATER: dict[str, dict[str, list[str]]] = {
    "CLIENTS": SOCKET_COLUMNS,
    "SERVERS": SOCKET_COLUMNS,
    "SOCKETS": SOCKET_COLUMNS,
    "ACTIVE_SOCKETS": SOCKET_COLUMNS,
    "POOLS": {"pool_mode": ["load_balance_hosts"]},
    "STATS": {
        "database": ["total_server_assignment_count"],
        "total_wait_time": [
            "total_client_parse_count",
            "total_server_parse_count",
            "total_bind_count",
            "avg_server_assignment_count",
        ],
        "avg_wait_time": ["avg_client_parse_count", "avg_server_parse_count", "avg_bind_count"],
    },
    "STATS_TOTALS": {
        "database": ["server_assignment_count"],
        "wait_time": ["client_parse_count", "server_parse_count", "bind_count"],
    },
    "STATS_AVERAGES": {
        "database": ["server_assignment_count"],
        "wait_time": ["avg_client_parse_count", "avg_server_parse_count", "avg_bind_count"],
    },
    "DATABASES": {
        "reserve_pool_size": ["server_lifetime"],
        "pool_mode": ["load_balance_hosts"],
        "current_connections": ["max_client_connections", "current_client_connections"],
    },
    "USERS": {
        "name": ["pool_size", "reserve_pool_size"],
        "pool_mode": [
            "max_user_connections",
            "current_connections",
            "max_user_client_connections",
            "current_client_connections",
        ],
    },
}
RENAMED = {("DATABASES", "reserve_pool"): "reserve_pool_size"}
# Commands it has not at all.
NEW = {
    "PEERS": ["peer_id", "host", "port", "pool_size"],
    "PEER_POOLS": [
        "peer_id",
        "cl_active_cancel_req",
        "cl_waiting_cancel_req",
        "sv_active_cancel",
        "sv_login",
    ],
    "STATE": ["key", "value"],
}


class Bouncer:
    """A PgBouncer with nothing behind it, and its console."""

    def __init__(self, port: int) -> None:
        self.connection = psycopg.connect(
            f"host=127.0.0.1 port={port} user={ADMIN.name} dbname=pgbouncer", autocommit=True
        )

    def ask(self, text: str) -> psycopg.Cursor[tuple[object, ...]]:
        """Ask, in the only protocol it speaks."""
        return psycopg.ClientCursor(self.connection).execute(text.encode())

    def columns(self, what: str) -> list[tuple[str, int]]:
        description = self.ask(f"SHOW {what}").description
        assert description is not None
        return [(each.name, each.type_code) for each in description]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def bouncer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bouncer]:
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed")
    folder = tmp_path_factory.mktemp("bouncer")
    port = free_port()
    (folder / "users.txt").write_text(f'"{ADMIN.name}" ""\n')
    (folder / "pgbouncer.ini").write_text(
        "[databases]\ndemo = host=127.0.0.1 port=1\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        f"auth_file = {folder}/users.txt\nadmin_users = {ADMIN.name}\n"
    )
    command = [PGBOUNCER, "-q", str(folder / "pgbouncer.ini")]
    if getpass.getuser() == "root":
        # It does not run as root.
        for each in (folder, *folder.iterdir(), *folder.parents):
            if each.stat().st_uid == 0 and str(each).startswith("/tmp/"):
                each.chmod(each.stat().st_mode | 0o055 | (0o111 if each.is_dir() else 0))
        command[1:1] = ["-u", "nobody"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                bouncer = Bouncer(port)
                break
            except psycopg.OperationalError:
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield bouncer
        bouncer.connection.close()
    finally:
        process.kill()
        process.wait(20)
        if process.stderr is not None:
            process.stderr.close()


def expected(what: str, theirs: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Their columns with those that came later."""
    later = LATER.get(what, {})
    found = []
    for their_name, oid in theirs:
        name = RENAMED.get((what, their_name), their_name)
        found.append((name, oid))
        found += [(each, 0) for each in later.get(name, [])]
    return found


SHOWS = [
    *LATER,
    "TOTALS",
    "LISTS",
    "MEM",
    "VERSION",
    "CONFIG",
    "DNS_HOSTS",
    "DNS_ZONES",
]


@pytest.mark.parametrize("what", SHOWS)
def test_columns_begin_with_pgbouncers_in_its_order(bouncer: Bouncer, what: str) -> None:
    (command,) = (each for each in COMMANDS if each.name == f"SHOW {what}")
    ours = [(column.name, column.type.oid) for column in command.columns]
    wanted = expected(what, bouncer.columns(what))
    assert [name for name, _ in ours][: len(wanted)] == [name for name, _ in wanted]
    assert [
        (name, oid) for (name, oid), (_, known) in zip(ours, wanted, strict=False) if known
    ] == [(name, oid) for name, oid in wanted if oid]


@pytest.mark.parametrize("what", sorted(NEW))
def test_columns_of_newer_commands(what: str) -> None:
    (command,) = (each for each in COMMANDS if each.name == f"SHOW {what}")
    assert [column.name for column in command.columns] == NEW[what]


def test_lists_and_totals_have_its_rows(bouncer: Bouncer, console: Console) -> None:
    for what, key in (("LISTS", "list"), ("TOTALS", "name")):
        theirs = [row[0] for row in bouncer.ask(f"SHOW {what}").fetchall()]
        ours = [row[key] for row in console.show(what)]
        assert [each for each in ours if each in theirs] == theirs


def test_keys_that_both_have_are_called_the_same(bouncer: Bouncer, console: Console) -> None:
    theirs = {row[0]: row[3] for row in bouncer.ask("SHOW CONFIG").fetchall()}
    ours = {row["key"]: row["changeable"] for row in console.show("CONFIG")}
    both = {key for key in ours if "." not in key}
    newer = {
        "auth_dbname",
        "auth_ident_file",
        "cancel_wait_timeout",
        "max_db_client_connections",
        "max_prepared_statements",
        "max_user_client_connections",
        "query_wait_notify",
        "transaction_timeout",
    }
    assert both - newer - set(Config.model_fields) <= set(theirs)
    assert len(both & set(theirs)) > 40
    # Two that it does not change while it runs.
    for key in ("listen_addr", "listen_port"):
        assert (ours[key], theirs[key]) == ("no", "no")


WORDS = [
    "SHOW NONSENSE",
    "PAUSE nowhere",
    "PAUSE pgbouncer",
    "RESUME demo",
    "RESUME",
    "RESUME nowhere",
    "DISABLE",
    "DISABLE demo",
    "ENABLE demo",
    "RECONNECT",
    "WAIT_CLOSE",
    "PAUSE",
    "PAUSE",
    "PAUSE demo",
    "KILL demo",
    "SUSPEND",
    "RESUME",
    "PAUSE demo",
    "SUSPEND",
    "RESUME demo",
    "KILL demo",
    "RESUME demo",
    "SUSPEND",
    "RESUME",
    "RELOAD",
    "RELOAD demo",
    "SET client_encoding = 'x'",
    "SET default_pool_size = 7",
    "SET default_pool_size = '20'",
]


def test_commands_have_its_tags_and_its_words_when_they_fail(
    bouncer: Bouncer, manned: Pgweir
) -> None:
    """One after another, as each changes what the next one meets."""
    with psycopg.connect(
        manned.dsn(ADMIN.name, ADMIN.password, "pgbouncer"), autocommit=True
    ) as ours:
        for text in WORDS:
            theirs = outcome(bouncer.connection, text)
            assert outcome(ours, text) == theirs, text


def outcome(connection: psycopg.Connection[tuple[object, ...]], text: str) -> str:
    """The tag of a command, or the first words of its error."""
    try:
        return psycopg.ClientCursor(connection).execute(text.encode()).statusmessage or ""
    except psycopg.Error as error:
        return error.diag.message_primary or ""


def test_what_it_reports_at_login_is_the_same(bouncer: Bouncer, console: Console) -> None:
    ours = psycopg.connect(console.weir.dsn(ADMIN.name, ADMIN.password, "pgbouncer"))
    with contextlib.closing(ours):
        for name in (
            b"client_encoding",
            b"server_encoding",
            b"DateStyle",
            b"TimeZone",
            b"standard_conforming_strings",
            b"is_superuser",
        ):
            mine = ours.pgconn.parameter_status(name)
            assert mine == bouncer.connection.pgconn.parameter_status(name)
        version = ours.pgconn.parameter_status(b"server_version")
        assert version is not None and version.endswith(b"/bouncer")
