"""`pgweir top`: its tables, and the program in a terminal that is none."""

import subprocess
import sys
from typing import Any

import pytest
from textual.widgets import DataTable, Static

from proxy.cli.board import Board, headline, node_rows, pool_rows, query_rows
from proxy.cli.top import Source

NODE = {
    "name": "db1", "role": "primary", "state": "up", "lag_s": None, "lag_bytes": None,
    "connections": 5, "connection_limit": 97, "round_trip_ms": 0.4,
}  # fmt: skip
POOL = {
    "database": "app", "user": "alice", "node": "db1", "size": 20, "active": 3, "idle": 2,
    "waiting": 0, "oldest_wait_s": 0.0,
}  # fmt: skip
QUERY = {
    "database": "app", "statement": "select [b] from t", "share": 0.5, "calls": 20_000,
    "total_ms": 900.0, "mean_ms": 0.045, "p95_ms": 0.2, "rows": 3, "nodes": {"db1": 20_000},
}  # fmt: skip


def status(**more: Any) -> dict[str, Any]:
    return {
        "name": "pgweir",
        "version": "1.2.3",
        "ready": True,
        "not_ready": None,
        "uptime_s": 75.0,
        "clusters": [
            {
                "name": "main",
                "nodes": [
                    NODE,
                    {**NODE, "name": "db2", "role": "replica", "lag_s": 1.5, "lag_bytes": 4096},
                ],
            }
        ],
        "pools": [POOL, {**POOL, "user": "bob", "waiting": 4, "oldest_wait_s": 2.0}],
        "clients": {"total": 9, "waiting": 4},
        "latency": {"p95_ms": 2.5},
        "points": [{"queries": 10.0}, {"queries": 1234.0}],
        "queries": [QUERY, {**QUERY, "statement": "rare", "total_ms": 1.0, "p95_ms": 99.0}],
        "pins": {"clients": []},
    } | more


def test_a_node_is_a_row_with_its_lag() -> None:
    rows = list(node_rows(status()))
    assert rows[0][1:5] == ("db1", "primary", "up", "-")
    assert rows[1][1:6] == ("db2", "replica", "up", "1.5 s", "4 KiB")


def test_pools_in_which_clients_wait_come_first() -> None:
    assert [row[1] for row in pool_rows(status())] == ["bob", "alice"]


@pytest.mark.parametrize(
    ("order", "first"), [("total_ms", "select [b] from t"), ("p95_ms", "rare")]
)
def test_statements_come_in_the_order_asked_for(order: str, first: str) -> None:
    assert next(iter(query_rows(status(), order)))[-1] == first


def test_the_headline_says_whether_all_is_well() -> None:
    assert "ready" in headline(status(), "here")
    assert "NOT READY: no primary" in headline(status(ready=False, not_ready="no primary"), "here")


async def test_the_board_shows_what_is_said() -> None:
    board = Board(status, "127.0.0.1:9127", 60)
    async with board.run_test() as pilot:
        await board.refresh_now()
        await pilot.pause()
        tables = {table.id: table.row_count for table in board.query(DataTable)}
        first = str(board.query_one("#queries", DataTable).get_row_at(0)[-1])
        await pilot.press("o", "o", "o")
        await pilot.pause()
        after = str(board.query_one("#queries", DataTable).get_row_at(0)[-1])
    assert tables == {"nodes": 2, "pools": 2, "queries": 2}
    assert (first, after) == ("select [b] from t", "rare")


async def test_a_proxy_that_does_not_answer_is_said_to() -> None:
    def ask() -> dict[str, Any]:
        raise OSError("it is gone")

    board = Board(ask, "127.0.0.1:9127", 60)
    async with board.run_test() as pilot:
        await board.refresh_now()
        await pilot.pause()
        said = str(board.query_one("#head", Static).render())
    assert "it is gone" in said


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("127.0.0.1:9127", "127.0.0.1:9127"),
        ("db.example", "db.example:9127"),
        ("http://ops:s3cret@10.0.0.5:80/", "10.0.0.5:80"),
    ],
)
def test_the_place_has_no_secret(address: str, place: str) -> None:
    assert Source(address).place == place


def test_nobody_there_is_one_line_and_not_a_screen() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "top", "--http", "127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "127.0.0.1:1 does not answer" in done.stderr) == (1, True)
