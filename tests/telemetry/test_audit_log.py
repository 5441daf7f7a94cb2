"""The audit log: which statements, which facts, and a file that is never waited for."""

import asyncio
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from proxy.config import Audit, AuditClass, AuditRule
from proxy.telemetry import AuditLog, Deed, Fingerprints
from proxy.telemetry.audit import deed_of, is_chosen, rotate, write_lines
from tests.telemetry.test_top_queries import Ended

WHOSE = {"database": "app", "user": "alice", "addr": "10.0.0.1:5", "node": "db1"}


class Statement(Ended):
    text = b""


async def at_once(work: Callable[..., Any], *arguments: Any) -> Any:
    return work(*arguments)


def audit_to(file: Path, **more: Any) -> Audit:
    return Audit(file=file, **more)


def say(log: AuditLog, audit: Audit, text: bytes, ended: Ended | None = None) -> None:
    fingerprint = Fingerprints().of(text, is_cut=False, settings={})
    log.add(audit, WHOSE, fingerprint, ended or Ended(), None)


# What a statement does


@pytest.mark.parametrize(
    ("text", "kind", "classes", "tables"),
    [
        (b"select * from orders o join public.users u on true", "SELECT", {"read"},
         ("orders", "public.users")),
        (b"insert into orders select * from cart", "INSERT", {"write"}, ("cart", "orders")),
        (b"drop table orders", "DROP", {"ddl"}, None),
        (b"begin", "BEGIN", {"transaction"}, ()),
        (b"set search_path to x", "SET", {"session"}, ()),
        (b"select from from", "unknown", {"unknown"}, ()),
        (b"select 1 from a ; delete from b", "SELECT; DELETE", {"read", "write"}, ("a", "b")),
    ],
)  # fmt: skip
def test_a_deed_has_kind_classes_and_tables(
    text: bytes, kind: str, classes: set[str], tables: tuple[str, ...] | None
) -> None:
    deed = deed_of(text)
    assert (deed.kind, set(deed.classes)) == (kind, classes)
    assert tables is None or deed.tables == tables


# Rules


@pytest.mark.parametrize(
    ("rules", "chosen"),
    [
        ([{}], True),
        ([], False),
        ([{"user": "alice"}], True),
        ([{"user": "bob"}], False),
        ([{"database": "app", "classes": ["write", "ddl"]}], True),
        ([{"classes": ["ddl"]}], False),
        ([{"table": "orders"}], True),
        ([{"table": "users"}], False),
        ([{"user": "alice", "log": False}, {}], False),
        ([{"user": "bob", "log": False}, {}], True),
    ],
)
def test_the_first_rule_that_matches_says(rules: list[dict[str, Any]], chosen: bool) -> None:
    audit = audit_to(Path("audit.log"), rules=[AuditRule(**rule) for rule in rules])
    deed = deed_of(b"insert into orders values (1)")
    assert is_chosen(audit, "app", "alice", deed) is chosen


@pytest.mark.parametrize(
    ("rules", "chosen"),
    [
        ([{}], {"login", "admin"}),
        ([{"user": "alice"}], {"login", "admin"}),
        ([{"user": "bob"}], set()),
        ([{"table": "orders"}], set()),
        ([{"classes": ["write"]}], set()),
        ([{"classes": ["disconnect"]}], {"disconnect"}),
        ([{"classes": ["login"], "log": False}, {}], {"admin"}),
    ],
)
def test_rules_choose_what_is_no_statement(rules: list[dict[str, Any]], chosen: set[str]) -> None:
    audit = audit_to(Path("audit.log"), rules=[AuditRule(**rule) for rule in rules])
    happenings: tuple[AuditClass, ...] = ("login", "disconnect", "admin")
    assert chosen == {
        each
        for each in happenings
        if is_chosen(audit, "app", "alice", Deed("any", frozenset({each}), ()))
    }


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ([{}], True),
        ([{"classes": ["login", "disconnect", "admin"]}], False),
        ([{"classes": ["login", "write"]}], True),
        ([{"classes": ["write"], "log": False}], False),
    ],
)
def test_statements_are_looked_at_only_where_a_rule_asks_for_some(
    rules: list[dict[str, Any]], told: bool
) -> None:
    audit = audit_to(Path("audit.log"), rules=[AuditRule(**rule) for rule in rules])
    assert audit.may_log_statements("app", "alice") is told


# Lines


async def test_a_line_says_who_did_what_to_which_tables_and_how_it_ended(tmp_path: Path) -> None:
    log, audit = AuditLog(at_once, lambda: 0.5), audit_to(tmp_path / "audit.log")
    say(log, audit, b"DELETE FROM orders WHERE id = 7", Ended(rows=3, sqlstate="23503"))
    await log.close(audit)
    (line,) = audit.file.read_text().splitlines()
    entry = json.loads(line)
    assert WHOSE.items() <= entry.items()
    assert (entry["kind"], entry["class"], entry["tables"]) == ("DELETE", ["write"], ["orders"])
    assert (entry["result"], entry["rows"], entry["time"]) == (
        "23503",
        3,
        "1970-01-01T00:00:00.500Z",
    )
    assert entry["statement"] == "delete from orders where id = 1"


async def test_constants_are_written_only_where_they_are_asked_for(tmp_path: Path) -> None:
    log = AuditLog(at_once)
    audit = audit_to(tmp_path / "audit.log", literals=True)
    statement = Statement()
    statement.text = b"SELECT 'as it was'"
    say(log, audit, statement.text, statement)
    await log.close(audit)
    assert "as it was" in audit.file.read_text()


async def test_a_full_queue_drops_and_counts(tmp_path: Path) -> None:
    log, audit = AuditLog(at_once, max_queued=2), audit_to(tmp_path / "audit.log")
    for _ in range(5):
        say(log, audit, b"SELECT 1")
    log.note(audit, WHOSE, Deed("LOGIN", frozenset({"login"}), ()), {"result": "ok"})
    await log.close(audit)
    assert log.lines.read() == {"dropped": 4, "written": 2}


async def test_nobody_waits_for_a_slow_disk(tmp_path: Path) -> None:
    disk = asyncio.Event()

    async def slowly(work: Callable[..., Any], *arguments: Any) -> None:
        await disk.wait()
        work(*arguments)

    log, audit = AuditLog(slowly), audit_to(tmp_path / "audit.log")
    say(log, audit, b"SELECT 1")
    log.tick(audit)
    await asyncio.sleep(0)
    say(log, audit, b"SELECT 2")
    log.tick(audit)
    assert log.lines.read() == {}
    disk.set()
    await log.close(audit)
    assert len(audit.file.read_text().splitlines()) == 2


async def test_a_file_that_cannot_be_written_is_said_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log, audit = AuditLog(at_once), audit_to(tmp_path / "none" / "audit.log")
    for _ in range(3):
        say(log, audit, b"SELECT 1")
        await log.close(audit)
    assert log.lines.read() == {"failed": 3}
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


# Files


def test_a_file_that_is_too_long_is_renamed(tmp_path: Path) -> None:
    audit = audit_to(tmp_path / "audit.log", max_bytes=10, keep=2)
    for number in range(4):
        write_lines(audit, [f"line number {number}"])
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"audit.log.1": "line number 3\n", "audit.log.2": "line number 2\n"}


def test_without_any_to_keep_the_file_goes(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    file.write_text("x")
    rotate(file, 0)
    assert list(tmp_path.iterdir()) == []


def test_several_who_write_at_once_leave_whole_lines(tmp_path: Path) -> None:
    audit = audit_to(tmp_path / "audit.log", max_bytes=20_000, keep=99)
    lines = [json.dumps({"text": "x" * 200})] * 50
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(write_lines, audit, lines) for _ in range(20)]:
            done.result(10)
    kept = [line for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    assert kept == [lines[0]] * 1000
