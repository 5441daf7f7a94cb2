"""One machine that stands for several: processes with a share of a core for themselves."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import rounds
from benchmarks.cases import CASES, choose
from benchmarks.children import Children
from benchmarks.failure import BenchmarkError
from benchmarks.quotas import Quota, find_hierarchy, limit, quotas

needs_quotas = pytest.mark.skipif(
    find_hierarchy() is None, reason="needs root and cgroups for quotas of CPU"
)


def files(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_the_first_version_s_hierarchy_is_the_one_of_the_cpu(tmp_path: Path):
    folder = files(tmp_path / "cpu", "cpu.shares")
    assert find_hierarchy(tmp_path) == folder


def test_the_second_version_has_one_hierarchy(tmp_path: Path):
    folder = files(tmp_path / "mount", "cgroup.subtree_control")
    assert find_hierarchy(folder) == folder


def test_without_a_hierarchy_there_are_no_quotas(tmp_path: Path):
    assert find_hierarchy(tmp_path) is None


def test_the_first_version_takes_a_quota_for_each_period(tmp_path: Path):
    group = files(tmp_path / "group", "cpu.cfs_quota_us", "cpu.cfs_period_us")
    limit(group, 0.2)
    period, quota = (group / f"cpu.cfs_{what}_us" for what in ("period", "quota"))
    assert int(quota.read_text()) == int(period.read_text()) * 0.2


def test_the_second_version_takes_both_at_once(tmp_path: Path):
    files(tmp_path / "mount", "cgroup.subtree_control")
    group = files(tmp_path / "mount" / "group", "cpu.max")
    limit(group, 0.5)
    quota, period = (group / "cpu.max").read_text().split()
    assert int(quota) == int(period) * 0.5


def test_a_group_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(BenchmarkError, match="no quota of CPU for process 1"):
        Quota(tmp_path / "gone").take_in({1})


@needs_quotas
def test_who_has_used_up_his_share_pauses():
    with quotas(1, 0.1) as [quota]:
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            quota.take_in({busy.pid})
            deadline = time.monotonic() + 30
            while not has_paused(quota) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert has_paused(quota)
        finally:
            busy.kill()
            busy.wait(timeout=30)


def has_paused(quota: Quota) -> bool:
    words = (quota.folder / "cpu.stat").read_text().split()
    return int(words[words.index("nr_throttled") + 1]) > 0


@needs_quotas
def test_a_process_that_has_ended_is_passed_over():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(timeout=30)
    with quotas(1, 0.5) as [quota]:
        quota.take_in({gone.pid})


@needs_quotas
def test_groups_are_gone_at_the_end():
    with quotas(2, 0.1) as made:
        assert all(quota.folder.is_dir() for quota in made)
    assert not any(quota.folder.exists() for quota in made)


def test_where_there_are_no_quotas_cases_that_need_them_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rounds, "find_hierarchy", lambda: None)
    cases = choose(CASES, ["nodes-simple-24"], quick=False)
    with Children(tmp_path) as children:
        [result] = rounds.run_cases(
            cases, rounds.Plan(("pgweir",), 1, 1), children, tmp_path, lambda step: None
        )
    assert (result.samples, [verdict.word for verdict in result.verdicts]) == ({}, ["not measured"])
    assert "cgroups" in result.notes[0]
