"""How far behind is a replica? Bytes by position, seconds by what it can have missed. Pure.

Called by `judge` with facts that are already sorted out; knows nothing of roles and failures.
"""

from collections.abc import Sequence

from proxy.cluster.view import Sample


def primary_position(samples: Sequence[Sample], at: float, last_known: int | None) -> int | None:
    """Where the primary's WAL ended at the time `at`, or None when it was never seen.

    samples: the primary's, oldest first. last_known: its newest known position.

    The two nodes are not asked at the same instant, and between two rounds of probes a busy
    primary writes more than most limits on lag: comparing the newest of each would show lag where
    there is none. So the position is interpolated between the primary's samples around `at`; with
    none after it, the newest before it is taken.
    """
    seen = [(s.at, s.insert_lsn) for s in samples if s.ok and s.insert_lsn is not None]
    before = [point for point in seen if point[0] <= at]
    after = [point for point in seen if point[0] > at]
    if before and after:
        (start, low), (end, high) = before[-1], after[0]
        return low + int((high - low) * (at - start) / (end - start))
    if before:
        return before[-1][1]
    return after[0][1] if after else last_known


def lag_in_bytes(primary_lsn: int | None, replay_lsn: int | None) -> int | None:
    """WAL written and not replayed, bytes, never negative; None when either end is unknown."""
    if primary_lsn is None or replay_lsn is None:
        return None
    return max(0, primary_lsn - replay_lsn)


def has_replayed_all(sample: Sample) -> bool:
    """Whether a standby has replayed everything it received.

    A receive position below the replay position is normal: a restarted WAL receiver starts again
    at the beginning of a segment, and WAL may have come from the archive.
    """
    if sample.replay_lsn is None:
        return False
    return sample.receive_lsn is None or sample.receive_lsn <= sample.replay_lsn


def lag_in_seconds(sample: Sample, caught_up_at: float | None) -> float | None:
    """Upper bound of the age of what a standby shows, seconds; None when nothing bounds it.

    sample: a successful one. caught_up_at: when it was last seen streaming with all replayed.

    Streaming and all received replayed: 0, whatever `pg_last_xact_replay_timestamp` says, which
    on an idle system is the age of the last write and not a lag. Otherwise the data is as of the
    last transaction replayed, or as of the last time it was caught up, whichever is later; the
    second keeps the first write after a quiet hour from looking like a lag of an hour.
    """
    if sample.streaming and has_replayed_all(sample):
        return 0.0
    bounds = []
    if sample.replay_age_s is not None:
        # Negative when the primary's clock runs ahead of the replica's.
        bounds.append(max(0.0, sample.replay_age_s))
    if caught_up_at is not None:
        bounds.append(max(0.0, sample.at - caught_up_at))
    return min(bounds) if bounds else None
