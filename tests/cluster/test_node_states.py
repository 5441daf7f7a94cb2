"""Up, suspect, down: how many failures it takes, and how many answers to come back."""

import pytest

from proxy.cluster import Failure, Rules, Sample
from tests.cluster.samples import Story, failed, judged, primary, refused_login, replica

LATE = failed(failure=Failure.NO_ANSWER, reason="no answer within 1.0 s")


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        ([], "unknown"),
        ([primary()], "up"),
        ([failed()], "suspect"),
        ([primary(), failed()], "suspect"),
        ([primary(), failed(), failed()], "suspect"),
        ([primary(), failed(), failed(), failed()], "down"),
        ([primary(), LATE, LATE, LATE], "down"),
        ([failed(), failed(), primary(), failed()], "suspect"),
        ([primary(), failed(), failed(), primary()], "up"),
        ([refused_login(), refused_login(), refused_login()], "up"),
        ([primary(), failed(failure=Failure.FULL)], "up"),
        ([primary(), failed(failure=Failure.NOT_ACCEPTING)], "suspect"),
        ([primary(round_trip_s=30.0)], "up"),
    ],
)
def test_state_follows_the_outcomes_of_the_last_probes(seen: list[Sample], state: str) -> None:
    assert judged({"db1": seen}).node("db1").state == state


def test_number_of_failures_until_down_is_configurable() -> None:
    view = judged({"db1": [primary(), failed()]}, rules=Rules(down_after=1))
    assert view.node("db1").state == "down"


def test_a_node_that_was_down_is_not_up_after_one_answer() -> None:
    story = Story("db1")
    story.then(1.0, db1=[failed()] * 3)
    assert story.then(2.0, db1=primary()).node("db1").state == "down"


def test_a_node_that_was_down_is_up_after_enough_answers() -> None:
    story = Story("db1")
    story.then(1.0, db1=[failed()] * 3)
    story.then(2.0, db1=primary())
    assert story.then(3.0, db1=primary()).node("db1").state == "up"


def test_a_node_that_answers_now_and_then_stays_down() -> None:
    story = Story("db1")
    story.then(1.0, db1=[failed()] * 3)
    story.then(2.0, db1=primary())
    assert story.then(3.0, db1=failed()).node("db1").state == "down"


def test_judging_again_without_news_changes_nothing() -> None:
    story = Story("db1", "db2")
    story.then(1.0, db1=[failed()] * 3, db2=replica())
    before = story.then(2.0, db1=primary())
    assert story.look(3.0) == before


def test_a_late_answer_is_reported_as_slow() -> None:
    view = judged({"db1": [primary(round_trip_s=1.4)]})
    assert view.node("db1").slow
    assert "slow: answered after 1.40 s" in view.node("db1").reason


def test_slowness_is_over_only_when_answers_are_clearly_quicker() -> None:
    story = Story("db1", rules=Rules(slow_s=0.5))
    story.then(1.0, db1=primary(round_trip_s=0.6))
    assert story.then(2.0, db1=primary(round_trip_s=0.4)).node("db1").slow
    assert not story.then(3.0, db1=primary(round_trip_s=0.2)).node("db1").slow


def test_a_node_that_is_down_keeps_what_was_known_of_it() -> None:
    story = Story("db1", "db2")
    story.then(1.0, db1=primary(), db2=replica(replayed=900))
    node = story.then(2.0, db2=[failed()] * 3).node("db2")
    assert (node.state, node.role, node.replay_lsn) == ("down", "replica", 900)


def test_since_is_when_the_state_changed() -> None:
    story = Story("db1")
    story.then(1.0, db1=primary())
    story.then(2.0, db1=primary())
    assert story.view.node("db1").since == 1.0


def test_a_read_only_default_on_the_primary_is_reported() -> None:
    view = judged({"db1": [primary(read_only=True)]})
    assert "default_transaction_read_only is on" in view.node("db1").reason


def test_the_reason_of_a_suspect_node_says_what_failed_and_what_follows() -> None:
    view = judged({"db1": [failed()]})
    assert view.node("db1").reason == "connection refused (failed probe 1, down at 3)"
