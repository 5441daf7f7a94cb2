"""What an operator does while 64 clients are at work: nobody gets an error by it."""

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, PostgresCluster

CLIENTS = 64
PAUSES = 20
LIMIT_S = 60.0


def pgbench(weir: Pgweir, nodes: PostgresCluster, seconds: int) -> None:
    """64 clients that read, and write in transactions, for so long; every one without an error."""
    done = subprocess.run(
        [
            str(nodes.primary.pgbench),
            *("-n", "-b", "select-only@3", "-b", "simple-update@1"),
            *("-c", str(CLIENTS), "-j", "2", "-T", str(seconds), "-M", "extended"),
            weir.dsn(),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds + LIMIT_S,
    )
    assert (done.returncode, "number of failed transactions: 0 " in done.stdout) == (0, True), (
        done.stdout[-2000:] + done.stderr[-2000:]
    )
    assert "error" not in done.stderr.lower(), done.stderr[-2000:]


@contextlib.contextmanager
def under_load(weir: Pgweir, nodes: PostgresCluster) -> Iterator[Future[None]]:
    """As many runs as there is time for; each must be without an error."""
    ending = threading.Event()

    def work() -> None:
        while not ending.is_set():
            pgbench(weir, nodes, 3)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            weir.wait_until(
                lambda: working.done() or weir.metric("pgweir_client_connections") >= CLIENTS,
                LIMIT_S,
            )
            yield working
        finally:
            ending.set()
        working.result()


def console(weir: Pgweir) -> psycopg.Connection[Any]:
    return psycopg.connect(weir.dsn(database="pgweir"), autocommit=True)


def site_of(nodes: PostgresCluster, number: int) -> dict[str, Any]:
    """A configuration, another one for each number in most that a reload may change."""
    declared = [
        {
            "name": f"db{index}",
            "host": node.host,
            "port": node.port,
            "weight": 1 + number * index % 3,
        }
        for index, node in enumerate(nodes.nodes, 1)
    ]
    if number % 5 == 4:
        # A replica is taken out, and comes back with the next one.
        declared.pop()
    rules = [
        {"name": f"rule{number}", "match": {"application_name": f"app{number}"}, "to": "replica"},
        {"match": {"user": APP.name, "query": f"^select {number}"}, "to": "primary"},
    ]
    return configuration(
        nodes.primary,
        clusters={"main": {"nodes": declared}},
        auth={
            "admins": [APP.name],
            "users": {
                APP.name: {"password": APP.password},
                f"user{number}": {"password": f"password{number}", "pool_size": 1 + number % 3},
            },
        },
        databases={DATABASE: {"pool_size": 4 + number % 9, "read_write_split": True}},
        limits={"reserve_pool_size": number % 2, "server_lifetime": 3600 + number},
        routes=rules[: number % 3],
        log={"level": ("info", "warning", "error")[number % 3]},
    )


@pytest.mark.slow
# All kinds of changes are among the first fifteen.
@pytest.mark.parametrize(("workers", "reloads"), [(1, 100), (2, 15)])
def test_reloads_that_change_all_kinds_of_things(
    pg_replicated: PostgresCluster, tmp_path: Path, workers: int, reloads: int
) -> None:
    file = tmp_path / "site.yaml"

    def write(number: int) -> None:
        file.write_text(yaml.safe_dump({**site_of(pg_replicated, number), "workers": workers}))

    write(0)
    with running(file, tmp_path) as weir, console(weir) as admin:
        notices: list[str] = []
        admin.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        with under_load(weir, pg_replicated) as working:
            for number in range(1, reloads + 1):
                assert not working.done(), working.exception()
                write(number)
                admin.execute("RELOAD")
        assert len(notices) == reloads
        assert all(notice.startswith("changed: ") for notice in notices)
        dsn = weir.dsn(user=f"user{reloads}", password=f"password{reloads}", database="pgweir")
        with pytest.raises(psycopg.OperationalError, match="not allowed to use the console"):
            psycopg.connect(dsn)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_pauses_hold_everybody_back_and_fail_nobody(
    pg_replicated: PostgresCluster, tmp_path: Path, workers: int
) -> None:
    config = {**site_of(pg_replicated, 0), "workers": workers}
    with (
        running(config, tmp_path) as weir,
        console(weir) as admin,
        under_load(weir, pg_replicated) as working,
    ):
        for _ in range(PAUSES):
            assert not working.done(), working.exception()
            admin.execute("PAUSE")
            assert admin.execute("SHOW SERVERS").fetchall() == []
            admin.execute("RESUME")


@pytest.mark.parametrize("workers", [1, 2])
def test_every_transaction_that_began_finishes_when_it_is_told_to_end(
    pg_replicated: PostgresCluster, tmp_path: Path, workers: int
) -> None:
    nodes = pg_replicated
    config = {**site_of(nodes, 0), "workers": workers}
    nodes.primary.execute("DROP TABLE IF EXISTS finished")
    nodes.primary.execute("CREATE TABLE finished (client int, number int)")
    nodes.primary.execute(f"ALTER TABLE finished OWNER TO {APP.name}")
    told: list[list[int]] = [[] for _ in range(CLIENTS)]
    broken: list[str] = []

    def work(weir: Pgweir, client: int, is_in: threading.Barrier) -> None:
        number = 0
        with (
            contextlib.suppress(psycopg.OperationalError),
            psycopg.connect(weir.dsn(), autocommit=True) as connection,
        ):
            is_in.wait(LIMIT_S)
            while True:
                number += 1
                # Who is sent away is so here, before a transaction has begun.
                connection.execute("BEGIN")
                began = False
                try:
                    for _ in range(3):
                        connection.execute("INSERT INTO finished VALUES (%s, %s)", (client, number))
                        began = True
                    connection.execute("COMMIT")
                except psycopg.Error as failed:
                    if began:
                        broken.append(f"{client}/{number}: {failed}")
                    raise
                told[client].append(number)

    with running(config, tmp_path, ends_itself=True) as weir:
        is_in = threading.Barrier(CLIENTS + 1)
        threads = [
            threading.Thread(target=work, args=(weir, client, is_in)) for client in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        is_in.wait(LIMIT_S)
        weir.wait_until(lambda: all(len(numbers) >= 2 for numbers in told), LIMIT_S)
        weir.send(signal.SIGTERM)
        for thread in threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive()
        assert weir.process.wait(20) == 0
    assert broken == []
    rows = nodes.primary.fetch("SELECT client, number, count(*) FROM finished GROUP BY 1, 2")
    written: dict[int, list[int]] = {client: [] for client in range(CLIENTS)}
    for client, number, count in rows:
        assert count == 3
        written[client].append(number)
    assert {client: sorted(numbers) for client, numbers in written.items()} == dict(enumerate(told))
    nodes.primary.execute("DROP TABLE finished")
