"""CPU, memory and descriptors of this process, under the names every Prometheus client uses.

prometheus-client has a collector of its own for these; it counts descriptors by listing
/proc/self/fd, which takes 48 ms with 12,000 of them, on the event loop, while every client waits.
"""

import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_FDS = Path("/proc/self/fd")

RECOUNT_S = 60.0
"""Where the kernel makes us list the descriptors, we do so no more often than this."""


class ProcessCollector(Collector):
    """`process_*`, from /proc (proc_pid_stat(5), proc_pid_fd(5)).

    clock: seconds, monotonic. lists_fds: whether descriptors must be listed to be counted; by
    default asked of the kernel: since Linux 6.2 the folder's size is their number, before it is 0.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, lists_fds: bool | None = None
    ) -> None:
        self._clock = clock
        self._lists_fds = _FDS.stat().st_size == 0 if lists_fds is None else lists_fds
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._page_bytes = resource.getpagesize()
        self._boot_time_s = _read_boot_time_s()
        self._open_fds = 0
        self._counted_at_s: float | None = None

    def describe(self) -> list[Metric]:
        """Every metric of the process; reading them once is the cheapest description."""
        return list(self.collect())

    def collect(self) -> Iterator[Metric]:
        """Every metric of the process, now."""
        # The command's name stands in parentheses and may hold anything; fields follow the last.
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        user_s, system_s = int(fields[11]) / self._ticks_per_s, int(fields[12]) / self._ticks_per_s
        start_s = self._boot_time_s + int(fields[19]) / self._ticks_per_s
        yield CounterMetricFamily(
            "process_cpu_seconds",
            "Total user and system CPU time spent in seconds.",
            user_s + system_s,
        )
        yield _gauge("start_time_seconds", "Start time since the Unix epoch in seconds.", start_s)
        yield _gauge("virtual_memory_bytes", "Virtual memory size in bytes.", int(fields[20]))
        yield _gauge(
            "resident_memory_bytes",
            "Resident memory size in bytes.",
            int(fields[21]) * self._page_bytes,
        )
        yield _gauge("open_fds", "Number of open file descriptors.", self._count_fds())
        yield _gauge(
            "max_fds",
            "Maximum number of open file descriptors.",
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        )

    def _count_fds(self) -> int:
        if not self._lists_fds:
            return _FDS.stat().st_size
        now_s = self._clock()
        if self._counted_at_s is None or now_s - self._counted_at_s >= RECOUNT_S:
            self._counted_at_s = now_s
            self._open_fds = sum(1 for _ in _FDS.iterdir())
        return self._open_fds


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"process_{name}", meaning, value)


def _read_boot_time_s() -> float:
    """When the machine started, seconds since the Unix epoch; 0 where /proc/stat does not say."""
    for line in Path("/proc/stat").read_text("ascii").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
