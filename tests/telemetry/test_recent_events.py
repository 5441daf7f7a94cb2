"""What is kept as an event, and what of several processes is one."""

import logging
from collections.abc import Iterator

import pytest

from proxy.telemetry import Event, RecentEvents, events_of_all, keep_event, report

LOG = logging.getLogger("pgweir.cluster")


@pytest.fixture
def events() -> Iterator[RecentEvents]:
    kept = RecentEvents(kept=3)
    kept.attach()
    yield kept
    kept.detach()


def test_the_newest_comes_first_and_the_oldest_goes(events: RecentEvents) -> None:
    for number in range(5):
        report(LOG, "node", f"event {number}")
    assert [event.message for event in events.newest()] == ["event 4", "event 3", "event 2"]


def test_facts_are_kept_as_text_of_bounded_length(events: RecentEvents) -> None:
    keep_event("node", "x", {"node": "db1", "long": "y" * 10_000})
    (event,) = events.newest()
    assert (event.facts["node"], len(event.facts["long"])) == ("db1", 512)


def test_a_line_of_the_log_is_no_event(events: RecentEvents) -> None:
    LOG.error("said")
    logging.getLogger("pgweir.console").warning("console command")
    assert events.newest() == []


def test_an_event_is_kept_whatever_the_log_is_to_say(events: RecentEvents) -> None:
    level = LOG.level
    LOG.setLevel(logging.ERROR)
    try:
        report(LOG, "pause", "paused")
    finally:
        LOG.setLevel(level)
    (event,) = events.newest()
    assert (event.kind, event.level, event.logger) == ("pause", "info", "pgweir.cluster")


def test_what_is_told_again_at_once_is_one_event(events: RecentEvents) -> None:
    for database in ("app", "app", "shop", "app"):
        keep_event("limit", "reached", {"database": database})
    assert [event.facts["database"] for event in events.newest()] == ["shop", "app"]


def test_what_goes_and_comes_back_is_three_events(events: RecentEvents) -> None:
    for what in ("paused", "resumed", "paused"):
        keep_event("pause", what)
    assert len(events.newest()) == 3


def at(at_s: float, message: str, node: str = "db1") -> Event:
    return Event(at_s, "info", "node", "pgweir", message, {"node": node})


def test_what_all_processes_tell_is_one_event_and_in_order() -> None:
    one = [at(9.0, "db1 is up: it answers"), at(5.0, "db1 is down: refused"), at(4.0, "x", "db2")]
    other = [at(9.2, "db1 is up: it answers"), at(5.1, "db1 is down: timeout"), at(1.0, "alone")]
    merged = events_of_all([one, other])
    assert [event.at_s for event in merged] == [9.2, 5.1, 4.0, 1.0]


def test_what_one_process_tells_twice_is_two_events() -> None:
    assert len(events_of_all([[at(2.0, "paused"), at(1.0, "paused")], [at(2.1, "paused")]])) == 2
