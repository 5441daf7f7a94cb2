"""Slow statements in the log, and all of them in the table of the top ones."""

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, Postgres


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    each = {"cluster": "main", "dbname": DATABASE}
    config = configuration(
        pg18,
        log={"format": "json", "level": "info"},
        databases={
            "watched": {**each, "log_min_duration": "50ms", "pool_size": 1},
            "session": {**each, "log_min_duration": "50ms", "pool_mode": "session"},
            "unwatched": each,
        },
    )
    with running(config, tmp_path_factory.mktemp("slow")) as weir:
        yield weir


def slow_lines(weir: Pgweir, containing: str, since: int = 0) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in weir.log[since:] if '"slow statement"' in line]
    return [line for line in lines if containing in line["statement"]]


def wait_for(weir: Pgweir, containing: str) -> dict[str, Any]:
    weir.wait_until(lambda: bool(slow_lines(weir, containing)))
    return slow_lines(weir, containing)[0]


def connect(weir: Pgweir, database: str = "watched", **more: Any) -> psycopg.Connection:
    return psycopg.connect(weir.dsn(database=database), autocommit=True, **more)


def records(weir: Pgweir, containing: str) -> list[dict[str, Any]]:
    queries = json.loads(weir.http("/api/status")[1])["queries"]
    return [query for query in queries if containing in query["statement"]]


def test_a_slow_statement_is_logged_with_client_and_node(weir: Pgweir) -> None:
    with connect(weir, application_name="nightly") as connection:
        connection.execute("SELECT 'hush', pg_sleep(0.08) AS slow_one")
    line = wait_for(weir, "slow_one")
    assert (line["database"], line["node"], line["application_name"], line["rows"]) == (
        "watched",
        "db1",
        "nightly",
        1,
    )
    assert line["ms"] >= 80
    assert line["bytes"] > 0


def test_its_constants_are_not_in_the_log(weir: Pgweir) -> None:
    with connect(weir) as connection:
        connection.execute("SELECT 'hush-hush', pg_sleep(0.06) AS constants_one")
    wait_for(weir, "constants_one")
    assert not any("hush-hush" in line for line in weir.log)


@pytest.mark.parametrize("prepare", [False, True])
def test_the_extended_protocol_is_logged_as_well(weir: Pgweir, prepare: bool) -> None:
    name = f"extended_{prepare}".lower()
    with connect(weir) as connection:
        connection.execute(
            f"SELECT pg_sleep(0.06), %s AS {name}".encode(), ("hidden",), prepare=prepare
        )
    assert wait_for(weir, name)["rows"] == 1


def test_in_session_mode_it_is_logged_as_well(weir: Pgweir) -> None:
    with connect(weir, "session") as connection:
        connection.execute("SELECT pg_sleep(0.06), %s AS sessions_own", ("hidden",))
    assert wait_for(weir, "sessions_own")["database"] == "session"


def test_a_wait_for_a_connection_is_told_apart_from_the_work(weir: Pgweir) -> None:
    with connect(weir) as busy, connect(weir) as other, ThreadPoolExecutor(1) as thread:
        busy.execute("BEGIN")
        busy.execute("SELECT 1")
        waiting = thread.submit(other.execute, "SELECT 1 AS waited_one")
        weir.wait_until(
            lambda: (
                weir.metric("pgweir_client_connections", database="watched", state="waiting") == 1
            )
        )
        busy.execute("SELECT pg_sleep(0.2)")
        busy.execute("COMMIT")
        waiting.result(10)
    line = wait_for(weir, "waited_one")
    # It waited while the other slept for 0.2 s, whatever else the machine did.
    assert line["wait_ms"] >= 200
    assert line["wait_ms"] + line["work_ms"] == pytest.approx(line["ms"], abs=0.01)


def test_what_failed_has_its_sqlstate(weir: Pgweir) -> None:
    with connect(weir) as connection, pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("SELECT pg_sleep(0.06), 1 / (0 * random())::int AS failed_one")
    assert wait_for(weir, "failed_one")["sqlstate"] == "22012"


def test_without_a_threshold_nothing_is_logged(weir: Pgweir) -> None:
    with connect(weir, "unwatched") as connection:
        connection.execute("SELECT pg_sleep(0.15) AS unwatched_one")
        connection.execute("SELECT 1")
    weir.wait_until(lambda: bool(records(weir, "unwatched_one")))
    assert slow_lines(weir, "unwatched_one") == []


def test_few_statements_are_counted_exactly(weir: Pgweir) -> None:
    with connect(weir, "unwatched") as connection:
        for number in range(10):
            connection.execute(f"SELECT {number} AS counted_one FROM generate_series(1, 3)")

    def counted() -> tuple[int, int, dict[str, int]]:
        found = records(weir, "counted_one")
        return (found[0]["calls"], found[0]["rows"], found[0]["roles"]) if found else (0, 0, {})

    weir.wait_until(lambda: counted() == (10, 30, {"primary": 10}))


def test_a_text_longer_than_is_kept_shows_no_constant(weir: Pgweir) -> None:
    numbers = ", ".join(f"'secret-{number}'" for number in range(2000))
    with connect(weir) as connection:
        connection.execute(f"SELECT pg_sleep(0.06), ARRAY[{numbers}]".encode())
    weir.wait_until(lambda: any('"select' in line and "..." in line for line in weir.log))
    assert not any("secret-1" in line for line in weir.log)


def test_of_a_flood_a_sample_stands_for_all(weir: Pgweir, pg18: Postgres, tmp_path: Path) -> None:
    script = tmp_path / "flood.sql"
    script.write_text("SELECT 1 AS flooded_one;\n")
    flood = [pg18.pgbench, "-n", "-f", script, "-c", "2", "-t", "2000"]
    subprocess.run([*flood, weir.dsn(database="unwatched")], check=True, capture_output=True)
    # What the page shows may be half a second old.
    weir.wait_until(
        lambda: any(2000 <= each["calls"] <= 6000 for each in records(weir, "flooded_one"))
    )
