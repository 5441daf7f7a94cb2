"""Who is promoted, when, and why not: pictures of a cluster, and the sentence they lead to."""

from dataclasses import replace

import pytest

from proxy.cluster import ClusterView, Failure, NodeAddress, Sample, first_view
from proxy.failover import Decision, Rules, decide
from proxy.failover.decision import choose_successor, decide_by_order
from tests.cluster.samples import STRANGER, Story, failed, primary, refused_login, replica

RULES = Rules(after_s=1.0, starting_after_s=10.0, min_interval_s=10.0, max_loss_bytes=100)
DEAD = [failed(2.0), failed(2.25), failed(2.5)]


def cut_off(at: float = 2.6, received: int = 1000, **facts: object) -> Sample:
    """A replica whose receiver has lost the primary."""
    return replica(at, received=received, replayed=received, streaming=False, **facts)


def healthy(*names: str, **of_primary: object) -> Story:
    """db1 is primary, and the others stream from it."""
    story = Story("db1", *names)
    standbys = {name: replica(1.0, standby_name=name, receiver_timeout_s=4.0) for name in names}
    story.then(1.0, db1=primary(1.0, standbys=dict.fromkeys(names, "async"), **of_primary))
    story.then(1.0, **standbys)
    return story


def decided(story: Story, now: float = 3.5, last: float | None = None) -> Decision:
    return decide(story.view, now, RULES, last)


def test_nothing_is_done_while_the_primary_answers() -> None:
    assert decided(healthy("db2", "db3")).verb == "rest"


def test_a_dead_primary_is_replaced_once_its_replicas_have_lost_it() -> None:
    story = healthy("db2", "db3")
    story.then(2.6, db1=DEAD, db2=cut_off(), db3=cut_off())
    decision = decided(story)
    assert (decision.verb, decision.node, decision.lost) == ("promote", "db2", "db1")
    assert decision.reason == (
        "db1 is gone, as its replicas confirm; db2 has received as much as any"
    )


def test_a_suspect_primary_is_waited_for() -> None:
    story = healthy("db2")
    story.then(2.6, db1=failed(2.0), db2=cut_off())
    assert decided(story).reason == "db1 is suspect: not enough probes have failed yet"


def test_a_dead_primary_is_given_its_time() -> None:
    story = healthy("db2")
    story.then(2.6, db1=DEAD, db2=cut_off())
    assert decided(story, now=2.9).reason == "db1 does not answer: it is given 1 s"


def test_a_primary_that_starts_up_is_given_more_time() -> None:
    story = healthy("db2")
    starting = [failed(at, Failure.NOT_ACCEPTING, "starting up") for at in (2.0, 2.25, 2.5)]
    story.then(2.6, db1=starting, db2=cut_off())
    assert decided(story, now=11.9).reason == (
        "db1 says it is starting up or shutting down: it is given 10 s"
    )
    story.then(12.5, db2=cut_off(12.5))
    assert decided(story, now=12.5).verb == "promote"


def test_a_primary_that_answers_again_is_not_replaced() -> None:
    story = healthy("db2")
    story.then(2.6, db1=DEAD, db2=cut_off())
    story.then(3.0, db1=primary(3.0))
    assert decided(story).reason == "db1 answers again"


def test_a_primary_that_refuses_the_probe_is_not_replaced() -> None:
    story = healthy("db2")
    story.then(2.6, db1=[refused_login(2.0)] * 5, db2=cut_off())
    assert decided(story).verb == "rest"


def test_a_slow_primary_is_not_replaced() -> None:
    story = healthy("db2")
    story.then(2.6, db1=replace(primary(2.0), round_trip_s=3.0))
    assert decided(story).verb == "rest"


def test_a_replica_that_still_hears_from_the_primary_says_that_we_are_cut_off() -> None:
    story = healthy("db2", "db3")
    hears = replica(2.6, receiver_silent_s=0.4, receiver_timeout_s=4.0)
    story.then(2.6, db1=DEAD, db2=cut_off(), db3=hears)
    decision = decided(story)
    assert decision.verb == "wait"
    assert decision.reason.startswith("db3 still hears from db1: this proxy may be cut off")


@pytest.mark.parametrize(
    ("silent_s", "timeout_s", "verb"),
    [(2.9, 4.0, "wait"), (3.0, 4.0, "promote"), (29.0, 60.0, "wait"), (31.0, 60.0, "promote")],
)
def test_a_connected_replica_agrees_when_its_question_has_gone_unanswered(
    silent_s: float, timeout_s: float, verb: str
) -> None:
    story = healthy("db2")
    hung = [failed(at, Failure.NO_ANSWER, "no answer") for at in (2.0, 3.0, 4.0)]
    connected = replica(5.0, receiver_silent_s=silent_s, receiver_timeout_s=timeout_s)
    story.then(5.0, db1=hung, db2=connected)
    assert decided(story, now=5.0).verb == verb


def test_a_receiver_that_never_asks_proves_nothing() -> None:
    story = healthy("db2")
    connected = replica(5.0, receiver_silent_s=900.0, receiver_timeout_s=0.0)
    story.then(5.0, db1=DEAD, db2=connected)
    assert decided(story, now=5.0).verb == "wait"


def test_what_a_replica_said_before_the_failure_does_not_count() -> None:
    story = healthy("db2")
    story.then(1.5, db2=cut_off(1.5))
    story.then(2.6, db1=DEAD)
    assert decided(story).reason == "db2 has not been asked yet what became of db1"


def test_one_of_two_replicas_is_enough() -> None:
    story = healthy("db2", "db3")
    story.then(2.6, db1=DEAD, db2=cut_off(), db3=DEAD)
    assert decided(story).node == "db2"


def test_one_of_three_replicas_is_not_enough() -> None:
    story = healthy("db2", "db3", "db4")
    story.then(2.6, db1=DEAD, db2=cut_off(), db3=DEAD, db4=DEAD)
    assert decided(story).reason == (
        "too few nodes agree that db1 is gone: db3, db4 cannot be asked"
    )


def test_a_replica_of_a_replica_is_no_witness() -> None:
    story = Story("db1", "db2", "db3")
    story.then(1.0, db1=primary(1.0, standbys={"db2": "async"}))
    cascaded = replica(2.6, standby_name="db3", receiver_silent_s=0.1, receiver_timeout_s=4.0)
    story.then(1.0, db2=replica(1.0, standby_name="db2"), db3=cascaded)
    story.then(2.6, db1=DEAD, db2=cut_off(), db3=cascaded)
    assert decided(story).node == "db2"


def test_a_replica_that_still_follows_another_is_not_promoted_though_it_has_more() -> None:
    story = Story("db1", "db2", "db3")
    story.then(1.0, db1=primary(1.0, standbys={"db2": "async"}))
    cascaded = replica(
        2.6, received=1001, replayed=1001, standby_name="db3", receiver_timeout_s=4.0
    )
    story.then(1.0, db2=replica(1.0, standby_name="db2"), db3=cascaded)
    story.then(2.6, db1=DEAD, db2=cut_off(), db3=cascaded)
    assert decided(story).node == "db2"


def test_two_primaries_are_left_to_a_human() -> None:
    story = healthy("db2", "db3")
    story.then(2.6, db1=DEAD, db2=cut_off(), db3=primary(2.6, timeline=None))
    assert decided(story).verb != "promote"


def test_a_node_that_claims_to_be_primary_on_an_old_timeline_stops_a_promotion() -> None:
    story = healthy("db2", "db3", timeline=2)
    story.then(1.5, db2=replica(1.5, timeline=2), db3=primary(1.5, timeline=1))
    story.then(2.6, db1=DEAD, db2=cut_off(timeline=2))
    decision = decided(story)
    assert decision.verb == "refuse"
    assert "db3 also claims to be primary" in decision.reason


def test_no_second_promotion_within_the_interval() -> None:
    story = healthy("db2")
    story.then(2.6, db1=DEAD, db2=cut_off())
    decision = decided(story, last=0.0)
    assert (decision.verb, "min_interval" in decision.reason) == ("wait", True)
    assert decided(story, now=10.5, last=0.0).verb == "promote"


def test_the_replica_that_has_received_most_is_promoted() -> None:
    story = healthy("db2", "db3")
    story.then(2.6, db1=DEAD, db2=cut_off(received=990), db3=cut_off(received=1000))
    assert decided(story).node == "db3"


def test_what_is_replayed_counts_as_received() -> None:
    story = healthy("db2", "db3")
    restarted = replace(cut_off(received=1000), receive_lsn=16)
    story.then(2.6, db1=DEAD, db2=cut_off(received=990), db3=restarted)
    assert decided(story).node == "db3"


def test_among_equals_the_synchronous_one_is_promoted() -> None:
    story = healthy("db2", "db3", synchronous="FIRST 1 (db3)")
    standbys = {"db2": "async", "db3": "sync"}
    story.then(1.5, db1=primary(1.5, standbys=standbys, synchronous="FIRST 1 (db3)"))
    story.then(2.6, db1=DEAD, db2=cut_off(), db3=cut_off())
    assert decided(story).node == "db3"
    assert "synchronous" in decided(story).reason


def with_priorities(story: Story, **priorities: int) -> ClusterView:
    nodes = tuple(
        replace(node, address=replace(node.address, priority=priorities.get(node.name, 1)))
        for node in story.view.nodes
    )
    return replace(story.view, nodes=nodes)


def test_among_equals_priority_decides() -> None:
    story = healthy("db2", "db3")
    story.then(2.6, db1=DEAD, db2=cut_off(), db3=cut_off())
    assert decide(with_priorities(story, db3=5), 3.5, RULES).node == "db3"


def test_priority_zero_is_never_promoted() -> None:
    story = healthy("db2")
    story.then(2.6, db1=DEAD, db2=cut_off())
    decision = decide(with_priorities(story, db2=0), 3.5, RULES)
    assert (decision.verb, "db2 has priority 0" in decision.reason) == ("refuse", True)


@pytest.mark.parametrize(("received", "verb"), [(900, "promote"), (899, "refuse")])
def test_more_than_the_loss_limit_is_not_given_up(received: int, verb: str) -> None:
    story = healthy("db2")
    story.then(2.6, db1=DEAD, db2=cut_off(received=received))
    decision = decided(story)
    assert (decision.verb, decision.loss_bytes) == (verb, 1000 - received)


def synchronously(names: str, **states: str) -> Story:
    story = healthy("db2", "db3")
    story.then(1.5, db1=primary(1.5, synchronous=names, standbys=states))
    return story


def test_what_nobody_was_told_of_is_no_loss_however_much_it_is() -> None:
    """A bulk load under way, or the rest of a file of WAL that was switched."""
    story = synchronously("ANY 1 (db2, db3)", db2="quorum", db3="quorum")
    story.then(2.6, db1=DEAD, db2=cut_off(received=100), db3=cut_off(received=100))
    decision = decided(story)
    assert (decision.verb, decision.loss_bytes) == ("promote", 900)


def test_a_synchronous_standby_that_is_never_promoted_may_have_what_was_acknowledged() -> None:
    story = synchronously("FIRST 1 (db3)", db2="async", db3="sync")
    story.then(2.6, db1=DEAD, db2=cut_off(received=950), db3=cut_off(received=951))
    assert decided(story).node == "db3"
    decision = decide(with_priorities(story, db3=0), 3.5, RULES)
    assert (decision.verb, decision.reason) == (
        "refuse",
        "db1 is gone, but what was acknowledged may be on db3 only, which cannot be promoted"
        " and has more than db2",
    )


def test_a_standby_that_has_all_of_the_synchronous_one_may_take_its_place() -> None:
    story = synchronously("FIRST 1 (db3)", db2="async", db3="sync")
    story.then(2.6, db1=DEAD, db2=cut_off(received=951), db3=cut_off(received=951))
    assert decide(with_priorities(story, db3=0), 3.5, RULES).node == "db2"


def test_a_replica_of_another_timeline_is_not_promoted() -> None:
    story = healthy("db2", timeline=3)
    story.then(2.6, db1=DEAD, db2=cut_off())
    decision = decided(story)
    assert (decision.verb, "db2 was not seen streaming timeline 3" in decision.reason) == (
        "refuse",
        True,
    )


def test_a_replica_remembers_its_timeline_when_its_control_file_lags() -> None:
    story = healthy("db2", timeline=2)
    story.then(1.5, db2=replica(1.5, timeline=2))
    story.then(2.6, db1=DEAD, db2=cut_off(timeline=1))
    assert decided(story).node == "db2"


def test_a_replica_that_was_cut_off_long_before_is_not_promoted() -> None:
    story = healthy("db2")
    story.then(11.5, db1=primary(11.5), db2=cut_off(11.5))
    story.then(12.6, db1=[failed(12.0), failed(12.2), failed(12.4)], db2=cut_off(12.6))
    decision = decided(story, now=14.0)
    assert (decision.verb, "db2 had lost the primary before" in decision.reason) == ("refuse", True)


def test_a_node_of_another_cluster_is_neither_witness_nor_candidate() -> None:
    story = healthy("db2", "db3")
    stranger = replica(2.6, system_identifier=STRANGER, received=5000)
    story.then(2.6, db1=DEAD, db2=cut_off(), db3=stranger)
    assert decided(story).node == "db2"


def test_a_proxy_that_never_saw_a_primary_promotes_nobody() -> None:
    story = Story("db1", "db2")
    story.then(2.6, db1=DEAD, db2=cut_off())
    assert decided(story).verb == "refuse"


def test_before_the_first_answers_there_is_nothing_to_decide() -> None:
    view = first_view("main", [NodeAddress("db1", "h"), NodeAddress("db2", "h")], 0.0)
    assert decide(view, 9.0, RULES).verb == "rest"


def test_without_a_replica_nobody_is_promoted() -> None:
    story = healthy()
    story.then(2.6, db1=DEAD)
    assert decided(story).verb == "refuse"


SYNCHRONOUS = [
    # names, states, who can be seen, is it safe
    ("FIRST 1 (db2, db3)", {"db2": "sync", "db3": "potential"}, {"db2"}, True),
    ("FIRST 1 (db2, db3)", {"db2": "sync", "db3": "potential"}, {"db3"}, False),
    ("ANY 1 (db2, db3)", {"db2": "quorum", "db3": "quorum"}, {"db2", "db3"}, True),
    ("ANY 1 (db2, db3)", {"db2": "quorum", "db3": "quorum"}, {"db2"}, False),
    ("ANY 2 (db2, db3)", {"db2": "quorum", "db3": "quorum"}, {"db2"}, True),
    ("db2", {"db2": "async"}, {"db2"}, False),
    ("", {"db2": "async", "db3": "async"}, {"db3"}, True),
]


@pytest.mark.parametrize(("names", "states", "seen", "safe"), SYNCHRONOUS)
def test_what_was_acknowledged_is_not_given_up(
    names: str, states: dict[str, str], seen: set[str], safe: bool
) -> None:
    story = healthy("db2", "db3")
    story.then(1.5, db1=primary(1.5, synchronous=names, standbys=states))
    gone = {each: cut_off() if each in seen else DEAD for each in ("db2", "db3")}
    story.then(2.6, db1=DEAD, **gone)
    assert (decided(story).verb == "promote") is safe


def test_senders_that_die_before_the_last_answer_do_not_hide_who_was_synchronous() -> None:
    story = healthy("db2")
    names = "FIRST 1 (db2)"
    story.then(1.4, db1=primary(1.4, synchronous=names, standbys={"db2": "sync"}))
    story.then(1.6, db1=primary(1.6, synchronous=names, standbys={}))
    story.then(2.6, db1=DEAD, db2=cut_off())
    assert decided(story).verb == "promote"


def test_a_synchronous_standby_that_has_just_left_may_have_what_was_acknowledged() -> None:
    story = healthy("db2", "db3")
    names = "ANY 1 (db2, db3)"
    both = {"db2": "quorum", "db3": "quorum"}
    story.then(1.4, db1=primary(1.4, synchronous=names, standbys=both))
    story.then(1.6, db1=primary(1.6, synchronous=names, standbys={"db3": "quorum"}))
    story.then(2.6, db1=DEAD, db2=DEAD, db3=cut_off())
    assert decided(story).reason == (
        "db1 is gone, but what was acknowledged may be on db2 only, which cannot be seen"
    )


# -- by order


def test_an_order_does_not_wait_for_the_interval_and_takes_the_node_it_names() -> None:
    story = healthy("db2", "db3")
    story.then(2.6, db1=DEAD, db2=cut_off(), db3=cut_off(received=1))
    decision = decide_by_order(story.view, 3.5, RULES, "db3")
    assert (decision.verb, decision.node, decision.loss_bytes) == ("promote", "db3", 999)


def test_an_order_does_not_make_the_death_of_a_primary_more_certain() -> None:
    story = healthy("db2", "db3")
    hears = replica(2.6, receiver_silent_s=0.1, receiver_timeout_s=4.0)
    story.then(2.6, db1=DEAD, db2=cut_off(), db3=hears)
    assert decide_by_order(story.view, 3.5, RULES, "db2").verb == "wait"


def test_an_order_cannot_promote_a_node_of_another_timeline() -> None:
    story = healthy("db2", timeline=3)
    story.then(2.6, db1=DEAD, db2=cut_off())
    assert decide_by_order(story.view, 3.5, RULES, "db2").verb == "refuse"


def successor(story: Story, name: str | None = None, **priorities: int) -> str:
    chosen = choose_successor(with_priorities(story, **priorities), name)
    return chosen if isinstance(chosen, str) else chosen.name


def test_the_successor_of_a_healthy_primary_is_the_one_with_the_highest_priority() -> None:
    assert successor(healthy("db2", "db3"), db3=2) == "db3"


def test_among_equals_the_successor_is_synchronous() -> None:
    story = healthy("db2", "db3")
    standbys = {"db2": "async", "db3": "sync"}
    story.then(1.5, db1=primary(1.5, standbys=standbys, synchronous="FIRST 1 (db3)"))
    assert successor(story) == "db3"


def test_priority_zero_succeeds_only_when_it_is_named() -> None:
    story = healthy("db2")
    assert successor(story, db2=0) == (
        "nobody can take over: db1 is the primary; db2 has priority 0"
    )
    assert successor(story, "db2", db2=0) == "db2"


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (cut_off(1.5), "db2 does not stream"),
        (replica(1.5, timeline=1), "db2 is not on timeline 2"),
        (failed(1.5), "db2 is suspect"),
    ],
)
def test_who_does_not_follow_the_primary_does_not_succeed_it(sample: Sample, reason: str) -> None:
    story = healthy("db2", timeline=2)
    story.then(1.6, db1=primary(1.5, timeline=2), db2=sample)
    assert successor(story, "db2") == reason
