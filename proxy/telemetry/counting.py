"""Counting in the control plane, where an event costs microseconds anyway.

The data plane counts in C integers instead. Both end in a `Figures`. Used from the event loop only.
"""

from bisect import bisect_left
from collections.abc import Hashable
from typing import Generic, TypeVar

from proxy.telemetry.figures import BUCKET_BOUNDS_S, Histogram

Key = TypeVar("Key", bound=Hashable)


class Tally(Generic[Key]):
    """How often each of a bounded number of things happened.

    overflow: the key that takes the count of every new key once there are max_keys of them, so a
    peer that invents keys (an SQLSTATE by RAISE, say) cannot fill our memory or Prometheus's.
    """

    def __init__(self, overflow: Key, max_keys: int = 1000) -> None:
        self._overflow = overflow
        self._max_keys = max_keys
        self._counts: dict[Key, int] = {}

    def add(self, key: Key, count: int = 1) -> None:
        """Count `key` once, or `count` times."""
        counts = self._counts
        if key not in counts and len(counts) >= self._max_keys:
            key = self._overflow
        counts[key] = counts.get(key, 0) + count

    def read(self) -> dict[Key, int]:
        """All counts so far, as a copy."""
        return dict(self._counts)


class Durations:
    """Durations counted into the buckets of a `Histogram`."""

    def __init__(self, bounds_s: tuple[float, ...] = BUCKET_BOUNDS_S) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def add(self, duration_s: float, times: int = 1) -> None:
        """Count one duration, seconds, so many times; a negative one (a clock set back) as 0."""
        duration_s = max(duration_s, 0.0)
        self._counts[bisect_left(self._bounds_s, duration_s)] += times
        self._sum_s += duration_s * times

    def read(self) -> Histogram:
        """All durations so far."""
        return Histogram(self._bounds_s, tuple(self._counts), self._sum_s)
