"""A flood of the same refusal is a few lines and a number."""

import logging
from collections.abc import Iterator

import pytest

from proxy.telemetry import LimitedLog


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Page(logging.Handler):
    """Keeps every message and its facts."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.facts: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.facts.append(getattr(record, "facts", {}))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page()
    logger = logging.getLogger("pgweir.flood")
    logger.setLevel(logging.INFO)
    logger.addHandler(page)
    yield page
    logger.removeHandler(page)


@pytest.fixture
def limited(clock: Clock, page: Page) -> LimitedLog:
    logger = logging.getLogger("pgweir.flood")
    return LimitedLog(logger, clock, burst=2, period_s=10.0, max_messages=3)


def refuse(limited: LimitedLog, times: int, message: str = "client refused") -> None:
    for number in range(times):
        limited.log(logging.INFO, message, {"addr": f"10.0.0.1:{number}"})


def test_the_first_few_are_logged_in_full(limited: LimitedLog, page: Page) -> None:
    refuse(limited, 2)
    assert page.facts == [{"addr": "10.0.0.1:0"}, {"addr": "10.0.0.1:1"}]


def test_the_rest_of_a_flood_is_silent(limited: LimitedLog, page: Page) -> None:
    refuse(limited, 10_000)
    assert page.lines == ["client refused", "client refused"]


def test_the_next_period_begins_with_how_many_there_were(
    limited: LimitedLog, page: Page, clock: Clock
) -> None:
    refuse(limited, 100)
    clock.now_s += 10
    refuse(limited, 1)
    assert page.lines[2:] == ["client refused: 98 more suppressed", "client refused"]


def test_a_flood_that_stopped_is_counted_at_the_next_tick(
    limited: LimitedLog, page: Page, clock: Clock
) -> None:
    refuse(limited, 100)
    clock.now_s += 10
    limited.report_ended()
    assert page.lines[2:] == ["client refused: 98 more suppressed"]


def test_the_count_is_a_fact(limited: LimitedLog, page: Page, clock: Clock) -> None:
    refuse(limited, 100)
    clock.now_s += 10
    limited.report_ended()
    assert page.facts[-1] == {"suppressed": 98, "period_s": 10.0}


def test_a_tick_within_the_period_says_nothing(limited: LimitedLog, page: Page) -> None:
    refuse(limited, 100)
    limited.report_ended()
    assert len(page.lines) == 2


def test_at_the_end_every_count_is_told(limited: LimitedLog, page: Page) -> None:
    refuse(limited, 100)
    limited.report_all()
    assert page.lines[2:] == ["client refused: 98 more suppressed"]


def test_where_nothing_was_suppressed_nothing_is_told(
    limited: LimitedLog, page: Page, clock: Clock
) -> None:
    refuse(limited, 2)
    clock.now_s += 10
    limited.report_ended()
    assert len(page.lines) == 2


def test_one_message_s_flood_does_not_silence_another(limited: LimitedLog, page: Page) -> None:
    refuse(limited, 100, "client refused")
    refuse(limited, 1, "server lost")
    assert page.lines[-1] == "server lost"


def test_messages_remembered_are_bounded(limited: LimitedLog, page: Page) -> None:
    refuse(limited, 5, "first")
    for number in range(100):
        refuse(limited, 1, f"message {number}")
    assert "first: 3 more suppressed" in page.lines


def test_below_the_level_nothing_is_counted(limited: LimitedLog, page: Page) -> None:
    for _ in range(100):
        limited.log(logging.DEBUG, "client refused", {})
    limited.report_all()
    assert page.lines == []


def test_a_percent_sign_in_a_message_is_just_that(limited: LimitedLog, page: Page) -> None:
    refuse(limited, 3, "100% used")
    limited.report_all()
    assert page.lines[-1] == "100% used: 1 more suppressed"
