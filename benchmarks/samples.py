"""What one turn measured, and what many turns say together. Pure.

A machine that does other things as well makes every number worse for a while, for whoever has the
turn. So contestants take turns in every round, ratios are taken within a round, and what counts is
the median of the rounds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Sample:
    """One turn of one contestant.

    cpu_us: CPU time of the proxy's processes for each transaction, microseconds.
    server_cpu_us: the same of the server's processes.
    busy: share of one core that the proxy used, 1.0 is all of it.
    p50_ms, p95_ms, p99_ms: latency of a transaction as its client saw it, milliseconds; with a
    connection for each transaction it includes connecting.
    kib_per_client: resident memory for each client beyond the proxy's own, where it was measured.
    others: share of the machine that processes outside the benchmark used meanwhile, 0 to 1.
    """

    transactions: int
    seconds: float
    errors: int
    cpu_us: float
    server_cpu_us: float
    busy: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    kib_per_client: float | None = None
    others: float = 0.0

    @property
    def tps(self) -> float:
        """Transactions for each second."""
        return self.transactions / self.seconds if self.seconds > 0 else 0.0

    @property
    def total_cpu_us(self) -> float:
        """CPU time of proxy and server together, microseconds for each transaction."""
        return self.cpu_us + self.server_cpu_us


METRICS: Mapping[str, Callable[[Sample], float | None]] = {
    "cpu": lambda sample: sample.cpu_us,
    "total cpu": lambda sample: sample.total_cpu_us,
    "tx/s": lambda sample: sample.tps,
    "busy": lambda sample: sample.busy,
    "p50": lambda sample: sample.p50_ms,
    "p95": lambda sample: sample.p95_ms,
    "p99": lambda sample: sample.p99_ms,
    "KiB/client": lambda sample: sample.kib_per_client,
    "others": lambda sample: sample.others,
    "errors": lambda sample: sample.errors,
}
"""What can be asked of a sample, by the name that tables and targets use."""


def percentile(values: Sequence[float], share: float) -> float:
    """Give the smallest of `values` that at least `share` of them do not exceed; 0 for none.

    values: in any order. share: 0 to 1. The nearest rank, not an interpolation: the answer is a
    latency that somebody had.
    """
    if not values:
        return 0.0
    ranked = sorted(values)
    # 0.95 × 100 is 95.00000000000001 less its rounding: take the rank that was meant.
    rank = -(-round(share * len(ranked) * 1e6) // 1_000_000)
    return ranked[max(0, min(len(ranked), rank) - 1)]


def median_of(samples: Sequence[Sample], metric: str) -> float | None:
    """Give the median of one metric over the rounds; None when it was not measured."""
    values = [value for sample in samples if (value := METRICS[metric](sample)) is not None]
    return median(values) if values else None


def median_ratio(
    ours: Sequence[Sample | None], theirs: Sequence[Sample | None], metric: str
) -> float | None:
    """Give the median over the rounds of ours / theirs; None when no round has both.

    ours, theirs: one entry for each round, None where that turn failed.
    """
    ratios = []
    for mine, yours in zip(ours, theirs, strict=True):
        if mine is None or yours is None:
            continue
        above, below = METRICS[metric](mine), METRICS[metric](yours)
        if above is not None and below:
            ratios.append(above / below)
    return median(ratios) if ratios else None
