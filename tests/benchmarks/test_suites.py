"""What the suites of others reported is read as they meant it, and what is missing is said."""

from pathlib import Path

import psycopg
import pytest

from benchmarks.contestants import find_program
from benchmarks.failure import BenchmarkError
from benchmarks.regress import read_schedule
from benchmarks.suites import (
    USER,
    WAYS,
    Bystander,
    Row,
    Run,
    Suite,
    read_junit,
    read_lines,
    read_report,
    running_node,
    table,
)
from proxy.embedded import distribution
from tests.fixtures.missing import do_without


def test_a_name_of_junit_has_passed_when_all_that_bear_it_have(tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.write_text(
        '<testsuites><testsuite><testcase classname="a" name="good"/>'
        '<testcase classname="a" name="twice"/>'
        '<testcase classname="a" name="twice"><failure/></testcase>'
        '<testcase classname="a" name="torn"><error/></testcase>'
        '<testcase classname="a" name="left"><skipped/></testcase></testsuite></testsuites>'
    )
    outcome = read_junit(report)
    assert outcome.passed == {"a.good"}
    assert outcome.failed == {"a.twice", "a.torn"}


def test_lines_of_django_and_of_go_are_read_beside_others(tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.write_text(
        '["app.good", true]\n["app.bad", true]\n["app.bad", false]\nnot JSON\n'
        '{"Action": "pass", "Package": "p", "Test": "TestGood/in=/tmp/1234567890"}\n'
        '{"Action": "fail", "Package": "p", "Test": "TestBad"}\n'
        '{"Action": "skip", "Package": "p", "Test": "TestLeft"}\n'
        '{"Action": "fail", "Package": "p"}\n'
    )
    outcome = read_lines(report)
    assert outcome.passed == {"app.good", "p.TestGood/in=/tmp/"}
    assert outcome.failed == {"app.bad", "p.TestBad"}


@pytest.mark.parametrize("text", [None, "", "<testsuites></testsuites>", '{"Action": "fail"}\n'])
def test_a_report_without_a_test_is_a_failure_that_names_the_log(
    tmp_path: Path, text: str | None
) -> None:
    report, log = tmp_path / "report", tmp_path / "log"
    if text is not None:
        report.write_text(text)
    with pytest.raises(BenchmarkError, match=str(log)):
        read_report(report, log)


def test_the_table_counts_what_passes_directly_and_says_what_failed() -> None:
    def ran(*passed: str, transactions: int = 0, foreign: tuple[str, ...] = ()) -> Run:
        return Run([*passed], [], transactions, [*foreign], [], [])

    rows = [
        Row(
            Suite("one", "one==1"),
            ran("a", "b", "c"),
            {"x": ran("a", "b", "new", transactions=9), "y": ran("a", foreign=("role",))},
        ),
        Row(Suite("two", "two==2"), ran("d"), {"x": None, "y": ran("d", transactions=1000)}),
    ]
    assert list(table(iter(rows), ["x", "y"]))[2:] == [
        "| one==1 (one) | 3 | 2 | 9, 0 | 1 | 0, 1 |",
        "| two==2 (two) | 1 | failed |  | 1 | 1,000, 0 |",
        "| together | 4 | 2 (50.0%) | 9, 0 | 2 (50.0%) | 1,000, 1 |",
    ]


def test_a_schedule_of_postgresql_is_read_in_its_order() -> None:
    text = "# a comment\ntest: setup\n\ntest: b a\nignore: c\n"
    assert read_schedule(text) == ["setup", "b", "a"]


@pytest.mark.slow
@pytest.mark.live
def test_in_each_way_clients_get_in_and_bystanders_see_what_is_not_theirs(tmp_path: Path) -> None:
    if distribution() is None:
        do_without("no PostgreSQL of the distribution")
    try:
        find_program("pgbouncer")
    except BenchmarkError as error:
        do_without(str(error))
    suite = Suite("none", "none", database="postgres")
    saw = {}
    with running_node() as node:
        with psycopg.connect(host=node.host, port=node.port, user=USER) as link:
            link.execute("CREATE ROLE monitor LOGIN IN ROLE pg_monitor")
        for way, start in WAYS.items():
            folder = tmp_path / way
            folder.mkdir()
            with start(folder, node) as place:
                bystander = Bystander(place, suite, 0)
                bystander.start()
                dsn = place.dsn(suite.database)
                with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as link:
                    link.execute("SET work_mem = 4321")
                    while bystander.transactions < 50 and not bystander.foreign:
                        link.execute("SELECT")
                bystander.stop()
            assert bystander.errors == []
            saw[way] = bool(bystander.foreign)
    transaction = saw.pop("pgbouncer-transaction")
    assert transaction
    assert not any(saw.values())
