"""Seats that several processes take of one number."""

import os
from collections import Counter

import pytest

from proxy.workers.seats import Seats


def test_a_limit_is_that_of_all_processes_together() -> None:
    seats = Seats(2)
    assert seats.take(0, {"user app": 2}) is None
    assert seats.take(1, {"user app": 2}) is None
    assert [seats.take(process, {"user app": 2}) for process in (0, 1)] == ["user app"] * 2
    seats.give_back(0, ["user app"])
    assert seats.take(1, {"user app": 2}) is None
    assert seats.taken("user app") == 2


def test_none_is_taken_where_one_of_several_is_full() -> None:
    seats = Seats(2)
    assert seats.take(0, {"all": 0, "user app": 1}) is None
    assert seats.take(1, {"all": 0, "user app": 1}) == "user app"
    assert (seats.taken("all"), seats.taken("user app")) == (1, 1)


def test_zero_is_no_limit_and_is_counted_all_the_same() -> None:
    seats = Seats(2)
    for _ in range(10):
        assert seats.take(1, {"all": 0}) is None
    assert seats.take(0, {"all": 10}) == "all"


def test_what_a_process_had_that_died_is_free() -> None:
    seats = Seats(2)
    assert seats.take(0, {"all": 2}) is None
    assert seats.take(1, {"all": 2}) is None
    seats.forget(0)
    assert seats.taken("all") == 1


def test_names_that_come_and_go_find_room() -> None:
    seats = Seats(1)
    for number in range(70_000):
        assert seats.take(0, {f"database {number}": 1}) is None
        seats.give_back(0, [f"database {number}"])


@pytest.mark.parametrize("limit", [1, 50])
def test_processes_that_come_at_once_take_no_more_than_there_are(limit: int) -> None:
    seats = Seats(4)
    read_end, write_end = os.pipe()
    children = []
    for process in range(4):
        pid = os.fork()
        if pid == 0:
            for _ in range(100):
                if seats.take(process, {"all": limit, "user app": limit}) is None:
                    os.write(write_end, bytes([process]))
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    os.close(write_end)
    with os.fdopen(read_end, "rb") as reader:
        assert Counter(reader.read()).total() == limit == seats.taken("all")
