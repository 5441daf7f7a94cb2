"""The figures of the process itself."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.telemetry.process import RECOUNT_S, ProcessCollector


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def value_of(collector: ProcessCollector, name: str) -> float:
    (value,) = [metric.samples[0].value for metric in collector.collect() if metric.name == name]
    return value


@contextmanager
def ten_more_descriptors() -> Iterator[None]:
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(10)]
    try:
        yield
    finally:
        for fd in opened:
            os.close(fd)


@pytest.mark.parametrize("lists_fds", [None, True], ids=["as the kernel can", "by listing"])
def test_open_descriptors_are_counted(lists_fds: bool | None) -> None:
    before = value_of(ProcessCollector(lists_fds=lists_fds), "process_open_fds")
    with ten_more_descriptors():
        after = value_of(ProcessCollector(lists_fds=lists_fds), "process_open_fds")
    assert after == before + 10


def test_descriptors_that_must_be_listed_are_not_listed_at_every_scrape() -> None:
    collector = ProcessCollector(Clock(), lists_fds=True)
    before = value_of(collector, "process_open_fds")
    with ten_more_descriptors():
        assert value_of(collector, "process_open_fds") == before


def test_descriptors_that_must_be_listed_are_listed_again_after_a_while() -> None:
    clock = Clock()
    collector = ProcessCollector(clock, lists_fds=True)
    before = value_of(collector, "process_open_fds")
    clock.now_s += RECOUNT_S
    with ten_more_descriptors():
        assert value_of(collector, "process_open_fds") == before + 10


@pytest.mark.parametrize(
    "name",
    [
        "process_cpu_seconds",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
        "process_resident_memory_bytes",
        "process_max_fds",
    ],
)
def test_a_figure_of_a_running_process_is_positive(name: str) -> None:
    assert value_of(ProcessCollector(), name) > 0
