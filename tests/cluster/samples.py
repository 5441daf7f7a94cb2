"""Samples and clusters for tests, written short: a primary, a replica, a silence."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from proxy.cluster import (
    ClusterView,
    Failure,
    NodeAddress,
    Rules,
    Sample,
    first_view,
    judge,
)

OURS = 7_000_000_000_000_000_001
STRANGER = 7_000_000_000_000_000_002


def addresses(*names: str) -> list[NodeAddress]:
    return [NodeAddress(name, "127.0.0.1", 5432) for name in names]


def primary(
    at: float = 0.0, *, timeline: int | None = 1, lsn: int = 1000, **facts: object
) -> Sample:
    sample = Sample(
        at=at,
        round_trip_s=0.002,
        in_recovery=False,
        timeline=timeline,
        insert_lsn=lsn,
        read_only=False,
        server_version_num=180000,
        system_identifier=OURS,
        max_connections=100,
    )
    return replace(sample, **facts)  # type: ignore[arg-type]


def replica(
    at: float = 0.0,
    *,
    timeline: int | None = 1,
    received: int | None = 1000,
    replayed: int = 1000,
    **facts: object,
) -> Sample:
    sample = Sample(
        at=at,
        round_trip_s=0.002,
        in_recovery=True,
        timeline=timeline,
        receive_lsn=received,
        replay_lsn=replayed,
        replay_age_s=3600.0,
        streaming=True,
        read_only=False,
        server_version_num=180000,
        system_identifier=OURS,
        max_connections=100,
    )
    return replace(sample, **facts)  # type: ignore[arg-type]


def failed(
    at: float = 0.0, failure: Failure = Failure.UNREACHABLE, reason: str = "connection refused"
) -> Sample:
    return Sample(at=at, round_trip_s=0.001, failure=failure, reason=reason)


def refused_login(at: float = 0.0) -> Sample:
    return failed(at, Failure.LOGIN_REFUSED, "28P01 password authentication failed")


class Story:
    """A cluster to which things happen: each `then` adds samples and judges once."""

    def __init__(self, *names: str, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.view: ClusterView = first_view("main", addresses(*names), 0.0)
        self.samples: dict[str, list[Sample]] = {name: [] for name in names}

    def then(self, now: float, **seen: Sample | Sequence[Sample]) -> ClusterView:
        for name, what in seen.items():
            self.samples[name] += [what] if isinstance(what, Sample) else list(what)
        return self.look(now)

    def look(self, now: float) -> ClusterView:
        self.view = judge(self.view, self.samples, now, self.rules)
        return self.view


def judged(
    samples: Mapping[str, Sequence[Sample]], *, now: float = 1.0, rules: Rules | None = None
) -> ClusterView:
    """Judge a cluster nothing was known of before."""
    view = first_view("main", addresses(*samples), 0.0)
    return judge(view, samples, now, rules or Rules())
