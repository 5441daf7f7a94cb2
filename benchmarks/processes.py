"""What a process and its children cost: CPU time and memory, as the kernel counts them.

Source: Linux, Documentation/scheduler/sched-stats.rst (`/proc/PID/schedstat`: first number, time
spent on the CPU, nanoseconds) and proc(5) for `stat` and `status`.
"""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def family(root: int) -> set[int]:
    """Give `root` and every process below it, as of now; empty when it is gone."""
    parents = {pid: int(stat[1]) for pid in _pids() if (stat := _stat(pid))}
    if root not in parents:
        return set()
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def cpu_ns(root: int) -> int:
    """CPU time that a process, its threads and its children have used so far, nanoseconds.

    Threads and children that live are counted to the nanosecond; children that have ended, such as
    a backend whose client left, to the clock tick (10 ms for all of them together).
    """
    total = 0
    for pid in family(root):
        for task in _names(_PROC / str(pid) / "task"):
            with contextlib.suppress(OSError):
                path = _PROC / str(pid) / "task" / task / "schedstat"
                total += int(path.read_text().split()[0])
        if stat := _stat(pid):
            total += (int(stat[13]) + int(stat[14])) * _TICK_NS  # cutime, cstime
    return total


@dataclass(frozen=True)
class Look:
    """The machine at one moment, nanoseconds: how long it was busy, how long we were, the clock."""

    busy_ns: int
    ours_ns: int
    clock_ns: int


def look() -> Look:
    """Look at the whole machine: the first line of /proc/stat, without idle and I/O wait."""
    fields = (_PROC / "stat").read_text().partition("\n")[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields[:8])
    busy_ns = (user + nice + system + irq + softirq + steal) * _TICK_NS
    return Look(busy_ns, cpu_ns(os.getpid()), time.monotonic_ns())


def others_share(before: Look, after: Look) -> float:
    """Share of all cores that processes which are not ours used between two looks, 0 to 1.

    Time that a hypervisor gave to other machines (steal) counts as theirs.
    """
    room_ns = (after.clock_ns - before.clock_ns) * (os.cpu_count() or 1)
    theirs_ns = (after.busy_ns - before.busy_ns) - (after.ours_ns - before.ours_ns)
    return max(0.0, min(1.0, theirs_ns / room_ns)) if room_ns > 0 else 0.0


def resident_kib(root: int) -> int:
    """Resident memory of a process and its children, KiB; shared pages count for each of them."""
    return sum(_resident(pid) for pid in family(root))


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


def _pids() -> list[int]:
    return [int(name) for name in _names(_PROC) if name.isdigit()]


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 -- names are all that is wanted, and it is fast
    except OSError:
        return []


def _stat(pid: int) -> list[str] | None:
    """The fields of `stat` behind the name, which may itself hold blanks and brackets."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
