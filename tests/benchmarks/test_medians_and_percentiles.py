"""The arithmetic of samples."""

import pytest

from benchmarks.samples import Sample, median_of, median_ratio, percentile


def sample(cpu_us: float = 10.0, transactions: int = 1000, seconds: float = 1.0) -> Sample:
    return Sample(
        transactions=transactions,
        seconds=seconds,
        errors=0,
        cpu_us=cpu_us,
        server_cpu_us=5.0,
        busy=0.5,
        p50_ms=1.0,
        p95_ms=2.0,
        p99_ms=3.0,
    )


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)]
)
def test_a_percentile_is_a_value_that_occurred(share, expected):
    values = list(range(100, 0, -1))
    assert percentile(values, share) == expected


def test_a_percentile_of_one_value_is_that_value():
    assert percentile([7.0], 0.99) == 7.0


def test_a_percentile_of_nothing_is_zero():
    assert percentile([], 0.5) == 0.0


def test_a_percentile_leaves_its_input_alone():
    values = [3.0, 1.0, 2.0]
    percentile(values, 0.5)
    assert values == [3.0, 1.0, 2.0]


def test_throughput_is_transactions_by_seconds():
    assert sample(transactions=3000, seconds=1.5).tps == 2000


def test_total_cpu_is_that_of_proxy_and_server():
    assert sample(cpu_us=10).total_cpu_us == 15


def test_the_median_of_rounds_ignores_one_bad_round():
    assert median_of([sample(9), sample(10), sample(90)], "cpu") == 10


def test_what_was_not_measured_has_no_median():
    assert median_of([sample()], "KiB/client") is None


def test_a_ratio_is_taken_within_each_round():
    # A slow round hits both, so their ratio stays: 0.5 in every one of them.
    ours = [sample(5), sample(50), sample(6)]
    theirs = [sample(10), sample(100), sample(12)]
    assert median_ratio(ours, theirs, "cpu") == 0.5


def test_a_round_in_which_one_failed_has_no_ratio():
    assert median_ratio([None, sample(8)], [sample(1), sample(10)], "cpu") == 0.8


def test_without_a_common_round_there_is_no_ratio():
    assert median_ratio([None, sample()], [sample(), None], "cpu") is None
