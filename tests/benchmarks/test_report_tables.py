"""The tables people read."""

import json
from pathlib import Path

from benchmarks.cases import STUB, Case, PgbenchLoad
from benchmarks.report import (
    as_json,
    as_markdown,
    as_text,
    markdown_table,
    text_table,
    write_markdown,
)
from benchmarks.rounds import Result
from benchmarks.samples import Sample
from benchmarks.targets import Target, judge


def result(**changes: object) -> Result:
    targets = (Target("cpu", 0.85, "pgbouncer"),)
    samples = {
        "pgweir": [Sample(800, 1.0, 0, 8.0, 0.0, 0.9, 1.0, 2.0, 3.0)],
        "pgbouncer": [Sample(700, 1.0, 0, 10.0, 0.0, 0.9, 1.0, 2.0, 4.0, **changes)],
    }
    case = Case("stub-simple-64", STUB, PgbenchLoad(64), targets=targets)
    return Result(case, samples, judge(case.name, targets, samples))


def test_columns_are_as_wide_as_their_widest_cell():
    table = text_table(("case", "tx/s"), [["a", "12345"], ["longer", "1"]])
    assert table == "case     tx/s\n------  -----\na       12345\nlonger      1\n"


def test_an_empty_table_is_its_heading():
    assert text_table(("case", "tx/s"), []) == "case  tx/s\n----  ----\n"


def test_markdown_puts_numbers_to_the_right():
    assert markdown_table(("case", "tx/s"), [["a", "1"]]) == (
        "| case | tx/s |\n| :-- | --: |\n| a | 1 |\n"
    )


def test_a_row_shows_its_ratio_to_pgbouncer():
    [row] = [line for line in as_text([result()]).splitlines() if " pgweir " in line]
    assert "0.80" in row.split()


def test_a_target_is_shown_with_its_verdict():
    assert "cpu / pgbouncer <= 0.85" in as_text([result()])
    assert as_text([result()]).rstrip().endswith("pass")


def test_a_contestant_that_never_got_through_has_no_row():
    broken = result()
    failed = Result(broken.case, {"pgweir": [None]}, [], ["pgweir: refused"])
    assert " pgweir " not in as_text([failed])
    assert "stub-simple-64: failed: pgweir: refused" in as_text([failed])


def test_a_busy_machine_is_mentioned():
    # One of two turns was disturbed: half of 60 % in the middle.
    assert "other processes used up to 30 %" in as_text([result(others=0.6)])


def test_a_quiet_machine_is_not():
    assert "other processes" not in as_text([result(others=0.01)])


def test_json_holds_every_sample():
    [case] = json.loads(as_json([result()]))
    assert [sample["cpu_us"] for sample in case["samples"]["pgweir"]] == [8.0]


def test_markdown_goes_between_the_marks(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nbelow\n")
    write_markdown(page, "new\n")
    assert page.read_text() == ("above\n<!-- bench:begin -->\nnew\n<!-- bench:end -->\nbelow\n")


def test_a_file_without_marks_becomes_the_tables(tmp_path: Path):
    page = tmp_path / "page.md"
    write_markdown(page, as_markdown([result()]))
    assert page.read_text().startswith("| case |")
