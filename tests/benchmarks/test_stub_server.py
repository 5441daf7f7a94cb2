"""The stub speaks the protocol well enough for drivers, poolers and pgweir's own probe."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest

from benchmarks.children import Children
from benchmarks.compiled import compiled
from proxy.cluster.question import FULL_QUESTION, read_answer
from proxy.embedded import free_port, is_port_free

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    with Children(tmp_path_factory.mktemp("stub")) as children:
        child = children.start("stub", [compiled("stub"), str(port)])
        deadline = time.monotonic() + 10
        while is_port_free(port):
            assert child.is_running and time.monotonic() < deadline, child.tail()
            time.sleep(0.01)
        yield port


@pytest.fixture
def connection(stub: int) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    where = f"host=127.0.0.1 port={stub} user=app dbname=bench sslmode=prefer"
    with contextlib.closing(psycopg.connect(where, autocommit=True)) as opened:
        yield opened


def test_a_simple_query_gets_one_row(connection):
    with psycopg.ClientCursor(connection) as cursor:
        assert cursor.execute("SELECT abalance FROM t WHERE aid = 1").fetchall() == [(0,)]


def test_a_parameter_is_accepted(connection):
    assert connection.execute("SELECT x FROM t WHERE a = %s", [1]).fetchall() == [(0,)]


def test_a_prepared_statement_is_run_again(connection):
    answers = [connection.execute("SELECT 1", prepare=True).fetchone() for _ in range(3)]
    assert answers == [(0,)] * 3


def test_a_pipeline_is_answered_in_order(connection):
    with connection.pipeline():
        cursors = [connection.execute(f"SELECT {number}") for number in range(50)]
    assert [cursor.fetchone() for cursor in cursors] == [(0,)] * 50


def test_begin_opens_a_transaction_and_commit_ends_it(connection):
    connection.execute("BEGIN")
    inside = connection.info.transaction_status
    connection.execute("COMMIT")
    outside = connection.info.transaction_status
    assert (inside, outside) == (
        psycopg.pq.TransactionStatus.INTRANS,
        psycopg.pq.TransactionStatus.IDLE,
    )


def test_a_reported_setting_is_reported_when_it_is_set(connection):
    # Poolers compare; without the report they would send SET before every transaction.
    connection.execute("SET application_name = 'me'")
    assert connection.info.parameter_status("application_name") == "me"


def test_a_setting_of_the_startup_packet_is_reported(stub: int):
    where = f"host=127.0.0.1 port={stub} user=app sslmode=disable application_name=early"
    with contextlib.closing(psycopg.connect(where)) as opened:
        assert opened.info.parameter_status("application_name") == "early"


def test_an_empty_statement_is_answered(connection):
    assert connection.execute("").description is None


@pytest.mark.parametrize(("statement", "rows"), [("bench_mb", 1024), ("bench_big_row", 1)])
@pytest.mark.parametrize("cursor_type", [psycopg.ClientCursor, psycopg.RawCursor])
def test_large_results_have_a_megabyte(connection, statement, rows, cursor_type):
    # ClientCursor uses the simple protocol, RawCursor the extended one.
    with cursor_type(connection) as cursor:
        values = cursor.execute(f"SELECT {statement}").fetchall()
    assert (len(values), sum(len(value) for (value,) in values)) == (rows, 1 << 20)


def test_a_statement_behind_a_large_result_is_answered(connection):
    with connection.pipeline():
        large = connection.execute("SELECT bench_mb")
        small = connection.execute("SELECT 1")
    assert (len(large.fetchall()), small.fetchone()) == (1024, (0,))


async def test_the_probe_finds_a_healthy_primary(stub: int):
    # Fails when the probe's columns change: then the stub has to change with them.
    opened = await asyncpg.connect(
        host="127.0.0.1", port=stub, user="monitor", database="postgres", ssl=False
    )
    row = await opened.fetchrow(FULL_QUESTION)
    await opened.close()
    seen = read_answer(row, at=0.0, round_trip_s=0.0)
    assert (seen.in_recovery, seen.timeline, seen.read_only, seen.insert_lsn) == (
        False,
        1,
        False,
        1 << 24,
    )


def test_the_source_compiles_without_a_warning(tmp_path: Path):
    # `compiled` shows warnings to nobody; this test does.
    import subprocess

    source = Path(compiled("stub")).parents[2] / "benchmarks"
    for name in ("stub", "load"):
        argv = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(tmp_path / name)]
        subprocess.run([*argv, str(source / f"{name}.c")], check=True)
