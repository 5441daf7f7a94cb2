"""Reading what pgbench says, and telling it what to do."""

from pathlib import Path

import pytest

from benchmarks.cases import PgbenchLoad
from benchmarks.pgbench import (
    PgbenchFailed,
    command,
    parse_log,
    parse_progress,
    parse_report,
    take_latencies,
)

REPORT = """\
pgbench (15.18 (Debian 15.18-0+deb12u1), server 16.4)
transaction type: select.sql
scaling factor: 1
query mode: simple
number of clients: 64
number of threads: 1
maximum number of tries: 1
duration: 1 s
number of transactions actually processed: 70123
number of failed transactions: 2 (0.003%)
latency average = 0.905 ms
initial connection time = 12.500 ms
tps = 70699.123456 (without initial connection time)
"""


def test_a_report_gives_what_was_processed():
    assert parse_report(REPORT).transactions == 70123


def test_a_report_gives_what_failed():
    assert parse_report(REPORT).failed == 2


def test_a_report_gives_the_rate_without_connecting():
    assert parse_report(REPORT).tps == pytest.approx(70699.123456)


def test_a_report_gives_the_time_of_connecting_in_seconds():
    assert parse_report(REPORT).connecting_s == pytest.approx(0.0125)


def test_a_report_by_number_of_transactions_has_a_slash():
    text = "number of transactions actually processed: 64/64\ntps = 10.5 (without ...)\n"
    assert parse_report(text).transactions == 64


def test_a_report_of_reconnecting_clients_has_no_initial_connection():
    text = (
        "number of transactions actually processed: 10\n"
        "average connection time = 3.1 ms\ntps = 10.5 (including reconnection times)\n"
    )
    assert parse_report(text).connecting_s == 0.0


def test_a_report_without_a_rate_is_a_failure():
    with pytest.raises(PgbenchFailed, match="NaN"):
        parse_report("number of transactions actually processed: 0\nfailed: 0 (NaN%)\n")


def test_latencies_come_from_the_third_column():
    lines = ["0 199 2241 0 1175850568 995598\n", "1 200 500 0 1175850569 608\n"]
    assert parse_log(lines) == [2.241, 0.5]


@pytest.mark.parametrize("word", ["failed", "serialization", "deadlock", "skipped"])
def test_transactions_without_a_latency_are_passed_over(word):
    assert parse_log([f"3 0 {word} 0 1499414498 84905\n"]) == []


def test_a_line_cut_short_is_passed_over():
    assert parse_log(["0 199 22"]) == []


def test_logs_of_all_threads_are_read_and_removed(tmp_path: Path):
    (tmp_path / "latency.77").write_text("0 1 1000 0 1 2\n")
    (tmp_path / "latency.77.1").write_text("1 1 3000 0 1 2\n")
    assert sorted(take_latencies(tmp_path / "latency")) == [1.0, 3.0]
    assert list(tmp_path.iterdir()) == []


PROGRESS = """\
progress: 1.0 s, 400.0 tps, lat 9.815 ms stddev 4.210, 0 failed
progress: 2.0 s, 1000.0 tps, lat 3.927 ms stddev 1.203, 0 failed
progress: 4.0 s, 2500.0 tps, lat 1.583 ms stddev 0.402, 0 failed
"""


def test_the_rate_after_warming_up_is_that_of_the_seconds_since():
    assert parse_progress(PROGRESS, 1) == pytest.approx((1000 + 2 * 2500) / 3)


def test_a_run_that_only_warmed_up_is_a_failure():
    with pytest.raises(PgbenchFailed, match="beyond warming up, 4 s"):
        parse_progress(PROGRESS, 4)


def test_latencies_of_warming_up_are_passed_over():
    lines = ["0 1 9000 0 100 500000\n", "0 2 4000 0 101 499999\n", "0 3 1000 0 101 500000\n"]
    assert parse_log(lines, 1) == [1.0]


def test_warming_up_comes_on_top_of_the_turn():
    words = command(PgbenchLoad(8, warm_up_s=2), 5432, seconds=1)
    assert (int(words[words.index("-T") + 1]) >= 3, "-P" in words) == (True, True)


def test_a_script_of_pgbench_is_named_not_read():
    words = command(PgbenchLoad(8, script="@tpcb-like"), 5432, seconds=1)
    assert words[words.index("-b") + 1] == "tpcb-like"


def test_a_script_of_ours_is_a_file_that_exists():
    words = command(PgbenchLoad(8), 5432, seconds=1)
    assert Path(words[words.index("-f") + 1]).is_file()


def test_without_seconds_each_client_does_one_transaction():
    words = command(PgbenchLoad(8), 5432, seconds=None)
    assert (words[words.index("-t") + 1], "-T" in words) == ("1", False)


def test_a_connection_for_each_transaction_is_asked_for():
    assert "-C" in command(PgbenchLoad(8, reconnect=True), 5432, seconds=1)


def test_there_are_never_more_threads_than_clients():
    words = command(PgbenchLoad(1), 5432, seconds=1, threads=6)
    assert words[words.index("-j") + 1] == "1"


def test_a_lone_client_is_logged_in_full(tmp_path: Path):
    words = command(PgbenchLoad(1), 5432, seconds=1, log_prefix=tmp_path / "x")
    assert not any("sampling" in word for word in words)
