"""Lines of the log that are kept as events."""

import logging
from collections.abc import Iterator

import pytest

from proxy.telemetry import RecentEvents


@pytest.fixture
def events() -> Iterator[RecentEvents]:
    kept = RecentEvents(kept=3)
    logger = logging.getLogger("pgweir")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    kept.attach()
    yield kept
    kept.detach()
    logger.setLevel(level)


def test_the_newest_comes_first_and_the_oldest_goes(events: RecentEvents) -> None:
    for number in range(5):
        logging.getLogger("pgweir.cluster").info("event %d", number)
    assert [event.message for event in events.newest()] == ["event 4", "event 3", "event 2"]


def test_facts_are_kept_as_text_of_bounded_length(events: RecentEvents) -> None:
    logging.getLogger("pgweir").info("x", extra={"facts": {"node": "db1", "long": "y" * 10_000}})
    (event,) = events.newest()
    assert (event.facts["node"], len(event.facts["long"])) == ("db1", 512)


@pytest.mark.parametrize(
    ("logger", "level", "kept"),
    [
        ("pgweir.cluster", logging.INFO, True),
        ("pgweir.cluster", logging.DEBUG, False),
        ("pgweir.client", logging.INFO, False),
        ("pgweir.server", logging.WARNING, True),
        ("pgweir.slow", logging.WARNING, False),
    ],
)
def test_what_comes_by_the_thousand_is_no_event(
    events: RecentEvents, logger: str, level: int, kept: bool
) -> None:
    logging.getLogger(logger).log(level, "said")
    assert (len(events.newest()) == 1) is kept


def test_a_line_whose_arguments_do_not_fit_is_kept_as_it_is(events: RecentEvents) -> None:
    record = logging.LogRecord("pgweir", logging.INFO, __file__, 1, "%d of %d", ("x",), None)
    events.emit(record)
    assert events.newest()[0].message == "%d of %d"
