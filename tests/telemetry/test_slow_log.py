"""Lines of slow statements."""

import logging

import pytest

from proxy.telemetry import Fingerprint, SlowLog
from tests.telemetry.test_top_queries import Ended

A = Fingerprint("abc", "select 1")
WHOSE = {"database": "app", "user": "alice", "addr": "10.0.0.1:5", "node": "db1"}


def facts_of(record: logging.LogRecord) -> dict[str, object]:
    return record.__dict__["facts"]


def test_a_line_tells_wait_and_work_apart(caplog: pytest.LogCaptureFixture) -> None:
    SlowLog(lambda: 0.0).write(Ended(spent_s=1.5, waited_s=0.5), WHOSE, A, b"")
    facts = facts_of(caplog.records[0])
    assert (facts["ms"], facts["wait_ms"], facts["work_ms"]) == (1500.0, 500.0, 1000.0)


def test_a_line_names_client_node_and_statement(caplog: pytest.LogCaptureFixture) -> None:
    SlowLog(lambda: 0.0).write(Ended(rows=7, received_bytes=99), WHOSE, A, b"")
    facts = facts_of(caplog.records[0])
    assert WHOSE.items() <= facts.items()
    assert (facts["rows"], facts["bytes"], facts["fingerprint"], facts["statement"]) == (
        7,
        99,
        "abc",
        "select 1",
    )


def test_the_text_is_shown_where_it_is_given(caplog: pytest.LogCaptureFixture) -> None:
    SlowLog(lambda: 0.0).write(Ended(), WHOSE, A, b"select 42")
    assert facts_of(caplog.records[0])["statement"] == b"select 42"


def test_what_failed_has_its_sqlstate(caplog: pytest.LogCaptureFixture) -> None:
    SlowLog(lambda: 0.0).write(Ended(sqlstate="57014"), WHOSE, A, b"")
    assert facts_of(caplog.records[0])["sqlstate"] == "57014"


def test_a_flood_is_counted_and_not_written(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    log = SlowLog(lambda: now_s)
    for _ in range(60):
        log.write(Ended(), WHOSE, A, b"")
    now_s = 11.0
    log.tick()
    assert len(caplog.records) == 51
    assert "10 more suppressed" in caplog.records[-1].getMessage()
