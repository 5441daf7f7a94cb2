"""Which replicas may answer? By their lag, with a gap between leaving and coming back. Pure.

A replica leaves when it is behind by more than a limit, and comes back when it is behind by less
than half of it: one that is at the limit does not go in and out with every sample.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """How a replica stands. lag_s, lag_bytes: None when unknown. stale: nothing reaches it."""

    name: str
    lag_s: float | None
    lag_bytes: int | None
    stale: bool


class Rotation:
    """The replicas of one cluster that may answer.

    max_lag_s, max_lag_bytes: 0 is no limit. Nothing is known of a replica that is new: it is in
    when it is within the limits.
    """

    def __init__(self, max_lag_s: float, max_lag_bytes: int) -> None:
        self._max_lag_s = max_lag_s
        self._max_lag_bytes = max_lag_bytes
        self._out: dict[str, str] = {}

    def update(self, standings: Iterable[Standing]) -> dict[str, str]:
        """Look at all replicas. Result: those that are out, with the reason."""
        out = {}
        for each in standings:
            reason = self._reason(each, self._out.get(each.name))
            if reason is not None:
                out[each.name] = reason
        self._out = out
        return out

    def _reason(self, standing: Standing, was_out: str | None) -> str | None:
        if standing.stale:
            return "stale: nothing new reaches it"
        part = 1.0 if was_out is None else 0.5
        if self._max_lag_s:
            if standing.lag_s is None:
                return "its lag in time is not known"
            if standing.lag_s > self._max_lag_s * part:
                return f"behind by {standing.lag_s:.1f} s, max_lag is {self._max_lag_s:g} s"
        if self._max_lag_bytes:
            if standing.lag_bytes is None:
                return "its lag in bytes is not known"
            if standing.lag_bytes > self._max_lag_bytes * part:
                return (
                    f"behind by {standing.lag_bytes} bytes, max_lag_bytes is {self._max_lag_bytes}"
                )
        return None
