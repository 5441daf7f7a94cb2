"""Counting in the control plane."""

import asyncio
import time

from proxy.telemetry import Durations, LoopLag, Tally


def test_a_tally_counts_each_key() -> None:
    tally = Tally[str](overflow="other")
    for key in ("a", "b", "a"):
        tally.add(key)
    assert tally.read() == {"a": 2, "b": 1}


def test_invented_keys_are_counted_together() -> None:
    tally = Tally[str](overflow="other", max_keys=2)
    for number in range(1000):
        tally.add(f"key{number}")
    assert tally.read() == {"key0": 1, "key1": 1, "other": 998}


def test_a_known_key_is_counted_even_when_the_tally_is_full() -> None:
    tally = Tally[str](overflow="other", max_keys=1)
    for key in ("a", "b", "a"):
        tally.add(key)
    assert tally.read() == {"a": 2, "other": 1}


def test_a_reading_does_not_change_afterwards() -> None:
    tally = Tally[str](overflow="other")
    reading = tally.read()
    tally.add("a")
    assert reading == {}


def test_a_duration_equal_to_a_bound_belongs_below_it() -> None:
    durations = Durations(bounds_s=(0.1, 1.0))
    for duration_s in (0.1, 1.0, 1.5):
        durations.add(duration_s)
    assert durations.read().counts == (1, 1, 1)


def test_a_clock_set_back_counts_as_no_time() -> None:
    durations = Durations(bounds_s=(0.1,))
    durations.add(-5.0)
    assert (durations.read().counts, durations.read().sum_s) == ((1, 0), 0.0)


async def test_a_blocked_event_loop_is_seen() -> None:
    lag = LoopLag(asyncio.get_running_loop(), interval_s=0.01)
    lag.start()
    try:
        async with asyncio.timeout(5):
            while lag.read().sum_s < 0.05:
                time.sleep(0.1)  # noqa: ASYNC251 -- blocking is what is measured
                await asyncio.sleep(0)
    finally:
        lag.stop()
    assert lag.read().counts[-1] == 0


async def test_a_stopped_measurement_stays_stopped() -> None:
    loop = asyncio.get_running_loop()
    lag = LoopLag(loop, interval_s=0.001)
    lag.start()
    lag.stop()
    seen = lag.read()
    later = loop.create_future()
    loop.call_later(0.02, later.set_result, None)
    await later
    assert lag.read() == seen
