"""Fingerprints, and the table of those that take the most time."""

from dataclasses import dataclass

import pytest

from proxy.telemetry import Fingerprint, Fingerprints, TopQueries, queries_of_all


@dataclass
class Ended:
    """What the relay tells of a statement."""

    spent_s: float = 0.01
    waited_s: float = 0.0
    rows: int = 1
    received_bytes: int = 100
    sqlstate: str | None = None
    stands_for: int = 1


def fingerprint(text: bytes, **more: object) -> str:
    options = {"is_cut": False, "settings": {}} | more
    return Fingerprints().of(text, **options).text


# Fingerprints


def test_texts_that_differ_in_constants_and_comments_are_one() -> None:
    prints = Fingerprints()
    one = prints.of(b"SELECT * FROM t WHERE a = 5 -- five", is_cut=False, settings={})
    other = prints.of(b"select *  from t where a = 66", is_cut=False, settings={})
    assert one is other


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (b"SELECT 'hunter2'", {}),
        (b"SELECT 'hunter2", {}),
        (b"SELECT $x$hunter2", {}),
        (b"SELECT 'a\\'hunter2'", {"settings": {"standard_conforming_strings": "off"}}),
        (b"SELECT '\x81'hunter2'", {"settings": {"client_encoding": "SJIS"}}),
        (b"INSERT INTO t VALUES (1), ('hunter2", {"is_cut": True}),
        (b"/* hunter2 */ SELECT 1", {}),
        (b"'hunter2'", {}),
    ],
)
def test_a_fingerprint_has_no_constants_whatever_the_text(
    text: bytes, more: dict[str, object]
) -> None:
    assert "hunter2" not in fingerprint(text, **more)


def test_of_what_cannot_be_read_the_first_word_is_told() -> None:
    assert fingerprint(b"INSERT INTO t VALUES ('abc", is_cut=True) == "insert ..."


def test_a_text_that_is_not_known_says_so() -> None:
    assert "not known" in fingerprint(b"")


def test_fingerprints_kept_are_bounded() -> None:
    prints = Fingerprints(max_entries=2)
    first = prints.of(b"SELECT a", is_cut=False, settings={})
    for name in (b"b", b"c"):
        prints.of(b"SELECT " + name, is_cut=False, settings={})
    again = prints.of(b"SELECT a", is_cut=False, settings={})
    assert (again == first, again is first) == (True, False)


# The table


def printed(name: str) -> Fingerprint:
    return Fingerprint(name, f"select {name}")


def test_a_record_has_calls_times_rows_and_where_it_ran() -> None:
    table = TopQueries()
    table.add("app", printed("a"), "db1", "primary", Ended(spent_s=0.01))
    table.add("app", printed("a"), "db2", "replica", Ended(spent_s=0.03, sqlstate="57014"))
    (record,) = table.top()
    assert (record.calls, record.rows, record.received_bytes, record.errors) == (2, 2, 200, 1)
    assert (record.mean_s, record.max_s) == (pytest.approx(0.02), 0.03)
    assert (record.targets, record.roles) == (
        {"db1": 1, "db2": 1},
        {"primary": 1, "replica": 1},
    )


def test_one_of_a_sample_counts_as_many() -> None:
    table = TopQueries()
    table.add("app", printed("a"), "db1", "primary", Ended(spent_s=0.001, stands_for=40))
    (record,) = table.top()
    assert (record.calls, record.rows, record.total_s) == (40, 40, pytest.approx(0.04))


def test_the_share_is_of_all_time() -> None:
    table = TopQueries()
    table.add("app", printed("a"), "db1", "primary", Ended(spent_s=3.0))
    table.add("app", printed("b"), "db1", "primary", Ended(spent_s=1.0))
    assert [(each.id, each.share) for each in table.top()] == [("a", 0.75), ("b", 0.25)]


def test_the_same_text_in_two_databases_is_two_records() -> None:
    table = TopQueries()
    for database in ("app", "shop"):
        table.add(database, printed("a"), "db1", "primary", Ended())
    assert {each.database for each in table.top()} == {"app", "shop"}


def test_the_p95_is_never_above_the_longest() -> None:
    table = TopQueries()
    table.add("app", printed("a"), "db1", "primary", Ended(spent_s=0.6))
    assert table.top()[0].p95_s == 0.6


@pytest.mark.parametrize(
    ("order", "first"), [("time", "rare"), ("calls", "often"), ("mean", "rare")]
)
def test_records_come_in_the_order_asked_for(order: str, first: str) -> None:
    table = TopQueries()
    table.add("app", printed("often"), "db1", "primary", Ended(spent_s=0.001, stands_for=100))
    table.add("app", printed("rare"), "db1", "primary", Ended(spent_s=2.0))
    assert table.top(order=order)[0].id == first


def test_a_full_table_forgets_what_took_the_least_time() -> None:
    table = TopQueries(max_queries=10)
    for number in range(11):
        table.add("app", printed(str(number)), "db1", "primary", Ended(spent_s=1.0 + number))
    kept = {each.id for each in table.top()}
    assert (len(kept) <= 10, "0" in kept, "10" in kept) == (True, False, True)


def test_a_reset_table_is_empty() -> None:
    table = TopQueries()
    table.add("app", printed("a"), "db1", "primary", Ended())
    table.reset()
    assert (len(table), table.top()) == (0, [])


def test_the_tables_of_processes_are_added_by_database_and_statement() -> None:
    one, other = TopQueries(), TopQueries()
    one.add("app", printed("a"), "db1", "primary", Ended(spent_s=1.0))
    one.add("app", printed("b"), "db1", "primary", Ended(spent_s=2.0))
    other.add("app", printed("a"), "db2", "replica", Ended(spent_s=4.0, stands_for=3))
    both = queries_of_all([one.top(), other.top()])
    assert [(each.id, each.calls, each.max_s) for each in both] == [("a", 4, 4.0), ("b", 1, 2.0)]
    assert (both[0].mean_s, both[0].targets) == (13.0 / 4, {"db1": 1, "db2": 3})
    assert [each.share for each in both] == [pytest.approx(13 / 15), pytest.approx(2 / 15)]
    assert both[0].p95_s <= 4.0
