"""Who is the primary: claims, timelines, and what is said when there is none."""

import pytest

from proxy.cluster import Failure, Sample
from proxy.cluster.primacy import choose_primary
from tests.cluster.samples import (
    STRANGER,
    Story,
    failed,
    judged,
    primary,
    refused_login,
    replica,
)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"db1": primary(), "db2": replica()}, "db1"),
        ({"db1": replica(), "db2": primary()}, "db2"),
        ({"db1": primary(), "db2": failed()}, "db1"),
        ({"db1": replica(), "db2": replica()}, None),
        ({"db1": failed(), "db2": failed()}, None),
        ({"db1": replica(), "db2": failed()}, None),
        ({"db1": primary(timeline=1), "db2": primary(timeline=2)}, "db2"),
        ({"db1": primary(timeline=3), "db2": primary(timeline=2)}, "db1"),
        ({"db1": primary(timeline=2), "db2": primary(timeline=2)}, None),
        ({"db1": primary(timeline=None), "db2": primary(timeline=2)}, None),
        ({"db1": primary(timeline=None), "db2": replica()}, "db1"),
        ({"db1": primary(timeline=1), "db2": replica(timeline=2)}, None),
        ({"db1": primary(), "db2": refused_login()}, "db1"),
        ({"db1": replica(), "db2": refused_login()}, None),
        ({"db1": refused_login()}, "db1"),
        ({"db1": failed(failure=Failure.FULL)}, "db1"),
        ({"db1": replica()}, None),
        ({"db1": failed()}, None),
        ({"db1": failed(failure=Failure.NOT_ACCEPTING)}, None),
    ],
)
def test_primary_is_the_undisputed_node_that_is_not_in_recovery(
    seen: dict[str, Sample], expected: str | None
) -> None:
    assert judged({name: [sample] for name, sample in seen.items()}).primary == expected


def test_a_split_on_one_timeline_is_said_in_the_reason() -> None:
    view = judged({"db1": [primary(timeline=2)], "db2": [primary(timeline=2)]})
    assert view.reason == (
        "db1 and db2 claim to be primary on the same timeline 2:"
        " nobody is written to until one of them is gone"
    )


def test_nodes_of_a_split_have_no_role() -> None:
    view = judged({"db1": [primary(timeline=2)], "db2": [primary(timeline=2)]})
    assert [node.role for node in view.nodes] == [None, None]


def test_a_split_ends_when_one_of_the_two_is_down() -> None:
    story = Story("db1", "db2")
    story.then(0.1, db1=primary(timeline=2), db2=primary(timeline=2))
    view = story.then(1.0, db1=[failed(), failed(), failed()])
    assert view.primary == "db2"


def test_the_old_primary_is_kept_out_by_its_lower_timeline() -> None:
    view = judged({"db1": [primary(timeline=1)], "db2": [primary(timeline=2)]})
    assert view.node("db1").reason == (
        "claims to be primary on timeline 1, but db2 is primary on timeline 2: kept out"
    )


def test_the_old_primary_stays_out_while_the_new_one_is_down() -> None:
    story = Story("db1", "db2")
    story.then(0.1, db1=primary(timeline=1), db2=primary(timeline=2))
    view = story.then(1.0, db2=[failed(), failed(), failed()])
    assert view.primary is None
    assert "db2 was last seen on timeline 2" in view.reason


def test_the_last_primary_stays_published_while_it_is_suspect() -> None:
    story = Story("db1", "db2")
    story.then(0.1, db1=primary(), db2=replica())
    view = story.then(1.0, db1=failed())
    assert (view.primary, view.node("db1").state) == ("db1", "suspect")


def test_no_primary_is_published_once_it_is_down() -> None:
    story = Story("db1", "db2")
    story.then(0.1, db1=primary(), db2=replica())
    view = story.then(1.0, db1=[failed(), failed(), failed()])
    assert view.primary is None
    assert view.reason == (
        "no node says it is the primary: db1 is down (the last primary), db2 is in recovery"
    )


def test_a_promoted_replica_takes_over_from_a_suspect_primary_at_once() -> None:
    story = Story("db1", "db2")
    story.then(0.1, db1=primary(), db2=replica())
    view = story.then(1.0, db1=failed(), db2=primary(timeline=2))
    assert view.primary == "db2"


def test_a_primary_that_became_a_standby_is_no_longer_primary() -> None:
    story = Story("db1", "db2")
    story.then(0.1, db1=primary(), db2=replica())
    view = story.then(1.0, db1=replica())
    assert (view.primary, view.node("db1").role) == (None, "replica")


def test_a_single_node_that_refuses_the_probe_is_presumed_primary_and_says_so() -> None:
    view = judged({"db1": [refused_login()]})
    assert "presumed to be the primary" in view.node("db1").reason
    assert "28P01" in view.node("db1").reason


def test_a_presumed_primary_stays_published_while_it_is_suspect() -> None:
    story = Story("db1")
    story.then(1.0, db1=refused_login())
    assert story.then(2.0, db1=failed()).primary == "db1"


def test_a_primary_whose_probe_is_refused_from_now_on_stays_primary() -> None:
    story = Story("db1", "db2")
    story.then(0.1, db1=primary(), db2=replica())
    assert story.then(1.0, db1=[refused_login()] * 5).primary == "db1"


def test_the_first_claim_waits_a_moment_for_nodes_never_heard_of() -> None:
    story = Story("db1", "db2")
    view = story.then(0.1, db1=primary())
    assert (view.primary, view.reason) == (None, "waiting for the first answer of every node")


def test_a_node_that_hangs_does_not_hold_back_the_first_claim_for_long() -> None:
    story = Story("db1", "db2")
    story.then(0.1, db1=primary())
    assert story.look(0.25).primary == "db1"


def test_the_first_claim_is_believed_at_once_when_every_node_was_heard_of() -> None:
    assert Story("db1", "db2").then(0.001, db1=primary(), db2=failed()).primary == "db1"


def test_a_node_of_another_cluster_is_refused_though_its_timeline_is_higher() -> None:
    view = judged(
        {
            "db1": [primary()],
            "db2": [replica()],
            "db3": [primary(timeline=9, system_identifier=STRANGER)],
        }
    )
    assert (view.primary, view.node("db3").role) == ("db1", None)


def test_a_refused_node_says_which_cluster_it_belongs_to() -> None:
    view = judged({"db1": [primary()], "db2": [replica(system_identifier=STRANGER)]})
    assert view.node("db2").reason.startswith(f"refused: system identifier {STRANGER}")


def test_a_majority_outvotes_the_first_answer() -> None:
    story = Story("db1", "db2", "db3")
    story.then(1.0, db1=primary(system_identifier=STRANGER))
    view = story.then(1.1, db2=primary(), db3=replica())
    assert view.primary == "db2"


def test_a_settled_cluster_is_not_outvoted_by_newcomers() -> None:
    story = Story("db1", "db2", "db3")
    story.then(1.0, db1=primary(), db2=replica(), db3=replica())
    view = story.then(
        2.0,
        db1=[failed(), failed(), failed()],
        db2=primary(system_identifier=STRANGER),
        db3=replica(system_identifier=STRANGER),
    )
    assert view.primary is None


def test_a_cluster_that_was_made_anew_on_every_node_is_accepted() -> None:
    story = Story("db1", "db2")
    story.then(1.0, db1=primary(timeline=5), db2=replica(timeline=5))
    view = story.then(
        2.0,
        db1=primary(system_identifier=STRANGER),
        db2=replica(system_identifier=STRANGER),
    )
    assert view.primary == "db1"


def test_a_leader_that_was_left_behind_is_not_the_primary() -> None:
    story = Story("db1", "db2", "db3")
    seen = {"db1": primary(timeline=2), "db2": primary(timeline=2), "db3": primary(timeline=1)}
    view = story.then(0.0, **seen)
    claims = [node for node in view.nodes if node.in_recovery is False]
    assert len(claims) == 3
    assert choose_primary(claims, last_primary=None, alone=False, leader="db3").primary is None
    assert choose_primary(claims, last_primary=None, alone=False, leader="db2").primary == "db2"
