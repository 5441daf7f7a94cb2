"""What the suites of others reported is read as they meant it."""

from pathlib import Path

from benchmarks.suites import read_junit, read_lines


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
        '{"Action": "pass", "Package": "p", "Test": "TestGood"}\n'
        '{"Action": "fail", "Package": "p", "Test": "TestBad"}\n'
        '{"Action": "skip", "Package": "p", "Test": "TestLeft"}\n'
        '{"Action": "fail", "Package": "p"}\n'
    )
    outcome = read_lines(report)
    assert outcome.passed == {"app.good", "p.TestGood"}
    assert outcome.failed == {"app.bad", "p.TestBad"}
