"""The readings of several processes as one. Pure."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import reduce
from typing import Any

from proxy.telemetry.figures import Figures, Histogram, PoolFigures, RedisFigures


def together(readings: Sequence[Figures]) -> Figures:
    """One reading of all; the first is that of the process that is asked."""
    if len(readings) == 1:
        return readings[0]
    merged: dict[str, Any] = {}
    for field in fields(Figures):
        values = [getattr(each, field.name) for each in readings]
        if field.name in _JOINED:
            merged[field.name] = dict(ChainMap(*values))
        else:
            merged[field.name] = values[0] if field.name in _ALIKE else reduce(_plus, values)
    return Figures(**merged)


# What every process sees or keeps to alike: nothing is to be added.
_ALIKE = frozenset({"version", "client_limit", "nodes"})
# What only some of them may know.
_JOINED = frozenset({"failover_duration_s", "split_brain"})


def _plus(one: Any, other: Any) -> Any:
    """Two readings of the same as one, whatever they are: numbers, histograms, or many of them."""
    if isinstance(one, Mapping):
        # A count of 0 is a reading as well.
        return {
            key: _plus(one[key], other[key]) if key in one and key in other else value
            for key, value in {**other, **one}.items()
        }
    if isinstance(one, Histogram | RedisFigures):
        return one.plus(other)
    if isinstance(one, PoolFigures):
        return PoolFigures(one.size + other.size, max(one.oldest_wait_s, other.oldest_wait_s))
    return one + other
