"""Verdicts: what counts as a read, and why the rest does not."""

import postgast
import pytest
from postgast import pg_query_pb2

from proxy.sql import (
    Catalogue,
    Classifier,
    Effect,
    Name,
    Touch,
    Transaction,
    Verdict,
    builtin_volatility,
)
from proxy.sql.reading import _CHANGES, _KIND_OF_FIELD, _PLAIN
from tests.sql.statements import READS, WRITES


def classify(text: str, **catalogue: set[str]) -> Verdict:
    return Classifier(Catalogue(builtin_volatility, **catalogue)).classify(text.encode())[1]


@pytest.mark.parametrize("text", READS)
def test_reads_are_taken_for_reads(text: str) -> None:
    verdict = classify(text)
    assert (verdict.reasons, verdict.reads_only) == ((), True)


@pytest.mark.parametrize(("text", "reason"), WRITES)
def test_anything_else_is_not_and_says_why(text: str, reason: str) -> None:
    verdict = classify(text)
    assert not verdict.reads_only
    assert reason in "\n".join(verdict.reasons)


def test_an_empty_text_does_nothing() -> None:
    assert classify(" ; -- nothing") == Verdict(reads_only=True, reads_by_default=True)


@pytest.mark.parametrize("text", READS)
def test_what_only_reads_writes_nothing(text: str) -> None:
    assert not classify(text).may_write


@pytest.mark.parametrize(
    ("text", "may_write"),
    [
        ("insert into t values (1)", True),
        ("with w as (delete from t returning 1) select 1 from w", True),
        ("explain analyze update t set a = 1", True),
        ("explain update t set a = 1", False),
        ("create table t (a int)", True),
        ("copy t from stdin", True),
        ("copy t to '/tmp/t'", True),
        ("vacuum", True),
        ("call p()", True),
        ("do $$ begin end $$", True),
        ("notify channel", True),
        ("execute s", True),
        ("commit prepared 'p'", True),
        ("select f()", True),
        ("select nextval('s')", True),
        ("select pg_notify('channel', 'a')", True),
        ("nonsense", True),
        ("set work_mem = 1; select 1", False),
        ("select set_config('work_mem', '1MB', false)", False),
        ("select pg_advisory_lock(1)", False),
        ("select 1 from t for update", False),
        ("select pg_is_in_recovery(), txid_current()", False),
        ("select * from pg_stat_activity", False),
        ("listen channel", False),
        ("begin; select 1; rollback", False),
    ],
)
def test_much_that_is_no_read_leaves_nothing_behind(text: str, may_write: bool) -> None:
    assert classify(text).may_write is may_write


def test_what_may_write_goes_by_the_catalogue_as_well() -> None:
    assert classify("select 1 from v", primary_relations={"v"}).may_write
    assert not classify("select f()", read_only_functions={"f"}).may_write
    assert classify("select lower('a')", writing_functions={"lower"}).may_write


def test_what_ends_a_transaction_so_that_it_lasts() -> None:
    for text in ("commit", "/* a */ end", "insert into t values (1); commit", "commit and chain"):
        assert classify(text).ends_transaction, text
    assert classify("prepare transaction 'p'").ends_transaction
    for text in ("rollback", "insert into t values (1)", "prepare s as select 1", "release s"):
        assert not classify(text).ends_transaction, text


def test_the_operators_lists_win_over_the_catalogue() -> None:
    assert classify("select f(1)", read_only_functions={"f"}).reads_only
    assert classify("select a.f(1)", read_only_functions={"a.f"}).reads_only
    assert not classify("select b.f(1)", read_only_functions={"a.f"}).reads_only
    assert not classify("select lower('a')", writing_functions={"lower"}).reads_only
    assert not classify("select f()", read_only_functions={"a.f"}).reads_only
    assert not classify("select lower('a')", writing_functions={"a.lower"}).reads_only
    assert classify("select pg_catalog.lower('a')", writing_functions={"a.lower"}).reads_only
    assert not classify("select f()", read_only_functions={"f"}, writing_functions={"f"}).reads_only


def test_relations_that_a_replica_has_otherwise_are_no_reads() -> None:
    assert not classify("select * from v", primary_relations={"v"}).reads_only
    assert not classify("select * from a.v", primary_relations={"a.v"}).reads_only
    assert not classify("select * from v", primary_relations={"a.v"}).reads_only
    assert classify("select * from b.v", primary_relations={"a.v"}).reads_only


def test_the_lookup_is_asked_with_the_number_of_arguments() -> None:
    asked = []

    def volatility(function: Name, arguments: int) -> None:
        asked.append((str(function), arguments))

    Classifier(Catalogue(volatility)).classify(
        b"select a.f(1, b => 2), g(), count(*), h(variadic x)"
    )
    assert sorted(set(asked)) == [("a.f", 2), ("count", 0), ("g", 0), ("h", 1)]


def test_reasons_are_not_endless() -> None:
    verdict = classify("select " + ", ".join(f"f{number}()" for number in range(100)))
    assert len(verdict.reasons) == 17
    assert verdict.reasons[-1] == "has 84 more reasons"


@pytest.mark.parametrize(
    ("text", "effects"),
    [
        ("select 1", []),
        ("set a.b = 'c'", [Effect(Touch.SETTING, "a.b")]),
        ("SET LOCAL Work_Mem = 1", [Effect(Touch.LOCAL_SETTING, "work_mem")]),
        ("reset role", [Effect(Touch.ROLE, "role")]),
        ("set local role app", [Effect(Touch.LOCAL_SETTING, "role")]),
        ("set transaction snapshot 'a'", [Effect(Touch.SNAPSHOT, "transaction snapshot")]),
        ("prepare p as select nextval('s')", None),
        ("deallocate all", [Effect(Touch.DEALLOCATE)]),
        ("discard temp", [Effect(Touch.DISCARD, "temp")]),
        ('listen "A b"', [Effect(Touch.LISTEN, "A b")]),
        ("unlisten *", [Effect(Touch.UNLISTEN)]),
        ("declare c no scroll cursor with hold for select 1", [Effect(Touch.HELD_CURSOR, "c")]),
        ("close all", [Effect(Touch.CURSOR)]),
        ("fetch 1 from c", [Effect(Touch.CURSOR, "c")]),
        ("drop table pg_temp.a", [Effect(Touch.TEMPORARY)]),
        ("select pg_advisory_unlock_all()", [Effect(Touch.ADVISORY_LOCK)]),
        ("select pg_try_advisory_lock_shared(1)", [Effect(Touch.ADVISORY_LOCK)]),
        ("explain select nextval('s')", []),
        ("set a.b = 1; listen c", [Effect(Touch.SETTING, "a.b"), Effect(Touch.LISTEN, "c")]),
        ("select app.nextval('s')", []),
    ],
)
def test_what_touches_the_session_is_named(text: str, effects: list[Effect] | None) -> None:
    if effects is None:
        effects = [Effect(Touch.PREPARE, "p"), Effect(Touch.SEQUENCE)]
    assert list(classify(text).effects) == effects


def test_effects_that_hang_on_constants_need_the_text() -> None:
    assert classify("set a.b = 'c'").needs_text
    assert classify("select pg_advisory_lock(17)").needs_text
    assert not classify("listen c").needs_text
    assert not classify("select 1").needs_text


@pytest.mark.parametrize(
    ("text", "transaction", "read_only"),
    [
        ("begin", Transaction.BEGIN, None),
        ("start transaction read only", Transaction.BEGIN, True),
        ("begin isolation level serializable, read write, deferrable", Transaction.BEGIN, False),
        ("end", Transaction.COMMIT, None),
        ("abort", Transaction.ROLLBACK, None),
        ("savepoint a", Transaction.SAVEPOINT, None),
        ("release a", Transaction.RELEASE, None),
        ("rollback to a", Transaction.ROLLBACK_TO, None),
        ("select 1", None, None),
    ],
)
def test_transactions_are_told(
    text: str, transaction: Transaction | None, read_only: bool | None
) -> None:
    (facts,) = classify(text).statements
    assert (facts.transaction, facts.read_only) == (transaction, read_only)


@pytest.mark.parametrize(
    ("text", "reads", "writes"),
    [
        ("select * from a, b.c join d on true", ["a", "b.c", "d"], []),
        ("select * from db.a.b", ["a.b"], []),
        ("with t as (select * from t) select * from t", ["t"], []),
        ("with recursive t as (select * from t) select * from t", [], []),
        ("with a as (select 1), b as (select * from a) select * from b, c", ["c"], []),
        ("with b as (select * from a), a as (select 1) select * from b", ["a"], []),
        ("select (with t as (select 1) select a from t), b from t", ["t"], []),
        ("with t as (select 1) select * from s.t", ["s.t"], []),
        ("select * from a x for update of x", ["a"], []),
        ("insert into a select * from b returning (select 1 from c)", ["b", "c"], ["a"]),
        ("update a set x = (select 1 from b) from c", ["b", "c"], ["a"]),
        ("select 1 into a from b", ["b"], ["a"]),
        ("merge into a using b on true when not matched then insert values (1)", ["b"], ["a"]),
        ("copy a to stdout", ["a"], []),
        ("copy a from stdin", [], ["a"]),
        ("create table a as select * from b", ["b"], ["a"]),
        ("truncate a, b.c", [], ["a", "b.c"]),
        ("explain delete from a", ["a"], []),
        ("explain analyze delete from a", [], ["a"]),
    ],
)
def test_tables_are_read_or_written(text: str, reads: list[str], writes: list[str]) -> None:
    (facts,) = classify(text).statements
    assert sorted(map(str, facts.reads)) == reads
    assert sorted(map(str, facts.writes)) == writes


def test_what_is_explained_copied_or_prepared_is_told() -> None:
    (explained,) = classify("explain (analyze off) select 1").statements
    assert (explained.kind, explained.inner, explained.executes) == ("EXPLAIN", "SELECT", False)
    (copied,) = classify("copy (select 1) to program 'x'").statements
    assert (copied.copies, copied.copies_with_client, copied.inner) == ("to", False, "SELECT")
    (prepared,) = classify("prepare p as insert into t values (1)").statements
    assert (prepared.inner, prepared.changes) == ("INSERT", {"INSERT"})
    (created,) = classify("create table t (a int)").statements
    assert created.is_ddl


def test_no_field_that_names_no_kind_is_overlooked() -> None:
    """Within queries, a field that holds one kind of node alone is in the table, by its name."""
    matters = {"RangeVar", "FuncCall", "SelectStmt", "IntoClause", "WithClause", *_CHANGES}
    for name in _PLAIN | set(_CHANGES) | {"FuncCall", "IntoClause", "LockingClause"}:
        for field in pg_query_pb2.DESCRIPTOR.message_types_by_name[name].fields:
            kind = field.message_type.name if field.message_type is not None else ""
            # The table of a column's sequence is no part of a query.
            if kind in matters and field.json_name != "identitySequence":
                assert _KIND_OF_FIELD[field.json_name] == kind, name


@pytest.mark.parametrize("text", [*READS, *(text for text, _ in WRITES)])
def test_every_call_is_seen(text: str) -> None:
    """The other output of the parser, walked without any knowledge, has the same functions."""
    try:
        tree = postgast.parse(text)
    except postgast.PgQueryError:
        return
    called = {
        tuple(part.string.sval for part in node.funcname)[-1]
        for _, node in postgast.walk(tree)
        if isinstance(node, pg_query_pb2.FuncCall)
    }
    seen = {call.function.name for facts in classify(text).statements for call in facts.calls}
    explained = any(not facts.executes for facts in classify(text).statements if facts.inner)
    assert seen == called or (explained and not seen)
