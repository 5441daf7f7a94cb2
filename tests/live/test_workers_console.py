"""Several processes, and one console: whoever answers, all of them are shown and steered."""

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.fixtures.pgweir import Pgweir, configuration, merged, running
from tests.fixtures.postgres import APP, Postgres
from tests.live.test_workers import children_of, worker_of

WORKERS = 2


def several(node: Postgres, **changes: Any) -> dict[str, Any]:
    config = configuration(
        node,
        workers=WORKERS,
        limits={"pool_size": 20},
        auth={"admins": [APP.name]},
        compat={"pgbouncer_metrics": True},
    )
    del config["databases"]["demo"]["pool_size"]
    return merged(config, changes)


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    with running(several(pg18), tmp_path_factory.mktemp("one-console")) as weir:
        yield weir


@contextlib.contextmanager
def one_in_each(weir: Pgweir) -> Iterator[list[psycopg.Connection[Any]]]:
    """A client in each process, by the process; nobody else."""
    with contextlib.ExitStack() as stack:
        found: dict[int, psycopg.Connection[Any]] = {}
        for _ in range(40):
            client = stack.enter_context(psycopg.connect(weir.dsn(), autocommit=True))
            if worker_of(client) in found:
                client.close()
            else:
                found[worker_of(client)] = client
            if len(found) == WORKERS:
                break
        weir.wait_until(lambda: weir.metric("pgweir_client_connections") == WORKERS)
        yield [found[index] for index in range(WORKERS)]


@pytest.fixture
def clients(weir: Pgweir) -> Iterator[list[psycopg.Connection[Any]]]:
    with one_in_each(weir) as clients:
        yield clients


@contextlib.contextmanager
def consoles(weir: Pgweir) -> Iterator[list[psycopg.Connection[Any]]]:
    """A visitor of each process's console."""
    with contextlib.ExitStack() as stack:
        found: dict[int, psycopg.Connection[Any]] = {}
        while len(found) < WORKERS:
            admin = psycopg.connect(weir.dsn(database="pgweir"), autocommit=True)
            if worker_of(admin) in found:
                admin.close()
            else:
                found[worker_of(admin)] = stack.enter_context(admin)
        yield [found[index] for index in range(WORKERS)]


def shown(admin: psycopg.Connection[Any], what: str) -> list[dict[str, Any]]:
    with admin.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"SHOW {what}").fetchall()


def test_connections_of_all_processes_are_listed(
    weir: Pgweir, clients: list[psycopg.Connection[Any]]
) -> None:
    for client in clients:
        client.execute("SELECT 1")
    with consoles(weir) as admins:
        for admin in admins:
            mine = [row for row in shown(admin, "CLIENTS") if row["database"] == "demo"]
            ports = {client.pgconn.socket for client in clients}
            assert len(mine) == len(ports) == WORKERS
            assert len({row["id"] for row in mine}) == WORKERS
            assert len({row["ptr"] for row in mine}) == WORKERS
            servers = shown(admin, "SERVERS")
            assert len(servers) >= WORKERS
            assert len({row["ptr"] for row in servers}) == len(servers)
            kinds = [row["type"] for row in shown(admin, "SOCKETS")]
            # Each visitor is a client as well.
            assert kinds.count("C") == 2 * WORKERS
            assert kinds.count("S") == len(servers)
            assert shown(admin, "ACTIVE_SOCKETS") is not None


def test_sums_are_those_of_all_processes(
    weir: Pgweir, clients: list[psycopg.Connection[Any]]
) -> None:
    with consoles(weir) as admins:
        before = [shown(admin, "STATS_TOTALS") for admin in admins]
        for client in clients:
            for _ in range(10):
                client.execute("SELECT 1")
        for admin, earlier in zip(admins, before, strict=True):
            (pool,) = [row for row in shown(admin, "POOLS") if row["database"] == "demo"]
            assert pool["cl_active"] + pool["cl_waiting"] == WORKERS
            (database,) = [row for row in shown(admin, "DATABASES") if row["name"] == "demo"]
            assert database["pool_size"] == 20
            assert database["current_client_connections"] == WORKERS
            assert database["current_connections"] == len(shown(admin, "SERVERS"))
            (user,) = [row for row in shown(admin, "USERS") if row["name"] == APP.name]
            assert user["current_client_connections"] == WORKERS
            lists = {row["list"]: row["items"] for row in shown(admin, "LISTS")}
            assert lists["used_clients"] == 2 * WORKERS
            # The console's database, and the visitors' pool, are there once.
            assert (lists["databases"], lists["pools"]) == (2, 2)
            totals = of_demo(shown(admin, "STATS_TOTALS"))
            assert totals["query_count"] - of_demo(earlier)["query_count"] == 10 * WORKERS
            stats = of_demo(shown(admin, "STATS"))
            assert stats["total_query_count"] == totals["query_count"]
            named = {row["name"]: row["value"] for row in shown(admin, "TOTALS")}
            assert named["total_query_count"] > totals["query_count"]
            memory = {row["name"]: row["used"] for row in shown(admin, "MEM")}
            assert memory["client_cache"] == 2 * WORKERS
            (node,) = shown(admin, "NODES")
            assert node["server_connections"] == len(shown(admin, "SERVERS"))


def of_demo(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return next(row for row in rows if row["database"] == "demo")


def test_pins_and_statements_of_all_processes_are_listed(
    weir: Pgweir, clients: list[psycopg.Connection[Any]]
) -> None:
    for index, client in enumerate(clients):
        client.execute("CREATE TEMP TABLE of_its_own (n int)")
        client.execute(f"SELECT {index} AS seen_in_each_process")
    with consoles(weir) as admins:
        for admin in admins:
            assert len(shown(admin, "PINS")) == WORKERS
            (found,) = [row for row in shown(admin, "QUERIES") if "seen_in_each" in row["query"]]
            assert found["calls"] == WORKERS
    status = status_of(weir)
    assert len(status["pins"]["clients"]) == WORKERS
    (query,) = [each for each in status["queries"] if "seen_in_each" in each["statement"]]
    assert query["calls"] == WORKERS
    for client in clients:
        client.execute("DISCARD ALL")


def status_of(weir: Pgweir) -> dict[str, Any]:
    with urlopen(f"http://127.0.0.1:{weir.http_port}/api/status", timeout=10) as answer:
        status: dict[str, Any] = json.load(answer)
        return status


def test_the_curves_are_of_all_processes(
    weir: Pgweir, clients: list[psycopg.Connection[Any]]
) -> None:
    def counted() -> float:
        return float(sum(point["queries"] for point in status_of(weir)["points"]))

    before = counted()
    for client in clients:
        for _ in range(100):
            client.execute("SELECT 2")
    # Rates, of spans that are about a second long.
    weir.wait_until(lambda: counted() - before > 150 * WORKERS / 2)
    for _ in range(4):
        assert status_of(weir)["clients"]["total"] == WORKERS
        # Of who has just begun there is no second yet that all have told of.
        weir.wait_until(
            lambda: any(point["clients"] == WORKERS for point in status_of(weir)["points"])
        )


def test_a_client_is_killed_in_whichever_process_it_is(weir: Pgweir) -> None:
    with consoles(weir) as admins, contextlib.suppress(psycopg.OperationalError):
        for admin in admins:
            with one_in_each(weir) as clients:
                for row in shown(admin, "CLIENTS"):
                    if row["database"] == "demo":
                        admin.execute(f"KILL_CLIENT {row['id']}")
                for client in clients:
                    with pytest.raises(psycopg.OperationalError):
                        client.execute("SELECT 1")
            weir.wait_until(lambda: weir.metric("pgweir_client_connections") == 0)
        for admin in admins:
            with pytest.raises(psycopg.errors.UndefinedObject):
                admin.execute("KILL_CLIENT 999998")
            with pytest.raises(psycopg.errors.UndefinedObject):
                admin.execute("KILL_CLIENT 999999")


def test_a_setting_holds_in_all_processes_until_a_reload(weir: Pgweir) -> None:
    with consoles(weir) as (first, second), one_in_each(weir) as clients:
        first.execute("SET query_timeout = 0.5")
        for client in clients:
            with pytest.raises(psycopg.errors.QueryCanceled):
                client.execute("SELECT pg_sleep(5)")
        first.execute("SET default_pool_size = 6")
        for admin in (first, second):
            config = {row["key"]: row["value"] for row in shown(admin, "CONFIG")}
            assert (config["query_timeout"], config["default_pool_size"]) == ("0.5", "6")
        # As many for all together, not for each.
        assert pool_sizes(weir) == 6
        second.execute("RELOAD")
        for client in clients:
            client.execute("SELECT pg_sleep(0.6)")
        for admin in (first, second):
            config = {row["key"]: row["value"] for row in shown(admin, "CONFIG")}
            assert (config["query_timeout"], config["default_pool_size"]) == ("0", "20")
        with pytest.raises(psycopg.Error):
            first.execute("SET query_timeout = 'soon'")


def pool_sizes(weir: Pgweir) -> int:
    pools = [pool for pool in status_of(weir)["pools"] if pool["database"] == "demo"]
    return sum(pool["size"] for pool in pools)


@pytest.mark.parametrize("told", range(WORKERS))
def test_holding_back_and_letting_in_are_of_all_processes(weir: Pgweir, told: int) -> None:
    with consoles(weir) as admins, one_in_each(weir) as clients:
        admin = admins[told]
        for hold in ("PAUSE", "PAUSE demo", "SUSPEND"):
            admin.execute(hold)
            asked = [
                threading.Thread(target=client.execute, args=["SELECT 1"]) for client in clients
            ]
            for thread in asked:
                thread.start()
            for thread in asked:
                thread.join(0.2)
                assert thread.is_alive()
            admin.execute("RESUME demo" if hold == "PAUSE demo" else "RESUME")
            for thread in asked:
                thread.join(20)
                assert not thread.is_alive()
        admin.execute("DISABLE demo")
        for _ in range(8):
            with pytest.raises(psycopg.OperationalError, match="not currently accepting"):
                psycopg.connect(weir.dsn())
        admin.execute("ENABLE demo")
        for _ in range(8):
            psycopg.connect(weir.dsn()).close()
        pids = [client.execute("SELECT pg_backend_pid()").fetchone() for client in clients]
        admin.execute("RECONNECT")
        admin.execute("WAIT_CLOSE")
        again = [client.execute("SELECT pg_backend_pid()").fetchone() for client in clients]
        assert not set(pids) & set(again)
        admin.execute("KILL demo")
        for client in clients:
            with pytest.raises(psycopg.OperationalError):
                client.execute("SELECT 1")
        admin.execute("RESUME demo")


def test_the_exporters_metrics_are_sums_as_well(
    weir: Pgweir, clients: list[psycopg.Connection[Any]]
) -> None:
    for client in clients:
        client.execute("SELECT 1")
    for _ in range(4):
        assert weir.metric("pgbouncer_used_clients") == WORKERS
        labels = {"database": "demo", "user": APP.name}
        active = weir.metric("pgbouncer_pools_client_active_connections", **labels)
        waiting = weir.metric("pgbouncer_pools_client_waiting_connections", **labels)
        assert active + waiting == WORKERS


@pytest.mark.parametrize(
    ("limit", "where"),
    [
        ("max_user_client_connections", {"limits": {"max_user_client_connections": 7}}),
        ("max_db_client_connections", {"limits": {"max_db_client_connections": 7}}),
        ("max_client_conn", {"listen": {"max_client_conn": 7}}),
    ],
)
def test_limits_on_clients_hold_for_all_processes_however_they_are_dealt_out(
    pg18: Postgres, tmp_path: Any, limit: str, where: dict[str, Any]
) -> None:
    refusals: list[str] = []

    def come(weir: Pgweir, clients: list[psycopg.Connection[Any]]) -> None:
        try:
            clients.append(psycopg.connect(weir.dsn(), autocommit=True))
        except psycopg.OperationalError as refused:
            refusals.append(str(refused))

    with running(several(pg18, **where), tmp_path) as weir, contextlib.ExitStack() as stack:
        for _ in range(2):
            clients: list[psycopg.Connection[Any]] = []
            refusals.clear()
            threads = [threading.Thread(target=come, args=(weir, clients)) for _ in range(24)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for client in clients:
                stack.callback(client.close)
            assert len(clients) == 7
            assert all(f"({limit})" in refusal for refusal in refusals)
            for client in clients:
                client.close()
            weir.wait_until(lambda: weir.metric("pgweir_client_connections") == 0)
        # What a process had that dies is free for others.
        with contextlib.ExitStack() as others:
            for _ in range(7):
                others.enter_context(psycopg.connect(weir.dsn()))
            since = len(weir.log)
            os.kill(children_of(weir)[0], signal.SIGKILL)
            weir.wait_for_log("is started anew", since=since)
        weir.wait_until(lambda: len(children_of(weir)) == WORKERS)
        weir.wait_until(lambda: weir.metric("pgweir_client_connections") == 0)
        again = [stack.enter_context(psycopg.connect(weir.dsn())) for _ in range(7)]
        assert len(again) == 7


def test_a_process_that_does_not_answer_is_said_to_be_missing(
    pg18: Postgres, tmp_path: Any
) -> None:
    with running(several(pg18), tmp_path) as weir, consoles(weir) as (admin, _):
        other = children_of(weir)[1]
        notices: list[str] = []
        admin.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        os.kill(other, signal.SIGSTOP)
        try:
            assert len(shown(admin, "CLIENTS")) == 1
            assert notices == ["processes that did not answer, and are missing here: 1"]
        finally:
            os.kill(other, signal.SIGCONT)


def test_a_process_that_is_started_anew_is_where_the_others_are(
    pg18: Postgres, tmp_path: Any
) -> None:
    with running(several(pg18), tmp_path) as weir:
        with consoles(weir) as (_, admin):
            admin.execute("SET query_timeout = 7")
            admin.execute("PAUSE demo")
            since = len(weir.log)
            os.kill(children_of(weir)[0], signal.SIGKILL)
            weir.wait_for_log("is started anew", since=since)
        weir.wait_until(lambda: len(children_of(weir)) == WORKERS)
        with consoles(weir) as admins:
            for admin in admins:
                config = {row["key"]: row["value"] for row in shown(admin, "CONFIG")}
                assert config["query_timeout"] == "7"
                (database,) = [row for row in shown(admin, "DATABASES") if row["name"] == "demo"]
                assert database["paused"] == 1
            admins[0].execute("RESUME demo")
        with one_in_each(weir) as clients:
            assert [client.execute("SELECT 1").fetchone() for client in clients] == [(1,)] * WORKERS


def test_all_processes_end_when_their_clients_have_left(pg18: Postgres, tmp_path: Any) -> None:
    # The fixture expects to end what it has started.
    with (
        pytest.raises(AssertionError, match="it has died"),
        running(several(pg18), tmp_path) as weir,
    ):
        with one_in_each(weir) as clients, consoles(weir) as (admin, _):
            admin.execute("SHUTDOWN WAIT_FOR_CLIENTS")
            for client in clients:
                assert client.execute("SELECT 1").fetchone() == (1,)
            assert weir.process.poll() is None
        assert weir.process.wait(20) == 0
