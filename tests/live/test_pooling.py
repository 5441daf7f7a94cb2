"""Who has which server connection, and for how long."""

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg import pq

from tests.faults.raw_client import (
    FLUSH,
    SYNC,
    RawClient,
    bind,
    execute,
    parse,
    query,
    startup,
)
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, PLAIN_USER, Postgres, PostgresCluster

StartPgweir = Callable[..., Pgweir]

OPEN_DOOR = {
    "auth": {"method": "trust", "users": {PLAIN_USER.name: {"password": "plain-password"}}}
}


@pytest.fixture
def start(pg18: Postgres, start_pgweir: StartPgweir) -> StartPgweir:
    """Start a proxy that asks for no password; the named limits hold for its database."""

    def start_open(**limits: object) -> Pgweir:
        database = {"pool_size": 1, **limits}
        return start_pgweir(pg18, **OPEN_DOOR, databases={DATABASE: database})

    return start_open


@pytest.fixture(scope="module")
def pool_of_one(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    config = configuration(pg18, **OPEN_DOOR, databases={DATABASE: {"pool_size": 1}})
    with running(config, tmp_path_factory.mktemp("one")) as weir:
        yield weir


@pytest.fixture
def weir(pool_of_one: Pgweir) -> Iterator[Pgweir]:
    """One proxy for all that need no other: it asks for no password, and nobody is there."""
    yield pool_of_one
    pool_of_one.wait_until(lambda: pool_of_one.metric("pgweir_client_connections") == 0)
    pool_of_one.wait_until(lambda: active(pool_of_one) == 0)


def login(weir: Pgweir, user: str = APP.name) -> RawClient:
    return RawClient.logged_in(weir.port, user, DATABASE)


def active(weir: Pgweir) -> float:
    return weir.metric("pgweir_server_connections", state="active")


def waiting(weir: Pgweir) -> float:
    return weir.metric("pgweir_client_connections", state="waiting")


def servers(weir: Pgweir) -> float:
    return weir.metric("pgweir_server_connections", database=DATABASE)


def rows(client: RawClient) -> list[list[bytes | None]]:
    return [each.columns for each in client.read_until(b"Z") if each.kind == b"D"]


# --- modes ---------------------------------------------------------------------------------------


def test_in_transaction_mode_a_server_is_given_back_after_each_statement(
    weir: Pgweir,
) -> None:
    with login(weir) as one, login(weir) as two:
        assert one.value("SELECT pg_backend_pid()") == two.value("SELECT pg_backend_pid()")
        assert active(weir) == 0


def test_in_transaction_mode_a_server_is_kept_while_a_transaction_is_open(
    weir: Pgweir,
) -> None:
    with login(weir) as one, login(weir) as two:
        one.ask("BEGIN")
        one.value("SELECT 1")
        two.send(query("SELECT 'two'"))
        weir.wait_until(lambda: waiting(weir) == 1)
        assert one.value("SELECT 'still one'") == "still one"
        one.ask("COMMIT")
        assert rows(two) == [[b"two"]]


def test_in_transaction_mode_a_server_is_kept_while_a_transaction_is_failed(
    weir: Pgweir,
) -> None:
    with login(weir) as one:
        one.ask("BEGIN")
        assert one.error("SELECT 1/0") == "22012"
        assert active(weir) == 1
        one.ask("ROLLBACK")
        assert active(weir) == 0


def test_in_transaction_mode_a_server_is_kept_until_the_sync(weir: Pgweir) -> None:
    with login(weir) as one, login(weir) as two:
        one.value("SELECT 1")
        one.send(parse("", "SELECT 'one'") + bind("", "") + execute())
        weir.wait_until(lambda: active(weir) == 1)
        two.send(query("SELECT 'two'"))
        weir.wait_until(lambda: waiting(weir) == 1)
        one.send(SYNC)
        assert rows(one) == [[b"one"]]
        assert rows(two) == [[b"two"]]


@pytest.mark.parametrize("flush", [b"", FLUSH], ids=["", "flushed"])
@pytest.mark.parametrize("sql", ["SELECT 2", "DEALLOCATE mine"])
def test_a_server_whose_unit_a_query_interrupts_goes_to_nobody_else(
    start: StartPgweir, sql: str, flush: bytes
) -> None:
    """PostgreSQL 18 answers the next statement with an error, "unexpected state STARTED"."""
    weir = start(pool_size=1)
    with login(weir) as one, login(weir) as two:
        one.send(parse("mine", "SELECT 1") + SYNC)
        one.read_until(b"Z")
        one.send(bind("", "mine") + execute() + flush + query(sql) + SYNC)
        for _ in range(2):
            one.read_until(b"Z")
        assert two.value("SELECT 'well'") == "well"


def test_in_session_mode_a_server_is_kept_until_the_client_leaves(start: StartPgweir) -> None:
    weir = start(pool_mode="session")
    with login(weir) as two:
        with login(weir) as one:
            one.value("SELECT 1")
            two.send(query("SELECT 'two'"))
            weir.wait_until(lambda: waiting(weir) == 1)
            assert one.value("SELECT 'still one'") == "still one"
        assert rows(two) == [[b"two"]]


def test_in_session_mode_nothing_of_a_session_is_left_to_the_next(start: StartPgweir) -> None:
    weir = start(pool_mode="session")
    with login(weir) as one:
        pid = one.value("SELECT pg_backend_pid()")
        one.ask("CREATE TEMP TABLE left_behind ()")
        one.ask("SET work_mem = '7MB'")
        one.ask("PREPARE left AS SELECT 1")
        one.ask("LISTEN left")
        one.ask("SELECT pg_advisory_lock(815)")
    with login(weir) as two:
        assert two.value("SELECT pg_backend_pid()") == pid
        assert two.value("SELECT to_regclass('left_behind') IS NULL") == "t"
        assert two.value("SHOW work_mem") != "7MB"
        assert two.value("SELECT count(*) FROM pg_prepared_statements") == "0"
        assert two.value("SELECT count(*) FROM pg_listening_channels()") == "0"
        sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 815"
        assert two.value(sql) == "0"


@pytest.mark.parametrize(
    "begin", ["BEGIN", "START TRANSACTION", "begin isolation level serializable"]
)
def test_in_statement_mode_a_transaction_is_refused(start: StartPgweir, begin: str) -> None:
    weir = start(pool_mode="statement")
    with login(weir) as one:
        assert one.error(begin) == "0A000"
        assert one.value("SELECT 'on'") == "on"


def test_in_statement_mode_a_hidden_transaction_ends_the_connection(start: StartPgweir) -> None:
    weir = start(pool_mode="statement")
    with login(weir) as one, login(weir) as two:
        one.send(query("/* hidden */ BEGIN"))
        *_, last = one.read_to_end()
        assert last.fields["C"] == "0A000"
        assert two.value("SELECT pg_current_xact_id_if_assigned() IS NULL") == "t"
        weir.wait_until(lambda: active(weir) == 0)


def test_a_mode_may_be_set_for_one_user(pg18: Postgres, start_pgweir: StartPgweir) -> None:
    users = {PLAIN_USER.name: {"password": PLAIN_USER.password, "pool_mode": "session"}}
    weir = start_pgweir(pg18, auth={"method": "trust", "users": users})
    with login(weir) as shared, login(weir, PLAIN_USER.name) as own:
        shared.value("SELECT 1")
        own.value("SELECT 1")
        assert weir.metric("pgweir_server_connections", state="active", user=APP.name) == 0
        assert weir.metric("pgweir_server_connections", state="active", user=PLAIN_USER.name) == 1


def test_users_do_not_share_servers(weir: Pgweir) -> None:
    with login(weir) as one, login(weir, PLAIN_USER.name) as two:
        assert one.value("SELECT current_user") == APP.name
        assert two.value("SELECT current_user") == PLAIN_USER.name


# --- BEGIN alone ---------------------------------------------------------------------------------


def test_a_begin_alone_takes_no_server(weir: Pgweir) -> None:
    with login(weir) as one, login(weir) as two:
        assert one.ask("BEGIN")[-1].body == b"T"
        assert active(weir) == 0
        assert two.value("SELECT 'two'") == "two"


@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK", "END", "ABORT"])
def test_a_begin_with_nothing_behind_it_never_takes_a_server(weir: Pgweir, ending: str) -> None:
    with login(weir) as one:
        one.ask("BEGIN")
        before = weir.metric("pgweir_queries_total")
        replies = one.ask(ending)
        tag = b"ROLLBACK\0" if ending in ("ROLLBACK", "ABORT") else b"COMMIT\0"
        assert [(each.kind, each.body) for each in replies] == [(b"C", tag), (b"Z", b"I")]
        assert weir.metric("pgweir_queries_total") == before
        assert active(weir) == 0


def test_a_begin_of_the_extended_protocol_takes_no_server(weir: Pgweir) -> None:
    with login(weir) as one:
        one.send(parse("", "BEGIN") + bind("", "") + execute() + SYNC)
        assert one.read_until(b"Z")[-1].body == b"T"
        assert active(weir) == 0


def test_a_begins_modes_arrive_with_the_first_statement(weir: Pgweir) -> None:
    with login(weir) as one:
        one.ask("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE")
        assert one.value("SHOW transaction_isolation") == "serializable"
        assert one.value("SHOW transaction_read_only") == "on"
        assert one.value("SHOW transaction_deferrable") == "on"
        one.ask("COMMIT")


# --- waiting -------------------------------------------------------------------------------------


def test_waiting_clients_are_served_first_come_first_served(weir: Pgweir) -> None:
    pg = contextlib.ExitStack()
    with pg:
        holder = pg.enter_context(login(weir))
        others = [pg.enter_context(login(weir)) for _ in range(6)]
        holder.ask("CREATE SEQUENCE turn")
        pg.callback(holder.ask, "DROP SEQUENCE turn")
        holder.ask("BEGIN")
        holder.ask("SELECT 1")
        for number, each in enumerate(others, 1):
            each.send(query("SELECT nextval('turn')"))
            weir.wait_until(lambda number=number: waiting(weir) == number)  # type: ignore[misc]
        holder.ask("COMMIT")
        assert [rows(each)[0][0] for each in others] == [b"1", b"2", b"3", b"4", b"5", b"6"]


def test_a_busy_client_does_not_overtake_those_who_wait(weir: Pgweir) -> None:
    with login(weir) as busy, login(weir) as patient:
        busy.send(query("SELECT pg_sleep(0.3)") + query("SELECT 'again'") * 3)
        weir.wait_until(lambda: active(weir) == 1)
        patient.send(query("SELECT clock_timestamp()::text"))
        for _ in range(4):
            busy.read_until(b"Z")
        later = busy.value("SELECT clock_timestamp()::text")
        assert (rows(patient)[0][0] or b"").decode() < later


def test_waiting_longer_than_query_wait_timeout_costs_one_error(start: StartPgweir) -> None:
    weir = start(query_wait_timeout="300ms")
    with login(weir) as holder, login(weir) as other:
        holder.ask("BEGIN")
        holder.value("SELECT 1")
        replies = other.ask("SELECT 'in vain'")
        assert [each.fields["C"] for each in replies if each.kind == b"E"] == ["08001"]
        assert replies[-1].body == b"I"
        holder.ask("COMMIT")
        assert other.value("SELECT 'again'") == "again"


def test_waiting_in_vain_with_the_extended_protocol_costs_one_error(start: StartPgweir) -> None:
    weir = start(query_wait_timeout="300ms")
    with login(weir) as holder, login(weir) as other:
        holder.ask("BEGIN")
        holder.value("SELECT 1")
        other.send(parse("", "SELECT 1") + bind("", "") + execute() + SYNC)
        assert [each.kind for each in other.read_until(b"Z")] == [b"E", b"Z"]
        holder.ask("COMMIT")
        assert other.value("SELECT 'again'") == "again"


def test_waiting_in_vain_inside_a_transaction_fails_the_transaction(start: StartPgweir) -> None:
    weir = start(query_wait_timeout="300ms")
    with login(weir) as holder, login(weir) as other:
        holder.ask("BEGIN")
        holder.value("SELECT 1")
        other.ask("BEGIN")
        replies = other.ask("SELECT 'in vain'")
        assert [each.fields["C"] for each in replies if each.kind == b"E"] == ["08001"]
        assert replies[-1].body == b"E"
        assert other.ask("COMMIT")[0].body == b"ROLLBACK\0"
        holder.ask("COMMIT")
        assert other.value("SELECT 'again'") == "again"


def test_a_client_that_leaves_while_it_waits_costs_the_others_nothing(weir: Pgweir) -> None:
    with login(weir) as holder, login(weir) as other:
        holder.ask("BEGIN")
        holder.value("SELECT 1")
        gone = login(weir)
        gone.send(query("SELECT 'gone'"))
        weir.wait_until(lambda: waiting(weir) == 1)
        other.send(query("SELECT 'other'"))
        weir.wait_until(lambda: waiting(weir) == 2)
        gone.reset()
        weir.wait_until(lambda: waiting(weir) == 1)
        holder.ask("COMMIT")
        assert rows(other) == [[b"other"]]


# --- sizes and times -----------------------------------------------------------------------------


def test_a_pool_never_has_more_servers_than_its_size(start: StartPgweir) -> None:
    weir = start(pool_size=3)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(login(weir)) for _ in range(20)]
        for each in clients:
            each.send(query("SELECT pg_backend_pid(), pg_sleep(0.1)"))
        weir.wait_until(lambda: waiting(weir) > 0)
        assert servers(weir) <= 3
        assert len({rows(each)[0][0] for each in clients}) == 3


def test_min_pool_size_servers_are_kept_ready(start: StartPgweir) -> None:
    weir = start(pool_size=5, min_pool_size=3, server_idle_timeout="100ms")
    with login(weir):
        weir.wait_until(lambda: servers(weir) == 3)
        threading.Event().wait(1.5)  # longer than the idle timeout and a tidying
        assert servers(weir) == 3


def test_a_server_unused_for_server_idle_timeout_is_closed(start: StartPgweir) -> None:
    weir = start(server_idle_timeout="200ms")
    with login(weir) as one:
        pid = one.value("SELECT pg_backend_pid()")
        weir.wait_until(lambda: servers(weir) == 0)
        assert one.value("SELECT pg_backend_pid()") != pid


def test_a_server_older_than_server_lifetime_is_replaced(start: StartPgweir) -> None:
    weir = start(server_lifetime="500ms")
    with login(weir) as one:
        pid = one.value("SELECT pg_backend_pid()")
        weir.wait_until(lambda: one.value("SELECT pg_backend_pid()") != pid)


def test_a_server_that_is_never_idle_is_replaced_after_its_lifetime(start: StartPgweir) -> None:
    weir = start(server_lifetime="500ms")
    pids: set[str] = set()
    until = time.monotonic() + 3

    def work() -> None:
        with login(weir) as client:
            while time.monotonic() < until:
                pids.add(client.value("SELECT pg_backend_pid(), pg_sleep(0.01)"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(pids) > 1


def test_with_a_lifetime_of_0_each_server_is_used_once(start: StartPgweir) -> None:
    weir = start(server_lifetime=0)
    with login(weir) as one:
        assert one.value("SELECT pg_backend_pid()") != one.value("SELECT pg_backend_pid()")


def test_a_server_that_does_not_answer_within_server_connect_timeout_counts_as_unreachable(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:

        class Silent:
            host, port = "127.0.0.1", silent.getsockname()[1]

        limits = {"server_connect_timeout": "200ms", "query_wait_timeout": "1s"}
        weir = start_pgweir(pg18, Silent(), **OPEN_DOOR, limits=limits)
        with login(weir) as one:
            assert one.value("SELECT 'from the one that answers'")


def test_max_client_conn_refuses_the_next_client(start_pgweir: StartPgweir, pg18: Postgres) -> None:
    weir = start_pgweir(pg18, **OPEN_DOOR, listen={"max_client_conn": 2})
    with login(weir), login(weir), RawClient(weir.port) as third:
        third.send(startup(user=APP.name, database=DATABASE))
        *_, last = third.read_to_end()
        assert last.fields["C"] == "53300"
    weir.wait_until(lambda: weir.metric("pgweir_client_connections") == 0)
    with login(weir) as again:
        assert again.value("SELECT 'in'") == "in"


def test_max_client_conn_holds_when_clients_come_at_the_same_moment(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    weir = start_pgweir(pg18, listen={"max_client_conn": 3})  # SCRAM: logins overlap
    found: list[psycopg.Connection[tuple[object, ...]]] = []
    refused: list[str | None] = []
    gate = threading.Barrier(12)

    def come() -> None:
        gate.wait()
        try:
            found.append(psycopg.connect(weir.dsn()))
        except psycopg.OperationalError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=come) for _ in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    try:
        assert (len(found), len(refused)) == (3, 9)
    finally:
        for each_found in found:
            each_found.close()


def test_many_clients_with_the_same_startup_settings_do_not_flood_the_server(
    start: StartPgweir, pg18: Postgres
) -> None:
    """What a server makes of a combination is asked once, not once per client that comes."""
    weir = start(pool_size=2)
    with login(weir):
        pass
    before = weir.metric("pgweir_server_connects_total")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(weir.port)) for _ in range(40)]
        for each in clients:
            each.send(startup(user=APP.name, database=DATABASE, options="-c extra_float_digits=3"))
        for each in clients:
            each.read_until(b"Z")
    assert weir.metric("pgweir_server_connects_total") - before <= 4


# --- what a session leaves behind ----------------------------------------------------------------


LEFT_BEHIND = {
    "set": ("SET statement_timeout = '77s'", "SHOW statement_timeout", "1min17s"),
    "set_in_a_transaction": (
        "BEGIN; SET statement_timeout = '77s'; COMMIT",
        "SHOW statement_timeout",
        "1min17s",
    ),
    "set_role": ("SET ROLE pg_read_all_data", "SELECT current_user", "pg_read_all_data"),
    "prepare": ("PREPARE mine AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements", "1"),
    "listen": ("LISTEN mine", "SELECT count(*) FROM pg_listening_channels()", "1"),
    "set_search_path": ("SET search_path = nowhere", "SHOW search_path", "nowhere"),
    "set_time_zone": ("SET TIME ZONE 'Asia/Tokyo'", "SHOW timezone", "Asia/Tokyo"),
}


@pytest.mark.parametrize(
    ("done", "question", "leaked"), LEFT_BEHIND.values(), ids=LEFT_BEHIND.keys()
)
def test_what_one_client_sets_is_not_seen_by_the_next(
    weir: Pgweir, pg18: Postgres, done: str, question: str, leaked: str
) -> None:
    pg18.execute(f"GRANT pg_read_all_data TO {APP.name}")
    with login(weir) as one, login(weir) as two:
        replies = one.ask(done)
        assert [each.fields for each in replies if each.kind == b"E"] == []
        assert two.value(question) != leaked


@pytest.mark.parametrize("name", ["TimeZone", "DateStyle", "application_name", "client_encoding"])
def test_what_the_server_reports_follows_its_client(weir: Pgweir, name: str) -> None:
    values = {
        "TimeZone": "Asia/Tokyo",
        "DateStyle": "SQL, DMY",
        "application_name": "it's \\ mine",
        "client_encoding": "LATIN1",
    }
    with login(weir) as one, login(weir) as two:
        one.ask("SET " + name + " TO '" + values[name].replace("'", "''") + "'")
        assert two.value(f"SHOW {name}") != values[name]
        assert one.value(f"SHOW {name}") == values[name]


# --- clients that vanish, servers that are not there ---------------------------------------------


def test_a_client_that_vanishes_in_a_query_has_it_cancelled(
    start: StartPgweir, pg18: Postgres
) -> None:
    weir = start()
    gone = login(weir)
    gone.send(query("SELECT pg_sleep(60), 'vanishing'"))
    running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1"
    weir.wait_until(lambda: pg18.value(running, "%60), 'vanishing'") == 1)
    gone.reset()
    weir.wait_until(lambda: pg18.value(running, "%60), 'vanishing'") == 0)
    with login(weir) as next_one:
        assert next_one.value("SELECT 'clean'") == "clean"


def test_a_client_that_vanishes_in_a_transaction_has_it_rolled_back(
    start: StartPgweir, pg18: Postgres
) -> None:
    pg18.execute("CREATE TABLE IF NOT EXISTS vanished (a int); GRANT ALL ON vanished TO app")
    weir = start()
    gone = login(weir)
    gone.ask("BEGIN")
    gone.ask("INSERT INTO vanished VALUES (1)")
    gone.reset()
    with login(weir) as next_one:
        assert next_one.value("SELECT count(*) FROM vanished") == "0"
        assert next_one.value("SELECT pg_current_xact_id_if_assigned() IS NULL") == "t"


def test_a_client_that_vanishes_in_a_copy_leaves_no_rows(
    start: StartPgweir, pg18: Postgres
) -> None:
    pg18.execute("CREATE TABLE IF NOT EXISTS vanished (a int); GRANT ALL ON vanished TO app")
    weir = start()
    gone = login(weir)
    gone.send(query("COPY vanished FROM STDIN"))
    gone.read_until(b"G")
    gone.send(b"d\0\0\0\x061\n")
    gone.reset()
    with login(weir) as next_one:
        assert next_one.value("SELECT count(*) FROM vanished") == "0"


def test_a_polite_end_behind_a_query_lets_it_finish(start: StartPgweir, pg18: Postgres) -> None:
    pg18.execute("CREATE TABLE IF NOT EXISTS polite (a int); GRANT ALL ON polite TO app")
    pg18.execute("TRUNCATE polite")
    weir = start()
    with login(weir) as polite:
        polite.value("SELECT 1")
        polite.send(query("INSERT INTO polite SELECT 1 FROM pg_sleep(0.3)") + b"X\0\0\0\4")
    weir.wait_until(lambda: pg18.value("SELECT count(*) FROM polite") == 1)


def test_a_terminated_server_costs_its_client_one_error(start: StartPgweir, pg18: Postgres) -> None:
    weir = start()
    with login(weir) as one:
        one.ask("BEGIN")
        pid = int(one.value("SELECT pg_backend_pid()"))
        one.send(query("SELECT pg_sleep(60)"))
        pg18.fetch("SELECT pg_terminate_backend($1)", pid)
        replies = one.read_until(b"Z")
        assert [each.fields["C"] for each in replies if each.kind == b"E"] == ["08006"]
        assert replies[-1].body == b"E"
        assert one.ask("COMMIT")[0].body == b"ROLLBACK\0"
        assert one.value("SELECT 'on'") == "on"


def test_a_killed_primary_costs_one_error_and_the_client_goes_on_when_it_is_back(
    start_cluster: Callable[..., PostgresCluster], start_pgweir: StartPgweir
) -> None:
    node = start_cluster().primary
    weir = start_pgweir(node, **OPEN_DOOR)
    with login(weir) as idle, login(weir) as busy, login(weir) as open_one:
        idle.value("SELECT 1")
        open_one.ask("BEGIN")
        open_one.value("SELECT 1")
        busy.send(query("SELECT pg_sleep(60)"))
        weir.wait_until(lambda: active(weir) == 2)
        node.kill()
        assert [each.fields["C"] for each in busy.read_until(b"Z") if each.kind == b"E"] == [
            "08006"
        ]
        idle.send(query("SELECT 'waited'"))
        node.start()
        idle.socket.settimeout(30)
        assert rows(idle) == [[b"waited"]]
        assert open_one.error("SELECT 2") == "08006"
        open_one.ask("ROLLBACK")
        assert open_one.value("SELECT 'on'") == "on"


def test_clients_that_come_before_a_primary_is_known_are_served_once_it_is(
    start_cluster: Callable[..., PostgresCluster], start_pgweir: StartPgweir
) -> None:
    node = start_cluster().primary
    node.stop()
    weir = start_pgweir(node, **OPEN_DOOR)
    assert weir.http("/readyz")[0] == 503
    with RawClient(weir.port, timeout_s=30) as early:
        early.send(startup(user=APP.name, database=DATABASE) + query("SELECT 'served'"))
        node.start()
        early.read_until(b"Z")
        assert rows(early) == [[b"served"]]
    assert weir.http("/readyz")[0] == 200


def test_without_a_primary_a_login_fails_after_query_wait_timeout(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nothing:
        port = nothing.getsockname()[1]

    class Nothing:
        host = "127.0.0.1"

    Nothing.port = port  # type: ignore[attr-defined]
    weir = start_pgweir(Nothing(), **OPEN_DOOR, limits={"query_wait_timeout": "300ms"})
    with RawClient(weir.port) as client:
        client.send(startup(user=APP.name, database=DATABASE))
        *_, last = client.read_to_end()
        assert last.fields["C"] == "08001"


def test_a_write_without_a_primary_beside_replicas_is_refused_as_one(
    start_cluster: Callable[..., PostgresCluster], start_pgweir: StartPgweir
) -> None:
    cluster = start_cluster(replicas=1)
    weir = start_pgweir(*cluster.nodes, limits={"query_wait_timeout": "500ms"})
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        client.execute("CREATE TABLE noted (id int)")
        cluster.primary.stop()

        def refusal() -> str | None:
            with pytest.raises(psycopg.Error) as refused:
                client.execute("INSERT INTO noted VALUES (1)")
            return refused.value.sqlstate

        # Until the loss of the primary is certain it only does not answer.
        weir.wait_until(lambda: refusal() == "25006", 30)
        cluster.primary.start()
        weir.wait_until(lambda: weir.http("/readyz")[0] == 200, 30)
        assert client.execute("SELECT count(*) FROM noted").fetchone() == (0,)


def test_a_database_that_is_not_configured_does_not_exist(start: StartPgweir) -> None:
    weir = start()
    with RawClient(weir.port) as client:
        client.send(startup(user=APP.name, database="unknown"))
        *_, last = client.read_to_end()
        assert last.fields["C"] == "3D000"


def test_a_database_that_the_server_does_not_have_does_not_exist(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    weir = start_pgweir(pg18, **OPEN_DOOR, databases={"*": {"cluster": "main"}})
    with RawClient(weir.port) as client:
        client.send(startup(user=APP.name, database="unknown"))
        *_, last = client.read_to_end()
        assert last.fields["C"] == "3D000"


# --- the end -------------------------------------------------------------------------------------


@pytest.fixture
def stop_pgweir(pg18: Postgres, tmp_path: Path) -> Iterator[StartPgweir]:
    """Start a proxy that the test itself stops."""
    stack = contextlib.ExitStack()
    started: list[Pgweir] = []

    def start_to_stop(limits: Mapping[str, object] | None = None, **own: object) -> Pgweir:
        databases = {DATABASE: {"pool_size": 2, **own}}
        config = configuration(pg18, **OPEN_DOOR, databases=databases, limits=limits or {})
        started.append(stack.enter_context(running(config, tmp_path)))
        return started[-1]

    yield start_to_stop
    try:
        stack.close()
    except AssertionError as ended:
        # `running` expects its proxy to be there still.
        if not str(ended).startswith("it has died"):
            raise
    for weir in started:
        assert not [line for line in weir.log if "Traceback" in line or "a bug closed" in line]


def test_sigterm_lets_an_open_transaction_finish_and_dismisses_the_idle(
    stop_pgweir: Callable[..., Pgweir],
) -> None:
    weir = stop_pgweir()
    with login(weir) as idle, login(weir) as busy:
        busy.ask("BEGIN")
        busy.value("SELECT 1")
        weir.send(signal.SIGTERM)
        (goodbye,) = idle.read_to_end()
        assert goodbye.fields["C"] == "57P01"
        assert busy.value("SELECT 'still'") == "still"
        assert busy.ask("COMMIT")[0].body == b"COMMIT\0"
        (goodbye,) = busy.read_to_end()
        assert goodbye.fields["C"] == "57P01"
    assert weir.process.wait(10) == 0


def test_sigterm_accepts_nobody_any_more(stop_pgweir: Callable[..., Pgweir]) -> None:
    weir = stop_pgweir()
    with login(weir) as busy:
        busy.ask("BEGIN")
        busy.value("SELECT 1")
        weir.send(signal.SIGTERM)
        weir.wait_for_log("stopping")
        with pytest.raises((ConnectionRefusedError, ConnectionResetError, AssertionError)):
            login(weir)
        busy.ask("COMMIT")
    assert weir.process.wait(10) == 0


def test_sigterm_does_not_wait_for_idle_clients_of_session_mode(
    stop_pgweir: Callable[..., Pgweir],
) -> None:
    weir = stop_pgweir(pool_mode="session")
    with login(weir) as idle:
        idle.value("SELECT 1")
        weir.send(signal.SIGTERM)
        (goodbye,) = idle.read_to_end()
        assert goodbye.fields["C"] == "57P01"
    assert weir.process.wait(10) == 0


def test_sigterm_waits_for_shutdown_timeout_at_most(stop_pgweir: Callable[..., Pgweir]) -> None:
    weir = stop_pgweir(limits={"shutdown_timeout": "500ms"})
    with login(weir) as busy:
        busy.ask("BEGIN")
        busy.value("SELECT 1")
        weir.send(signal.SIGTERM)
        (goodbye,) = busy.read_to_end()
        assert goodbye.fields["C"] == "57P01"
    assert weir.process.wait(10) == 0


def test_sigint_ends_open_transactions_at_once(stop_pgweir: Callable[..., Pgweir]) -> None:
    weir = stop_pgweir()
    with login(weir) as busy:
        busy.ask("BEGIN")
        busy.value("SELECT 1")
        weir.send(signal.SIGINT)
        (goodbye,) = busy.read_to_end()
        assert goodbye.fields["C"] == "57P01"
    assert weir.process.wait(10) == 0


def test_sigint_in_the_middle_of_a_query_cancels_it(
    stop_pgweir: Callable[..., Pgweir], pg18: Postgres
) -> None:
    weir = stop_pgweir()
    running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1"
    with login(weir) as busy:
        busy.send(query("SELECT pg_sleep(60), 'interrupted'"))
        weir.wait_until(lambda: pg18.value(running, "%60), 'interrupted'") == 1)
        weir.send(signal.SIGINT)
        assert busy.read_to_end()[-1].fields["C"] == "57P01"
    assert weir.process.wait(10) == 0
    weir.wait_until(lambda: pg18.value(running, "%60), 'interrupted'") == 0)


def test_drivers_see_a_lost_transaction_as_failed(start: StartPgweir, pg18: Postgres) -> None:
    weir = start()
    with psycopg.connect(f"postgres://{APP.name}@127.0.0.1:{weir.port}/{DATABASE}") as connection:
        (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        pg18.fetch("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        assert connection.info.transaction_status == pq.TransactionStatus.INERROR
        connection.rollback()
        assert connection.execute("SELECT 1").fetchone() == (1,)
