"""The last minutes, point by point."""

from dataclasses import replace

import pytest

from proxy.telemetry import (
    BUCKET_BOUNDS_S,
    Durations,
    Histogram,
    History,
    Point,
    Totals,
    latency_of,
    points_of,
    spans_of_all,
)


def of(*durations_s: float) -> Histogram:
    counted = Durations()
    for duration_s in durations_s:
        counted.add(duration_s)
    return counted.read()


def points(history: History) -> list[Point]:
    return points_of(history.spans())


START = Totals(at_s=1000.0, clock_s=50.0)


def test_one_reading_is_no_point_yet() -> None:
    history = History()
    history.add(START)
    assert points(history) == []


def test_a_point_has_rates_a_second() -> None:
    history = History()
    history.add(START)
    history.add(replace(START, clock_s=52.0, queries=100, transactions=40, errors=3, clients=7))
    (point,) = points(history)
    assert (point.queries, point.transactions, point.errors, point.clients) == (50, 20, 1.5, 7)


def test_counters_that_went_with_their_pool_are_no_negative_rate() -> None:
    history = History()
    history.add(replace(START, queries=100, durations=of(0.1, 0.1)))
    history.add(replace(START, clock_s=51.0, queries=10, durations=of(0.1)))
    (point,) = points(history)
    assert (point.queries, point.p50_s) == (0, None)


def test_two_readings_of_one_moment_are_one() -> None:
    history = History()
    history.add(START)
    history.add(replace(START, queries=5))
    assert points(history) == []


def test_percentiles_of_a_point_are_of_its_own_time_alone() -> None:
    history = History()
    history.add(replace(START, durations=of(9.0, 9.0, 9.0)))
    history.add(replace(START, clock_s=51.0, durations=of(9.0, 9.0, 9.0, 0.0009)))
    (point,) = points(history)
    assert point.p99_s is not None
    assert point.p99_s < 0.001


def test_points_are_bounded_and_the_oldest_goes() -> None:
    history = History(kept_points=3)
    for second in range(10):
        history.add(replace(START, clock_s=50.0 + second, at_s=1000.0 + second))
    assert [point.at_s for point in points(history)] == [1007, 1008, 1009]


def test_the_latency_is_of_the_last_minute() -> None:
    history = History()
    seen: list[float] = [5.0] * 100
    history.add(replace(START, durations=of(*seen)))
    for second in range(1, 121):
        seen.append(0.0004)
        history.add(replace(START, clock_s=50.0 + second, durations=of(*seen)))
    latency = latency_of(history.spans())
    assert (latency.count, latency.window_s) == (60, 60)
    assert latency.p99_s is not None
    assert latency.p99_s < 0.001


def test_nothing_that_ran_has_no_percentiles() -> None:
    history = History()
    history.add(START)
    history.add(replace(START, clock_s=51.0))
    assert latency_of(history.spans()).p95_s is None


def test_the_spans_of_processes_are_added_second_by_second() -> None:
    own, other = History(), History()
    for history, began_s, each in ((own, 50.02, 10), (other, 50.09, 5)):
        for second in range(5):
            history.add(
                replace(
                    START,
                    clock_s=began_s + second,
                    queries=each * second,
                    clients=each,
                    durations=of(*[0.0002] * each * second),
                )
            )
    both = spans_of_all(own.spans(), [other.spans()])
    assert [(span.queries, span.clients, span.durations.count) for span in both] == [
        (15, 15, 15)
    ] * 4


def test_a_second_that_not_all_have_told_of_is_not_shown_yet() -> None:
    own, other = History(), History()
    for second in range(4):
        own.add(replace(START, clock_s=50.0 + second, queries=second))
    for second in range(3):
        other.add(replace(START, clock_s=50.5 + second, queries=second))
    assert [span.second for span in spans_of_all(own.spans(), [other.spans()])] == [51, 52]


def test_a_process_that_came_later_hides_nothing_of_the_others() -> None:
    own, late = History(), History()
    for second in range(4):
        own.add(replace(START, clock_s=50.0 + second, queries=second))
    for second in range(2, 4):
        late.add(replace(START, clock_s=50.0 + second, queries=10 * second))
    spans = spans_of_all(own.spans(), [late.spans(), []])
    assert [span.queries for span in spans] == [1, 1, 11]


@pytest.mark.parametrize(
    ("durations_s", "share", "least", "most"),
    [
        ([0.0002] * 100, 0.5, 0.0001, 0.00025),
        ([0.0002] * 99 + [4.0], 0.95, 0.0001, 0.00025),
        ([0.0002] * 90 + [4.0] * 10, 0.95, 2.5, 5.0),
        ([60.0], 0.5, 10.0, 10.0),
    ],
)
def test_a_quantile_lies_in_the_bucket_of_its_rank(
    durations_s: list[float], share: float, least: float, most: float
) -> None:
    quantile_s = of(*durations_s).quantile_s(share)
    assert quantile_s is not None
    assert least <= quantile_s <= most


def test_buckets_reach_from_a_tenth_of_a_millisecond_to_ten_seconds() -> None:
    assert (BUCKET_BOUNDS_S[0], BUCKET_BOUNDS_S[-1]) == (0.0001, 10.0)
