"""What the proxy would do with a statement: texts in, a word and a reason out."""

import pytest

from proxy.relay import Leaves
from proxy.session.foresight import (
    calls_pattern,
    explained,
    foresee,
    pin_foreseen,
    read_channels,
    write_explanation,
)

NOTHING = Leaves(0)
CALLS = calls_pattern(["become", "app.enter"])


@pytest.mark.parametrize(
    ("text", "pooling", "reason"),
    [
        ("SELECT 1", "plain", "leaves nothing"),
        ("SET work_mem = '1MB'", "replayed", "settings follow"),
        ("SET LOCAL work_mem = '1MB'", "plain", "ends with its transaction"),
        ("SELECT set_config('a.b', 'c', false)", "replayed", "settings follow"),
        ("SET ROLE a", "replayed", "role follows"),
        ("PREPARE a AS SELECT 1", "replayed", "prepared statements follow"),
        ("LISTEN a", "replayed", "proxy listens"),
        ("CREATE TEMP TABLE t (a int)", "pinned", "temporary object"),
        ("CREATE TEMP TABLE t (a int) ON COMMIT DROP", "plain", "leaves nothing"),
        ("SELECT 1 AS a INTO TEMP t", "pinned", "temporary object"),
        ("CREATE TEMP VIEW v AS SELECT 1", "pinned", "temporary object"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "pinned", "held cursor"),
        ("DECLARE c CURSOR FOR SELECT 1", "plain", "cursor ends"),
        ("SELECT pg_advisory_lock(1)", "pinned", "session advisory lock"),
        ("SELECT pg_advisory_unlock(1)", "plain", "leaves nothing"),
        ("SELECT pg_advisory_xact_lock(1)", "plain", "leaves nothing"),
        ("LOAD 'auto_explain'", "pinned", "loaded library"),
        ("SELECT nextval('s')", "plain", "currval()"),
        ("SELECT become (7)", "pinned", "session function"),
        ("SELECT app.enter(7)", "pinned", "session function"),
        ("SELECT becoming(7)", "plain", "leaves nothing"),
        ("SELECT 'open", "plain", "cannot be read"),
    ],
)
def test_a_statement_is_plain_replayed_or_pinned(text: str, pooling: str, reason: str) -> None:
    (foreseen,) = foresee(text.encode(), CALLS, NOTHING)
    assert foreseen.pooling == pooling
    assert reason in foreseen.reason
    expected = foreseen.reason if pooling == "pinned" else None
    assert pin_foreseen(text.encode(), CALLS, NOTHING) == expected


def test_each_statement_of_a_text_is_foreseen() -> None:
    found = foresee(b"SELECT 1; SET a.b = 'c'; SELECT pg_advisory_lock(1)", None, NOTHING)
    assert [each.pooling for each in found] == ["plain", "replayed", "pinned"]


def test_channels_are_read_as_postgresql_spells_them() -> None:
    assert read_channels(b'LISTEN A; LISTEN "B c"; NOTIFY e') == ({"a", "B c"}, False)
    assert read_channels(b"SELECT 1; UNLISTEN d") == (frozenset(), True)
    assert read_channels(b"UNLISTEN *; LISTEN f") == ({"f"}, True)
    assert read_channels(b"LISTEN") == (frozenset(), False)


def test_an_explanation_is_sql() -> None:
    assert explained(b"  Explain  POOLING select 1;\0\0\0") == b"select 1;"
    sql = write_explanation(b"SELECT 1", None, NOTHING, lambda _: ("replica", "it's a \\read"))
    assert b"E'plain'::text" in sql
    assert b"E'it''s a \\\\read'::text" in sql


@pytest.mark.parametrize(
    ("suspected", "pooling"),
    [
        (NOTHING, "plain"),
        (Leaves.USES_SEQUENCE, "plain"),
        (Leaves.SETTINGS, "replayed"),
        (Leaves.PINS, "replayed"),
        (Leaves.SETTINGS | Leaves.HIDDEN, "pinned"),
    ],
)
def test_what_a_function_may_leave_is_told(suspected: Leaves, pooling: str) -> None:
    (foreseen,) = foresee(b"SELECT f()", None, suspected)
    assert foreseen.pooling == pooling
