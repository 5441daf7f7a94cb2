"""What is told of the difference between two pictures, and what is not."""

from dataclasses import replace

from proxy.cluster import changes_between, first_view
from tests.cluster.samples import Story, addresses, failed, primary, replica


def sentences(story: Story, now: float, **seen: object) -> list[str]:
    before = story.view
    story.then(now, **seen)  # type: ignore[arg-type]
    return [change.sentence for change in changes_between(before, story.view)]


def running() -> Story:
    story = Story("db1", "db2")
    story.then(1.0, db1=primary(1.0), db2=replica(1.0))
    return story


def test_lag_that_moves_is_no_change() -> None:
    story = running()
    assert sentences(story, 2.0, db1=primary(2.0, lsn=9000), db2=replica(2.0)) == []
    assert story.view.node("db2").lag_bytes == 8000


def test_a_second_failed_probe_is_no_change() -> None:
    story = running()
    story.then(2.0, db2=failed(2.0))
    assert sentences(story, 3.0, db2=failed(3.0)) == []


def test_a_suspect_node_is_told_with_its_reason() -> None:
    assert sentences(running(), 2.0, db2=failed(2.0)) == [
        "node db2 is suspect as replica: connection refused (failed probe 1, down at 3)"
    ]


def test_the_first_primary_is_told() -> None:
    told = sentences(Story("db1"), 1.0, db1=primary())
    assert told[-1] == "db1 is the primary of cluster main: db1 is not in recovery, on timeline 1"


def test_the_loss_of_the_primary_is_alarming() -> None:
    story = running()
    before = story.view
    story.then(2.0, db1=[failed()] * 3)
    *_, last = changes_between(before, story.view)
    assert last.alarming
    assert last.facts == {"cluster": "main", "primary": None, "was": "db1"}


def test_a_replica_that_loses_its_receiver_is_told() -> None:
    assert sentences(running(), 2.0, db2=replica(2.0, streaming=False)) == [
        "node db2 is up as replica, stale: in recovery, but its WAL receiver is gone"
    ]


def test_nodes_that_are_not_heard_of_yet_are_nothing_to_be_alarmed_about() -> None:
    story = Story("db1", "db2")
    before = story.view
    story.then(0.1, db1=primary())
    assert not any(change.alarming for change in changes_between(before, story.view))


def test_a_node_that_is_no_longer_declared_is_told() -> None:
    before = running().view
    after = replace(before, nodes=before.nodes[:1])
    assert [change.sentence for change in changes_between(before, after)] == [
        "node db2 is no longer declared"
    ]


def test_a_new_weight_is_a_change() -> None:
    before = first_view("main", addresses("db1"), 0.0)
    node = before.nodes[0]
    after = replace(before, nodes=(replace(node, address=replace(node.address, weight=5)),))
    assert len(changes_between(before, after)) == 1
