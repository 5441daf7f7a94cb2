"""What a replica must have replayed, by when things were written and what was asked since."""

import os
import time

import pytest

from proxy.relay import Horizon, WriteTimes


@pytest.fixture
def horizon() -> Horizon:
    return Horizon(WriteTimes(), "main")


def later(seconds: float) -> float:
    return time.monotonic() + seconds


def test_the_first_position_asked_for_behind_a_write_has_it(horizon: Horizon) -> None:
    times = [later(each) for each in range(1, 6)]
    for lsn, at_s in enumerate(times, 101):
        horizon.sample(at_s, lsn)
    assert horizon.lsn_after(times[2]) == 104
    assert horizon.lsn_after(times[2] - 0.5) == 103
    assert horizon.lsn_after(0.0) == 101
    assert horizon.lsn_after(times[4]) is None


def test_of_many_positions_the_newest_are_kept(horizon: Horizon) -> None:
    start = later(1)
    for number in range(3000):
        horizon.sample(start + number, number)
    assert horizon.lsn_after(start + 2500.5) == 2501
    # What is older counts as if it had been written when the oldest of them was not yet asked for.
    assert horizon.lsn_after(start) == 3000 - 1024


def test_what_was_written_before_the_proxy_started_is_waited_for(horizon: Horizon) -> None:
    assert horizon.least_lsn is None
    horizon.sample(later(1), 7)
    assert horizon.least_lsn == 7


def test_positions_of_another_timeline_count_no_more(horizon: Horizon) -> None:
    horizon.sample(later(1), 500)
    assert horizon.least_lsn == 500
    horizon.turn(later(2))
    assert horizon.least_lsn is None
    # It was asked for before the new primary was one.
    horizon.sample(later(1.5), 501)
    assert horizon.least_lsn is None
    horizon.sample(later(3), 450)
    assert horizon.least_lsn == 450


def test_another_process_knows_what_was_written() -> None:
    times = WriteTimes()
    own = Horizon(times, "main")
    written_s = later(5)
    pid = os.fork()
    if pid == 0:
        Horizon(times, "main").doubt(written_s)
        os._exit(0)
    os.waitpid(pid, 0)
    assert own.written_s == written_s
    # An older time does not undo a newer one.
    own.doubt(later(0))
    assert own.written_s == written_s


def test_clusters_do_not_wait_for_each_other() -> None:
    times = WriteTimes()
    own = Horizon(times, "main")
    # By chance, some of them share its place.
    others = [Horizon(times, f"other {number}") for number in range(20)]
    own.doubt(later(50))
    assert any(each.written_s < later(1) for each in others)
