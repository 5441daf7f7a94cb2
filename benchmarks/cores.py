"""Which cores the proxies get and which the load. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.failure import BenchmarkError


@dataclass(frozen=True)
class Cores:
    """Cores for the proxy, for the server and for the load; None leaves it to the kernel."""

    proxy: frozenset[int] | None = None
    server: frozenset[int] | None = None
    load: frozenset[int] | None = None


def assign(available: Sequence[int], *, pinned: bool) -> Cores:
    """Give the proxy a core of its own, and everybody else the others.

    With two cores, server and load share one. On larger machines the server has its own as well and
    the load has all that is left, so that the proxy's core is the one that is full.
    Raises BenchmarkError on a machine with a single core: nothing could be told apart there.
    """
    if not pinned:
        return Cores()
    if len(available) < 2:
        raise BenchmarkError("at least two cores are needed: one for the proxy, one for the load")
    first, second, *others = sorted(available)
    return Cores(frozenset({first}), frozenset({second}), frozenset(others or {second}))
