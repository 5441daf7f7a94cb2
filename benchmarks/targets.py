"""What is to be reached, and whether it was. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.samples import Sample, median_of, median_ratio

OURS = "pgweir"


@dataclass(frozen=True)
class Target:
    """A bound on one of our numbers, or on its ratio to somebody else's.

    metric: a name in `samples.METRICS`. versus: the contestant to divide by, None for the number
    itself. at_least: the bound is a floor, not a ceiling.
    """

    metric: str
    bound: float
    versus: str | None = None
    at_least: bool = False

    def __str__(self) -> str:
        """As it stands in the table: `cpu / pgbouncer <= 0.85`."""
        of = f"{self.metric} / {self.versus}" if self.versus else self.metric
        return f"{of} {'>=' if self.at_least else '<='} {self.bound:g}"


@dataclass(frozen=True)
class Verdict:
    """A target with what was measured; `measured` is None when it could not be."""

    case: str
    target: Target
    measured: float | None

    @property
    def word(self) -> str:
        """`pass`, `miss` or `not measured`."""
        if self.measured is None:
            return "not measured"
        bound = self.target.bound
        # What is judged is what is shown: two digits behind the point.
        seen = round(self.measured, 2)
        return "pass" if (seen >= bound if self.target.at_least else seen <= bound) else "miss"


def judge(
    case: str, targets: Sequence[Target], samples: Mapping[str, Sequence[Sample | None]]
) -> list[Verdict]:
    """Compare our samples with each target.

    samples: for each contestant one entry a round, None where the turn failed.
    """
    ours = samples.get(OURS, ())
    verdicts = []
    for target in targets:
        if target.versus is None:
            measured = median_of([sample for sample in ours if sample], target.metric)
        elif target.versus in samples and ours:
            measured = median_ratio(ours, samples[target.versus], target.metric)
        else:
            measured = None
        verdicts.append(Verdict(case, target, measured))
    return verdicts
