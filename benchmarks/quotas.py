"""How much CPU processes may use: so that one machine can stand for several.

A node whose share of a core is its own, whatever proxy and load need beside it, is what is full
first, as on a machine of its own.

Source: Linux, Documentation/scheduler/sched-bwc.rst (cgroup v1, `cpu.cfs_quota_us`) and
Documentation/admin-guide/cgroup-v2.rst (`cpu.max`).
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.failure import BenchmarkError

_CGROUPS = Path("/sys/fs/cgroup")
# Who has used up his share pauses for 10 ms at most; the kernel's own 100 would show as latency.
_PERIOD_US = 10_000


@dataclass(frozen=True)
class Quota:
    """Processes that together use no more than a share. folder: their group's, in the kernel."""

    folder: Path

    def take_in(self, pids: Collection[int]) -> None:
        """Put processes under the quota, and all that they start. Raises BenchmarkError."""
        for pid in pids:
            try:
                (self.folder / "cgroup.procs").write_text(str(pid))
            except ProcessLookupError:
                continue  # it ended meanwhile
            except OSError as error:
                raise BenchmarkError(f"no quota of CPU for process {pid}: {error}") from None


def find_hierarchy(mount: Path = _CGROUPS) -> Path | None:
    """Where we may make groups with a quota, in either version of cgroups; None when nowhere."""
    for mark in (mount / "cpu" / "cpu.shares", mount / "cgroup.subtree_control"):
        if mark.exists() and os.access(mark, os.W_OK) and os.access(mark.parent, os.W_OK):
            return mark.parent
    return None


@contextmanager
def quotas(count: int, share: float) -> Iterator[tuple[Quota, ...]]:
    """Make so many groups, each with `share` of one core (0.2 is a fifth), and remove them again.

    Whoever is in them must have ended by then. Raises BenchmarkError when the kernel refuses.
    """
    hierarchy = find_hierarchy()
    if hierarchy is None:
        raise BenchmarkError("no quotas of CPU: they take root and the kernel's cgroups")
    made: list[Quota] = []
    try:
        for number in range(count):
            folder = hierarchy / f"pgweir-bench-{os.getpid()}-{number}"
            folder.mkdir()
            made.append(Quota(folder))
            limit(folder, share)
        yield tuple(made)
    finally:
        for quota in made:
            quota.folder.rmdir()


def limit(folder: Path, share: float) -> None:
    """Set what a group of either version may use, in cores. Raises BenchmarkError."""
    quota_us = round(share * _PERIOD_US)
    try:
        if (folder / "cpu.cfs_quota_us").exists():
            (folder / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (folder / "cpu.cfs_quota_us").write_text(str(quota_us))
        else:
            (folder.parent / "cgroup.subtree_control").write_text("+cpu")
            (folder / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")
    except OSError as error:
        raise BenchmarkError(f"no quota of CPU in {folder}: {error}") from None
