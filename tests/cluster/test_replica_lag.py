"""Lag of replicas: bytes and seconds, and when neither can be trusted."""

import pytest

from proxy.cluster import Sample
from tests.cluster.samples import Story, failed, judged, primary, replica


def lag_bytes(primaries: list[Sample], replicas: list[Sample]) -> int | None:
    return judged({"db1": primaries, "db2": replicas}).node("db2").lag_bytes


@pytest.mark.parametrize(
    ("primaries", "replicas", "expected"),
    [
        ([primary(1.0, lsn=1000)], [replica(1.0, replayed=1000)], 0),
        ([primary(1.0, lsn=5000)], [replica(1.0, replayed=1000)], 4000),
        # The replica was asked later and has more than the primary had.
        ([primary(1.0, lsn=1000)], [replica(2.0, replayed=1500)], 0),
        # Asked in between: what the primary wrote afterwards is no lag.
        ([primary(1.0, lsn=1000), primary(2.0, lsn=9000)], [replica(1.0, replayed=1000)], 0),
        ([primary(1.0, lsn=1000), primary(2.0, lsn=9000)], [replica(1.5, replayed=4000)], 1000),
        ([primary(2.0, lsn=9000)], [replica(1.0, replayed=8000)], 1000),
    ],
)
def test_lag_in_bytes_is_measured_against_the_primary_at_the_same_time(
    primaries: list[Sample], replicas: list[Sample], expected: int
) -> None:
    assert lag_bytes(primaries, replicas) == expected


def test_lag_in_bytes_is_unknown_before_a_primary_was_seen() -> None:
    assert lag_bytes([failed()], [replica()]) is None


def test_lag_against_a_primary_that_fell_silent_counts_from_its_last_position() -> None:
    story = Story("db1", "db2")
    story.then(1.0, db1=primary(1.0, lsn=5000), db2=replica(1.0, replayed=1000))
    story.samples["db1"] = [failed(2.0)]
    assert story.then(2.0, db2=replica(2.0, replayed=3000)).node("db2").lag_bytes == 2000


def test_time_lag_is_zero_when_all_received_is_replayed_though_nothing_was_written_for_long() -> (
    None
):
    view = judged({"db1": [primary()], "db2": [replica(replay_age_s=86400.0)]})
    assert view.node("db2").lag_s == 0.0


def test_time_lag_is_the_age_of_the_last_replayed_transaction_when_more_was_received() -> None:
    view = judged({"db1": [primary()], "db2": [replica(received=2000, replay_age_s=7.5)]})
    assert view.node("db2").lag_s == 7.5


def test_time_lag_after_a_quiet_hour_is_no_more_than_the_time_since_it_was_caught_up() -> None:
    story = Story("db1", "db2")
    story.then(1.0, db1=primary(1.0), db2=replica(1.0))
    view = story.then(2.5, db2=replica(2.5, received=2000, replay_age_s=3600.0))
    assert view.node("db2").lag_s == 1.5


def test_time_lag_is_never_negative_when_clocks_disagree() -> None:
    view = judged({"db1": [primary()], "db2": [replica(received=2000, replay_age_s=-4.0)]})
    assert view.node("db2").lag_s == 0.0


def test_a_receive_position_behind_the_replayed_one_is_no_lag() -> None:
    view = judged({"db1": [primary()], "db2": [replica(received=500, replayed=1000)]})
    assert view.node("db2").lag_s == 0.0


def test_a_replica_whose_receiver_is_gone_is_stale() -> None:
    story = Story("db1", "db2")
    story.then(1.0, db1=primary(1.0), db2=replica(1.0))
    assert story.then(2.0, db2=replica(2.0, streaming=False)).node("db2").stale


def test_time_lag_of_a_replica_whose_receiver_is_gone_grows_from_zero() -> None:
    story = Story("db1", "db2")
    story.then(1.0, db1=primary(1.0), db2=replica(1.0))
    view = story.then(4.0, db2=replica(4.0, streaming=False))
    assert view.node("db2").lag_s == 3.0


def test_a_streaming_replica_is_not_stale() -> None:
    assert not judged({"db1": [primary()], "db2": [replica()]}).node("db2").stale


def test_a_replica_that_did_not_follow_a_promotion_is_stale() -> None:
    view = judged({"db1": [primary(timeline=2)], "db2": [replica(timeline=1)]})
    assert view.node("db2").stale
    assert "follows timeline 1, but the primary db1 is on 2" in view.node("db2").reason


def test_a_replica_whose_timeline_cannot_be_seen_is_not_called_stale() -> None:
    view = judged({"db1": [primary(timeline=2)], "db2": [replica(timeline=None)]})
    assert not view.node("db2").stale


def test_a_replica_past_the_fork_has_diverged() -> None:
    """It streams the old timeline from the old primary, which went on writing a little."""
    promoted = primary(timeline=2, lsn=1500, fork_lsn=1000)
    for replayed, diverged in ((1000, False), (1001, True)):
        late = replica(timeline=1, received=replayed, replayed=replayed)
        node = judged({"db1": [promoted], "db2": [late]}).node("db2")
        assert (node.stale, node.diverged) == (True, diverged)
    assert "has replayed what the primary db1 never had" in node.reason


def test_a_replica_on_the_new_timeline_has_not_diverged_however_far_it_is() -> None:
    promoted = primary(timeline=2, lsn=1500, fork_lsn=1000)
    story = Story("db1", "db2")
    story.then(1.0, db1=promoted, db2=replica(1.0, timeline=2, replayed=1500))
    # Without a receiver it says what its control file has, which may be a checkpoint old.
    alone = replica(2.0, timeline=1, replayed=1500, streaming=False)
    assert not story.then(2.0, db2=alone).node("db2").diverged


def test_where_a_timeline_began_is_known_after_a_restart_of_the_primary() -> None:
    story = Story("db1", "db2")
    late = replica(1.0, timeline=1, replayed=1001)
    story.then(1.0, db1=primary(1.0, timeline=2, lsn=1500, fork_lsn=1000), db2=late)
    assert story.then(2.0, db1=primary(2.0, timeline=2, lsn=1500)).node("db2").diverged
    assert not story.then(3.0, db1=primary(3.0, timeline=3, lsn=1500)).node("db2").diverged
