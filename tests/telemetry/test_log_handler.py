"""Where lines go, and that no reader of them can stop or kill the proxy."""

import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from proxy.errors import ProxyBug
from proxy.telemetry import configure
from proxy.telemetry.log import LineHandler

log = logging.getLogger("pgweir.test")


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    names = ("pgweir", "asyncio", "aiohttp", "py.warnings")
    before = {name: logging.getLogger(name).level for name in names}
    yield
    for name, level in before.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        for handler in [found for found in logger.handlers if isinstance(found, LineHandler)]:
            logger.removeHandler(handler)


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield reader, stream
    os.close(reader)


def our_handler() -> LineHandler:
    (handler,) = [
        found for found in logging.getLogger("pgweir").handlers if isinstance(found, LineHandler)
    ]
    return handler


def test_a_line_goes_to_the_stream() -> None:
    stream = io.StringIO()
    configure("info", "text", stream)
    log.info("client connected", extra={"facts": {"database": "app"}})
    assert stream.getvalue().endswith(" INFO client connected database=app\n")


def test_a_line_goes_to_a_file(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        configure("info", "text", stream)
        log.info("ready")
    assert (tmp_path / "log").read_text().endswith(" INFO ready\n")


def test_json_is_one_object_per_line() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    log.info("one")
    log.info("two")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == [
        "one",
        "two",
    ]


def test_below_the_level_nothing_is_logged() -> None:
    stream = io.StringIO()
    configure("warning", "text", stream)
    log.info("client connected")
    assert stream.getvalue() == ""


def test_below_the_level_facts_are_not_looked_at() -> None:
    class Untouchable:
        def __str__(self) -> str:
            raise AssertionError("looked at")

    configure("warning", "text", io.StringIO())
    log.info("client connected", extra={"facts": {"user": Untouchable()}})
    assert our_handler().lost == 0


def test_configured_twice_a_line_is_logged_once() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("info", "text", first)
    configure("info", "text", second)
    log.info("ready")
    assert (first.getvalue(), second.getvalue().count("ready")) == ("", 1)


def test_a_library_s_warning_is_one_line_of_ours() -> None:
    stream = io.StringIO()
    configure("info", "text", stream)
    logging.getLogger("asyncio").warning("peer said %s", "x\ny")
    assert stream.getvalue().endswith(" WARNING peer said x\\ny\n")


def test_a_library_s_chatter_is_left_out() -> None:
    stream = io.StringIO()
    configure("debug", "text", stream)
    logging.getLogger("asyncio").debug("Using selector: EpollSelector")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("level", "log_format"), [("loud", "text"), ("info", "xml")])
def test_a_level_or_format_there_is_not_is_our_bug(level: str, log_format: str) -> None:
    with pytest.raises(ProxyBug, match="no such log level or format"):
        configure(level, log_format, io.StringIO())  # type: ignore[arg-type]


def test_a_pipe_without_a_reader_does_not_raise() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        configure("info", "text", stream)
        os.close(reader)
        log.info("client connected")
        assert our_handler().lost == 1


def test_a_closed_stream_does_not_raise(pipe: tuple[int, TextIO]) -> None:
    _, stream = pipe
    configure("info", "text", stream)
    stream.close()
    log.info("client connected")
    assert our_handler().lost == 1


def test_a_fact_that_cannot_be_shown_does_not_raise() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    configure("info", "text", io.StringIO())
    log.info("client connected", extra={"facts": {"user": Broken()}})
    assert our_handler().lost == 1


@pytest.mark.timeout(20)
def test_a_reader_that_stops_does_not_stop_the_proxy(pipe: tuple[int, TextIO]) -> None:
    _, stream = pipe
    configure("info", "text", stream)
    for _ in range(5000):
        log.info("client connected", extra={"facts": {"user": "x" * 200}})
    assert our_handler().lost > 0


@pytest.mark.timeout(20)
def test_lost_lines_are_reported_when_the_reader_goes_on(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    configure("info", "text", stream)
    while not our_handler().lost:
        log.info("client connected", extra={"facts": {"user": "x" * 200}})
    os.read(reader, 1 << 20)
    log.info("client left")
    *_, report, line, _ = os.read(reader, 1 << 20).decode().split("\n")
    assert (report[24:], line[24:]) == (" WARNING log lines lost lines=1", " INFO client left")


@pytest.mark.timeout(20)
def test_lines_arrive_whole_however_slow_the_reader(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    configure("info", "json", stream)
    received = b""
    for number in range(2000):
        log.info("client connected", extra={"facts": {"user": "é" * 200}})
        if number % 3 == 0:
            received += os.read(reader, 1000)
    stream.close()
    while piece := os.read(reader, 1 << 16):
        received += piece
    entries = [json.loads(line) for line in received.splitlines()]
    assert {entry["message"] for entry in entries} == {"client connected", "log lines lost"}
