"""Replicas that follow nobody: who is led to the primary, and when."""

import pytest

from proxy.cluster import Sample
from proxy.failover.strays import Strays, find_strays, why_left_alone
from tests.cluster.samples import Story, failed, primary, replica


def promoted(db4: Sample) -> Story:
    """db2 has become primary on timeline 2; db3 follows it."""
    story = Story("db2", "db3", "db4")
    story.then(1.0, db2=primary(1.0, timeline=2), db3=replica(1.0, timeline=2), db4=db4)
    return story


def names(story: Story) -> list[str]:
    return [node.name for node in find_strays(story.view)]


@pytest.mark.parametrize(
    ("db4", "strays"),
    [
        (replica(1.0, timeline=2), []),
        (replica(1.0, timeline=1, streaming=False), ["db4"]),
        (replica(1.0, timeline=1), ["db4"]),
        (replica(1.0, timeline=3, streaming=False), []),
        (failed(1.0), []),
        (primary(1.0, timeline=1), []),
    ],
    ids=["follows", "follows nobody", "on the old timeline", "ahead", "down", "old primary"],
)
def test_who_strays(db4: Sample, strays: list[str]) -> None:
    assert names(promoted(db4)) == strays


def test_nobody_strays_from_a_primary_that_does_not_answer() -> None:
    story = promoted(replica(1.0, streaming=False))
    story.then(2.0, db2=[failed(at) for at in (1.5, 1.7, 1.9)])
    assert names(story) == []


def test_a_stray_is_led_once_it_has_been_there_for_a_moment_and_then_ever_more_seldom() -> None:
    story, strays = promoted(replica(1.0, timeline=1, streaming=False)), Strays()
    led = [at for at in range(4000) if strays.due(story.view, float(at), ())]
    assert led == [3, 63, 183, 423, 903, 1863, 2823, 3783]


def test_who_is_being_led_already_is_given_time() -> None:
    story, strays = promoted(replica(1.0, timeline=1, streaming=False)), Strays()
    assert not any(strays.due(story.view, float(at), {"db4"}) for at in range(10))
    assert [at for at in range(10, 20) if strays.due(story.view, float(at), ())] == [13]


def test_who_strays_again_is_led_again() -> None:
    story, strays = promoted(replica(1.0, timeline=1, streaming=False)), Strays()
    lost = story.view
    story.then(2.0, db4=replica(2.0, timeline=2))
    well = story.view
    pictures = [(0.0, lost), (3.0, lost), (4.0, well), (5.0, lost), (8.0, lost)]
    assert [at for at, view in pictures if strays.due(view, at, ())] == [3.0, 8.0]


@pytest.mark.parametrize(
    ("conninfo", "is_led"),
    [
        ("host=10.0.0.1 port=5432 user=replicator", True),
        ("host=127.0.0.1 port=5433 user=replicator", True),
        ("host=127.0.0.1 port=5432 user=replicator", False),
        ("host=127.0.0.1 user=replicator", False),
        ("", False),
    ],
)
def test_who_follows_a_replica_that_is_well_or_nobody_at_all_is_left(
    conninfo: str, is_led: bool
) -> None:
    story = promoted(replica(1.0, timeline=2, streaming=False))
    (stray,) = find_strays(story.view)
    assert (why_left_alone(stray, conninfo, story.view) is None) == is_led
