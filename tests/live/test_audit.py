"""Who did what, in a file, from real clients."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, Postgres

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    folder = tmp_path_factory.mktemp("audit")
    each = {"cluster": "main", "dbname": DATABASE}
    config = configuration(
        pg18,
        audit={
            "file": str(folder / "audit.log"),
            "rules": [
                {"table": "pg_class", "log": False},
                {"database": "audited"},
            ],
        },
        databases={"audited": each, "other": each},
    )
    with running(config, folder) as weir:
        weir.audit = folder / "audit.log"  # type: ignore[attr-defined]
        yield weir


def entries(weir: Pgweir, containing: str) -> list[dict[str, Any]]:
    file: Path = weir.audit  # type: ignore[attr-defined]
    if not file.exists():
        return []
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return [entry for entry in found if containing in entry["statement"]]


def test_every_statement_that_the_rules_choose_has_a_line(weir: Pgweir) -> None:
    for database in ("audited", "other"):
        with psycopg.connect(weir.dsn(database=database), autocommit=True) as client:
            for number in range(100):
                client.execute(f"SELECT {number} AS chosen_one")
            client.execute("SELECT 1 AS not_chosen FROM pg_class")
            client.execute(f"SELECT 1 AS chosen_last /*traceparent='{TRACEPARENT}'*/")
    weir.wait_until(lambda: bool(entries(weir, "chosen_last")))
    assert len(entries(weir, "chosen_one")) == 100
    assert entries(weir, "not_chosen") == []
    assert {entry["database"] for entry in entries(weir, "chosen")} == {"audited"}
    assert entries(weir, "chosen_last")[0]["traceparent"] == TRACEPARENT


def test_what_failed_has_its_sqlstate(weir: Pgweir) -> None:
    with (
        psycopg.connect(weir.dsn(database="audited"), autocommit=True) as client,
        pytest.raises(psycopg.errors.UndefinedTable),
    ):
        client.execute("DELETE FROM nowhere WHERE name = 'hush'")
    weir.wait_until(lambda: bool(entries(weir, "nowhere")))
    (entry,) = entries(weir, "nowhere")
    assert (entry["result"], entry["kind"], entry["tables"]) == ("42P01", "DELETE", ["nowhere"])
    assert "hush" not in json.dumps(entry)


def test_lines_are_counted(weir: Pgweir) -> None:
    weir.wait_until(lambda: weir.metric("pgweir_audit_lines_total", result="written") > 0)
    assert weir.metric("pgweir_audit_lines_total", result="dropped") == 0
