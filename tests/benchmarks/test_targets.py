"""What counts as reached."""

import itertools

import pytest

from benchmarks.cases import CASES, choose
from benchmarks.samples import METRICS, Sample
from benchmarks.targets import Target, judge


def sample(cpu_us: float = 10.0, tps: int = 1000) -> Sample:
    return Sample(tps, 1.0, 0, cpu_us, 0.0, 0.5, 1.0, 2.0, 3.0)


def word(target: Target, ours: Sample, theirs: Sample) -> str:
    [verdict] = judge("case", [target], {"pgweir": [ours], "pgbouncer": [theirs]})
    return verdict.word


@pytest.mark.parametrize(("cpu_us", "expected"), [(8.0, "pass"), (8.5, "pass"), (8.6, "miss")])
def test_a_ceiling_may_be_touched(cpu_us, expected):
    assert word(Target("cpu", 0.85, "pgbouncer"), sample(cpu_us), sample(10.0)) == expected


@pytest.mark.parametrize(("tps", "expected"), [(1200, "pass"), (1150, "pass"), (1100, "miss")])
def test_a_floor_may_be_touched(tps, expected):
    target = Target("tx/s", 1.15, "pgbouncer", at_least=True)
    assert word(target, sample(tps=tps), sample(tps=1000)) == expected


def test_a_number_is_judged_by_itself_when_nobody_is_named():
    [verdict] = judge("case", [Target("cpu", 12.0)], {"pgweir": [sample(11.0)]})
    assert verdict.word == "pass"


@pytest.mark.parametrize(
    "samples", [{}, {"pgweir": [sample()]}, {"pgbouncer": [sample()]}, {"pgweir": [None]}]
)
def test_a_target_without_both_sides_is_not_measured(samples):
    [verdict] = judge("case", [Target("cpu", 1.0, "pgbouncer")], samples)
    assert verdict.word == "not measured"


def test_a_target_reads_as_in_the_table():
    assert str(Target("tx/s", 1.15, "pgbouncer", at_least=True)) == "tx/s / pgbouncer >= 1.15"


def test_every_target_names_a_metric_and_a_contestant_of_its_case():
    wrong = [
        (case.name, str(target))
        for case in CASES
        for target in case.targets
        if target.metric not in METRICS or target.versus not in (None, *case.contestants)
    ]
    assert wrong == []


def test_case_names_are_unique():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


def test_cases_of_one_rig_stand_together():
    # So that each rig is set up once.
    rigs = [case.rig for case in CASES]
    changes = sum(before != after for before, after in itertools.pairwise(rigs))
    assert changes == len(set(rigs)) - 1


def test_without_names_quick_takes_the_quick_ones():
    assert {case.name for case in choose(CASES, [], quick=True)} == {
        case.name for case in CASES if case.quick
    }


def test_a_beginning_takes_all_that_begin_so():
    chosen = [case.name for case in choose(CASES, ["share"], quick=False)]
    assert chosen == ["share-unnamed-8", "share-unnamed-64"]


def test_a_full_name_takes_only_itself():
    assert [case.name for case in choose(CASES, ["stub-simple-8"], quick=False)] == [
        "stub-simple-8"
    ]


def test_an_unknown_name_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match="stub-simple-64"):
        choose(CASES, ["nonsense"], quick=False)
